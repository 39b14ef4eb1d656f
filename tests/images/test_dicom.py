"""DICOM: a size is read where the standard has it, and refused where it is not stated."""

from __future__ import annotations

import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.fileset import FileSet
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from fhlib.images.dicom import dicom_sources, read_dicom, series_files
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume
from tests.images import made_dicom as made
from tests.images.made_dicom import dataset, region, save

GREY = np.arange(35).reshape(5, 7)
FRAMES = np.arange(4 * 5 * 7).reshape(4, 5, 7)


def small(count=6):
    """Six slices of 5 x 7 pixels, oblique."""
    values = np.arange(count * 35).reshape(count, 5, 7) % 250
    return Volume(values.astype(np.uint8), made.SPACING, made.ORIGIN, made.oblique_ellipsoid().direction)


def refused(path, pattern, **options):
    """Read it, and look at the refusal."""
    with pytest.raises(ValueError, match=pattern) as caught:
        read_volume(path, **options)
    assert "PLANTED" not in str(caught.value) and str(path.parent) not in str(caught.value)


# --- where the size stands ---------------------------------------------------------------------------------------------


def as_slices(volume, folder):
    return made.slices(volume, folder)


def as_slices_with_regions(volume, folder):
    regions = region(*made.SPACING[1:])
    return made.slices(volume, folder, suffix="", PixelSpacing=None, SequenceOfUltrasoundRegions=regions)


def as_enhanced_volume(volume, folder):
    order = np.random.default_rng(0).permutation(len(volume.array)).tolist()
    return save(made.grouped(volume, order=order), folder / "volume")


def as_enhanced_frames_of_the_patient(volume, folder):
    return save(made.grouped(volume, made.ENHANCED_CT, word="Patient"), folder / "a.dcm")


def as_compressed_volume(volume, folder):
    ds = made.grouped(volume, order=range(len(volume.array) - 1, -1, -1))
    ds.compress(RLELossless)
    return save(ds, folder / "a.dcm")


def as_frames(volume, folder):
    matrix = np.array(volume.direction).reshape(3, 3)
    tags = {"PixelSpacing": list(made.SPACING[1:]), "SpacingBetweenSlices": made.SPACING[0]}
    tags |= {"ImagePositionPatient": list(made.ORIGIN), "ImageOrientationPatient": [*matrix[:, 0], *matrix[:, 1]]}
    return save(dataset(made.US_FRAMES, volume.array, **tags), folder / "a.dcm")


CARRIERS = [
    as_slices,
    as_slices_with_regions,
    as_enhanced_volume,
    as_enhanced_frames_of_the_patient,
    as_compressed_volume,
    as_frames,
]


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_known_ellipsoid_comes_back(tmp_path, carrier):
    expected = made.oblique_ellipsoid()
    back = read_volume(carrier(expected, tmp_path / "in"))
    np.testing.assert_array_equal(back.array, expected.array)
    assert back.spacing_mm == pytest.approx((1.3, 0.8, 0.7), abs=1e-6)
    assert back.origin == pytest.approx((12.5, -30.0, 7.25), abs=1e-6)
    # columns are the directions of x, y and z
    assert back.direction == pytest.approx((0.6, 0, -0.8, 0.8, 0, 0.6, 0, -1, 0), abs=1e-6)
    # 10 slices on: 13 mm along (-0.8, 0.6, 0)
    assert back.position((10, 0, 0)) == pytest.approx((12.5 - 10.4, -30.0 + 7.8, 7.25), abs=1e-5)
    measured = int((back.array > 0).sum()) * back.voxel_volume_ml
    assert measured == pytest.approx(made.VOLUME_ML, rel=0.005)


def test_frames_with_regions_and_spacing_between_slices(tmp_path):
    ds = dataset(made.US_FRAMES, FRAMES, SequenceOfUltrasoundRegions=region(0.4, 0.3), SpacingBetweenSlices=1.5)
    volume = read_volume(save(ds, tmp_path / "a"))
    assert volume.spacing_mm == pytest.approx((1.5, 0.4, 0.3)) and volume.direction == tuple(np.eye(3).ravel())


