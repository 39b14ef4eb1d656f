"""Flips, rotations and Random Erasing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from fhlib.presets import Training
from fhlib.training.augment import augment, change_intensities, random_erasing, zoom_and_rotate


def settings(**changes):
    return Training(width=4, steps=1, learning_rate=1e-3, **changes)


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
    context = 2 * image
    for seed in range(12):
        zoom = float(seed >= 8)
        training = settings(erasing_probability=0, symmetries="all" if seed % 2 else "flips", zoom_probability=zoom)
        first = augment(image, label, context, np.random.default_rng(seed), training)
        again = augment(image, label, context, np.random.default_rng(seed), training)
        assert np.allclose(first[2], 2 * first[0])
        assert zoom or np.array_equal(first[1], first[0] > 0.5)  # an image is interpolated, a label is not
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert all(array.flags["C_CONTIGUOUS"] for array in first)


def test_erasing_probability_is_kept():
    image, label = np.ones((8, 9), np.float32), np.ones((8, 9), np.uint8)
    training = settings(erasing_probability=0.3)
    erased = [(augment(image, label, None, np.random.default_rng(seed), training)[0] == 0).any() for seed in range(400)]
    assert np.mean(erased) == pytest.approx(0.3, abs=0.07)


def test_all_symmetries_of_a_box_occur_and_the_voxels_stay():
    image = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    training = settings(erasing_probability=0, symmetries="all")
    results = {
        (drawn.shape, drawn.tobytes())
        for seed in range(800)
        for drawn in [augment(image, image.astype(np.uint8), None, np.random.default_rng(seed), training)[0]]
    }
    assert len(results) == 48  # 6 orders of the axes, 8 flips each
    assert {shape for shape, _ in results} == set(itertools.permutations((2, 3, 4)))
    assert all(sorted(np.frombuffer(data, np.float32)) == list(range(24)) for _, data in results)


@pytest.mark.parametrize("shape", [(12, 15, 9), (14, 11)])
def test_intensities_change_within_their_range_and_reproducibly_and_places_stay(shape):
    image = ndimage.gaussian_filter(np.random.default_rng(1).random(shape), 2).astype(np.float32)
    image = (image - image.min()) / np.ptp(image)
    before, alike = image.copy(), []
    for seed in range(12):
        first, again = (change_intensities(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first, again) and first.shape == shape and first.dtype == np.float32
        assert first.min() >= 0 and first.max() <= 1
        alike.append(np.corrcoef(first.ravel(), image.ravel())[0, 1])
    assert np.array_equal(image, before)
    assert np.min(alike) > 0.5 and np.mean(np.array(alike) < 0.999) > 0.6
    assert (
        augment(
            image, (image > 0.5).astype(np.uint8), None, np.random.default_rng(0), settings(intensity_probability=1)
        )[0].max()
        <= 1
    )


@pytest.mark.parametrize("shape", [(60, 48, 54), (90, 70)])
def test_zoom_and_rotation_keep_a_ball_a_ball_and_image_and_label_together(shape):
    centre = (np.array(shape) - 1) / 2
    distance = np.sqrt(sum((x - c) ** 2 for x, c in zip(np.indices(shape), centre, strict=True)))
    label, image = (distance <= 12).astype(np.uint8), np.clip(12.5 - distance, 0, 1).astype(np.float32)
    zooms = []
    for seed in range(20):
        moved, outline = zoom_and_rotate([image, label], np.random.default_rng(seed))
        assert outline.dtype == np.uint8 and np.mean((moved > 0.5) != (outline > 0)) < 0.01
        inside = np.argwhere(outline)
        zooms.append((len(inside) / label.sum()) ** (1 / len(shape)))
        assert np.linalg.eigvalsh(np.cov(inside.T)) == pytest.approx(
            np.linalg.eigvalsh(np.cov(np.argwhere(label).T)) * zooms[-1] ** 2, rel=0.06
        )
        assert (np.abs(inside.mean(0) - centre) <= 0.08 * np.array(shape) + 0.3).all()
    assert 0.58 < min(zooms) < 0.8 and 1.25 < max(zooms) < 1.65


def test_rotation_turns_by_at_most_the_angle_in_each_plane():
    line = np.zeros((81, 81), np.float32)
    line[40, 20:61] = 1
    angles = []
    for seed in range(60):
        d, h = np.argwhere(zoom_and_rotate([line], np.random.default_rng(seed))[0] > 0.2).T
        angles.append(np.rad2deg(np.arctan(np.polyfit(h, d, 1)[0])))
    assert np.abs(angles).max() < 27 and np.ptp(angles) > 35
