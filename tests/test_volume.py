"""Geometry survives every round trip: anisotropic, oblique, mirrored, 2D and 3D, every format."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from fhlib.images.formats import read_volume, write_volume
from fhlib.images.grids import Crop, Padding, bounding_box, crop_to_box, pad_to_multiple, resample
from fhlib.images.volume import Volume, from_sitk, to_sitk

OBLIQUE = {
    # 30 degrees about z, then x mirrored (negative determinant)
    3: (-0.8660254037844386, 0.5, 0.0, 0.5, 0.8660254037844386, 0.0, 0.0, 0.0, 1.0),
    2: (-0.6, 0.8, 0.8, 0.6),
}


def oblique(ndim, dtype=np.float32, shape=(5, 7, 11), seed=0):
    values = np.random.default_rng(seed).uniform(0, 200, shape[-ndim:]).astype(dtype)
    return Volume(values, (1.7, 0.31, 0.5)[-ndim:], (10.5, -20.25, 33.0)[:ndim], OBLIQUE[ndim])


@st.composite
def volumes(draw):
    """Any size, spacing, origin and orthonormal direction, mirrored ones included."""
    ndim = draw(st.sampled_from([2, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    direction = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0] @ np.diag(rng.choice([-1, 1], ndim))
    shape = tuple(draw(st.integers(1, 13)) for _ in range(ndim))
    return Volume(
        rng.normal(size=shape).astype(np.float32),
        tuple(rng.uniform(0.2, 3, ndim)),
        tuple(rng.uniform(-90, 90, ndim)),
        tuple(direction.ravel()),
    )


def itk_position(volume, index):
    """Position of an array index by ITK, which knows nothing of our formula."""
    return to_sitk(volume).TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]])


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, bool])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz", ".nii"])
def test_files_keep_voxels_and_geometry(tmp_path, ndim, dtype, suffix):
    volume = oblique(ndim, dtype)
    write_volume(volume, tmp_path / f"scan{suffix}")
    back = read_volume(tmp_path / f"scan{suffix}")
    assert back.array.dtype == (np.uint8 if dtype is bool else dtype)
    np.testing.assert_array_equal(back.array, volume.array)
    # NIfTI stores single precision: 33 mm to 4e-6 mm
    np.testing.assert_allclose(back.spacing_mm, volume.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(back.direction, volume.direction, atol=1e-6)
    assert back.same_geometry(volume, 1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [f"scan{suffix}"]


def test_writing_is_compressed(tmp_path):
    for suffix in (".nrrd", ".mha", ".nii.gz"):
        write_volume(Volume(np.zeros((40, 50, 60), np.uint8), (1, 1, 1)), tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").stat().st_size < 2000


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


def test_nifti_is_not_confused_by_its_uncompressed_neighbour(tmp_path):
    first, second = oblique(3, np.uint8, seed=1), oblique(3, np.uint8, seed=2)
    write_volume(first, tmp_path / "a.nii")
    write_volume(second, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, second.array)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, first.array)


def write_series(volume, folder, uid="1.2.826.0.1.3680043.2.1125.1", patient="Jane^Planted"):
    """A DICOM series by SimpleITK, one file a slice, in an order of names that is not that of the slices."""
    folder.mkdir(exist_ok=True)
    image, writer = to_sitk(volume), sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = volume.direction
    orientation = "\\".join(f"{direction[i]:.12f}" for i in (0, 3, 6, 1, 4, 7))
    for z in range(volume.shape[0]):
        piece = image[:, :, z]
        position = "\\".join(f"{x:.10f}" for x in volume.position((z, 0, 0)))
        tags = {"0008|0060": "US", "0020|000e": uid, "0020|000d": "1.2.3", "0008|0018": f"{uid}.{z + 1}"}
        tags |= {"0010|0010": patient, "0020|0037": orientation, "0020|0032": position, "0020|0013": str(z)}
        tags |= {"0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0018|0050": str(volume.spacing_mm[0])}
        for tag, value in tags.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{(z * 3) % volume.shape[0]:02d}-{uid[-1]}.dcm"))
        writer.Execute(piece)


def right_handed(dtype=np.int16):
    direction = np.array(OBLIQUE[3]).reshape(3, 3) @ np.diag(
        [1, 1, -1]
    )  # DICOM derives the third axis from the first two
    volume = oblique(3, dtype)
    return Volume(volume.array, volume.spacing_mm, volume.origin, tuple(direction.ravel()))


def test_dicom_series_keeps_voxels_and_geometry_but_no_tag(tmp_path):
    volume = right_handed()
    write_series(volume, tmp_path / "case7")
    back = read_volume(tmp_path / "case7")
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.same_geometry(volume, 1e-4)
    write_volume(back, tmp_path / "case7.nrrd")
    assert b"Planted" not in (tmp_path / "case7.nrrd").read_bytes()


def test_dicom_folders_that_are_not_one_series(tmp_path):
    volume = right_handed()
    write_series(volume, tmp_path / "two")
    write_series(volume, tmp_path / "two", uid="1.2.826.0.1.3680043.2.1125.2")
    with pytest.raises(ValueError, match=r"two/ holds 2 DICOM series \(5 files from .*\.dcm; 5 files from .*keep one"):
        read_volume(tmp_path / "two")
    write_series(volume, tmp_path / "gap")
    (tmp_path / "gap" / "01-1.dcm").unlink()  # slice 2 of 0-4
    with pytest.raises(ValueError, match=r"gap/ are 1.7 to 3.4 mm apart.*missing"):
        read_volume(tmp_path / "gap")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none/ holds no DICOM series"):
        read_volume(tmp_path / "none")


def test_png_takes_its_spacing_from_the_caller(tmp_path):
    volume = Volume(oblique(2, np.uint8).array, (0.31, 0.5))
    write_volume(volume, tmp_path / "a.png")
    back = read_volume(tmp_path / "a.png", spacing_mm=(0.31, 0.5))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.same_geometry(volume, 0)
    with pytest.warns(UserWarning, match="no pixel size that can be trusted"):
        assert read_volume(tmp_path / "a.png").spacing_mm == (1, 1)
    for wrong in (oblique(3, np.uint8), oblique(2, np.float32)):
        with pytest.raises(ValueError, match="a PNG holds 2D uint8 or uint16"):
            write_volume(wrong, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_colour_becomes_grey_by_luma(tmp_path):
    # red: 0.299 * 255 = 76.2; green 149.7; blue 29.1; grey stays; alpha is ignored
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8)
    expected = [[76, 150, 29, 77]]
    for channels in (colours, np.concatenate([colours, np.full((1, 4, 1), 9, np.uint8)], axis=2)):
        sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(tmp_path / "c.png"))
        np.testing.assert_array_equal(read_volume(tmp_path / "c.png", (1, 1)).array, expected)
    with pytest.raises(ValueError, match="5 channels"):
        from_sitk(sitk.GetImageFromArray(np.zeros((3, 4, 5)), isVector=True))


def test_files_that_cannot_be_read_say_what_to_do(tmp_path):
    (tmp_path / "a.vol").write_bytes(b"KRETZFILE 1.0   ")
    with pytest.raises(ValueError, match=r"GE Kretz volume.*export it as DICOM or NRRD.*SlicerHeart"):
        read_volume(tmp_path / "a.vol")
    (tmp_path / "a.nrrd").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"cannot read a.nrrd.*expected NRRD, MHA, NIfTI, DICOM or PNG") as caught:
        read_volume(tmp_path / "a.nrrd")
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no gone.nrrd"):
        read_volume(tmp_path / "gone.nrrd")
    with pytest.raises(ValueError, match=r"cannot write a.xyz: expected one of .nrrd"):
        write_volume(oblique(3), tmp_path / "a.xyz")
    sitk.WriteImage(sitk.Image([3, 4, 5, 2], sitk.sitkUInt8), str(tmp_path / "time.nrrd"))
    with pytest.raises(ValueError, match=r"4 dimensions.*without time"):
        read_volume(tmp_path / "time.nrrd")


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
    assert volume.diagonal_mm == pytest.approx((8.5**2 + 2.17**2 + 5.5**2) ** 0.5)
    assert np.isnan(oblique(2).voxel_volume_ml)
    moved = Volume(volume.array, volume.spacing_mm, (10.51, -20.25, 33), volume.direction)
    assert volume.same_geometry(moved, 0.011) and not volume.same_geometry(moved, 0.009)
    with pytest.raises(ValueError, match=r"belongs to shape \(5, 7, 11\)"):
        volume.with_array(np.zeros((7, 5, 11)))


# resampling


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


# padding and cropping


def same(a, b):
    np.testing.assert_array_equal(a.array, b.array)
    return (a.spacing_mm, a.origin, a.direction) == (b.spacing_mm, b.origin, b.direction)


@settings(max_examples=40, deadline=None)
@given(volumes(), st.integers(1, 9), st.sampled_from(["constant", "edge"]))
def test_padding_and_its_inverse(volume, multiple, mode):
    padded, padding = pad_to_multiple(volume, multiple, mode)
    assert isinstance(padding, Padding)
    assert all(n % multiple == 0 and 0 <= n - old < multiple for n, old in zip(padded.shape, volume.shape, strict=True))
    for index in ((0,) * volume.ndim, tuple(n - 1 for n in volume.shape)):
        moved = tuple(i + b for i, b in zip(index, padding.before, strict=True))
        assert padded.array[moved] == volume.array[index]
        np.testing.assert_allclose(itk_position(padded, moved), itk_position(volume, index), atol=1e-9)
    assert same(padding.undo(padded), volume)


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


def test_undoing_needs_the_shape_that_was_made():
    volume = oblique(3)
    padded, padding = pad_to_multiple(volume)
    assert padded.shape == (8, 8, 16) and padding.before == (1, 0, 2) and padding.after == (2, 1, 3)
    with pytest.raises(ValueError, match=r"made for shape \(8, 8, 16\)"):
        padding.undo(volume)
    _, crop = crop_to_box(volume, [(1, 3), (0, 7), (2, 4)])
    with pytest.raises(ValueError, match=r"box has shape \(2, 7, 2\)"):
        crop.undo(volume)
    for box in ([(1, 1), (0, 7), (0, 1)], [(0, 6), (0, 7), (0, 1)], [slice(-2, 3), slice(None), slice(None)]):
        with pytest.raises(ValueError, match="empty or leaves the volume"):
            crop_to_box(volume, box)
    with pytest.raises(ValueError, match="at least 1"):
        pad_to_multiple(volume, 0)


def test_bounding_box():
    mask = oblique(3).with_array(np.zeros((5, 7, 11), bool))
    with pytest.raises(ValueError, match="empty mask"):
        bounding_box(mask)
    mask.array[2, 3:5, 9] = True
    assert bounding_box(mask) == ((2, 3), (3, 5), (9, 10))
    # 1 mm is 1 voxel of 1.7, 4 of 0.31 and 2 of 0.5 mm; the last two axes are cut at the edge
    assert bounding_box(mask, 1) == ((1, 4), (0, 7), (7, 11))