def test_functional_groups_without_positions_but_with_a_distance(tmp_path):
    ds = dataset(made.ENHANCED_US, FRAMES)
    measures = made.item(PixelSpacing=[0.4, 0.3], SpacingBetweenSlices=1.5)
    ds.SharedFunctionalGroupsSequence = made.item(PixelMeasuresSequence=measures)
    assert read_volume(save(ds, tmp_path / "a.dcm")).spacing_mm == pytest.approx((1.5, 0.4, 0.3))
    del measures[0].SpacingBetweenSlices
    refused(save(ds, tmp_path / "b.dcm"), r"b.dcm has 4 frames and states no distance between them")


def test_frames_that_are_only_partly_placed_are_refused(tmp_path):
    ds = made.grouped(small())
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 1.3
    del ds.PerFrameFunctionalGroupsSequence[2].PlanePositionVolumeSequence
    path = save(ds, tmp_path / "a.dcm")
    refused(path, "of the 6 frames of a.dcm 5 state a position.*expected all or none")
    assert read_volume(path, spacing_mm=(1, 2, 3)).spacing_mm == (1, 2, 3)
    ds = made.grouped(small())
    del ds.SharedFunctionalGroupsSequence[0].PlaneOrientationVolumeSequence
    refused(save(ds, tmp_path / "b.dcm"), "of the 6 frames of b.dcm 6 state a position")
    ds = made.grouped(small())
    del ds.PerFrameFunctionalGroupsSequence[5]
    refused(save(ds, tmp_path / "c.dcm"), "6 frames and 5 functional groups")


def test_enhanced_files_of_one_frame_are_slices(tmp_path):
    volume = small()
    whole = made.grouped(volume)
    for index, frame in enumerate(whole.PerFrameFunctionalGroupsSequence):
        ds = dataset(made.ENHANCED_US, volume.array[[index]], SeriesInstanceUID=whole.SeriesInstanceUID)
        ds.SharedFunctionalGroupsSequence = whole.SharedFunctionalGroupsSequence
        ds.PerFrameFunctionalGroupsSequence = pydicom.Sequence([frame])
        path = save(ds, tmp_path / f"{index * 5 % 6}.dcm")
    back = read_volume(tmp_path)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.same_geometry(volume, 1e-4)
    assert read_volume(path).spacing_mm == pytest.approx((0.8, 0.7))


def test_a_single_image_is_2d_with_the_size_of_its_tissue_region(tmp_path):
    trace = region(0.1, 0.2, RegionSpatialFormat=3, PhysicalUnitsXDirection=4)[0]
    upward = region(-0.31, 0.27)[0]
    regions = pydicom.Sequence([trace, upward])
    volume = read_volume(save(dataset(made.US, GREY, SequenceOfUltrasoundRegions=regions), tmp_path / "IM1"))
    np.testing.assert_array_equal(volume.array, GREY)
    assert volume.spacing_mm == pytest.approx((0.31, 0.27)) and volume.ndim == 2
    # two views at one zoom
    regions.append(region(0.31, 0.27)[0])
    ds = dataset(made.US, GREY, SequenceOfUltrasoundRegions=regions, PixelSpacing=[0.31, 0.27])
    assert read_volume(save(ds, tmp_path / "IM2")).spacing_mm == pytest.approx((0.31, 0.27))


def test_several_pixel_sizes_are_refused_with_the_numbers(tmp_path):
    views = pydicom.Sequence([region(0.31, 0.27)[0], region(0.2, 0.2)[0]])
    path = save(dataset(made.US, GREY, SequenceOfUltrasoundRegions=views), tmp_path / "a.dcm")
    refused(path, r"several pixel sizes \(0.31 x 0.27 and 0.2 x 0.2 mm.*export a single view")
    assert read_volume(path, spacing_mm=[0.31, 0.27]).spacing_mm == (0.31, 0.27)
    # PixelSpacing contradicts the region
    ds = dataset(made.US, GREY, PixelSpacing=[1, 1], SequenceOfUltrasoundRegions=region(0.31, 0.27))
    refused(save(ds, tmp_path / "b.dcm"), r"several pixel sizes \(1 x 1 and 0.31 x 0.27 mm")
    # also in a clip of several frames
    ds = dataset(made.US_FRAMES, FRAMES, SequenceOfUltrasoundRegions=views, SpacingBetweenSlices=1)
    refused(save(ds, tmp_path / "c.dcm"), "several pixel sizes")


