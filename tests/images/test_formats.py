"""Files keep voxels and geometry."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume, from_sitk
from tests.images.made import oblique, right_handed, write_series


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


def test_nifti_is_not_confused_by_its_uncompressed_neighbour(tmp_path):
    first, second = oblique(3, np.uint8, seed=1), oblique(3, np.uint8, seed=2)
    write_volume(first, tmp_path / "a.nii")
    write_volume(second, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, second.array)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, first.array)


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


@pytest.mark.parametrize("suffix", [".png", ".nrrd", ".mha"])
def test_colours_are_refused_and_grey_in_channels_is_grey(tmp_path, suffix):
    grey = np.random.default_rng(0).integers(0, 250, (5, 6)).astype(np.uint8)
    flat, path = np.full_like(grey, 9), tmp_path / f"c{suffix}"
    # lossy compression shifts a channel by up to 3: the luma of (100, 103, 100) is 100 + 0.587 x 3 = 101.8
    nearly = np.stack([np.full_like(grey, level) for level in (100, 103, 100)], -1)
    for channels, expected in (
        (np.stack([grey] * 3, -1), grey),
        (np.stack([grey, grey, grey, flat], -1), grey),
        (nearly, np.full_like(grey, 102)),
    ):
        sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(path))
        np.testing.assert_array_equal(read_volume(path, 1.0).array, expected)
    coloured = np.stack([grey, grey, grey + np.uint8(4)], -1)
    for channels, message in (
        (coloured, "has colours in 1e.02 % of its voxels"),
        (np.stack([grey, grey, grey, grey], -1), "transparent in places"),
    ):
        sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(path))
        with pytest.raises(ValueError, match=rf"c{suffix}.*{message}"):
            read_volume(path, 1.0)
    with pytest.raises(ValueError, match="5 channels"):
        from_sitk(sitk.GetImageFromArray(np.zeros((3, 4, 5)), isVector=True))


def test_files_that_cannot_be_read_say_what_to_do(tmp_path):
    (tmp_path / "a.vol").write_bytes(b"KRETZFILE 1.0   ")
    with pytest.raises(
        ValueError, match=r"a.vol is cut short: expected another item or the end mark FFFF,FFFF at byte 16"
    ):
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
