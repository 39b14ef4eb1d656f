"""Which part of a case a step reads."""

from __future__ import annotations

import numpy as np

from fhlib.training.samples import _random_patch


def test_a_patch_is_the_same_place_of_image_and_label():
    image = np.arange(20 * 16 * 33).reshape(1, 20, 16, 33)
    drawn = [_random_patch(image, image[0] % 7, 16, np.random.default_rng(seed)) for seed in range(20)]
    for part, label in drawn:
        corner = np.unravel_index(part.flat[0], image.shape[1:])
        box = tuple(slice(start, start + 16) for start in corner)
        assert (part[0] == image[0][box]).all() and (label == part[0] % 7).all() and label.shape == (16, 16, 16)
    assert len({part.flat[0] for part, _ in drawn}) > 10
