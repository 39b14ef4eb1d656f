"""Made-up features of a network."""

from __future__ import annotations

import numpy as np

from fhlib.images.volume import Volume
from fhlib.networks.features import Features

SHAPE, SPACING = (20, 13, 30), (0.5, 1.5, 0.8)


def features(
    shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING, channels: int = 4, seed: int = 0
) -> Features:
    """What inference gives: maps at 1/4, 1/2 and full size of the image padded to a multiple of 8."""
    rng = np.random.default_rng(seed)
    padded = tuple(-(-n // 8) * 8 for n in shape)
    attention, shrunk = {}, {}
    for number, factor in ((1, 4), (2, 2), (3, 1)):
        for kind in ("SAM", "UAM"):
            weights = rng.normal(size=(channels, *(n // factor for n in padded)))
            attention[f"{kind}-{number}"] = (np.exp(weights) / np.exp(weights).sum(0)).astype(np.float16)
            shrunk[f"{kind}-{number}"] = rng.normal(size=weights.shape).astype(np.float16)
    volume = Volume(rng.integers(0, 255, shape).astype(np.uint8), spacing)
    return Features(volume, volume.with_array(head(shape).astype(np.float32) * 0.9), attention, shrunk)


def head(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return sum(axis**2 for axis in grid) < 0.4


def oblique() -> Volume:
    """A scan of 12 x 7 x 20 voxels, anisotropic, turned by 30 degrees about z; its values are their places in memory."""
    c, s = np.cos(np.pi / 6), 0.5
    values = np.arange(12 * 7 * 20, dtype=np.int16).reshape(12, 7, 20)
    return Volume(values, (1.0, 2.5, 0.5), origin=(10.0, -20.0, 5.0), direction=(c, -s, 0, s, c, 0, 0, 0, 1))
