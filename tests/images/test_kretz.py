"""Kretz files: written by hand here, item by item, so that reader and writer are not judged by one another."""

from __future__ import annotations

import dataclasses
import math
import struct
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from fhlib.images.dicom import read_dicom
from fhlib.images.dicom.embedded import kretz_bytes_in_dicom
from fhlib.images.formats import read_volume
from fhlib.images.kretz import read_kretz, write_kretz
from fhlib.phantom.acoustics import form_image
from fhlib.phantom.probe import Box, scan_convert
from fhlib.phantom.scan import _labels, acquire, set_up
from fhlib.segmentation.sources import volumes_in
from tests.images import made_dicom

MAGIC = b"KRETZFILE 1.0   "
PATIENT = b"Jane^Planted"
END = ((0xFFFF, 0xFFFF), b"")


def double(*numbers):
    return struct.pack(f"<{len(numbers)}d", *numbers)


def joined(items):
    return MAGIC + b"".join(struct.pack("<HHI", *tag, len(data)) + data for tag, data in items)


def items_of(voxels, step_mm=1.0, phi=None, theta=None, offset1=40.0, offset2=0.0):
    """The items of a file with its patient's; angles are 0 straight ahead."""
    items = [((0x0110, 0x0001), b"Planted-ID"), ((0x0110, 0x0002), PATIENT), ((0x0120, 0x0001), b"Planted Hospital")]
    sizes = zip((3, 2, 1), voxels.shape, strict=True)
    items += [((0xC000, element), struct.pack("<H", size)) for element, size in sizes]
    items += [((0xC100, 1), double(step_mm / 1000)), ((0xC200, 1), double(offset1)), ((0xC200, 2), double(offset2))]
    tables = ((1, phi), (2, theta))
    items += [((0xC300, n), double(*(table + math.pi / 2))) for n, table in tables if table is not None]
    return [*items, ((0xD000, 1), voxels.tobytes()), END]


def replaced(items, tag, data):
    return [(name, data if name == tag else content) for name, content in items]


def without(items, tag):
    return [item for item in items if item[0] != tag]


@pytest.fixture
def small():
    """Items of 5 planes of 7 beams of 20 samples."""
    voxels = np.random.default_rng(0).integers(0, 256, (5, 7, 20), dtype=np.uint8)
    return items_of(voxels, 1.0, np.linspace(-0.3, 0.3, 5), np.linspace(-0.4, 0.4, 7))


def positions(phi, theta, r, d):
    """(x, y, z) of every sample, by the formula of published readers."""
    phi, theta, r = np.meshgrid(phi, theta, r, indexing="ij")
    x = r * np.sin(theta)
    y = -np.sin(phi) * (r * np.cos(theta) - d)
    z = d * (1 - np.cos(phi)) + r * np.cos(theta) * np.cos(phi)
    return x, y, z


@pytest.mark.parametrize(
    ("d", "phi_degrees", "theta_degrees", "centre", "spacing"),
    [
        (0.0, (-35, 35), (-37, 37), (4.0, -6.0, 95.0), 1.0),
        # a region cut off the centre, as in real files
        (25.0, (-23, 30), (-12, 41), (26.0, -5.0, 90.0), 0.5),
        (-5.0, (30, -23), (41, -12), (26.0, -5.0, 90.0), 0.8),
    ],
)
def test_a_sphere_keeps_its_volume_and_place(tmp_path, d, phi_degrees, theta_degrees, centre, spacing):
    radius, step, near = 22.0, 0.5, 40.0
    phi, theta = np.radians(np.linspace(*phi_degrees, 71)), np.radians(np.linspace(*theta_degrees, 91))
    r = near + step * np.arange(200)
    away = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(positions(phi, theta, r, d), centre, strict=True)))
    # a ramp of 4 mm, half its height at the sphere's surface
    levels = np.clip(100 - (away - radius) * 50, 0, 200).astype(np.uint8)
    path = tmp_path / "sphere.vol"
    path.write_bytes(joined(items_of(levels, step, phi, theta, near / step, -d / step)))

    volume = read_volume(path, spacing_mm=(spacing,) * 3)
    inside = volume.array >= 100
    assert volume.spacing_mm == (spacing,) * 3
    assert inside.sum() * volume.voxel_volume_ml == pytest.approx(4 / 3 * math.pi * radius**3 / 1000, rel=5e-3)
    # its place tells the sign of every axis
    np.testing.assert_allclose(volume.position(np.argwhere(inside).mean(0)), centre, atol=0.1)


