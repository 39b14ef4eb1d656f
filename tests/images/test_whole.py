"""A file is read whole or not at all, and with a spacing only where it states one."""

from __future__ import annotations

import bz2
import gzip
import re
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fhlib.images.formats import read_volume, write_volume
from fhlib.images.parts import files_of, volume_digest
from fhlib.images.volume import MOST_VOXELS, Volume, to_sitk
from fhlib.images.whole import voxel_bytes
from tests.images.made import oblique, volumes

VOXELS = oblique(3, np.int16)
RAW = VOXELS.array.astype("<i2").tobytes()
SIZES = "type: short\ndimension: 3\nsizes: 11 7 5\n"
SPACED = "endian: little\nspacings: 0.5 0.31 1.7\n"
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "1 2 3",
    "ElementSpacing": "0.5 0.31 1.7",
    "DimSize": "11 7 5",
    "ElementType": "MET_SHORT",
}


def nrrd(path, header, data=b""):
    path.write_bytes(f"NRRD0004\n{header}\n\n".encode() + data)
    return path


def metaimage(path, data=b"", last="LOCAL", **changes):
    fields = {key: value for key, value in (META | changes).items() if value is not None}
    lines = [f"{key} = {value}\n" for key, value in fields.items()]
    path.write_bytes("".join([*lines, f"ElementDataFile = {last}\n"]).encode() + data)
    return path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_file_that_is_cut_is_refused_wherever_it_is_cut(tmp_path, suffix, compressed):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(to_sitk(VOXELS), str(path), useCompression=compressed)
    content = path.read_bytes()
    for kept in (*range(0, len(content), 29), len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=rf"a{suffix}.*(copy|expected)"):
            read_volume(path)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_volume(path).array, VOXELS.array)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_changed_byte_among_compressed_voxels_is_noticed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_volume(VOXELS, path)
    content = path.read_bytes()
    start = (
        10 if suffix == ".nii.gz" else len(content) - 500
    )  # behind gzip's own header, whose time and name do not count
    for at in range(start, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        with pytest.raises(ValueError, match=rf"a{suffix}"):
            read_volume(path)


def test_more_voxels_than_stated_are_none_of_the_image(tmp_path):
    spaced = SIZES + SPACED
    for path in (
        nrrd(tmp_path / "a.nrrd", f"{spaced}encoding: raw", RAW + b"\0\0"),
        nrrd(tmp_path / "b.nrrd", f"{spaced}encoding: gzip", gzip.compress(RAW + RAW)),
        metaimage(tmp_path / "c.mha", RAW + b"\0"),
        metaimage(tmp_path / "d.mha", zlib.compress(RAW + RAW), CompressedData="True"),
    ):
        with pytest.raises(ValueError, match=rf"{path.name} holds more than the 770 bytes"):
            read_volume(path)


def test_every_encoding_and_byte_order_gives_the_same_voxels(tmp_path):
    swapped, words = VOXELS.array.astype(">i2").tobytes(), " ".join(map(str, VOXELS.array.ravel()))
    little, big = SIZES + SPACED, SIZES + SPACED.replace("little", "big")
    (tmp_path / "v.raw").write_bytes(b"two\nlines\n1234" + RAW)
    paths = [
        nrrd(tmp_path / "raw.nrrd", f"{little}encoding: raw", RAW),
        nrrd(tmp_path / "big.nrrd", f"{big}encoding: gzip", gzip.compress(swapped)),
        nrrd(tmp_path / "bzip.nrrd", f"{little}encoding: bz2", bz2.compress(RAW)),
        nrrd(tmp_path / "hex.nrrd", f"{little}encoding: hex", b"\n".join(re.findall(rb".{1,64}", RAW.hex().encode()))),
        nrrd(tmp_path / "text.nrrd", f"{SIZES}spacings: 0.5 0.31 1.7\nencoding: ascii", words.encode()),
        nrrd(tmp_path / "skip.nhdr", f"{little}encoding: raw\nline skip: 2\nbyte skip: 4\ndata file: v.raw"),
        nrrd(tmp_path / "end.nhdr", f"{little}encoding: raw\nbyte skip: -1\ndata file: v.raw"),
        metaimage(tmp_path / "big.mha", swapped, BinaryDataByteOrderMSB="True"),
        metaimage(tmp_path / "packed.mha", zlib.compress(RAW), CompressedData="True"),
        metaimage(tmp_path / "skip.mhd", last="v.raw", HeaderSize="14"),
        metaimage(tmp_path / "end.mhd", last="v.raw", HeaderSize="-1"),
    ]
    for path in paths:
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, VOXELS.array, err_msg=path.name)
        assert volume.array.dtype == np.int16 and volume.array.flags.writeable
        assert volume.spacing_mm == pytest.approx((1.7, 0.31, 0.5))


