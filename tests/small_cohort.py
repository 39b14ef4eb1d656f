"""A cohort of six small scans, and parameters to train on it."""

from __future__ import annotations

import numpy as np

from fhlib.images.volume import Volume
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.presets import Preparation, Training

SPLITS = ("train", "train", "train", "val", "test", "test")
PREPARATION = Preparation(spacing_mm=4.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
TRAINING = Training(
    width=4, steps=7, learning_rate=1e-2, validate_every=3, checkpoint_every=2, start_from_previous_level=True
)


def scan(seed, noise=0.4):
    """A bright ellipsoid in noise, 2 x 1.5 x 1 mm, oblique and flipped."""
    rng = np.random.default_rng(seed)
    spacing, shape = (2.0, 1.5, 1.0), (26, 40, 52)
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    centre = np.array(shape) * spacing / 2 + rng.uniform(-4, 4, 3)
    label = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, (15, 18, 16), strict=True)) < 1
    image = (100 * label + 100 * noise * rng.random(shape)).astype(np.float32)
    geometry = {"spacing_mm": spacing, "origin": (5.0, -7.0, 11.0), "direction": OBLIQUE}
    return Volume(image, **geometry), Volume(label.astype(np.uint8), **geometry)


def parameters(variant, level=1, training=TRAINING):
    """Parameters of one level's training on the cohort; `fit` fills in the fingerprint."""
    return SegmentorParameters(variant, level, 3, PREPARATION, training, Execution())
