"""The paper's augmentation (section 2.1): flips and 180-degree rotations, then Random Erasing; and more where a preset asks for it.

Each training step draws afresh instead of from a fixed set of 2112 volumes, so that there is nothing to store. The paper's 2112 are 600
flipped ones and, if those were added, 1512 erased ones. That is a share of 0.716, which the preset `paper` takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import expm

from fhlib.models.inputs import flips_of
from fhlib.phantom.exports import change_export
from fhlib.presets import Training

Array = NDArray[np.float32]
Box = tuple[slice, ...]
CONTEXT_EDGE = (0.2, 1.4)
"""Of a box in which a context is erased, as a fraction of the image's edge: from a part of the head to all of it."""
ZOOM, ANGLE, SHIFT = (0.6, 1.6), np.deg2rad(25), 0.08


def random_erasing(
    image: Array,
    label: NDArray[np.uint8],
    rng: np.random.Generator,
    edge: tuple[float, float] = (0.15, 0.45),
) -> Array:
    """Copy of `image` with one box set to 0, to mimic an acoustic shadow (Zhong et al. 2017, adapted to volumes by the paper).

    Args:
        image: (d, h, w) or (h, w).
        label: of the same shape, 0 or 1. The box's centre is drawn within the head's bounding box ("around the whole fetal head"), or
            anywhere where there is no head.
        rng: what draws.
        edge: least and largest edge of the box, as a fraction of the image's. The paper does not give the sizes: these are ours.
    """
    erased = image.copy()
    erased[erased_box(head_box(label), image.shape, rng, edge)] = 0
    return erased


def head_box(label: NDArray[np.uint8]) -> Box:
    """The head's bounding box in a label, or the whole of it where there is no head."""
    (around,) = ndimage.find_objects(label > 0, max_label=1)
    return tuple(slice(0, n) for n in label.shape) if around is None else around


def erased_box(
    around: Box, shape: Sequence[int], rng: np.random.Generator, edge: tuple[float, float] = (0.15, 0.45)
) -> Box:
    """What `random_erasing` sets to 0 in an image of this shape, whose head lies in the box `around`."""
    centre = rng.uniform([side.start for side in around], [side.stop for side in around])
    half = rng.uniform(*edge, size=len(shape)) * shape / 2
    return tuple(slice(max(0, round(c - h)), max(0, round(c + h))) for c, h in zip(centre, half, strict=True))


@cache
def intensity_changes() -> Any:
    """MONAI's transforms with our strengths. Call it once before a thread does: MONAI cannot be imported by two threads at a time."""
    from monai import transforms as monai  # seconds to import, and only some presets need it

    return monai.Compose(
        [
            monai.RandHistogramShift(num_control_points=(6, 10), prob=0.5),
            monai.RandAdjustContrast(prob=0.7, gamma=(0.5, 2.0)),
            monai.RandBiasField(degree=2, coeff_range=(-0.3, 0.3), prob=0.4),
            monai.RandGaussianSmooth(prob=0.3, sigma_x=(0.3, 1.2), sigma_y=(0.3, 1.2), sigma_z=(0.3, 1.2)),
            monai.RandGaussianNoise(prob=0.3, std=0.06),
        ]
    )


def change_intensities(image: Array, rng: np.random.Generator) -> Array:
    """Another machine's contrast, brightness over the field, resolution and noise (MONAI's transforms; strengths are ours); [0, 1]."""
    changes = intensity_changes()
    changes.set_random_state(seed=int(rng.integers(2**31)))
    changed = np.asarray(changes(np.ascontiguousarray(image)[None]), np.float32)[0]
    return np.clip(changed, 0, 1)


def zoom_and_rotate(arrays: list[NDArray[Any]], rng: np.random.Generator) -> list[NDArray[Any]]:
    """Arrays of one shape after one random similarity about their centre, for heads of every size where training cases are few.

    Isotropic zoom by `ZOOM` (log-uniform), rotation by at most `ANGLE` in each plane, shift by at most `SHIFT` of each side: our ranges.
    Zeros come in from outside; integer arrays (labels) stay so.
    """
    shape = np.array(arrays[0].shape)
    zoom = np.exp(rng.uniform(*np.log(ZOOM)))
    angles = np.triu(rng.uniform(-ANGLE, ANGLE, (len(shape), len(shape))), 1)
    matrix = expm(angles - angles.T) / zoom  # a skew matrix's exponential is a rotation, in any dimension
    centre = (shape - 1) / 2
    offset = centre - matrix @ (centre + rng.uniform(-SHIFT, SHIFT, len(shape)) * shape)
    return [
        ndimage.affine_transform(array, matrix, offset, order=0 if np.issubdtype(array.dtype, np.integer) else 1)
        for array in arrays
    ]


def drawn_symmetry(ndim: int, rng: np.random.Generator, training: Training) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The order of the axes, and which of them are then flipped."""
    options = flips_of(ndim)
    flipped = options[rng.integers(len(options))]
    order = rng.permutation(ndim).tolist() if training.symmetries == "all" else range(ndim)
    return tuple(order), flipped


def augment(
    image: Array, label: NDArray[np.uint8], context: Array | None, rng: np.random.Generator, training: Training
) -> tuple[Array, NDArray[np.uint8], Array | None]:
    """One random flip and, with `erasing_probability`, Random Erasing of the image.

    With `symmetries="all"` axes are exchanged too (48 results in 3D): other machines store volumes along other axes. With
    `zoom_probability` `zoom_and_rotate` acts next, with `exports` `change_export` (volumes only), with `intensity_probability`
    `change_intensities`; all come before the erasing.

    Args:
        image: (d, h, w) or (h, w), in [0, 1].
        label: of the same shape, 0 or 1.
        context: the probability of the level before, or None. It is flipped along and not erased with the image: it was predicted from
            the whole image. The paper does not say how contexts are augmented. With `context_erasing_probability` a part of it is set to 0
            for itself: the level then learns to see what the level before has missed, instead of copying it.
        rng: what draws.
        training: says what is done, and how often.
    """
    order, flipped = drawn_symmetry(image.ndim, rng, training)

    def turn(array: NDArray[Any]) -> NDArray[Any]:
        return np.flip(np.transpose(array, order), flipped)

    image, label = turn(image), turn(label)
    context = None if context is None else turn(context)
    if training.zoom_probability and rng.random() < training.zoom_probability:
        image, label, *rest = zoom_and_rotate([image, label, *([] if context is None else [context])], rng)
        context = rest[0] if rest else None
    if training.exports and image.ndim == 3:
        image = change_export(image, label, rng)
    if training.intensity_probability and rng.random() < training.intensity_probability:
        image = change_intensities(image, rng)
    if rng.random() < training.erasing_probability:
        image = random_erasing(image, label, rng)
    share = training.context_erasing_probability
    if context is not None and share and rng.random() < share:
        context = random_erasing(context, label, rng, CONTEXT_EDGE)
    context = None if context is None else np.ascontiguousarray(context)
    return np.ascontiguousarray(image), np.ascontiguousarray(label), context