@settings(max_examples=40, deadline=None)
@given(volumes(), st.sampled_from([".mha", ".mhd", ".nrrd", ".nhdr", ".nii", ".hdr"]))
def test_geometry_is_that_of_simpleitk(tmp_path_factory, volume, suffix):
    path = tmp_path_factory.mktemp("x") / f"a{suffix}"
    sitk.WriteImage(to_sitk(volume), str(path))
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.same_geometry(volume, 1e-3)


def test_units_are_honoured(tmp_path):
    for unit, factor in (("mm", 1), ("cm", 10), ("um", 0.001), ("m", 1000)):
        x, y, z = 0.5 / factor, 0.31 / factor, 1.7 / factor
        placed = f'space: LPS\nspace units: "{unit}" "{unit}" "{unit}"\nspace origin: (1,2,3)\nendian: little\n'
        placed += f"space directions: ({x},0,0) (0,{y},0) (0,0,{z})\nencoding: raw"
        for volume in (
            read_volume(nrrd(tmp_path / "a.nrrd", SIZES + placed, RAW)),
            read_volume(metaimage(tmp_path / "a.mha", RAW, DistanceUnits=unit, ElementSpacing=f"{x} {y} {z}")),
        ):
            assert volume.spacing_mm == pytest.approx((1.7, 0.31, 0.5))
            assert volume.origin == pytest.approx((factor, 2 * factor, 3 * factor))
    with pytest.raises(ValueError, match=r"a\.mha states its spacing in furlong.*--spacing-mm"):
        read_volume(metaimage(tmp_path / "a.mha", RAW, DistanceUnits="furlong"))


@pytest.mark.parametrize("space", ["RAS", "left-posterior-superior", "right-anterior-superior", "LAS"])
def test_spaces_of_nrrd_become_lps(tmp_path, space):
    # the second voxel along x lies 0.5 mm to the first letter's side
    signs = {"R": -1, "L": 1, "A": -1, "P": 1}
    letters = space if "-" not in space else "".join(word[0].upper() for word in space.split("-"))
    header = f"{SIZES}endian: little\nspace: {space}\nspace directions: (0.5,0,0) (0,0.31,0) (0,0,1.7)\n"
    volume = read_volume(nrrd(tmp_path / "a.nrrd", f"{header}space origin: (10,20,30)\nencoding: raw", RAW))
    x, y = signs[letters[0]], signs[letters[1]]
    assert volume.position((1, 1, 1)) == pytest.approx((x * 10.5, y * 20.31, 31.7))