STATES_NOTHING = [
    (made.SCREENSHOT, {}, r"a screenshot \(secondary capture\) that states no pixel size"),
    (made.US, {}, "an image that states no pixel size"),
    (made.US, {"SequenceOfUltrasoundRegions": region(0.0, 0.3)}, "states no pixel size"),
    # seconds along x: an M-mode trace
    (made.US, {"SequenceOfUltrasoundRegions": region(0.3, 0.3, PhysicalUnitsXDirection=4)}, "states no pixel size"),
    (made.US, {"SequenceOfUltrasoundRegions": region(0.3, 0.3, RegionSpatialFormat=2)}, "states no pixel size"),
    # of a detector, not of the patient
    (made.US, {"ImagerPixelSpacing": [0.2, 0.2]}, "states no pixel size"),
]


@pytest.mark.parametrize(("sop_class", "tags", "pattern"), STATES_NOTHING)
def test_an_image_without_a_size_is_refused_with_the_remedy(tmp_path, sop_class, tags, pattern):
    path = save(dataset(sop_class, GREY, **tags), tmp_path / "a.dcm")
    refused(path, rf"{pattern}.*read_volume\(path, spacing_mm=.*--spacing-mm 0.5")
    assert read_volume(path, 0.5).spacing_mm == (0.5, 0.5)
    assert read_volume(path, spacing_mm=(0.5, 0.7)).spacing_mm == (0.5, 0.7)
    with pytest.raises(ValueError, match="spacing_mm must be 2 finite numbers"):
        read_volume(path, spacing_mm=(1, 1, 1))


def test_a_size_of_0_states_nothing(tmp_path):
    refused(save(dataset(made.US, GREY, PixelSpacing=[0, 0]), tmp_path / "a.dcm"), "states no pixel size")
    refused(save(dataset(made.US, GREY, PixelSpacing=None), tmp_path / "b.dcm"), "states no pixel size")


# --- frames that are times ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pointer", [0x00181063, 0x00181065])
def test_a_clip_is_no_volume(tmp_path, pointer):
    tags = {"PixelSpacing": [0.5, 0.4], "FrameTime": 33.3, "FrameIncrementPointer": Tag(pointer)}
    path = save(dataset(made.US_FRAMES, FRAMES, **tags), tmp_path / "a.dcm")
    refused(path, "a.dcm is a clip: its 4 frames are times")
    # one number is the size of a pixel; who says that frames are slices says how far apart they are
    refused(path, "all three numbers", spacing_mm=0.5)
    assert read_volume(path, spacing_mm=(2, 0.5, 0.4)).spacing_mm == (2, 0.5, 0.4)
    # a distance does not turn times into depths
    refused(
        save(dataset(made.US_FRAMES, FRAMES, SpacingBetweenSlices=1, **tags), tmp_path / "b.dcm"), "b.dcm is a clip"
    )


def test_frames_without_a_distance_are_refused(tmp_path):
    for name, tags in (("a", {}), ("b", {"SliceThickness": 2.0}), ("c", {"SpacingBetweenSlices": 0.0})):
        path = save(dataset(made.US_FRAMES, FRAMES, PixelSpacing=[0.5, 0.4], **tags), tmp_path / name)
        refused(path, r"4 frames and states no distance between them.*spacing_mm")
        assert read_volume(path, spacing_mm=0.5).spacing_mm == (0.5, 0.5, 0.5)


def test_single_images_of_a_clip_are_no_volume(tmp_path):
    volume = small()
    folder = made.slices(volume, tmp_path / "clip", ImagePositionPatient=None)
    refused(folder, r"of the 6 slices in clip/ 0 state position and orientation.*times, not depths")
    # by InstanceNumber, since the caller answers for them
    back = read_volume(folder, spacing_mm=(1, 2, 3))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.spacing_mm == (1, 2, 3)
    folder = made.slices(volume, tmp_path / "still", ImagePositionPatient=[1, 2, 3])
    refused(folder, "the slices in still/ all lie at one position.*times, not depths")


def test_a_volume_over_time_has_two_frames_at_a_place(tmp_path):
    volume = small()
    path = save(made.grouped(volume, order=[0, 0, 1, 1, 2, 2]), tmp_path / "a.dcm")
    refused(path, r"the frames of a.dcm are 0 to 1.3 mm apart.*several times")


# --- slices that make no regular volume ----------------------------------------------------------------------------------