@pytest.fixture(scope="module")
def simulated():
    """A scan's beams at 1.4 mm: setting, image, label in beam space."""
    setting = set_up(7, ga_weeks=24, scan_direction="from the side", spacing_mm=1.4)
    beams = acquire(setting.scene, setting.site, setting.grid, setting.half_mm, setting.rng, 2)
    image = form_image(beams, setting.rng, 2)
    h = setting.pose.to_head(setting.grid.points((slice(None),) * 3))
    label = setting.head.whole(h, setting.head.skull(h)) <= 0
    return setting, image, label


def written(path, setting, voxels):
    grid = setting.grid
    step = grid.steps[2]
    d = grid.probe.centre_distance_mm
    write_kretz(path, voxels, step, grid.phi, grid.theta, float(grid.r[0]) / step, -d / step)
    return path


def test_a_simulated_scan_comes_back_as_the_simulator_converts_it(simulated, tmp_path):
    setting, image, label = simulated
    spacing = setting.box.spacing_mm
    scan = read_kretz(written(tmp_path / "scan.vol", setting, image), spacing)
    box = Box(scan.shape, spacing, scan.origin)
    expected = scan_convert(image, setting.grid, box, 2)
    sector = scan_convert(np.full_like(image, 255), setting.grid, box, 2) > 0
    wrong = np.abs(scan.array.astype(int) - expected)[sector] > 2
    assert wrong.mean() < 0.0001 and sector.mean() > 0.3
    # the rim of the sector is decided in single precision there, in double here
    assert (scan.array[~sector] > 0).mean() < 0.001

    mask = read_kretz(written(tmp_path / "label.vol", setting, np.where(label, 200, 0).astype(np.uint8)), spacing)
    truth = _labels(dataclasses.replace(setting, box=box), 2)[0] > 0
    found = mask.array >= 100
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.99


def test_frames_are_chosen_by_number(small, tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 20), dtype=np.uint8)
    sequence = [((0xD400, 1), struct.pack("<H", 3)), ((0xD600, 1), frames.tobytes()), END]
    items = [*small[:-2], *sequence]
    alone = [read_kretz(joined(replaced(small, (0xD000, 1), frame.tobytes()))) for frame in frames]
    for number, expected in enumerate(alone):
        np.testing.assert_array_equal(read_kretz(joined(items), frame=number).array, expected.array)
    with pytest.warns(UserWarning, match="holds 3 frames in time; the first is read"):
        np.testing.assert_array_equal(read_kretz(joined(items)).array, alone[0].array)
    for missing in (3, -1):
        with pytest.raises(ValueError, match=f"no frame {missing}: it holds 3, counted from 0"):
            read_kretz(joined(items), frame=missing)
    with pytest.raises(ValueError, match=r"expected 700 a frame .*5 x 7 x 20. and 4 frames"):
        read_kretz(joined(replaced(items, (0xD400, 1), struct.pack("<I", 4))))

    angles = np.linspace(-0.3, 0.3, 5), np.linspace(-0.4, 0.4, 7)
    write_kretz(tmp_path / "a.4dv", frames, 1.0, *angles, 40.0, 0.0)
    np.testing.assert_array_equal(read_kretz(tmp_path / "a.4dv", frame=2).array, alone[2].array)