def test_a_spacing_that_is_not_stated_is_refused_and_can_be_given(tmp_path):
    paths = [
        nrrd(tmp_path / "a.nrrd", f"{SIZES}endian: little\nencoding: raw", RAW),
        nrrd(tmp_path / "b.nrrd", f"{SIZES}endian: little\nspacings: 0.5 nan 1.7\nencoding: raw", RAW),
        nrrd(tmp_path / "c.nrrd", f"{SIZES}endian: little\nspacings: 0.5 -0.31 1.7\nencoding: raw", RAW),
        nrrd(tmp_path / "d.nrrd", f"{SIZES}endian: little\naxis mins: 0 0 0\naxis maxs: 5 3 8\nencoding: raw", RAW),
        metaimage(tmp_path / "a.mha", RAW, ElementSpacing=None),
        metaimage(tmp_path / "b.mha", RAW, ElementSpacing="0.5 0 1.7"),
        metaimage(tmp_path / "c.mha", RAW, ElementSpacing="0.5 nan 1.7"),
    ]
    for path in paths:
        with pytest.raises(ValueError, match=rf"{path.name} states (no|a) spacing.*--spacing-mm"):
            read_volume(path)
        assert read_volume(path, 0.4).spacing_mm == (0.4, 0.4, 0.4)
        assert read_volume(path, (3, 2, 1)).spacing_mm == (3, 2, 1)
        with pytest.raises(ValueError, match=rf"{path.name}.*3 finite numbers"):
            read_volume(path, (3, 2))
    # ElementSize is how large a sensor's cell is; the distance of voxels counts where both are there
    assert read_volume(metaimage(tmp_path / "d.mha", RAW, ElementSize="9 9 9")).spacing_mm == (1.7, 0.31, 0.5)
    sized = metaimage(tmp_path / "e.mha", RAW, ElementSpacing=None, ElementSize="0.5 0.31 1.7")
    assert read_volume(sized).spacing_mm == (1.7, 0.31, 0.5)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("dimension: 4\nsizes: 5 11 7 1\nkinds: vector domain domain domain", "5 values a voxel along axis 0"),
        ("dimension: 4\nsizes: 11 7 1 5\nkinds: domain domain domain list", "5 values a voxel along axis 3"),
        ("dimension: 3\nsizes: 11 7 5\nkinds: space space time", "5 values a voxel along axis 2"),
        ("dimension: 4\nsizes: 11 7 5 1", "4 dimensions of sizes 11 x 7 x 5 x 1"),
        ("dimension: 3\nsizes: 11 7", "dimension 3 and 2 sizes"),
        ("dimension: 3\nsizes: 11 -7 5", "sizes '11 -7 5', expected whole numbers"),
        ("dimension: 3\nsizes: 11 0 5", "expected at least 1 along each axis"),
    ],
)
def test_axes_that_are_no_volume(tmp_path, header, message):
    path = nrrd(tmp_path / "a.nrrd", f"type: short\n{header}\n{SPACED}encoding: raw", RAW)
    with pytest.raises(ValueError, match=rf"a\.nrrd.*{message}"):
        read_volume(path, 1.0)


def test_a_last_axis_of_one_is_none(tmp_path):
    listed = (
        "type: short\ndimension: 4\nsizes: 11 7 5 1\nkinds: domain domain domain list\nendian: little\nspace: LPS\n"
    )
    listed += "space directions: (0.5,0,0) (0,0.31,0) (0,0,1.7) none\nencoding: raw"
    matrix = " ".join(map(str, np.eye(4).ravel()))
    changes = {"NDims": "4", "DimSize": "11 7 5 1", "ElementSpacing": "0.5 0.31 1.7 1", "Offset": "1 2 3 0"}
    for path in (
        nrrd(tmp_path / "a.nrrd", listed, RAW),
        metaimage(tmp_path / "a.mha", RAW, TransformMatrix=matrix, **changes),
    ):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, VOXELS.array)
        assert volume.spacing_mm == pytest.approx((1.7, 0.31, 0.5))


def test_geometries_that_are_none(tmp_path):
    for matrix, what in (
        ("1 0 0 1 0 0 0 0 1", "orthonormal"),
        ("1 0 0 0.3 1 0 0 0 1", "orthonormal"),
        ("1 0", "9 numbers"),
    ):
        with pytest.raises(ValueError, match=rf"a\.mha.*{what}"):
            read_volume(metaimage(tmp_path / "a.mha", RAW, TransformMatrix=matrix))
    for rows in ("(0.5,0,0) (0.5,0,0) (0,0,1.7)", "(0,0,0) (0,0.3,0) (0,0,1.7)", "(0.5,0,0) (0.1,0.3,0) (0,0,1.7)"):
        header = f"{SIZES}endian: little\nspace: LPS\nspace directions: {rows}\nencoding: raw"
        with pytest.raises(ValueError, match=r"a\.nrrd"):
            read_volume(nrrd(tmp_path / "a.nrrd", header, RAW))
    # left-handed and oblique is a geometry: x counts to the right
    mirrored = metaimage(tmp_path / "b.mha", RAW, TransformMatrix="-0.6 0.8 0 0.8 0.6 0 0 0 1")
    assert read_volume(mirrored).position((0, 0, 1)) == pytest.approx((1 - 0.3, 2 + 0.4, 3))


