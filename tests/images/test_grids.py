"""Resampling, cropping and padding keep physical positions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fhlib.images.grids import Crop, bounding_box, crop_to_box, resample
from fhlib.images.volume import Volume, to_sitk
from tests.images.made import itk_position, oblique, volumes


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_resampling_keeps_physical_positions(ndim, factor):
    volume = oblique(ndim, shape=(10, 12, 15))
    slope = np.array([1.0, -2.0, 0.5])[:ndim]

    def field(at):  # linear in physical space, so linear interpolation reproduces it
        image = to_sitk(at)
        positions = [image.TransformIndexToPhysicalPoint(i[::-1]) for i in np.ndindex(at.shape)]
        return (np.array(positions) @ slope).reshape(at.shape)

    fine = resample(volume.with_array(field(volume)), tuple(s * factor for s in volume.spacing_mm))
    assert fine.spacing_mm == pytest.approx([s * factor for s in volume.spacing_mm])
    core = (slice(2, -2),) * ndim  # at the border the outermost voxel is repeated
    np.testing.assert_allclose(fine.array[core], field(fine)[core], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(volumes(), st.floats(0.3, 3))
def test_resampled_box_shares_its_centre_and_comes_back(volume, factor):
    other = resample(volume, tuple(s * factor for s in volume.spacing_mm))
    for step, old, new in zip(other.spacing_mm, volume.size_mm, other.size_mm, strict=True):
        assert (
            abs(old - new) <= 0.5001 * step or new == step
        )  # a quarter of a voxel at each side; never fewer than one voxel
    centre, new_centre = (v.position([(n - 1) / 2 for n in v.shape]) for v in (volume, other))
    np.testing.assert_allclose(new_centre, centre, atol=1e-9)
    assert other.direction == volume.direction
    assert volume.array.min() - 1e-5 <= other.array.min() and other.array.max() <= volume.array.max() + 1e-5
    back = resample(other, like=volume)
    assert (back.shape, back.spacing_mm, back.origin, back.direction) == (
        volume.shape,
        volume.spacing_mm,
        volume.origin,
        volume.direction,
    )


def test_halving_takes_the_corners_not_the_centres():
    # voxel edges at 0, 1, 2, 3, 4 mm; the two new voxels are centred on 1 and 3 mm, between two old ones each
    volume = Volume(np.array([[0, 2, 6, 10]], np.float32), (1, 1), (0.5, 0.5))
    half = resample(volume, (1, 2))
    assert half.origin == (1.0, 0.5)
    np.testing.assert_allclose(half.array, [[1, 8]])
    # and back: 0.5 and 3.5 mm lie beyond the new centres, so they repeat the edge; 1.5 and 2.5 mm lie between
    np.testing.assert_allclose(resample(half, like=volume).array, [[1, 2.75, 6.25, 8]])


def test_sizes_of_the_paper():
    # 388 x 258 x 440 at 0.38 mm (x, y, z) is 155 x 103 x 176 at 0.95 mm
    volume = Volume(np.broadcast_to(np.uint8(0), (440, 258, 388)), (0.38,) * 3)
    assert resample(volume, 0.95, interpolation="nearest").shape == (176, 103, 155)


@pytest.mark.parametrize("ndim", [2, 3])
def test_border_is_not_darkened(ndim):
    bright = oblique(ndim).with_array(np.full((5, 7, 11)[-ndim:], 7, np.float32))
    for factor, smooth in itertools.product((0.3, 0.9, 1.7, 2.6), (False, True)):
        np.testing.assert_allclose(resample(bright, [s * factor for s in bright.spacing_mm], smooth=smooth).array, 7)
    np.testing.assert_allclose(resample(resample(bright, 3.0), like=bright).array, 7)


def test_weighted_sums_are_itks_and_scipys_filters():
    volume = oblique(3, shape=(12, 15, 10))
    volume = volume.with_array(np.random.default_rng(2).random(volume.shape))
    coarse = resample(volume, [2.0 * step for step in volume.spacing_mm], smooth=True)
    smoothed = ndimage.gaussian_filter(volume.array, np.sqrt(3) / 2.3548, mode="nearest")
    wanted = sitk.Resample(to_sitk(volume.with_array(smoothed)), to_sitk(coarse), sitk.Transform(), sitk.sitkLinear)
    inside = (slice(1, -1),) * 3  # ITK gives 0 beyond
    np.testing.assert_allclose(coarse.array[inside], sitk.GetArrayFromImage(wanted)[inside], atol=1e-5)


def test_a_box_holds_all_of_a_mask():
    mask = np.zeros((5, 6, 7), bool)
    assert bounding_box(mask) == (slice(0, 0),) * 3
    mask[1, 5, 2] = mask[3, 2, 2] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 6), slice(2, 3))


def test_nan_stays_where_it_is():
    array = np.ones((6, 7, 8))
    array[1, 1, 1] = np.nan
    fine = resample(Volume(array, (1.0, 1.0, 1.0)), (0.5, 0.5, 0.5)).array
    assert np.isnan(fine).any() and np.isfinite(fine[6:]).all()


def test_nearest_keeps_labels_and_types():
    label = oblique(3, bool).with_array(np.random.default_rng(3).uniform(size=(5, 7, 11)) > 0.5)
    fine = resample(label, [s / 3 for s in label.spacing_mm], interpolation="nearest")
    assert fine.array.dtype == bool and fine.shape == (15, 21, 33)
    np.testing.assert_array_equal(fine.array, label.array.repeat(3, 0).repeat(3, 1).repeat(3, 2))
    np.testing.assert_array_equal(resample(fine, like=label, interpolation="nearest").array, label.array)


def test_linear_gives_real_numbers_and_smoothing_follows_its_formula():
    spike = Volume(np.zeros((1, 39), np.int16), (1, 1))
    spike.array[0, 19] = 100
    assert resample(spike, 0.5).array.dtype == np.float32
    assert resample(spike.with_array(spike.array.astype(float)), 0.5).array.dtype == np.float64
    # factor 3 keeps a centre on the spike: 100 / (sigma sqrt(2 pi)) with sigma = sqrt(8) / 2.3548 = 1.2011 is 33.2
    smooth = resample(spike, (1, 3), smooth=True)
    assert smooth.array.max() == pytest.approx(100 / (1.2011 * (2 * np.pi) ** 0.5), rel=2e-3)


def test_resampling_asks_for_one_target():
    volume = oblique(3)
    for arguments in ({}, {"spacing_mm": 1.0, "like": volume}):
        with pytest.raises(ValueError, match="either spacing_mm or like"):
            resample(volume, **arguments)
    with pytest.raises(ValueError, match="'linear' or 'nearest', got 'cubic'"):
        resample(volume, 1.0, interpolation="cubic")
    with pytest.raises(ValueError, match="3D image onto a 2D grid"):
        resample(volume, like=oblique(2))
    with pytest.raises(ValueError, match="must be positive"):
        resample(volume, -1.0)


def same(a, b):
    np.testing.assert_array_equal(a.array, b.array)
    return (a.spacing_mm, a.origin, a.direction) == (b.spacing_mm, b.origin, b.direction)


@settings(max_examples=40, deadline=None)
@given(volumes(), st.data())
def test_cropping_and_its_inverse(volume, data):
    starts = [data.draw(st.integers(0, n - 1)) for n in volume.shape]
    box = [(start, data.draw(st.integers(start + 1, n))) for start, n in zip(starts, volume.shape, strict=True)]
    cropped, crop = crop_to_box(volume, box)
    assert isinstance(crop, Crop) and same(crop_to_box(volume, [slice(*edge) for edge in box])[0], cropped)
    last = tuple(n - 1 for n in cropped.shape)
    for index in ((0,) * volume.ndim, last):
        before = tuple(i + start for i, (start, _) in zip(index, box, strict=True))
        assert cropped.array[index] == volume.array[before]
        np.testing.assert_allclose(itk_position(cropped, index), itk_position(volume, before), atol=1e-9)
    assert same(crop.undo(cropped), volume)
    pasted = crop.undo(cropped.with_array(np.ones(cropped.shape, bool)), outside=0)
    assert pasted.array.dtype == bool and pasted.array.sum() == cropped.array.size


def test_undoing_needs_the_shape_that_was_cropped_and_a_box_lies_within():
    volume = oblique(3)
    _, crop = crop_to_box(volume, [(1, 3), (0, 7), (2, 4)])
    with pytest.raises(ValueError, match=r"box has shape \(2, 7, 2\)"):
        crop.undo(volume)
    for box in ([(1, 1), (0, 7), (0, 1)], [(0, 6), (0, 7), (0, 1)], [slice(-2, 3), slice(None), slice(None)]):
        with pytest.raises(ValueError, match="empty or leaves the volume"):
            crop_to_box(volume, box)
