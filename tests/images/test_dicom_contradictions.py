"""DICOM whose tags contradict one another, or tell that slices are missing: refused, or said."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pydicom
import pytest
from pydicom import Sequence

from fhlib.images.formats import read_volume
from fhlib.images.volume import ReadWarning
from tests.images import made_dicom as made
from tests.images.made_dicom import dataset, grouped, item, save
from tests.images.test_dicom import refused, small

COUNT = 6
STEP = 1.3
"""Slices of `small()`, and mm from one to the next."""
NO_PLACE = {"ImagePositionPatient": None, "ImageOrientationPatient": None}


def test_the_sample_is_as_the_tests_take_it():
    assert (len(small().array), small().spacing_mm[0]) == (COUNT, STEP)


def numbered(folder, **tags):
    return made.slices(small(), folder / "s", **NO_PLACE, **tags)


def set_each(folder, tag, value):
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        setattr(ds, tag, value(int(ds.InstanceNumber)))
        save(ds, path)
    return folder


def take_out(folder, number):
    next(path for path in folder.iterdir() if pydicom.dcmread(path).InstanceNumber == number).unlink()
    return folder


@pytest.mark.parametrize("tag", ["SliceLocationVector", "GridFrameOffsetVector"])
@pytest.mark.parametrize("step", [2.6, 1.3])
def test_frames_that_state_two_distances(tmp_path, tag, step):
    tags = {"PixelSpacing": [0.8, 0.7], "SpacingBetweenSlices": STEP, tag: [step * index for index in range(COUNT)]}
    path = save(dataset(made.US_FRAMES, small().array, **tags), tmp_path / "a.dcm")
    if step == STEP:
        assert read_volume(path).spacing_mm == (1.3, 0.8, 0.7)
    else:
        refused(path, f"2.6 to 2.6 mm apart by {tag}, expected 1.3 mm")


def test_numbered_slices_that_state_two_distances(tmp_path):
    folder = numbered(tmp_path, SpacingBetweenSlices=STEP)
    set_each(folder, "SliceLocation", lambda number: 2.6 * number)
    refused(folder, "2.6 to 2.6 mm apart by SliceLocation, expected 1.3 mm")
    # a distance that the caller gives does not mend an order that is wrong
    set_each(folder, "SliceLocation", lambda number: STEP * [2, 0, 1, 3, 5, 4][number - 1])
    refused(folder, "by SliceLocation")
    refused(folder, "by SliceLocation", spacing_mm=(1.3, 0.8, 0.7))


@pytest.mark.parametrize("place", [lambda number: -1.3 * number, lambda number: 0.0])
def test_slice_locations_that_fit_or_say_nothing(tmp_path, place):
    folder = set_each(numbered(tmp_path, SpacingBetweenSlices=STEP), "SliceLocation", place)
    with pytest.warns(ReadWarning, match="stacked by InstanceNumber"):
        assert np.array_equal(read_volume(folder).array, small().array)


def test_positions_count_where_another_distance_is_stated_and_that_is_said(tmp_path):
    with pytest.warns(ReadWarning, match=r"1.3 mm apart by their positions, which are taken, and state \w+ 0.65 mm"):
        assert read_volume(made.slices(small(), tmp_path / "s", SpacingBetweenSlices=0.65)).spacing_mm[0] == STEP
    ds = grouped(small())
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.65
    with pytest.warns(ReadWarning, match="0.65 mm: compare a known length"):
        assert read_volume(save(ds, tmp_path / "a.dcm")).spacing_mm[0] == STEP
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_volume(made.slices(small(), tmp_path / "t", SpacingBetweenSlices=STEP))


def test_a_slice_that_is_missing_is_missing_at_a_given_spacing_too(tmp_path):
    folder = numbered(tmp_path, PixelSpacing=None)
    assert read_volume(folder, 0.5).shape == small().shape
    refused(take_out(folder, 3), r"from 1 to 6 for 5 slices, expected none left out", spacing_mm=0.5)


def test_numbers_that_all_go_by_two_leave_nothing_out_at_a_given_spacing(tmp_path):
    folder = set_each(numbered(tmp_path, PixelSpacing=None), "InstanceNumber", lambda number: 2 * number)
    assert np.array_equal(read_volume(folder, 0.5).array, small().array)


def test_times_are_no_depths_at_a_given_spacing_either(tmp_path):
    ds = dataset(made.ENHANCED_US, small().array)
    groups = [item(FrameContentSequence=item(TemporalPositionIndex=1 + index // 3))[0] for index in range(COUNT)]
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    path = save(ds, tmp_path / "a.dcm")
    refused(path, r"of 2 times \(TemporalPositionIndex\)", spacing_mm=(1.3, 0.8, 0.7))

    ds = dataset(made.US_FRAMES, small().array, NumberOfTemporalPositions=2)
    refused(save(ds, tmp_path / "b.dcm"), r"of 2 times \(NumberOfTemporalPositions\)", spacing_mm=0.5)

    folder = set_each(
        numbered(tmp_path, PixelSpacing=None), "TemporalPositionIdentifier", lambda number: 1 + number // 4
    )
    refused(folder, r"of 2 times \(TemporalPositionIdentifier\)", spacing_mm=0.5)


def test_a_sweep_in_which_each_plane_has_its_time_is_read_with_all_three_numbers(tmp_path):
    path = save(dataset(made.US_FRAMES, small().array, NumberOfTemporalPositions=COUNT), tmp_path / "a.dcm")
    refused(path, "of 6 times", spacing_mm=0.5)
    assert read_volume(path, (1.3, 0.8, 0.7)).spacing_mm == (1.3, 0.8, 0.7)


def test_slices_that_may_be_missing_at_an_end_are_said(tmp_path):
    folder = take_out(made.slices(small(), tmp_path / "s", ImagesInAcquisition=COUNT), COUNT)
    with pytest.warns(ReadWarning, match=r"are 5, and state that their acquisition has 6 images"):
        assert len(read_volume(folder).array) == 5


def test_slices_with_names_of_other_formats_belong_to_the_series(tmp_path):
    # half of the volume would be half of the head
    folder = made.slices(small(), tmp_path / "s")
    for path in sorted(folder.iterdir())[::2]:
        shutil.move(path, path.with_suffix(".img"))
    assert np.array_equal(read_volume(folder).array, small().array)
