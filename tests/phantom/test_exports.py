"""Exports as augmentations: each changes what it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.phantom import exports

SHAPE = (30, 26, 34)


@pytest.fixture(scope="module")
def pair():
    """Speckle in all but the outer planes, and an ellipsoid as the head."""
    z, y, x = np.ogrid[:30, :26, :34]
    label = ((z - 14) / 8) ** 2 + ((y - 12) / 7) ** 2 + ((x - 18) / 9) ** 2 <= 1
    image = np.random.default_rng(1).uniform(0.1, 1, SHAPE).astype(np.float32)
    image[:, :, :3] = image[:, :, -3:] = 0
    return image, label.astype(np.uint8)


def test_most_scans_stay_and_the_generator_decides(pair):
    image, label = pair
    before = image.copy()
    changed = [exports.change_export(image, label, np.random.default_rng(seed)) for seed in range(80)]
    again = [exports.change_export(image, label, np.random.default_rng(seed)) for seed in range(80)]
    assert all(np.array_equal(a, b) for a, b in zip(changed, again, strict=True))
    same = np.mean([np.array_equal(one, image) for one in changed])
    assert same == pytest.approx(1 - exports.CHANGED, abs=0.12)
    assert np.array_equal(image, before)
    for one in changed:
        assert one.dtype == np.float32 and one.shape == SHAPE and np.isfinite(one).all()
        assert one.min() >= 0 and one.max() <= image.max() + 1e-6 and (one[image == 0] == 0).all()


@pytest.mark.parametrize("black", [exports.black_surroundings, exports.black_outside])
def test_blacking_out_keeps_the_head_and_changes_no_level(pair, black):
    image, label = pair
    hidden = []
    for seed in range(12):
        out = black(image, label > 0, np.random.default_rng(seed))
        kept = out == image
        assert (out[~kept] == 0).all() and kept[label > 0].mean() > 0.97
        hidden.append((~kept).mean())
    assert max(hidden) > 0.4


def test_surroundings_are_black_from_the_margin_on(pair):
    image, label = pair
    rng = np.random.default_rng(3)
    margin = (3 * label.sum() / (4 * np.pi)) ** (1 / 3) * 0.30 * 1.5  # the widest there may be
    out = exports.black_surroundings(image, label > 0, rng)
    z, y, x = np.nonzero(out)
    distance = np.sqrt(((z - 14) / 8) ** 2 + ((y - 12) / 7) ** 2 + ((x - 18) / 9) ** 2)
    assert ((distance - 1) * 9 <= margin + 1).all()


def test_no_head_no_surroundings(pair):
    image, _ = pair
    assert exports.black_surroundings(image, np.zeros(SHAPE, bool), np.random.default_rng(0)) is image


def test_smoothing_takes_speckle_and_keeps_the_mean(pair):
    image, label = pair
    inside = np.zeros(SHAPE, bool)
    inside[4:-4, 4:-4, 8:-8] = True
    for change in (exports.speckle_reduced, exports.planes_averaged, exports.coarse_and_fine):
        for seed in range(6):
            out = change(image, label > 0, np.random.default_rng(seed))
            assert out[inside].std() < 0.9 * image[inside].std()
            assert out[inside].mean() == pytest.approx(image[inside].mean(), rel=0.03)
            assert ((out > 0) == (image > 0)).all()


def test_posterising_leaves_few_levels_and_tone_their_order(pair):
    image, label = pair
    out = exports.posterised(image, label > 0, np.random.default_rng(0))
    assert len(np.unique(out)) <= 64 and np.abs(out - image).max() <= image.max() / 7 / 2 + 1e-6
    toned = exports.toned(image, label > 0, np.random.default_rng(0))
    assert (np.diff(toned.ravel()[np.argsort(image.ravel())]) >= 0).all() and toned.max() == pytest.approx(image.max())


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\) and \(3, 4, 6\)"):
        exports.change_export(np.zeros((3, 4, 5)), np.zeros((3, 4, 6), np.uint8), np.random.default_rng(0))
