"""A scan is read in one order of axes: every other order of the same voxels leads to the same array, at the same positions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from fhlib.images.volume import Volume, from_sitk, to_sitk
from fhlib.models.orientation import AS_IT_IS, Turn, canonical

ORDERS = list(itertools.permutations(range(3)))
FLIPS = [flips for count in range(4) for flips in itertools.combinations(range(3), count)]
OBLIQUE = (0.6, 0.0, 0.8, 0.8, 0.0, -0.6, 0.0, 1.0, 0.0)


def scan() -> Volume:
    """Sides of 5.0, 4.2 and 6.0 mm, brighter towards one corner, oblique."""
    array = np.random.default_rng(4).integers(0, 50, (10, 14, 8)).astype(np.uint8)
    array[:3, 9:, :4] += 150
    return Volume(array, (0.5, 0.3, 0.75), (10.0, -20.0, 5.0), OBLIQUE)


@pytest.mark.parametrize("flipped", FLIPS)
@pytest.mark.parametrize("axes", ORDERS)
def test_a_turn_is_itks_permutation_and_flip_and_is_undone(axes, flipped):
    volume, turn = scan(), Turn(axes, flipped)
    turned = turn.of(volume)
    xyz = [2 - axis for axis in axes][::-1]
    itk = sitk.Flip(sitk.PermuteAxes(to_sitk(volume), xyz), [2 - axis in flipped for axis in range(3)])
    itk_volume = from_sitk(itk)
    assert np.array_equal(turned.array, itk_volume.array)
    assert turned.same_geometry(itk_volume)
    assert np.array_equal(turn.undo(turned.array), volume.array)


@pytest.mark.parametrize("flipped", FLIPS)
@pytest.mark.parametrize("axes", ORDERS)
def test_every_order_of_a_scan_is_read_as_one(axes, flipped):
    volume = scan()
    expected = canonical(volume).of(volume)
    other = Turn(axes, flipped).of(volume)
    read = canonical(other).of(other)
    assert np.array_equal(read.array, expected.array)
    assert read.same_geometry(expected)


def test_the_longest_side_comes_first_and_the_brighter_half_before_the_darker():
    volume = scan()
    turn = canonical(volume)
    assert turn.axes == (2, 0, 1)  # 6.0, 5.0 and 4.2 mm
    assert turn.flipped == (2,)  # bright for large indices along the second axis alone, which is now the last
    assert turn.of(volume).size_mm == pytest.approx((6.0, 5.0, 4.2))


def test_sides_of_one_length_go_by_how_far_the_brightness_spreads():
    array = np.zeros((6, 6, 6), np.float32)
    array[:, 2:4, 1:5] = 1.0  # wide along the first, narrow along the second
    assert canonical(Volume(array, (1.0, 1.0, 1.0))).axes == (0, 2, 1)


@pytest.mark.parametrize("fill", [0.0, 7.0, 0.1])
def test_a_constant_scan_stays_as_it_is(fill):
    volume = Volume(np.full((4, 9, 5), fill, np.float32), (1.0, 1.0, 1.0))
    assert canonical(volume) == AS_IT_IS[3]


def test_an_image_is_turned_too():
    array = np.zeros((3, 5), np.uint8)
    array[0, 4] = 9
    turn = canonical(Volume(array, (1.0, 1.0)))
    assert turn == Turn((1, 0), (0,))
