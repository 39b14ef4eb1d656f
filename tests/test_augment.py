"""Flips, rotations and Random Erasing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import rotate

from fhlib.augment import augment, distinct_flips, random_erasing


def test_flips_and_half_turns_give_eight_distinct_volumes():
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    results = {np.flip(volume, axes).tobytes() for axes in distinct_flips(3)}
    planes = ((0, 1), (0, 2), (1, 2))
    composed = {np.rot90(np.flip(volume, axes), 2, plane).tobytes() for axes in distinct_flips(3) for plane in planes}
    assert len(results) == 8 and composed == results
    assert len(distinct_flips(2)) == 4
    assert np.allclose(rotate(volume, 180, axes=(0, 1)), np.flip(volume, (0, 1)))


def test_erasing_sets_one_box_to_zero_near_the_head_and_leaves_its_input():
    image, label = np.ones((20, 30, 40), np.float32), np.zeros((20, 30, 40), np.uint8)
    label[5:10, 20:28, 4:12] = 1
    for seed in range(30):
        erased = random_erasing(image, label, np.random.default_rng(seed))
        inside = np.argwhere(erased == 0)
        low, high = inside.min(0), inside.max(0) + 1
        assert np.prod(high - low) == len(inside), "the erased voxels are one box"
        # the centre lies in the head's bounding box, so the box reaches into it or ends within a voxel of it
        assert (low <= [10, 28, 12]).all() and (high >= [5, 20, 4]).all()
        assert ((high - low) <= np.ceil(0.45 * np.array(image.shape)) + 1).all()
    assert image.all()


def test_image_label_and_context_stay_together_and_are_reproducible():
    rng = np.random.default_rng(3)
    image = rng.random((5, 6, 7), np.float32)
    label = (image > 0.5).astype(np.uint8)
    context = image + 1
    for seed in range(8):
        first = augment(image, label, context, np.random.default_rng(seed), erasing_probability=0)
        again = augment(image, label, context, np.random.default_rng(seed), erasing_probability=0)
        assert np.array_equal(first[1], first[0] > 0.5) and np.allclose(first[2], first[0] + 1)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert all(array.flags["C_CONTIGUOUS"] for array in first)


def test_erasing_probability_is_kept():
    image, label = np.ones((8, 9), np.float32), np.ones((8, 9), np.uint8)
    erased = [(augment(image, label, None, np.random.default_rng(seed), 0.3)[0] == 0).any() for seed in range(400)]
    assert np.mean(erased) == pytest.approx(0.3, abs=0.07)