def test_missing_and_doubled_slices_are_refused(tmp_path):
    folder = made.slices(small(8), tmp_path / "gap")
    removed = next(path for path in folder.iterdir() if pydicom.dcmread(path).InstanceNumber == 4)
    removed.unlink()
    refused(folder, r"the slices in gap/ are 1.3 to 2.6 mm apart, expected one distance: a slice is missing or doubled")
    folder = made.slices(small(8), tmp_path / "double")
    ds = pydicom.dcmread(folder / "IM000.dcm")
    save(ds, folder / "again.dcm")
    refused(folder, r"double/ are 0 to 1.3 mm apart")
    path = save(made.grouped(small(8), order=[0, 1, 2, 4, 5]), tmp_path / "a.dcm")
    refused(path, "the frames of a.dcm are 1.3 to 2.6 mm apart")


@pytest.mark.parametrize("direction", [made.ALONG_X, made.ALONG_Y, (-0.6, -0.8, 0)])
def test_slices_that_step_aside_are_refused(tmp_path, direction):
    # 0.75 mm aside while 1.3 mm on: 30 degrees
    step = 0.75 * np.array(direction)
    folder = made.slices(small(), tmp_path / "tilted", step=step.tolist())
    refused(folder, r"tilted/ step aside by 0.75 mm while they advance 1.3 mm \(30 degrees: a gantry tilt.*resample")


def test_rounded_positions_are_straight(tmp_path):
    volume = small()
    folder = made.slices(volume, tmp_path / "a", step=(0.006, 0.008, 0))  # 0.01 mm along x, 0.4 degrees
    assert read_volume(folder).spacing_mm == pytest.approx(made.SPACING, abs=1e-6)


def test_planes_of_different_views_or_sizes_are_refused(tmp_path):
    folder = made.slices(small(), tmp_path / "fan")
    ds = pydicom.dcmread(folder / "IM000.dcm")
    ds.ImageOrientationPatient = [0.8, 0.6, 0, 0, 0, -1]
    save(ds, folder / "IM000.dcm")
    refused(folder, "fan/ are turned against one another by up to 16.3 degrees, expected parallel planes")
    folder = made.slices(small(), tmp_path / "zoom")
    ds = pydicom.dcmread(folder / "IM000.dcm")
    ds.PixelSpacing = [0.8, 1.4]
    save(ds, folder / "IM000.dcm")
    refused(folder, "pixels of 0.8 x 0.7 to 0.8 x 1.4 mm, expected one size")
    ds.Rows, ds.Columns = 7, 5
    save(ds, folder / "IM000.dcm")
    refused(folder, r"zoom/ have several sizes, \[\(5, 7\), \(7, 5\)\]")


# --- what the pixels mean ------------------------------------------------------------------------------------------------


def test_rescaling_and_inverted_grey_are_as_simpleitk_gives_them(tmp_path):
    ds = dataset(made.US, GREY, PixelSpacing=[1, 1], RescaleSlope=0.5, RescaleIntercept=-3)
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "a.dcm")).array, GREY * 0.5 - 3)
    ds = dataset(made.US, GREY, PixelSpacing=[1, 1], PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "b.dcm")).array, 255 - GREY)


def test_colour_that_is_grey_becomes_grey_and_colour_is_refused(tmp_path):
    picture = np.repeat(GREY[..., None], 3, axis=-1) * 5
    frames = np.repeat(FRAMES[..., None], 3, axis=-1)
    stated = {"PixelSpacing": [0.5, 0.4]}
    grey = read_volume(save(dataset(made.US, picture, **stated), tmp_path / "a"))
    np.testing.assert_array_equal(grey.array, GREY * 5)
    volume = read_volume(save(dataset(made.US_FRAMES, frames, SpacingBetweenSlices=1, **stated), tmp_path / "b"))
    np.testing.assert_array_equal(volume.array, FRAMES)
    luminance = np.stack([GREY * 5, np.full_like(GREY, 128), np.full_like(GREY, 128)], axis=-1)
    ds = dataset(made.US, luminance, PhotometricInterpretation="YBR_FULL", **stated)
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "c")).array, GREY * 5)

    picture[2, 3] = 200, 30, 30
    refused(save(dataset(made.US, picture, **stated), tmp_path / "d"), "d has colours in 2.9 % of its voxels")
    frames[0, 0, :2] = 0, 0, 90
    ds = dataset(made.US_FRAMES, frames, SpacingBetweenSlices=1, **stated)
    refused(save(ds, tmp_path / "e"), r"e has colours in 1.4 %")
    luminance[0, 0] = 90, 200, 100
    ds = dataset(made.US, luminance, PhotometricInterpretation="YBR_FULL", **stated)
    refused(save(ds, tmp_path / "f"), "f has colours")
    refused(save(dataset(made.US, picture), tmp_path / "g"), "g is an image that states no pixel size")


