"""Read NIfTI-1 and NIfTI-2: voxels whole or not at all, and one geometry that the header states without contradiction.

nibabel reads the header, `whole.py` the voxels. SimpleITK fills a cut file with zeros, and reads pixdim 0 as 1 mm.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fhlib.images.dicom import REMEDY, per_axis
from fhlib.images.volume import Array, Floats, Volume, grey_of
from fhlib.images.whole import AGAIN, require_sizes, require_stated, times, voxel_bytes

HEADER, VOXELS = (".hdr", ".hdr.gz"), (".img", ".img.gz")
SUFFIXES = (".nii", ".nii.gz", *HEADER, *VOXELS)

UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""By the code in xyzt_units: unknown, which is read as mm everywhere, m, mm, um."""

SAME_STEP = 1e-3
"""Spacings that differ by less than this fraction are one: headers have single precision."""
SAME_PLACE = 0.1
"""Corners that lie nearer than this many voxels are one."""
TO_LPS = np.array([-1.0, -1.0, 1.0])
"""NIfTI counts x and y the other way."""


def pair_of(path: Path) -> tuple[Path, Path]:
    """The files that hold header and voxels: one and the same, or `.hdr` and `.img`.

    Raises ValueError where one of a pair is missing.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return path, path
    stem = path.name[: name.rindex(".hdr" if name.endswith(HEADER) else ".img")]
    header = [path.with_name(stem + suffix) for suffix in HEADER]
    voxels = [path.with_name(stem + suffix) for suffix in VOXELS]
    found = [[file for file in files if file.is_file()] for files in (header, voxels)]
    if len(found[0]) != 1 or len(found[1]) != 1:
        raise ValueError(
            f"{path.name} needs one {stem}.hdr and one {stem}.img, found {len(found[0])} and {len(found[1])}: copy both "
            "into one folder"
        )
    return found[0][0], found[1][0]


def _kinds() -> dict[bytes, Any]:
    """Classes of headers by their magic; the second of each has its voxels in another file."""
    from nibabel.nifti1 import (
        Nifti1Header,
        Nifti1PairHeader,
    )  # here, so that naming the files of an image does without it
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    single = {b"n+1\0": Nifti1Header, b"n+2\0": Nifti2Header}
    return single | {b"ni1\0": Nifti1PairHeader, b"ni2\0": Nifti2PairHeader}


def read_nifti(path: Path, spacing_mm: tuple[float, ...] | None = None) -> Volume:
    """A NIfTI file or pair with its geometry, turned from RAS to LPS; `scl_slope` and `scl_inter` are applied.

    Args:
        path: `.nii`, `.nii.gz`, or `.hdr` or `.img` of a pair.
        spacing_mm: replaces the file's, in array order.

    Raises ValueError where voxels are missing or damaged, where no spacing is stated or its places contradict each other,
    and for time, vectors and colours.
    """
    from nibabel.spatialimages import HeaderDataError

    header_file, voxel_file = pair_of(path)
    header = _header(header_file)
    if header.is_single == (header_file != voxel_file):
        raise ValueError(
            f"{path.name} and its header do not agree on whether the voxels lie in a file of their own: {AGAIN}"
        )
    try:
        array = _voxels(header, voxel_file, header_file.name)
        given = None if spacing_mm is None else per_axis(spacing_mm, array.ndim)
        spacing, origin, direction = _geometry(header, path.name, array.ndim, given)
    except (HeaderDataError, OverflowError, KeyError) as error:
        raise ValueError(f"the header of {header_file.name} is damaged ({error}): {AGAIN}") from error
    return Volume(array, spacing if given is None else given, origin, direction)


def _header(path: Path) -> Any:
    """The header as it stands, by nibabel."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            start = stream.read(540)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged or cut short ({error}): {AGAIN}") from error
    kinds = _kinds()
    kind = kinds.get(start[344:348]) or kinds.get(start[4:8])
    if kind is None:
        raise ValueError(
            f"cannot read {path.name} as an image: it has no header of NIfTI; {AGAIN}. An Analyze file does not say where left "
            "is: save it as NIfTI"
        )
    size = kind.template_dtype.itemsize
    # nibabel tells the byte order by dim[0] or this size
    if len(start) < size or size not in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")):
        raise ValueError(f"the header of {path.name} is damaged or cut short: {AGAIN}")
    return kind.from_fileobj(io.BytesIO(start[:size]), check=False)