def test_gigantic_sizes_are_refused_before_anything_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("fhlib.images.whole.voxel_bytes", None)  # nothing is read
    packed = gzip.compress(bytes(10_000))
    huge = "type: uchar\ndimension: 3\nsizes: 11000 7000 500\nspacings: 1 1 2\nencoding: gzip"
    with pytest.raises(
        ValueError, match=r"a\.nrrd states 11000 x 7000 x 500 voxels, 3\.85e\+10 in all, expected at most 5e\+08"
    ):
        read_volume(nrrd(tmp_path / "a.nrrd", huge, packed))
    with pytest.raises(ValueError, match=r"a\.mha states 1 x 99999 x 99999 x 99999 voxels"):
        read_volume(metaimage(tmp_path / "a.mha", packed, CompressedData="True", DimSize="99999 99999 99999"))


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    bomb = tmp_path / "bomb.gz"
    with gzip.open(bomb, "wb") as stream:
        for _ in range(64):
            stream.write(bytes(1 << 20))
    for encoding in ("gzip", "zlib"):
        with pytest.raises(ValueError, match="holds more than the 1000 bytes"):
            voxel_bytes(bomb, 1000, encoding)
    assert MOST_VOXELS > 5 * 388 * 258 * 440


def test_data_files_beside_a_header(tmp_path):
    (tmp_path / "v.raw").write_bytes(RAW)
    header = f"{SIZES}{SPACED}encoding: raw\ndata file:"
    for path in (metaimage(tmp_path / "a.mhd", last="v.raw"), nrrd(tmp_path / "a.nhdr", f"{header} v.raw")):
        assert files_of(path) == (path, tmp_path / "v.raw")
        before = volume_digest(path)
        (tmp_path / "v.raw").write_bytes(RAW[::-1])
        assert volume_digest(path) != before
        (tmp_path / "v.raw").write_bytes(RAW)
        assert volume_digest(path) == before
    sitk.WriteImage(to_sitk(VOXELS), str(tmp_path / "p.hdr"))
    assert files_of(tmp_path / "p.hdr") == (tmp_path / "p.hdr", tmp_path / "p.img") == files_of(tmp_path / "p.img")
    before = volume_digest(tmp_path / "p.hdr")
    (tmp_path / "p.img").write_bytes(RAW[::-1])
    assert volume_digest(tmp_path / "p.hdr") != before


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("gone.raw", "needs its data file 'gone.raw', which is not there: copy both"),
        ("../v.raw", "names the data file 'v.raw' in another folder: put it beside"),
        ("/etc/passwd", "names the data file 'passwd' in another folder"),
        ("C:\\scans\\v.raw", "names the data file 'v.raw' in another folder"),
        ("s%d.raw 0 4 1", "in several files"),
        ("LIST", "in several files"),
    ],
)
def test_data_files_that_cannot_be_taken(tmp_path, named, message):
    for path in (
        metaimage(tmp_path / "a.mhd", last=named),
        nrrd(tmp_path / "a.nhdr", f"{SIZES}{SPACED}encoding: raw\ndata file: {named}"),
    ):
        with pytest.raises(ValueError, match=re.escape(path.name) + ".*" + re.escape(message)):
            read_volume(path)
        assert files_of(path) == (path,)


def test_pairs_that_lack_a_part(tmp_path):
    sitk.WriteImage(to_sitk(VOXELS), str(tmp_path / "p.hdr"))
    (tmp_path / "p.img").unlink()
    with pytest.raises(ValueError, match=r"p\.hdr needs one p\.hdr and one p\.img, found 1 and 0: copy both"):
        read_volume(tmp_path / "p.hdr")


@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".jpg", {"quality": 95}), (".tif", {}), (".bmp", {})])
def test_pictures_have_no_size_in_mm_and_are_whole_or_refused(tmp_path, suffix, options):
    path = tmp_path / f"a{suffix}"
    picture = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.uint8)
    Image.fromarray(picture).save(path, dpi=(72, 72), **options)
    if suffix == ".png":
        with pytest.warns(UserWarning, match="no pixel size that can be trusted"):
            assert read_volume(path).spacing_mm == (1, 1)
    else:
        with pytest.raises(ValueError, match=rf"a{suffix} is a picture .*dots per inch are of print"):
            read_volume(path)
    assert read_volume(path, 0.2).spacing_mm == (0.2, 0.2)
    content = path.read_bytes()
    for kept in (0.5, 0.9):
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(ValueError, match=rf"a{suffix}"):
            read_volume(path, 0.2)


def test_a_changed_byte_in_a_png_is_noticed(tmp_path):
    path = tmp_path / "a.png"
    write_volume(Volume(oblique(2, np.uint8).array, (1, 1)), path)
    content = path.read_bytes()
    for at in range(8, len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        with pytest.raises(ValueError, match=r"a\.png"):
            read_volume(path, 1.0)