def test_a_makers_logo_beside_the_scan_is_no_colour_of_it(tmp_path):
    picture = np.repeat(GREY[..., None], 3, axis=-1) * 5  # 5 x 7 pixels
    picture[0, 6] = 200, 30, 30

    def saved(name, left, right):
        corners = {"RegionLocationMinX0": left, "RegionLocationMaxX1": right}
        corners |= {"RegionLocationMinY0": 0, "RegionLocationMaxY1": 4}
        regions = made.region(0.5, 0.4, **corners)
        return save(dataset(made.US, picture, SequenceOfUltrasoundRegions=regions), tmp_path / name)

    logo_black = GREY * 5 * (np.arange(7) < 6)
    np.testing.assert_array_equal(read_volume(saved("a", 0, 5)).array, logo_black)
    refused(saved("b", 0, 6), "b has colours in 2.9 %")
    refused(saved("c", 20, 40), "c has colours in 2.9 %")  # a region that lies outside says nothing


def test_a_segmentation_is_no_scan(tmp_path):
    refused(save(dataset(made.US, GREY, PixelSpacing=[1, 1], Modality="SEG"), tmp_path / "a"), "a DICOM segmentation")


def test_a_palette_of_greys_is_grey(tmp_path):
    ds = dataset(made.US, GREY, PixelSpacing=[0.5, 0.4], PhotometricInterpretation="PALETTE COLOR")
    table = (np.arange(256, dtype="<u2") * 257).tobytes()
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", table)
    values = read_volume(save(ds, tmp_path / "a")).array.astype(float)
    np.testing.assert_allclose(values / values.max(), GREY / GREY.max(), atol=0.01)
    ds.BluePaletteColorLookupTableData = table[::-1]
    refused(save(ds, tmp_path / "b"), "b has colours")


# --- folders as hospitals export them --------------------------------------------------------------------------------------


def test_a_nested_export_with_foreign_files(tmp_path):
    volume = small()
    leaf = made.slices(volume, tmp_path / "PAT1" / "STU1" / "SER1", suffix="")
    for name in ("Thumbs.db", ".DS_Store", "read me.txt", "view.jpg", "DICOMDIR.txt"):
        (leaf / name).write_bytes(b"DICM" * 60)
    save(dataset(made.US, GREY), leaf / ".hidden")
    report = dataset("1.2.840.10008.5.1.4.1.1.88.11", GREY, Modality="SR")
    for tag in ("Rows", "Columns", "PixelData"):
        del report[tag]
    save(report, leaf / "report.dcm")
    for folder in (leaf, tmp_path, tmp_path / "PAT1"):
        np.testing.assert_array_equal(read_volume(folder).array, volume.array)
    assert dicom_sources(tmp_path) == [leaf]


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    volume = small()
    files = FileSet()
    for path in made.slices(volume, tmp_path / "in").iterdir():
        files.add(path)
    files.write(tmp_path / "disc")
    for path in (tmp_path / "disc" / "DICOMDIR", tmp_path / "disc"):
        np.testing.assert_array_equal(read_volume(path).array, volume.array)


def test_several_series_are_listed_and_told_apart(tmp_path):
    first, second = small(), small(4)
    folder = tmp_path / "both"
    made.slices(first, folder, suffix=".a.dcm")
    made.slices(second, folder, suffix=".b.dcm")
    frames = save(made.grouped(first), folder / "deep" / "V1")
    refused(folder, r"both/ holds 3 DICOM series \(6 files from IM000.a.dcm; 4 files from IM000.b.dcm; 1 file, deep/V1")
    sources = dicom_sources(folder)
    assert [getattr(source, "name", "") for source in sources] == ["both-IM000.a", "both-IM000.b", "V1"]
    assert sources[2] == frames
    for source, expected in zip(sources, (first, second, first), strict=True):
        np.testing.assert_array_equal(read_dicom(source).array, expected.array)
    assert len(series_files(folder / "deep")) == 1