def _voxels(header: Any, path: Path, name: str) -> Array:
    """The values as (d, h, w) or (h, w)."""
    count = int(header["dim"][0])
    sizes = tuple(int(size) for size in header["dim"][1 : 1 + count]) if 1 <= count <= 7 else ()
    require_sizes(sizes, name)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) not in (2, 3):
        raise ValueError(
            f"{name} has {len(sizes)} dimensions of sizes {times(sizes)}, expected 2 or 3: save one volume without time or vectors"
        )

    dtype = header.get_data_dtype()
    if dtype.fields is None and (dtype.kind not in "iuf" or dtype.itemsize > 8):
        raise ValueError(f"{name} holds {dtype}, expected real numbers of at most 64 bits: save one real volume")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise ValueError(f"{name} states {header['bitpix']} bits a voxel for the type {dtype}: {AGAIN}")
    first = float(header["vox_offset"])
    smallest = header.single_vox_offset if header.is_single else 0
    if not smallest <= first < 1 << 24:
        raise ValueError(
            f"{name} states that its voxels begin at byte {first:g}, expected {smallest} or a little more: {AGAIN}"
        )

    packed = path.name.lower().endswith(".gz")
    data = voxel_bytes(path, math.prod(sizes) * dtype.itemsize, "gzip" if packed else "raw", skip=int(first))
    flat = np.frombuffer(data, dtype)
    if dtype.fields:
        flat = grey_of(flat.view(np.uint8).reshape(-1, dtype.itemsize), name)
    array = flat.astype(flat.dtype.newbyteorder("="), copy=False).reshape(sizes[::-1])
    slope, inter = header.get_slope_inter()
    if slope is None or (slope, inter) == (1, 0):
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (array * float(slope) + float(inter)).astype(np.result_type(array.dtype, np.float32))
    if np.isfinite(array).all() and not np.isfinite(scaled).all():
        raise ValueError(f"{name} states scl_slope {slope:g} and scl_inter {inter:g}, which no voxel survives: {AGAIN}")
    return scaled


def _geometry(header: Any, name: str, ndim: int, given: tuple[float, ...] | None) -> tuple[tuple[float, ...], ...]:
    """Spacing in array order, origin and direction (LPS); the sform is taken where there are two that agree."""
    scale = UNITS_MM.get(int(header["xyzt_units"]) & 7)
    if given is None and scale is None:
        raise ValueError(f"{name} states an unknown unit of length (xyzt_units {int(header['xyzt_units'])}): {REMEDY}")
    scale = scale or 1.0
    if given is not None:
        if len(given) != ndim:
            raise ValueError(f"{name} has {ndim} axes, and {len(given)} spacings are given: give one, or one an axis")
        header["pixdim"][1 : 1 + ndim] = np.array(given[::-1]) / scale
    stated = np.array(header["pixdim"][1 : 1 + ndim], float)
    placed = _placed(header)
    if given is None:
        require_stated(stated.tolist(), name)
        if _by_default(header, stated, placed):
            raise ValueError(
                f"{name} states no spacing: it has 1 mm, no unit and no position, as programs write that know none; {REMEDY}"
            )

    for form, matrix in placed.items():
        steps = np.linalg.norm(matrix[:3, :ndim], axis=0)
        if not np.isfinite(matrix).all() or (steps == 0).any():
            raise ValueError(f"the {form} of {name} is no geometry ({times(matrix[:3].ravel().tolist())}): {AGAIN}")
        if given is not None:
            matrix[:3, :ndim] *= stated / steps
        elif not np.allclose(steps, stated, rtol=SAME_STEP):
            raise ValueError(
                f"{name} states two spacings, {times(stated.tolist())} (pixdim) and {times(steps.tolist())} ({form}): "
                f"save it again with the one that is right; or {REMEDY}"
            )
    if len(placed) == 2:
        _require_same_place(placed["sform"], placed["qform"], header, name)
    return tuple((scale * stated[::-1]).tolist()), *_position(placed, ndim, scale)


def _position(placed: dict[str, Floats], ndim: int, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Origin and direction (LPS); the image's own axes where the header places it nowhere."""
    if not placed:
        return (), ()
    matrix = next(iter(placed.values()))
    direction = TO_LPS[:ndim, None] * matrix[:ndim, :ndim] / np.linalg.norm(matrix[:3, :ndim], axis=0)
    if ndim == 2 and not np.allclose(direction @ direction.T, np.eye(2), atol=1e-3):
        return (), ()  # a plane that stands upright in space
    origin = scale * TO_LPS[:ndim] * matrix[:ndim, 3]
    return tuple(origin.tolist()), tuple(direction.ravel().tolist())


def _placed(header: Any) -> dict[str, Floats]:
    """The matrices (4, 4) that the header gives: sform, qform, both, or none."""
    if int(header["qform_code"]) > 0 and float(header["pixdim"][0]) == 0:
        header["pixdim"][0] = 1  # the standard's default
    matrices = {"sform": header.get_sform(coded=True)[0], "qform": header.get_qform(coded=True)[0]}
    return {form: np.array(matrix, float) for form, matrix in matrices.items() if matrix is not None}


def _by_default(header: Any, stated: Floats, placed: dict[str, Floats]) -> bool:
    """Whether the geometry is what nibabel and others write when they are given none."""
    if int(header["xyzt_units"]) & 7 or not np.all(stated == 1) or "qform" in placed:
        return False
    return not placed or np.array_equal(placed["sform"], np.eye(4))


def _require_same_place(sform: Floats, qform: Floats, header: Any, name: str) -> None:
    sizes = header["dim"][1:4].astype(float)
    corners = np.array([[x, y, z, 1] for x in (0, sizes[0]) for y in (0, sizes[1]) for z in (0, sizes[2])])
    apart = np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()
    step = np.linalg.norm(sform[:3, :3], axis=0)
    if not apart <= SAME_PLACE * step[step > 0].min():
        raise ValueError(
            f"{name} states two geometries: its sform and its qform differ by up to {apart:.3g} mm at the corners, expected "
            "one; save it again with 3D Slicer, or set one of their codes to 0"
        )