def test_cartesian_files_keep_their_voxels_and_warn():
    voxels = np.random.default_rng(2).integers(0, 256, (4, 5, 6), dtype=np.uint8)
    items = items_of(voxels, 0.6)
    with pytest.warns(UserWarning, match="Cartesian Kretz file; 0.6 mm is taken from item C100,0001.*no public reader"):
        volume = read_kretz(joined(items))
    np.testing.assert_array_equal(volume.array, voxels)
    assert volume.spacing_mm == pytest.approx((0.6,) * 3)
    alone = without(items, (0xC100, 1))
    for written_value in (0.0004, 0.4):  # metres, millimetres
        spacing = ((0x0010, 0x0022), double(written_value))
        with pytest.warns(UserWarning, match="0.4 mm is taken from item 0010,0022"):
            volume = read_kretz(joined([spacing, *alone]))
        with pytest.raises(ValueError, match=r"states 0.4 mm in item 0010,0022 .* and 0.6 mm in item C100,0001"):
            read_kretz(joined([spacing, *items]))
        assert volume.spacing_mm == pytest.approx((0.4,) * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_kretz(joined(items), (0.3, 0.4, 0.5)).spacing_mm == (0.3, 0.4, 0.5)
    with pytest.raises(
        ValueError, match=r"has 40 in item 0010,0022.*expected a voxel of 0.01 to 10 mm: pass spacing_mm"
    ):
        read_kretz(joined([((0x0010, 0x0022), double(40.0)), *alone]))


def test_a_file_cut_anywhere_is_refused(small):
    whole = joined(small)
    assert read_kretz(whole).shape == read_kretz(whole[:-4]).shape  # an end mark without length
    ends = np.cumsum([len(MAGIC), *(8 + len(data) for _, data in small)])
    assert ends[-1] == len(whole)
    inside = (ends[:-1, None] + [0, 3, 7, 9]).ravel()
    for size in {0, 5, 15, *(inside[inside < len(whole) - 4].tolist())}:
        with pytest.raises(ValueError, match=r"is cut short: expected|does not begin with"):
            read_kretz(whole[:size])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: without(items, (0xD000, 1)), r"lacks item D000,0001 \(voxels\)"),
        (lambda items: without(items, (0xC000, 2)), r"lacks item C000,0002 \(beams a plane\)"),
        (lambda items: without(items, (0xC100, 1)), "lacks item C100,0001"),
        (lambda items: without(items, (0xC300, 1)), r"lacks item C300,0001 \(angles of the planes\)"),
        (lambda items: replaced(items, (0xC000, 1), b"\0\0"), "5 planes of 7 beams of 0 samples, expected at least 2"),
        (lambda items: replaced(items, (0xC000, 1), b"\1"), "has 1 bytes in item C000,0001.*expected 2"),
        (lambda items: replaced(items, (0xC300, 2), double(1.0, 1.1)), "has 16 bytes in item C300,0002.*expected 56"),
        (lambda items: replaced(items, (0xC300, 1), double(*[1.5] * 5)), "C300,0001.*rising or falling"),
        (lambda items: replaced(items, (0xC300, 1), double(*[math.nan] * 5)), "C300,0001.*what no probe can have"),
        (lambda items: replaced(items, (0xC100, 1), double(math.inf)), "has inf in item C100,0001"),
        (lambda items: replaced(items, (0xC100, 1), double(0.5)), "step of 500 mm along a beam, expected 0.01 to 10"),
        (lambda items: replaced(items, (0xC200, 2), double(-60)), "sweep's axis at 60 mm: expected .* the axis behind"),
        (lambda items: replaced(items, (0xC200, 1), double(-3)), "goes from -3 to 16 mm from the centre"),
        (lambda items: replaced(items, (0xC200, 1), double(990)), "goes from 990 to 1009 mm from the centre"),
        (
            lambda items: [((0xC100, 1), double(0.0005)), *items],
            r"C100,0001 \(step along a beam\) twice, and not the same",
        ),
        (lambda items: replaced(items, (0xC300, 1), double(*[0.0] * 5)), "C300,0001.*what no probe can have"),
        (lambda items: replaced(items, (0xC300, 1), double(*(1.57 + 1e-9 * np.arange(5)))), "by 0.01 in all"),
        (lambda items: replaced(items, (0xC300, 2), double(*np.linspace(80, 100, 7))), "C300,0002.*between 0 and pi"),
        (
            lambda items: replaced(items, (0xC000, 1), b"\xff\xff"),
            "700 bytes in item D000,0001.*expected 2293725 a frame",
        ),
        (lambda items: replaced(items, (0xD000, 1), b"\0" * 699), "has 699 bytes in item D000,0001.*expected 700"),
        (
            lambda items: [((0x0002, 0x1100), b"\1"), *items],
            r'compressed \(item 0002,1100\).*4D View.*compression "None"',
        ),
    ],
)
def test_damaged_files_say_what_was_expected_and_no_patient(small, change, message, tmp_path):
    path = tmp_path / "a.vol"
    path.write_bytes(joined(change(small)))
    with pytest.raises(ValueError, match=message) as caught:
        read_volume(path)
    assert str(caught.value).startswith("a.vol ")
    assert "Planted" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_recognised_by_first_bytes_and_by_suffix(small, tmp_path):
    (tmp_path / "a.bin").write_bytes(joined(small))
    volume = read_volume(tmp_path / "a.bin")
    assert volume.shape == read_kretz(joined(small)).shape
    assert "Planted" not in repr(volume) and PATIENT not in volume.array.tobytes()
    (tmp_path / "a.vol").write_bytes(b"KRETZFILE 2.0   " + joined(small)[16:])
    with pytest.raises(ValueError, match=r"a.vol does not begin with 'KRETZFILE 1.0' and three spaces"):
        read_volume(tmp_path / "a.vol")