def test_a_series_beside_a_folder_with_another(tmp_path):
    first, second = small(), small(4)
    made.slices(first, tmp_path / "scan")
    made.slices(second, tmp_path / "scan" / "again")
    refused(tmp_path / "scan", r"holds 2 DICOM series \(6 files from IM000.dcm; 4 files from again/IM000.dcm\)")
    sources = dicom_sources(tmp_path / "scan")
    assert [source.name for source in sources] == ["scan", "again"]
    for source, expected in zip(sources, (first, second), strict=True):
        np.testing.assert_array_equal(read_dicom(source).array, expected.array)


def test_a_damaged_header_is_told_without_its_value(tmp_path):
    ds = dataset(made.US_FRAMES, FRAMES, PixelSpacing=[0.5, 0.4], SpacingBetweenSlices=1.0)
    whole = save(ds, tmp_path / "a.dcm").read_bytes()
    stated = b"IS\x02\x004 "
    assert whole.count(stated) == 1  # NumberOfFrames
    (tmp_path / "a.dcm").write_bytes(whole.replace(stated, b"IS\x02\x00QZ"))
    refused(tmp_path / "a.dcm", r"cannot read a.dcm as an image: its DICOM header is damaged: export it again$")
    assert dicom_sources(tmp_path) == [tmp_path / "a.dcm"]


def test_files_without_preamble_or_suffix(tmp_path):
    ds = dataset(made.US, GREY, PixelSpacing=[0.5, 0.4])
    whole = save(ds, tmp_path / "1.2.840.5").read_bytes()
    assert read_volume(tmp_path / "1.2.840.5").spacing_mm == (0.5, 0.4)
    (tmp_path / "renamed.nrrd.bak").write_bytes(whole)
    assert read_volume(tmp_path / "renamed.nrrd.bak").spacing_mm == (0.5, 0.4)
    del ds.file_meta, ds.preamble
    for name in ("bare.dcm", "bare"):
        pydicom.dcmwrite(tmp_path / name, ds, implicit_vr=True, little_endian=True)
        assert read_volume(tmp_path / name).spacing_mm == (0.5, 0.4)
    (tmp_path / "none.dcm").write_bytes(b"nonsense" * 40)
    refused(tmp_path / "none.dcm", "cannot read none.dcm as an image")
    (tmp_path / "cut.dcm").write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"cannot read cut.dcm"):
        read_volume(tmp_path / "cut.dcm")


def test_no_tag_of_the_patient_is_read(tmp_path, recwarn, capfd):
    ds = dataset(made.US, GREY, PixelSpacing=[0.5, 0.4])
    ds.add_new(0x00100030, "DA", "PLANTED1")  # no date: pydicom would print it in a warning
    recwarn.clear()
    volume = read_volume(save(ds, tmp_path / "a.dcm"))
    assert not [one for one in recwarn if "dicom.py" in str(one.filename)]
    assert "PLANTED" not in repr(volume) + "".join(capfd.readouterr())


def test_without_pydicom_the_error_names_the_extra(tmp_path, monkeypatch):
    path = save(dataset(made.US, GREY, PixelSpacing=[0.5, 0.4]), tmp_path / "a.dcm")
    folder = made.slices(small(), tmp_path / "series")
    sitk.WriteImage(sitk.GetImageFromArray(FRAMES.astype(np.uint8)), str(tmp_path / "a.nrrd"))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refused(path, r"a.dcm is DICOM.*pip install fhlib\[dicom\]")
    refused(folder, r"pip install fhlib\[dicom\]")
    assert read_volume(tmp_path / "a.nrrd").shape == (4, 5, 7)


# --- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp", ".tif", ".tiff"])
def test_pictures_state_no_size_in_mm(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = sitk.GetImageFromArray(GREY.astype(np.uint8))
    image.SetSpacing((0.3, 0.3))  # becomes dots per inch
    sitk.WriteImage(image, str(path))
    refused(path, r"is a picture \(\w+\), which states no size of a voxel.*--spacing-mm 0.5")
    assert read_volume(path, spacing_mm=0.25).spacing_mm == (0.25, 0.25)
    path.rename(tmp_path / "picture")
    refused(tmp_path / "picture", r"is a picture|cannot read picture")


def test_a_stack_of_pictures_takes_three_numbers(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(FRAMES.astype(np.uint8)), str(tmp_path / "a.tif"))
    refused(tmp_path / "a.tif", "is a picture")
    assert read_volume(tmp_path / "a.tif", (2, 0.5, 0.5)).spacing_mm == (2, 0.5, 0.5)
