"""Filling between corrected planes: expected outlines by hand, on anisotropic grids."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.annotation.between import fill_between


def discs(shape: tuple[int, int, int], radii: dict[int, float], axis: int, step: float) -> np.ndarray:
    """Discs of `radii` mm in some planes of an axis, about the plane's middle; voxels of `step` mm along the last in-plane axis."""
    mask = np.zeros(shape, bool)
    planes = np.moveaxis(mask, axis, 0)
    rows, columns = np.indices(planes.shape[1:])
    away = np.hypot(rows - planes.shape[1] // 2, step * (columns - planes.shape[2] // 2))
    for plane, radius in radii.items():
        planes[plane] = away <= radius
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_radius_between_two_discs_changes_linearly(axis):
    shape = tuple(np.insert([41, 41], axis, 9))
    after = discs(shape, {0: 4, 8: 16}, axis, 1.0)
    filled, along, count = fill_between(np.zeros(shape, bool), after, (1, 1, 1))
    assert (along, count) == (axis, 7)
    middle = np.moveaxis(filled, axis, 0)[4]
    assert np.ptp(np.flatnonzero(middle[20])) == pytest.approx(20, abs=1)  # radius (4 + 16) / 2
    assert middle.sum() == pytest.approx(np.pi * 10**2, rel=0.06)


def test_distances_are_in_millimetres():
    """Two discs in mm are two ellipses in voxels of 1 x 2 mm; the one between is an ellipse, too."""
    after = discs((5, 61, 31), {0: 10, 4: 20}, 0, 2.0)
    filled, _, _ = fill_between(np.zeros_like(after), after, (3, 1, 2))
    rows, columns = np.nonzero(filled[2])
    assert np.ptp(rows) == pytest.approx(30, abs=2) and 2 * np.ptp(columns) == pytest.approx(30, abs=4)


def test_only_planes_between_corrected_ones_change():
    before = np.ones((9, 7, 6), bool)
    after = before.copy()
    after[2, 3:, :] = after[6, 3:, :] = False
    filled, axis, count = fill_between(before, after, (1, 1, 1))
    assert (axis, count) == (0, 3)
    assert np.array_equal(filled[[0, 1, 7, 8]], before[[0, 1, 7, 8]])
    assert all(np.array_equal(filled[plane], after[2]) for plane in (3, 4, 5))


def test_nothing_is_filled_towards_an_empty_plane_nor_with_one_alone():
    empty = np.zeros((5, 6, 7), bool)
    one = empty.copy()
    one[1, 2:4, 2:5] = True
    assert fill_between(empty, one, (1, 1, 1))[2] == 0
    before = one.copy()
    before[4, 1:3, 1:3] = True  # taken away: the plane is empty now
    after = one.copy()
    after[1, 2, 2] = False
    filled, _, count = fill_between(before, after, (1, 1, 1))
    assert count == 0 and np.array_equal(filled, after)


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape are needed, got \(2, 2, 2\) and \(2, 2, 3\)"):
        fill_between(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), (1, 1, 1))
