"""Volumes and their geometry."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from fhlib.images.volume import Volume, from_sitk, to_sitk
from tests.images.made import itk_position, oblique, volumes


@settings(max_examples=30, deadline=None)
@given(volumes())
def test_position_is_itks(volume):
    back = from_sitk(to_sitk(volume))
    assert (back.spacing_mm, back.origin) == (volume.spacing_mm, volume.origin)
    np.testing.assert_allclose(back.direction, volume.direction, atol=1e-12)
    for index in itertools.product(*((0, n - 1, n / 3) for n in volume.shape)):
        np.testing.assert_allclose(volume.position(index), itk_position(volume, index), atol=1e-9)


def test_position_by_hand():
    # index (d 1, h 2, w 3) = (x 3, y 2, z 1): 1.5, 0.62, 1.7 mm along axes turned by 30 degrees, x mirrored
    root = 3**0.5 / 2
    expected = (10.5 - root * 1.5 + 0.5 * 0.62, -20.25 + 0.5 * 1.5 + root * 0.62, 33 + 1.7)
    np.testing.assert_allclose(oblique(3).position((1, 2, 3)), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"array": np.zeros((2, 3, 4, 5))}, "shape"),
        ({"array": np.zeros((0, 3, 4))}, "at least one voxel"),
        ({"spacing_mm": (1, 1)}, "spacing_mm must be 3 finite numbers"),
        ({"spacing_mm": (1, 0, 1)}, "must be positive"),
        ({"spacing_mm": (1, float("nan"), 1)}, "finite"),
        ({"origin": (0, 0)}, "origin must be 3"),
        ({"direction": (1, 0, 0, 1)}, "direction must be 9"),
        ({"direction": (1, 0, 0, 0, 1, 0, 0, 1, 0)}, "orthonormal"),
    ],
)
def test_a_volume_is_validated(change, message):
    with pytest.raises(ValueError, match=message):
        Volume(**({"array": np.zeros((2, 3, 4)), "spacing_mm": (1, 1, 1)} | change))
    with pytest.raises(TypeError, match="complex"):
        Volume(np.zeros((2, 2), complex), (1, 1))


def test_sizes_and_comparison():
    volume = oblique(3)
    assert volume.size_mm == pytest.approx((8.5, 2.17, 5.5))
    assert volume.voxel_volume_ml == pytest.approx(1.7 * 0.31 * 0.5 / 1000)
    assert np.isnan(oblique(2).voxel_volume_ml)
    moved = Volume(volume.array, volume.spacing_mm, (10.51, -20.25, 33), volume.direction)
    assert volume.same_geometry(moved, 0.011) and not volume.same_geometry(moved, 0.009)
    with pytest.raises(ValueError, match=r"belongs to shape \(5, 7, 11\)"):
        volume.with_array(np.zeros((7, 5, 11)))
