"""DICOM as it should not be: what would give a wrong number is refused, and the message says why."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGBaseline8Bit, generate_uid

from fhlib.images.dicom import headers, reading
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume
from fhlib.segmentation.sources import volumes_in
from tests.images import made_dicom as made
from tests.images.made_dicom import dataset, grouped, item, region, save
from tests.images.test_dicom import FRAMES, GREY, refused, small

PIXEL = {"PixelSpacing": [0.5, 0.4]}
STACK = {**PIXEL, "SpacingBetweenSlices": 1.5}


def changed(folder, change):
    """Write a series again, slice by slice, after a change of (data set, its place from 0)."""
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        change(ds, int(ds.InstanceNumber) - 1)
        save(ds, path)
    return folder


def of_number(folder, number):
    return next(path for path in folder.iterdir() if pydicom.dcmread(path).InstanceNumber == number)


# --- pixels that are not whole ----------------------------------------------------------------------------------------------


def test_fewer_bytes_than_the_header_says(tmp_path):
    # SimpleITK fills up with what it finds in memory
    short = dataset(made.US_FRAMES, FRAMES, **STACK)
    short.PixelData = short.PixelData[:100]
    refused(save(short, tmp_path / "short"), "short holds 100 bytes of pixels, expected 140")
    five = dataset(made.US_FRAMES, FRAMES, **STACK)
    five.NumberOfFrames = 5
    refused(save(five, tmp_path / "five"), "five holds 140 bytes of pixels, expected 175")
    three = dataset(made.US_FRAMES, FRAMES, **STACK)
    three.NumberOfFrames = 3
    refused(save(three, tmp_path / "three"), "three holds 140 bytes of pixels, expected 105")
    deflated = dataset(made.US, GREY, **PIXEL)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.PixelData = deflated.PixelData[:30]
    refused(save(deflated, tmp_path / "deflated"), "deflated holds 30 bytes of pixels, expected 35")
    # a few bytes more are padding
    padded = dataset(made.US_FRAMES, FRAMES, **STACK)
    padded.PixelData += b"\0" * 10
    np.testing.assert_array_equal(read_volume(save(padded, tmp_path / "padded")).array, FRAMES)


@pytest.mark.parametrize("lost", [1, 20, 130])
def test_a_file_that_lost_its_end(tmp_path, lost):
    whole = save(dataset(made.US_FRAMES, FRAMES, **STACK), tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[:-lost])
    refused(tmp_path / "a.dcm", "cannot read a.dcm as an image: its pixels are damaged")


def test_a_file_without_pixels(tmp_path):
    ds = dataset(made.US, GREY, **PIXEL)
    del ds.PixelData
    refused(save(ds, tmp_path / "a"), "cannot read a as an image: it has no pixels")
    ds.PixelData = b""
    refused(save(ds, tmp_path / "b"), "b holds 0 bytes of pixels, expected 35")


def test_packed_pixels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    picture = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)

    def packed(name, content, shape=(64, 80)):
        ds = dataset(made.US, np.zeros(shape), **PIXEL)
        ds.PixelData = encapsulate([content + b"\0" * (len(content) % 2)])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        return save(ds, tmp_path / name)

    image.fromarray(picture).save(tmp_path / "picture.jpg", quality=95)
    content = (tmp_path / "picture.jpg").read_bytes()
    back = read_volume(packed("whole", content))
    assert np.abs(back.array.astype(int) - picture).max() <= 3 and back.spacing_mm == (0.5, 0.4)
    refused(packed("half", content[: len(content) // 2]), r"half as an image: its pixels packed as JPEG Baseline")
    refused(packed("smaller", content, (64, 90)), r"smaller states 1 x 64 x 90 voxels .* and holds 1 x 64 x 80")


def test_more_than_memory_holds_is_refused_before_it_is_read(tmp_path, monkeypatch):
    for name, tags in (("rows", {"Rows": 60000, "Columns": 60000}), ("frames", {"NumberOfFrames": 10**9})):
        path = save(dataset(made.US_FRAMES, FRAMES, **STACK, **tags), tmp_path / name)
        refused(path, rf"{name} states .* voxels, expected at most 5e\+08")
    zeros = dataset(made.US_FRAMES, np.zeros((20, 100, 100)), **STACK)
    zeros.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(zeros, tmp_path / "deflated")
    assert path.stat().st_size < 5000
    monkeypatch.setattr(headers, "MOST_UNPACKED", 100_000)
    refused(path, r"deflated unpacks to more than 1e\+05 bytes")
    assert volumes_in(tmp_path)
    monkeypatch.setattr(reading, "MOST_VOXELS", 200)
    refused(made.slices(small(), tmp_path / "series"), "series/ states 6 x 5 x 7 voxels, expected at most 200")


# --- what pixels mean ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "signed"), [(12, False), (16, False), (12, True), (16, True)])
def test_more_than_8_bits(tmp_path, bits, signed):
    values = GREY * 50 - (600 if signed else 0)
    ds = dataset(made.US, GREY, **PIXEL)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, int(signed)
    ds.PixelData = values.astype("<i2").tobytes()
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "a")).array, values)
    ds.RescaleSlope, ds.RescaleIntercept = 2, -7
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "b")).array, values * 2 - 7)


def test_big_endian(tmp_path):
    ds = Dataset()
    little = dataset(made.US, GREY, **PIXEL)
    for element in little:
        if element.tag != 0x7FE00010:
            ds.add(element)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.add_new(0x7FE00010, "OW", (GREY * 300).astype(">u2").tobytes())
    ds.file_meta, ds.preamble = little.file_meta, b"\0" * 128
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    ds.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=False)
    back = read_volume(tmp_path / "a.dcm")
    np.testing.assert_array_equal(back.array, GREY * 300)
    assert back.spacing_mm == (0.5, 0.4)


def test_planar_colours_are_grey(tmp_path):
    frames = np.repeat(FRAMES[..., None], 3, axis=-1)
    ds = dataset(made.US_FRAMES, frames, PlanarConfiguration=1, **STACK)
    ds.PixelData = np.moveaxis(frames, -1, 1).astype(np.uint8).tobytes()
    np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "a")).array, FRAMES)


def test_flow_is_no_echo(tmp_path):
    ds = grouped(small())
    ds.SharedFunctionalGroupsSequence[0].ImageDataTypeSequence = item(DataType="FLOW_VELOCITY")
    refused(save(ds, tmp_path / "a"), "a holds FLOW_VELOCITY, expected TISSUE_INTENSITY alone")
    refused(tmp_path / "a", "FLOW_VELOCITY", spacing_mm=0.5)
    ds.SharedFunctionalGroupsSequence[0].ImageDataTypeSequence = item(DataType="TISSUE_INTENSITY")
    assert read_volume(save(ds, tmp_path / "b")).shape == (6, 5, 7)
    ds.PerFrameFunctionalGroupsSequence[2].ImageDataTypeSequence = item(DataType="FLOW_POWER")
    refused(save(ds, tmp_path / "c"), "c holds FLOW_POWER and TISSUE_INTENSITY")


def test_scales_of_grey_that_differ_between_frames(tmp_path):
    ds = grouped(small())
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = item(RescaleSlope=2, RescaleIntercept=0, RescaleType="US")
    assert read_volume(save(ds, tmp_path / "a")).spacing_mm == pytest.approx(made.SPACING)
    ds.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence = item(RescaleSlope=4, RescaleIntercept=0)
    refused(save(ds, tmp_path / "b"), r"the frames of b have 2 scales of grey \(PixelValueTransformationSequence\)")
    shared.PixelValueTransformationSequence[0].RescaleSlope = -1
    del ds.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence
    refused(save(ds, tmp_path / "c"), "expected one that rises")


# --- sizes that no voxel has ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[-0.5, -0.5], [0.5, 0], [0.5], [0.5, 0.4, 0.3], [0, 0]])
def test_a_pixel_spacing_that_states_nothing(tmp_path, values):
    tags = {"PixelSpacing": values, "SpacingBetweenSlices": 1.5}
    refused(save(dataset(made.US, GREY, **tags), tmp_path / "a"), "a is an image that states no pixel size")
    refused(save(dataset(made.US_FRAMES, FRAMES, **tags), tmp_path / "b"), "b is an image that states no pixel size")
    refused(made.slices(small(), tmp_path / "c", PixelSpacing=values), "states no pixel size")
    ds = grouped(small())
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = values
    refused(save(ds, tmp_path / "d"), "the frames of d state no pixel size")
    assert read_volume(tmp_path / "b", (2, 0.5, 0.4)).spacing_mm == (2, 0.5, 0.4)
    assert read_volume(tmp_path / "c", (2, 0.5, 0.4)).spacing_mm == (2, 0.5, 0.4)
    # a region may state it all the same
    ds = dataset(made.US, GREY, PixelSpacing=values, SequenceOfUltrasoundRegions=region(0.31, 0.27))
    assert read_volume(save(ds, tmp_path / "e")).spacing_mm == pytest.approx((0.31, 0.27))


@pytest.mark.parametrize("text", [b"nan\\nan  ", b"inf\\inf  ", b"0,5\\0,4 ", b"0.5/0.4  "])
def test_a_pixel_spacing_that_is_no_number(tmp_path, text):
    whole = save(dataset(made.US, GREY, PixelSpacing=["0.50", "0.40"]), tmp_path / "a").read_bytes()
    stated = b"0.50\\0.40 "
    assert whole.count(stated) == 1
    (tmp_path / "a").write_bytes(whole.replace(stated, text.ljust(len(stated))))
    refused(tmp_path / "a", "a is an image that states no pixel size|header is damaged")


@pytest.mark.parametrize("size", [1e-6, 0.0003, 50.0])
def test_a_voxel_that_no_ultrasound_has(tmp_path, size):
    both = [size, size]
    refused(
        save(dataset(made.US, GREY, PixelSpacing=both), tmp_path / "a"), "a states voxels of .* expected 0.01 to 10"
    )
    refused(made.slices(small(), tmp_path / "b", PixelSpacing=both), r"IM\d+.dcm states voxels of")
    tags = {"PixelSpacing": [0.5, 0.4], "SpacingBetweenSlices": size}
    path = save(dataset(made.US_FRAMES, FRAMES, **tags), tmp_path / "c")
    refused(path, "c states voxels of .* expected 0.01 to 10 mm")
    assert read_volume(path, (2, 0.5, 0.4)).spacing_mm == (2, 0.5, 0.4)


def test_a_distance_below_0_states_nothing(tmp_path):
    for name, tags in (("a", {"SpacingBetweenSlices": -1.5}), ("b", {"SliceThickness": 2.0})):
        refused(
            save(dataset(made.US_FRAMES, FRAMES, **PIXEL, **tags), tmp_path / name), "states no distance between them"
        )


def test_groups_and_tags_that_contradict_one_another(tmp_path):
    for name, tags in (("a", {"PixelSpacing": [3, 3]}), ("b", {"SequenceOfUltrasoundRegions": region(3, 3)})):
        ds = grouped(small())
        for tag, value in tags.items():
            setattr(ds, tag, value)
        path = save(ds, tmp_path / name)
        refused(path, rf"{name} states several pixel sizes \(0.8 x 0.7 and 3 x 3 mm")
        assert read_volume(path, spacing_mm=(1, 2, 3)).spacing_mm == (1, 2, 3)


def test_a_small_region_says_nothing_of_the_rest(tmp_path):
    corners = {"RegionLocationMinX0": 0, "RegionLocationMinY0": 0}
    wide = region(0.3, 0.3, **corners, RegionLocationMaxX1=29, RegionLocationMaxY1=39)
    small_one = region(0.3, 0.3, **corners, RegionLocationMaxX1=3, RegionLocationMaxY1=3)
    picture = np.zeros((40, 50))
    assert read_volume(save(dataset(made.US, picture, SequenceOfUltrasoundRegions=wide), tmp_path / "a")).shape == (
        40,
        50,
    )
    path = save(dataset(made.US, picture, SequenceOfUltrasoundRegions=small_one), tmp_path / "b")
    # 16 of 2000 pixels
    refused(path, "the calibrated regions of b fill 0.8 % of it, expected 10 % at least")
    both = Sequence([wide[0], small_one[0]])
    assert read_volume(save(dataset(made.US, picture, SequenceOfUltrasoundRegions=both), tmp_path / "c")).ndim == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"PhysicalUnitsXDirection": 0, "PhysicalUnitsYDirection": 0},
        {"PhysicalUnitsXDirection": 1, "PhysicalUnitsYDirection": 1},  # percent
        {"PhysicalUnitsXDirection": 12},  # degrees
        {"RegionSpatialFormat": 3},  # spectral
        {"PhysicalDeltaX": float("nan")},
        {"PhysicalDeltaX": None},
    ],
)
def test_regions_that_are_no_tissue_in_cm(tmp_path, changes):
    ds = dataset(made.US, GREY, SequenceOfUltrasoundRegions=region(0.3, 0.3, **changes))
    refused(save(ds, tmp_path / "a"), "states no pixel size")


# --- frames -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"FrameTime": 33.3}, r"are times \(FrameTime\)"),
        ({"CineRate": 30}, r"are times \(CineRate\)"),
        ({"FrameTimeVector": [0, 33, 33, 33]}, r"are times \(FrameTimeVector\)"),
        ({"FrameIncrementPointer": [Tag(0x00540080), Tag(0x00181063)]}, r"are times \(FrameTime\)"),
        ({"FrameIncrementPointer": Tag(0x00182003)}, "advance by FramePrimaryAngleVector"),
        ({"FrameIncrementPointer": Tag(0x00540070)}, "advance by TimeSlotVector"),
    ],
)
def test_frames_that_advance_by_anything_but_depth(tmp_path, tags, why):
    path = save(dataset(made.US_FRAMES, FRAMES, **STACK, **tags), tmp_path / "a.dcm")
    refused(path, rf"a.dcm is a clip: its 4 frames {why}, not depths")
    assert read_volume(path, spacing_mm=(2, 0.5, 0.4)).spacing_mm == (2, 0.5, 0.4)


@pytest.mark.parametrize("pointer", [0x00540080, 0x00182005, 0x00200032])
def test_frames_that_advance_by_depth(tmp_path, pointer):
    tags = {"FrameIncrementPointer": Tag(pointer), "FrameTime": 33.3}
    assert read_volume(save(dataset(made.US_FRAMES, FRAMES, **STACK, **tags), tmp_path / "a")).shape == (4, 5, 7)


def test_several_times_without_positions(tmp_path):
    ds = dataset(made.ENHANCED_US, FRAMES)
    measures = item(PixelSpacing=[0.4, 0.3], SpacingBetweenSlices=1.5)
    ds.SharedFunctionalGroupsSequence = item(PixelMeasuresSequence=measures)
    groups = [item(FrameContentSequence=item(TemporalPositionIndex=1 + index // 2))[0] for index in range(4)]
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    refused(save(ds, tmp_path / "a"), r"the frames of a are of 2 times \(TemporalPositionIndex\)")


def test_several_times_with_positions(tmp_path):
    ds = grouped(small(), order=[0, 1, 2, 3, 4, 5] * 2)
    refused(save(ds, tmp_path / "a"), "0 to 1.3 mm apart.*several times")


def test_a_part_of_a_concatenation(tmp_path):
    ds = grouped(small(), order=[0, 1, 2])
    ds.ConcatenationUID, ds.InConcatenationNumber, ds.InConcatenationTotalNumber = generate_uid(), 1, 2
    refused(save(ds, tmp_path / "a"), r"a is part 1 of a volume that was split into several files")


@pytest.mark.parametrize(
    "orientation",
    [
        [1.2, 1.6, 0, 0, 0, -2],
        [0.6, 0.8, 0, 0.18, 0.24, -1],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
    ],
)
def test_orientations_that_are_none(tmp_path, orientation):
    ds = grouped(small())
    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationVolumeSequence[0].ImageOrientationVolume = orientation
    refused(save(ds, tmp_path / "a"), "the frames of a state an orientation of .*expected two unit vectors")
    refused(
        made.slices(small(), tmp_path / "b", ImageOrientationPatient=orientation), "the slices in b/ state an orient"
    )


def test_a_rounded_orientation_is_made_exact(tmp_path):
    folder = made.slices(small(), tmp_path / "a", ImageOrientationPatient=[0.598, 0.803, 0.001, 0.002, 0, -0.999])
    matrix = np.array(read_volume(folder).direction).reshape(3, 3)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(matrix[:, 0], made.ALONG_X, atol=0.005)


@pytest.mark.parametrize(("aside_mm", "degrees"), [(0.75, "30"), (2.6, "63.4")])
def test_an_enhanced_volume_whose_planes_step_aside(tmp_path, aside_mm, degrees):
    ds = grouped(small())
    for index, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        place = group.PlanePositionVolumeSequence[0]
        place.ImagePositionVolume = (
            np.array(place.ImagePositionVolume) + index * aside_mm * np.array(made.ALONG_Y)
        ).tolist()
    refused(save(ds, tmp_path / "a"), rf"the frames of a step aside by {aside_mm} mm .* 1.3 mm \({degrees} degrees")


def test_a_sweep_that_bends_is_no_volume(tmp_path):
    # each plane is turned by 2 degrees more about the axis of its columns
    def turn(ds, index):
        angle = np.deg2rad(2 * index)
        along = np.cos(angle) * np.array(made.ALONG_X) + np.sin(angle) * np.array(made.NORMAL)
        ds.ImageOrientationPatient = [*along.round(6).tolist(), *made.ALONG_Y]

    folder = changed(made.slices(small(), tmp_path / "fan"), turn)
    refused(folder, "fan/ are turned against one another by up to 10 degrees")


def test_pixel_sizes_in_the_group_of_each_frame(tmp_path):
    ds = grouped(small())
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = item(PixelSpacing=[0.8, 0.7])
    assert read_volume(save(ds, tmp_path / "a")).spacing_mm == pytest.approx(made.SPACING)
    ds.PerFrameFunctionalGroupsSequence[4].PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.9]
    refused(save(ds, tmp_path / "b"), "the frames of b have pixels of 0.8 x 0.7 to 0.8 x 0.9 mm")


# --- series -------------------------------------------------------------------------------------------------------------------


def test_slices_without_positions_are_stacked_by_number_where_a_distance_is_stated(tmp_path):
    volume = small()
    lacking = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    folder = made.slices(volume, tmp_path / "a", SpacingBetweenSlices=1.3, **lacking)
    with pytest.warns(UserWarning, match="the slices in a/ state no position: they are stacked by InstanceNumber"):
        back = read_volume(folder)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.spacing_mm == pytest.approx(made.SPACING)

    of_number(folder, 4).unlink()
    refused(folder, r"numbers \(InstanceNumber\) go from 1 to 6 for 5 slices.*a slice is missing")
    for name, tags in (
        ("thick", {"SliceThickness": 1.3}),
        ("times", {"SpacingBetweenSlices": 1.3, "FrameTime": 33}),
        ("negative", {"SpacingBetweenSlices": -1.3}),
        ("unnumbered", {"SpacingBetweenSlices": 1.3, "InstanceNumber": None}),
        ("alike", {"SpacingBetweenSlices": 1.3, "InstanceNumber": 1}),
    ):
        refused(
            made.slices(volume, tmp_path / name, **tags, **lacking), rf"of the 6 slices in {name}/ 0 state position"
        )
    folder = made.slices(volume, tmp_path / "uneven", SpacingBetweenSlices=1.3, **lacking)
    changed(folder, lambda ds, index: setattr(ds, "SpacingBetweenSlices", 1.3 + index))
    refused(folder, "of the 6 slices in uneven/ 0 state position")


def test_two_scans_under_one_series(tmp_path):
    volume = small()
    between = Volume(
        volume.array[:, ::-1],
        volume.spacing_mm,
        tuple(np.array(volume.origin) + 0.65 * np.array(made.NORMAL)),
        volume.direction,
    )
    series, frame = generate_uid(), generate_uid()
    # interleaved, they would make a volume of half the step
    for name, uids in (("frames", {}), ("numbers", {"FrameOfReferenceUID": frame})):
        folder = tmp_path / name
        made.slices(volume, folder, SeriesInstanceUID=series, **uids)
        made.slices(between, folder, suffix=".b", SeriesInstanceUID=series, **uids)
        reason = "2 frames of reference" if name == "frames" else r"each number \(InstanceNumber\) 2 times"
        refused(folder, rf"the slices in {name}/ .*{reason}.*these are several scans")
    # a writer that makes up a frame of reference for each slice
    folder = changed(
        made.slices(volume, tmp_path / "each"), lambda ds, _: setattr(ds, "FrameOfReferenceUID", generate_uid())
    )
    np.testing.assert_array_equal(read_volume(folder).array, volume.array)


@pytest.mark.parametrize("damage", ["empty", "header cut", "foreign", "meta cut"])
def test_the_last_slice_is_damaged(tmp_path, damage):
    # five of six slices would make a head that is too small
    folder = made.slices(small(), tmp_path / "series")
    last = of_number(folder, 6)
    whole = last.read_bytes()
    last.write_bytes({"empty": b"", "header cut": whole[:400], "foreign": b"x" * 500, "meta cut": whole[:200]}[damage])
    refused(folder, rf"1 damaged file, {last.name}")
    sources = volumes_in(tmp_path)
    assert len(sources) == 2
    for source in sources:
        with pytest.raises(ValueError, match=rf"{last.name} lies among them and is damaged|cannot read {last.name}"):
            reading.read_dicom(source)


def test_slices_that_a_dicomdir_lists_are_missing(tmp_path):
    files, disc = FileSet(), tmp_path / "disc"
    for path in made.slices(small(), tmp_path / "in").iterdir():
        files.add(path)
    files.write(disc)
    series = next(path.parent for path in disc.rglob("*") if path.is_file() and path.name != "DICOMDIR")
    last = of_number(series, 6)
    # a suffix, or other capital letters, are no loss
    last.rename(last.with_name(f"{last.name.lower()}.dcm"))
    assert read_volume(disc).shape == (6, 5, 7)
    (series / f"{last.name.lower()}.dcm").unlink()
    for path in (disc / "DICOMDIR", disc, series):
        with pytest.warns(UserWarning, match=rf"DICOMDIR lists 1 files .*{last.name}"):
            refused(path, rf"not all there: DICOMDIR lists 1 more that are missing \({last.name}\)")
    with pytest.warns(UserWarning, match="DICOMDIR lists 1 files"):
        assert [source.name for source in volumes_in(tmp_path)] == [series.name, "in"]
    for path in series.iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match="DICOMDIR lists 6 files"), pytest.raises(FileNotFoundError):
        volumes_in(disc)


def test_a_damaged_dicomdir_says_nothing(tmp_path):
    made.slices(small(), tmp_path / "series")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM\2\0garbage")
    assert read_volume(tmp_path / "DICOMDIR").shape == (6, 5, 7)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_series_without_preambles_and_suffixes(tmp_path, implicit):
    folder = made.slices(small(), tmp_path / "a", suffix="")
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        del ds.file_meta, ds.preamble
        pydicom.dcmwrite(path, ds, implicit_vr=implicit, little_endian=True)
    (folder / "notes").write_bytes(b"\x08\0\0\0 are the first bytes of a foreign file")
    np.testing.assert_array_equal(read_volume(folder).array, small().array)
    assert volumes_in(tmp_path) == [folder]


# --- anything at all ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    ds = grouped(small())
    ds.compress(pydicom.uid.RLELossless)
    deflated = dataset(made.US_FRAMES, FRAMES, **STACK)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    files = [
        save(grouped(small()), folder / "grouped.dcm"),
        save(ds, folder / "packed.dcm"),
        save(dataset(made.US_FRAMES, FRAMES, **STACK), folder / "frames.dcm"),
        save(dataset(made.US, GREY, SequenceOfUltrasoundRegions=region(0.3, 0.2)), folder / "regions.dcm"),
        save(deflated, folder / "deflated.dcm"),
    ]
    return {path.name: path.read_bytes() for path in files}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused_in_words(originals, tmp_path, data):
    name = data.draw(st.sampled_from(sorted(originals)))
    content = bytearray(originals[name])
    for _ in range(data.draw(st.integers(1, 4))):
        # the preamble is free for anything
        at = data.draw(st.integers(128, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content)))]
    path = tmp_path / name
    path.write_bytes(content)
    try:
        volume = read_volume(path)
    except ValueError as error:
        assert "PLANTED" not in str(error) and str(tmp_path) not in str(error)
    else:
        assert all(0.01 <= step <= 10 for step in volume.spacing_mm)


def test_a_damaged_word_for_grey_is_no_reason_to_turn_bright_to_dark(tmp_path):
    # SimpleITK inverts what it does not know: 54 became 201
    damaged = dataset(made.US, GREY, **PIXEL)
    damaged.PhotometricInterpretation = "MONOCH OME2"
    refused(save(damaged, tmp_path / "damaged"), "damaged states no known PhotometricInterpretation")
