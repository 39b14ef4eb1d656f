"""NIfTI, written by nibabel and by SimpleITK: one geometry, one spacing, or an error that names both."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from fhlib.images.formats import read_volume
from fhlib.images.volume import to_sitk
from tests.images.made import oblique

VOXELS = np.arange(5 * 7 * 11, dtype=np.int16).reshape(5, 7, 11)
# 30 degrees about z in RAS, 0.5 x 0.31 x 1.7 mm along i, j, k
TURNED = np.array([[0.4330127, -0.155, 0, 5], [0.25, 0.2684679, 0, 6], [0, 0, 1.7, 7], [0, 0, 0, 1]])


def write(path, sform=TURNED, qform=None, array=VOXELS, units="mm", kind=nib.Nifti1Image, **fields):
    """A file by nibabel; a form that is None has code 0, and fields are set as they stand."""
    image = kind(array.T.copy(), TURNED)
    image.set_sform(sform, 1 if sform is not None else 0)
    image.set_qform(qform, 1 if qform is not None else 0)
    if sform is None and qform is None:
        image.header["pixdim"][1:4] = (0.5, 0.31, 1.7)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    header = image.header_class.from_fileobj(path.open("rb"), check=False)
    for field, value in fields.items():
        header[field] = value
    content[: len(header.binaryblock)] = header.binaryblock
    path.write_bytes(content)
    return path


def pixdim(*steps):
    return [1, *steps, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("forms", [{"sform": TURNED}, {"sform": None, "qform": TURNED}, {"qform": TURNED}])
def test_either_form_places_the_voxels(tmp_path, kind, forms):
    volume = read_volume(write(tmp_path / "a.nii", kind=kind, **forms))
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert volume.spacing_mm == pytest.approx((1.7, 0.31, 0.5), rel=1e-6)
    # i 3, j 2, k 1 in RAS, by hand: x and y change their sign in LPS
    x, y = 5 + 3 * 0.4330127 - 2 * 0.155, 6 + 3 * 0.25 + 2 * 0.2684679
    assert volume.position((1, 2, 3)) == pytest.approx((-x, -y, 8.7), abs=1e-5)


def test_units_are_honoured(tmp_path):
    for units, factor in (("meter", 1000), ("micron", 0.001), ("mm", 1)):
        sform = TURNED / factor
        steps = pixdim(0.5 / factor, 0.31 / factor, 1.7 / factor)
        volume = read_volume(write(tmp_path / "a.nii", sform, units=units, pixdim=steps))
        assert volume.spacing_mm == pytest.approx((1.7, 0.31, 0.5), rel=1e-6)
        assert volume.origin == pytest.approx((-5, -6, 7), rel=1e-6)
    with pytest.raises(
        ValueError, match=r"a\.nii states voxels of 1700 x 310 x 500 mm, expected 0\.01 to 10 mm.*--spacing-mm"
    ):
        read_volume(write(tmp_path / "a.nii", units="meter"))
    assert read_volume(tmp_path / "a.nii", 0.5).spacing_mm == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"a\.nii states an unknown unit of length \(xyzt_units 4\).*--spacing-mm"):
        read_volume(write(tmp_path / "a.nii", xyzt_units=4))


def test_intensities_are_scaled_as_the_header_says(tmp_path):
    volume = read_volume(write(tmp_path / "a.nii", scl_slope=0.5, scl_inter=-3))
    np.testing.assert_allclose(volume.array, VOXELS * 0.5 - 3)
    assert volume.array.dtype == np.float32
    for slope in (0, np.nan, 1):  # the standard: 0 is no scaling
        assert read_volume(write(tmp_path / "a.nii", scl_slope=slope, scl_inter=0)).array.dtype == np.int16
    with pytest.raises(ValueError, match=r"a\.nii states scl_slope 1e\+38"):
        read_volume(write(tmp_path / "a.nii", scl_slope=1e38))


def test_big_endian_and_pairs(tmp_path):
    swapped = nib.Nifti1Image(VOXELS.T.astype(">i2"), TURNED, nib.Nifti1Header(endianness=">"))
    assert swapped.header.endianness == ">"
    nib.save(swapped, tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Pair(VOXELS.T.copy(), TURNED), tmp_path / "p.img")
    for name in ("a.nii.gz", "p.hdr", "p.img"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.array, VOXELS)
        assert volume.spacing_mm == pytest.approx((1.7, 0.31, 0.5), rel=1e-6) and volume.array.dtype.isnative


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pixdim": pixdim(0.5, 0, 1.7)}, r"states a spacing of 0\.5 x 0 x 1\.7"),
        ({"pixdim": pixdim(0.5, -0.31, 1.7)}, r"states a spacing of 0\.5 x -0\.31 x 1\.7"),
        ({"pixdim": pixdim(0.5, np.nan, 1.7)}, "states no spacing"),
        ({"pixdim": pixdim(1, 1, 1)}, r"states two spacings, 1 x 1 x 1 \(pixdim\) and 0\.5 x 0\.31 x 1\.7 \(sform\)"),
    ],
)
def test_a_spacing_that_is_none_or_contradicts_itself(tmp_path, fields, message):
    path = write(tmp_path / "a.nii", **fields)
    with pytest.raises(ValueError, match=rf"a\.nii {message}.*--spacing-mm"):
        read_volume(path)
    given = read_volume(path, (3, 2, 1))
    assert given.spacing_mm == (3, 2, 1)
    # the direction stays that of the sform
    assert given.position((0, 0, 1)) == pytest.approx((-5 - 0.8660254, -6 - 0.5, 7), abs=1e-5)


def test_what_programs_write_that_know_no_spacing_is_none(tmp_path):
    nib.save(nib.Nifti1Image(VOXELS.T.copy(), np.eye(4)), tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(VOXELS.T.copy(), None), tmp_path / "b.nii")
    for name in ("a.nii", "b.nii"):
        with pytest.raises(ValueError, match=rf"{name} states no spacing.*--spacing-mm"):
            read_volume(tmp_path / name)
        assert read_volume(tmp_path / name, 1.0).spacing_mm == (1, 1, 1)
    stated = nib.Nifti1Image(VOXELS.T.copy(), np.eye(4))
    stated.header.set_xyzt_units("mm")
    nib.save(stated, tmp_path / "c.nii")
    assert read_volume(tmp_path / "c.nii").spacing_mm == (1, 1, 1)


def test_two_places_are_refused_unless_they_are_one(tmp_path):
    moved = TURNED.copy()
    moved[:3, 3] += (0, 0.02, 0)
    assert read_volume(write(tmp_path / "a.nii", qform=moved)).shape == (5, 7, 11)
    mirrored = TURNED @ np.diag([-1, 1, 1, 1])
    for other in (mirrored, np.diag([0.5, 0.31, 1.7, 1])):
        with pytest.raises(ValueError, match=r"a\.nii states two geometries: its sform and its qform differ by up to"):
            read_volume(write(tmp_path / "a.nii", qform=other))


@pytest.mark.parametrize(
    ("sform", "message"),
    [
        (TURNED @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "two spacings|orthonormal"),
        (np.diag([0.5, 0, 1.7, 1]), "the sform of a.nii is no geometry"),
        (np.diag([0.5, np.nan, 1.7, 1]), "the sform of a.nii is no geometry"),
    ],
)
def test_forms_that_are_no_geometry(tmp_path, sform, message):
    path = write(tmp_path / "a.nii")
    header = nib.Nifti1Header.from_fileobj(path.open("rb"), check=False)
    for row, name in zip(sform, ("srow_x", "srow_y", "srow_z"), strict=False):
        header[name] = row
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    with pytest.raises(ValueError, match=message):
        read_volume(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 5, 7, 11), np.int16), "4 dimensions of sizes 11 x 7 x 5 x 2"),
        (np.zeros((3, 1, 5, 7, 11), np.float32), "5 dimensions"),
        (np.zeros((5, 7, 11), np.complex64), "complex64"),
    ],
)
def test_what_is_no_real_volume(tmp_path, array, message):
    nib.save(nib.Nifti1Image(array.T, TURNED), tmp_path / "a.nii")
    with pytest.raises(ValueError, match=rf"a\.nii.*{message}"):
        read_volume(tmp_path / "a.nii")


def test_a_last_axis_of_one_is_none_and_a_slice_stays_a_volume(tmp_path):
    nib.save(nib.Nifti1Image(VOXELS[None].T.copy(), TURNED), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, VOXELS)
    nib.save(nib.Nifti1Image(VOXELS[:1].T.copy(), TURNED), tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").shape == (1, 7, 11)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "30000 x 30000 x 30000 voxels"),
        ({"dim": [3, 11, -7, 5, 1, 1, 1, 1]}, "expected at least 1 along each axis"),
        ({"dim": [9, 11, 7, 5, 1, 1, 1, 1]}, "expected at least 1 along each axis"),
        ({"dim": [3, 11, 7, 4, 1, 1, 1, 1]}, "holds more than"),
        ({"datatype": 16}, "states 16 bits a voxel for the type float32"),
        ({"datatype": 9999}, "is damaged"),
        ({"vox_offset": 0}, "begin at byte 0, expected 352"),
        ({"magic": b"ni1"}, "do not agree on whether the voxels lie in a file of their own"),
        ({"magic": b""}, "no header of NIfTI.*Analyze"),
        ({"sizeof_hdr": 347}, "is damaged or cut short"),
    ],
)
def test_headers_that_are_damaged(tmp_path, fields, message):
    path = write(tmp_path / "a.nii", **fields)
    with pytest.raises(ValueError, match=rf"a\.nii.*{message}"):
        read_volume(path)


def test_a_single_image_keeps_its_place(tmp_path):
    image = oblique(2)
    sitk.WriteImage(to_sitk(image), str(tmp_path / "a.nii"))
    back = read_volume(tmp_path / "a.nii")
    assert back.same_geometry(image, 1e-4) and back.ndim == 2


def test_rgb_is_grey_only_where_it_is(tmp_path):
    grey = (VOXELS % 250).astype(np.uint8)
    colours = np.zeros(grey.T.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for channel in "RGB":
        colours[channel] = grey.T
    nib.save(nib.Nifti1Image(colours, TURNED), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, grey)
    colours["B"][3, 2, 1] += 9
    nib.save(nib.Nifti1Image(colours, TURNED), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"a\.nii\.gz has colours in 0\.26 % of its voxels"):
        read_volume(tmp_path / "a.nii.gz")