def test_spacing_is_one_number_and_memory_is_bounded(small):
    data = joined(small)
    assert read_kretz(data).spacing_mm == (1.0,) * 3
    for wrong in ((1.0, 1.0, 2.0), 0.0, -1.0, math.nan, 1000.0):
        with pytest.raises(ValueError, match="spacing_mm must be one positive number"):
            read_kretz(data, wrong)
    with pytest.raises(ValueError, match=r"at 0.01 mm would take .* voxels, expected at most 5e\+08: give a larger"):
        read_kretz(data, 0.01)


def test_the_default_spacing_grows_with_the_box(small, monkeypatch):
    monkeypatch.setattr("fhlib.images.kretz.DEFAULT_MOST_VOXELS", 2000)
    volume = read_kretz(joined(small))
    assert 1000 < volume.array.size <= 2000 and volume.spacing_mm[0] > 1


def test_inside_dicom(small, tmp_path):
    data = joined(small)
    data += b"\0" * (len(data) % 2)
    dataset = made_dicom.with_kretz(data)
    path = made_dicom.save(dataset, tmp_path / "a.dcm")
    assert dataset[0x7FE1, 0x0011].value == "KRETZ_US" and dataset[0x7FE1, 0x1101].value == data
    assert kretz_bytes_in_dicom(pydicom.dcmread(path)) == data
    assert kretz_bytes_in_dicom(pydicom.dcmread(made_dicom.save(plain(), tmp_path / "b" / "b.dcm"))) is None
    (tmp_path / "b" / "b.dcm").unlink()
    expected = read_kretz(data).array
    for given in (path, tmp_path):  # a folder of one file is that file
        np.testing.assert_array_equal(read_volume(given).array, expected)


def plain():
    return made_dicom.dataset(made_dicom.US, np.zeros((5, 7)), PixelSpacing=[0.5, 0.4])


def deflated(dataset):
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dataset


def without_pixels(dataset):
    for tag in ("PixelData", "Rows", "Columns"):
        del dataset[tag]
    return dataset


@pytest.mark.parametrize("change", [lambda dataset: dataset, deflated, without_pixels])
def test_the_screenshot_never_passes_for_the_volume(small, tmp_path, change):
    data, uid = joined(small), pydicom.uid.generate_uid()
    expected = read_kretz(data).shape
    one, two = tmp_path / "one", tmp_path / "two"
    files = [
        made_dicom.save(change(made_dicom.with_kretz(data, SeriesInstanceUID=uid)), folder / name)
        for folder, name in ((one, "IM1"), (two, "IM1"), (two, "IM2.vol"))
    ]
    (one / "Thumbs.db").write_bytes(b"x" * 500)
    assert read_volume(one).shape == read_volume(files[0]).shape == expected
    assert volumes_in(one) == files[:1]
    # of one series, and each a volume
    assert volumes_in(two) == files[1:]
    assert [read_volume(source).shape for source in volumes_in(two)] == [expected] * 2
    with pytest.raises(ValueError, match=r"two/ holds 2 DICOM series \(1 file, IM1; 1 file, IM2.vol\)"):
        read_volume(two)


