"""What happens to a volume between machine and reader: blacked out, cropped, coarsened, smoothed, posterised.

Functions on an image at the network's resolution, a float array (d, h, w) of any size with 0 where there is no signal.
They change grey levels alone, so a label stays what it is. Shares, sizes and probabilities are unconfirmed general
knowledge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.images.volume import Mask

Image = NDArray[np.float32]
CHANGED = 0.45
"""Share of the scans that an export changes."""
LEAST_KEPT = 0.97
"""Of the head: a black-out or a crop that hides more is not done."""


def change_export(image: NDArray[np.floating], label: NDArray[np.integer] | Mask, rng: Generator) -> Image:
    """The image as some export might have left it; most scans come back as they are.

    One or two of `EXPORTS` are drawn, in the order in which they stand there. The highest level stays the highest that
    there can be; `toned` alone makes others brighter.

    Args:
        image: (d, h, w), float, 0 where there is no signal.
        label: of the head, of the same shape, above 0 inside. Where it is empty nothing is masked or cropped around it.
        rng: what is done depends on it alone.

    Raises ValueError where the shapes differ or the image is not 3D.

    >>> image, label = np.ones((8, 9, 10)), np.zeros((8, 9, 10))
    >>> change_export(image, label, np.random.default_rng(0)).shape
    (8, 9, 10)
    """
    if image.ndim != 3 or image.shape != label.shape:
        raise ValueError(f"image and label must be 3D and of one shape, got {image.shape} and {label.shape}")
    out, inside = np.array(image, np.float32), label > 0
    if rng.uniform() >= CHANGED:
        return out
    weights = np.array([weight for _, weight in EXPORTS])
    count = 2 if rng.uniform() < 0.35 else 1
    for index in sorted(rng.choice(len(EXPORTS), count, replace=False, p=weights / weights.sum())):
        out = EXPORTS[index][0](out, inside, rng)
    return out


def black_surroundings(image: Image, inside: Mask, rng: Generator) -> Image:
    """Black outside the head dilated by a margin, as where somebody cut the head out before the export.

    The margin is 2 to 30 % of the head's radius. Its edge is smooth, or wavy by up to half of the margin.

    Args:
        image: (d, h, w).
        inside: the head.
        rng: what is drawn depends on it.
    """
    if not inside.any():
        return image
    radius = float((3 * inside.sum() / (4 * np.pi)) ** (1 / 3))
    margin = radius * float(rng.uniform(0.02, 0.30))
    if rng.uniform() < 0.5:
        return np.where(_distance(inside, margin + 1) <= margin, image, np.float32(0))
    coarse = rng.uniform(-0.5, 0.5, [max(2, round(n / max(2.0, 0.4 * radius))) for n in image.shape])
    waves = ndimage.zoom(coarse, np.array(image.shape) / coarse.shape, order=1, grid_mode=True, mode="nearest")
    return np.where(_distance(inside, 1.5 * margin + 1) <= margin * (1 + waves), image, np.float32(0))


def black_outside(image: Image, inside: Mask, rng: Generator) -> Image:
    """Black outside a ball or a box that holds the head (all of it but 3 %), or outside one in the middle without a head.

    Args:
        image: (d, h, w).
        inside: the head.
        rng: what is drawn depends on it.
    """
    shape = np.array(image.shape)
    where = ndimage.find_objects(inside.astype(np.uint8))[0] if inside.any() else tuple(slice(0, n) for n in shape)
    low, high = (np.array([getattr(part, edge) for part in where], float) for edge in ("start", "stop"))
    centre, half = (low + high - 1) / 2, (high - low) / 2
    half = half * rng.uniform(1.05, 1.8, 3) + 1
    centre = centre + rng.uniform(-0.5, 0.5, 3) * (half - (high - low) / 2)
    away = [(np.arange(n) - c) / h for n, c, h in zip(shape, centre, half, strict=True)]
    z, y, x = np.ix_(*away)
    kept = (np.abs(z) <= 1) & (np.abs(y) <= 1) & (np.abs(x) <= 1)
    if rng.uniform() < 0.5:
        kept = z * z + y * y + x * x <= float(rng.uniform(1.2, 2.0))
    if inside.any() and (inside & kept).sum() < LEAST_KEPT * inside.sum():
        return image
    return np.where(kept, image, np.float32(0))


def coarse_and_fine(image: Image, inside: Mask, rng: Generator) -> Image:
    """Down-sampled by 1.3 to 3 and up again, along all axes or one; black stays black.

    Args:
        image: (d, h, w).
        inside: not used.
        rng: what is drawn depends on it.
    """
    factors = np.full(3, rng.uniform(1.3, 2.5))
    if rng.uniform() < 0.4:
        factors = np.ones(3)
        factors[rng.integers(3)] = rng.uniform(1.5, 3)
    fewer = np.maximum(1, np.round(np.array(image.shape) / factors))
    order = int(rng.integers(0, 2))
    small = ndimage.zoom(image, fewer / image.shape, order=1, grid_mode=True, mode="nearest")
    large = ndimage.zoom(small, np.array(image.shape) / small.shape, order=order, grid_mode=True, mode="nearest")
    return _black_kept(large, image)


def speckle_reduced(image: Image, inside: Mask, rng: Generator) -> Image:
    """Smoothed as machines smooth: median, Gaussian, or total variation, which keeps edges; black stays black.

    Args:
        image: (d, h, w).
        inside: not used.
        rng: what is drawn depends on it.
    """
    kind = rng.uniform()
    if kind < 0.25:
        size = np.ones(3, int)
        size[rng.integers(3)] = 3
        return _black_kept(ndimage.median_filter(image, tuple(size)), image)
    if kind < 0.55:
        return _black_kept(ndimage.gaussian_filter(image, rng.uniform(0.5, 1.1), truncate=2.5), image)
    from skimage.restoration import denoise_tv_chambolle  # not among what simulating and segmenting need

    weight = float(rng.uniform(0.03, 0.2)) * max(float(image.max()), 1e-6)
    return _black_kept(denoise_tv_chambolle(image, weight, max_num_iter=3), image)


def planes_averaged(image: Image, inside: Mask, rng: Generator) -> Image:
    """Each plane the mean of two to five neighbours along one axis, as thick-slice displays show it; black stays black.

    Args:
        image: (d, h, w).
        inside: not used.
        rng: what is drawn depends on it.
    """
    averaged = ndimage.uniform_filter1d(image, int(rng.integers(2, 6)), axis=int(rng.integers(3)), mode="nearest")
    return _black_kept(averaged, image)


def posterised(image: Image, inside: Mask, rng: Generator) -> Image:
    """Eight to 64 grey levels between 0 and the highest.

    Args:
        image: (d, h, w).
        inside: not used.
        rng: what is drawn depends on it.
    """
    highest = float(image.max())
    steps = float(rng.choice([7, 15, 31, 63]))
    return image if highest <= 0 else np.rint(image * np.float32(steps / highest)) * np.float32(highest / steps)


def toned(image: Image, inside: Mask, rng: Generator) -> Image:
    """Levels clipped at both ends, and a gamma of 0.6 to 1.7; the highest level stays.

    Args:
        image: (d, h, w).
        inside: not used.
        rng: what is drawn depends on it.
    """
    highest = float(image.max())
    low, high = rng.uniform(0, 0.15), rng.uniform(0.7, 1.0)
    gamma = float(np.exp(rng.uniform(*np.log([0.6, 1.7]))))
    if highest <= 0:
        return image
    shown = np.clip((image / np.float32(highest) - np.float32(low)) / np.float32(high - low), 0, 1)
    return shown ** np.float32(gamma) * np.float32(highest)


EXPORTS: tuple[tuple[Callable[[Image, Mask, Generator], Image], float], ...] = (
    (coarse_and_fine, 1.0),
    (speckle_reduced, 1.2),
    (planes_averaged, 0.8),
    (toned, 1.0),
    (posterised, 0.5),
    (black_outside, 0.8),
    (black_surroundings, 1.5),
)
"""What may be done, in its order, and how often (relative)."""


def _distance(inside: Mask, reach: float) -> Image:
    """Voxels to the mask, right up to `reach`."""
    part = ndimage.find_objects(inside.astype(np.uint8))[0]
    pad = int(np.ceil(reach)) + 1
    around = tuple(slice(max(0, p.start - pad), p.stop + pad) for p in part)
    out = np.full(inside.shape, np.inf, np.float32)
    out[around] = ndimage.distance_transform_edt(~inside[around])
    return out


def _black_kept(changed: Image, image: Image) -> Image:
    return np.where(image > 0, changed, np.float32(0)).astype(np.float32)