def test_a_volume_beside_the_slices_of_its_series(small, tmp_path):
    slices = made_dicom.oblique_ellipsoid()
    uid = pydicom.uid.generate_uid()
    made_dicom.slices(slices, tmp_path / "in", SeriesInstanceUID=uid)
    made_dicom.save(made_dicom.with_kretz(joined(small), SeriesInstanceUID=uid), tmp_path / "in" / "V1")
    shapes = [read_dicom(source).shape for source in volumes_in(tmp_path / "in")]
    assert shapes == [read_kretz(joined(small)).shape, slices.shape]


def test_files_without_a_suffix_and_in_folders_below(small, tmp_path):
    for path in (tmp_path / "VOL1", tmp_path / "SER" / "VOL2", tmp_path / "SER" / "c.vol"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(joined(small))
    (tmp_path / "notes.txt").write_bytes(b"KRETZ files lie here")
    assert [source.name for source in volumes_in(tmp_path)] == ["VOL1", "VOL2", "c.vol"]
    with pytest.raises(ValueError, match=r"holds 3 DICOM series"):
        read_volume(tmp_path)


def test_damaged_ones_in_dicom_name_their_file(small, tmp_path):
    whole = joined(small)
    cases = {
        "cut": (whole[:-60], "cut is cut short"),
        "packed": (joined([((0x0002, 0x1100), b"\1"), *small]), 'packed is compressed .*"None"'),
        "other": (b"KRETZFILE 2.0   " + whole[16:], "other does not begin with"),
    }
    for name, (data, message) in cases.items():
        path = made_dicom.save(made_dicom.with_kretz(data), tmp_path / name)
        with pytest.raises(ValueError, match=message) as caught:
            read_volume(path)
        assert "Planted" not in str(caught.value) and "PLANTED" not in str(caught.value)
    # elsewhere than it is known to be
    dataset = plain()
    dataset.private_block(0x7FE3, "OTHER", create=True).add_new(0x01, "OB", whole + b"\0" * (len(whole) % 2))
    with pytest.raises(ValueError, match=r"elsewhere holds a GE Kretz volume in another element than \(7FE1,1101\)"):
        read_volume(made_dicom.save(dataset, tmp_path / "elsewhere"))


def test_other_groups_are_passed_over(small):
    doppler = [((0xC000, 0x0201), b"\5\0"), ((0xC100, 0x0201), double(9.0)), ((0xD000, 0x0201), b"\0" * 50)]
    filtered = [((0xD000, 0x0002), b"\0" * 700)]
    whole = [*doppler, *small[:-1], *filtered, small[-1]]
    np.testing.assert_array_equal(read_kretz(joined(whole)).array, read_kretz(joined(small)).array)
    with pytest.raises(ValueError, match=r"D000,0002 \(a filtered copy of the voxels\) alone"):
        read_kretz(joined(without(whole, (0xD000, 0x0001))))


def test_only_bytes_are_written(tmp_path):
    angles = np.linspace(-0.3, 0.3, 4)
    for wrong in (np.zeros((4, 4, 4), np.float32), np.zeros((4, 4), np.uint8)):
        with pytest.raises(ValueError, match="voxels must be uint8"):
            write_kretz(tmp_path / "a.vol", wrong, 1.0, angles, angles, 40.0, 0.0)
    assert not list(tmp_path.iterdir())


def test_a_gap_in_a_table_of_angles_is_damage(tmp_path):
    # the far half of the beams 0.5 rad aside would make the head larger
    theta = np.linspace(-0.5, 0.5, 11)
    theta[6:] += 0.5
    samples, phi = np.full((5, 11, 20), 9, np.uint8), np.linspace(-0.4, 0.4, 5)
    write_kretz(tmp_path / "a.vol", samples, 1.0, phi, theta, 40.0, 0.0)
    with pytest.raises(ValueError, match=r"angles of the beams.* a gap of 0.6 between angles that are 0.1 apart"):
        read_kretz(tmp_path / "a.vol")
