"""Read GE Kretz files (`.vol`), whose samples lie along beams, into voxels.

**No real file was at hand.** This was written after published readers' descriptions (SlicerHeart's
KretzFileReader and two others), and tried on files of our own.

A file begins with `KRETZFILE 1.0` and three spaces. Items follow, little-endian: group and element (uint16),
length (uint32), data. The item FFFF,FFFF ends them. Voxels are uint8 (planes, beams, samples), samples fastest.

Geometry, in the probe's coordinates (mm): x lateral, y elevation, z away from the probe. Sample i of a beam at
lateral angle theta, in a plane at sweep angle phi, lies at

    r = (offset1 + i) step,   d = -offset2 step
    x = r sin(theta)
    y = -sin(phi) (r cos(theta) - d)
    z = d (1 - cos(phi)) + r cos(theta) cos(phi)

An angle in the file is pi/2 where the beam points straight ahead. So pi/2 is subtracted, and not the middle of the
table: a region of interest may lie off the centre. The sign of y differs between readers. This one follows
SlicerHeart and the simulator (`fhlib.phantom.probe`): y falls as phi rises. The other sign would mirror
the head. Its volume, and what is measured on it, would be the same.

Of all items only sizes, geometry and voxels are read. Those that name a patient or a hospital are passed over.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from fhlib.files import atomic_path
from fhlib.images.volume import LONGEST_STEP_MM, MOST_VOXELS, SHORTEST_STEP_MM, Floats, ReadWarning, Volume

Tag = tuple[int, int]
Bytes = NDArray[np.uint8]

SUFFIXES = (".vol", ".4dv")
MAGIC = b"KRETZFILE 1.0   "

SAMPLES, BEAMS, PLANES = (0xC000, 0x0001), (0xC000, 0x0002), (0xC000, 0x0003)
STEP_M = (0xC100, 0x0001)
OFFSET1, OFFSET2 = (0xC200, 0x0001), (0xC200, 0x0002)
PHI, THETA = (0xC300, 0x0001), (0xC300, 0x0002)
CARTESIAN_SPACING = (0x0010, 0x0022)
VOXELS, FILTERED_VOXELS = (0xD000, 0x0001), (0xD000, 0x0002)
FRAME_COUNT, FRAME_SIZE = (0xD400, 0x0001), (0xD400, 0x0002)
FRAMES = (0xD600, 0x0001)
COMPRESSED = ((0x0002, 0x1000), (0x0002, 0x1100), (0x0002, 0x1200))
END = (0xFFFF, 0xFFFF)

# what is kept of a file; no item of a patient is among them
MEANING = {
    SAMPLES: "samples a beam",
    BEAMS: "beams a plane",
    PLANES: "planes",
    STEP_M: "step along a beam",
    OFFSET1: "offset of the first sample",
    OFFSET2: "offset of the sweep's axis",
    PHI: "angles of the planes",
    THETA: "angles of the beams",
    CARTESIAN_SPACING: "spacing",
    VOXELS: "voxels",
    FILTERED_VOXELS: "a filtered copy of the voxels",
    FRAME_COUNT: "number of frames",
    FRAMES: "frames",
}

DEFAULT_MOST_VOXELS = 60_000_000
BLOCK_VOXELS = 2_000_000
FARTHEST_MM = 1000.0
NARROWEST_RAD = 0.01
WIDEST_STEP = 4  # between two angles, in median steps


def read_kretz(
    path: Path | str | bytes,
    spacing_mm: float | Sequence[float] | None = None,
    frame: int | None = None,
    name: str | None = None,
) -> Volume:
    """Read a Kretz file into a volume of equal voxels, (z, y, x) in the probe's coordinates.

    Levels are interpolated linearly between samples and rounded. Outside the sector they are 0. Inside, a 0 stays
    a 0: levels are the scanner's own, so they do not tell where the sector ends. Voxels lie on whole multiples of the spacing.

    The default spacing is the step along a beam, or the smallest that keeps the box to 60 million voxels
    (60 MB) if that is larger.

    A Cartesian file, which has no tables of angles, keeps its voxels and their order (planes, beams, samples). No public
    reader has confirmed where its spacing stands: a warning says which was taken.

    Args:
        path: the file, or its bytes.
        spacing_mm: edge of the voxels. Of a Cartesian file it replaces what stands there.
        frame: which volume of a 4D file, from 0. None takes the first, with a warning if there are more.
        name: what messages call it; the file's own name if None.

    Raises ValueError where the file is damaged, compressed, or lacks the frame.

    >>> import tempfile
    >>> import numpy as np
    >>> from fhlib.images.kretz import read_kretz, write_kretz
    >>> angles = np.linspace(-0.5, 0.5, 11)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_kretz(f"{folder}/a.vol", np.full((11, 11, 50), 9, np.uint8), 1.0, angles, angles, 40.0, 0.0)
    ...     read_kretz(f"{folder}/a.vol", spacing_mm=2.0).shape
    (31, 45, 45)
    """
    data = path if isinstance(path, bytes) else Path(path).read_bytes()
    if name is None:
        name = "the Kretz data" if isinstance(path, bytes) else Path(path).name
    items = _Items(name, _kept_items(data, name))

    voxels = _frame(items, _shape(items), frame)
    if items.has(PHI) or items.has(THETA):
        return _scan_converted(voxels, _sector(items, voxels.shape), spacing_mm, name)
    return Volume(voxels.copy(), _cartesian_spacing_mm(items, spacing_mm))


def write_kretz(
    path: Path | str,
    voxels: Bytes,
    step_mm: float,
    phi_rad: ArrayLike,
    theta_rad: ArrayLike,
    offset1: float,
    offset2: float,
) -> None:
    """Write a Kretz file, atomically: to try a reader on, not for a scanner.

    Args:
        path: the file.
        voxels: uint8 (planes, beams, samples), or (frames, planes, beams, samples) for a 4D file.
        step_mm: step along a beam.
        phi_rad: angle of each plane; 0 is straight ahead.
        theta_rad: angle of each beam; 0 is straight ahead.
        offset1: steps from the centre of curvature to the first sample.
        offset2: steps from the sweep's axis to the centre of curvature.
    """
    if voxels.dtype != np.uint8 or voxels.ndim not in (3, 4):
        raise ValueError(
            f"voxels must be uint8 (planes, beams, samples), with frames before them in 4D; got {voxels.dtype} "
            f"{voxels.shape}: cast or reshape them"
        )
    shape = voxels.shape[-3:]
    sizes = [_item(tag, struct.pack("<H", size)) for tag, size in zip((PLANES, BEAMS, SAMPLES), shape, strict=True)]
    numbers = {STEP_M: step_mm / 1000, OFFSET1: offset1, OFFSET2: offset2}
    geometry = [_item(tag, struct.pack("<d", number)) for tag, number in numbers.items()]
    for tag, angles in ((PHI, phi_rad), (THETA, theta_rad)):
        geometry.append(_item(tag, (np.asarray(angles, float) + math.pi / 2).astype("<f8").tobytes()))

    body = [_item(VOXELS, voxels.tobytes())]
    if voxels.ndim == 4:
        counts = {FRAME_COUNT: len(voxels), FRAME_SIZE: math.prod(shape)}
        body = [_item(tag, struct.pack("<I", count)) for tag, count in counts.items()]
        body.append(_item(FRAMES, voxels.tobytes()))
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"".join([MAGIC, *sizes, *geometry, *body, _item(END, b"")]))


def _item(tag: Tag, data: bytes) -> bytes:
    return struct.pack("<HHI", *tag, len(data)) + data


def _named(tag: Tag) -> str:
    meaning = f" ({MEANING[tag]})" if tag in MEANING else ""
    return f"item {tag[0]:04X},{tag[1]:04X}{meaning}"


def _kept_items(data: bytes, name: str) -> dict[Tag, memoryview]:
    """The items this reader knows; ValueError unless the file is whole and not compressed."""
    if not data.startswith(MAGIC):
        raise ValueError(
            f"{name} does not begin with 'KRETZFILE 1.0' and three spaces, so it is no GE Kretz volume or a damaged "
            "one: copy it again, or export it as DICOM or NRRD"
        )
    kept: dict[Tag, memoryview] = {}
    for tag, content in _each_item(data, name):
        if tag in COMPRESSED:
            raise ValueError(
                f"{name} is compressed ({_named(tag)}), which no public reader decodes: save it again in 4D View with "
                'wavelet compression "None"'
            )
        if tag not in MEANING:
            continue
        if kept.setdefault(tag, content) != content:
            raise ValueError(
                f"{name} holds {_named(tag)} twice, and not the same, expected once: save one volume a file"
            )
    return kept


def _each_item(data: bytes, name: str) -> Iterator[tuple[Tag, memoryview]]:
    """Every item up to the end mark; ValueError where the file ends before it."""
    view, at = memoryview(data), len(MAGIC)
    while True:
        # the end mark may come without a length
        if data[at : at + 4] == b"\xff\xff\xff\xff":
            return
        if len(data) - at < 8:
            raise ValueError(
                f"{name} is cut short: expected another item or the end mark FFFF,FFFF at byte {at}, but the file "
                f"has {len(data)} bytes: copy it again"
            )
        group, element, length = struct.unpack_from("<HHI", data, at)
        at += 8
        if len(data) - at < length:
            raise ValueError(
                f"{name} is cut short: expected {length} bytes of {_named((group, element))} from byte {at}, but the "
                f"file has {len(data)} bytes: copy it again"
            )
        yield (group, element), view[at : at + length]
        at += length


@dataclass(frozen=True)
class _Items:
    """What is kept of a file; `name` is for messages."""

    name: str
    content: dict[Tag, memoryview]

    def has(self, tag: Tag) -> bool:
        return tag in self.content

    def data(self, tag: Tag, least: int) -> memoryview:
        """The bytes of an item; ValueError where it is missing or has fewer than `least`."""
        if tag not in self.content:
            raise ValueError(f"{self.name} lacks {_named(tag)}, which every Kretz file with voxels has: save it again")
        if len(self.content[tag]) < least:
            raise ValueError(
                f"{self.name} has {len(self.content[tag])} bytes in {_named(tag)}, expected {least}: copy it again"
            )
        return self.content[tag]

    def number(self, tag: Tag) -> float:
        """A finite double."""
        value = float(struct.unpack_from("<d", self.data(tag, 8))[0])
        if not math.isfinite(value):
            raise ValueError(f"{self.name} has {value} in {_named(tag)}, expected a finite number: copy it again")
        return value


def _shape(items: _Items) -> tuple[int, int, int]:
    """(planes, beams, samples)."""
    sizes = [int(struct.unpack_from("<H", items.data(tag, 2))[0]) for tag in (PLANES, BEAMS, SAMPLES)]
    if min(sizes) < 2:
        raise ValueError(
            f"{items.name} has {sizes[0]} planes of {sizes[1]} beams of {sizes[2]} samples, expected at least 2 of each "
            "in a volume: save a 3D volume"
        )
    return sizes[0], sizes[1], sizes[2]


def _frame(items: _Items, shape: tuple[int, int, int], frame: int | None) -> Bytes:
    """The voxels of one volume (planes, beams, samples)."""
    size, tag = math.prod(shape), FRAMES if items.has(FRAMES) else VOXELS
    if not items.has(tag) and items.has(FILTERED_VOXELS):
        raise ValueError(
            f"{items.name} holds {_named(FILTERED_VOXELS)} alone, whose levels are not the scan's, and lacks "
            f"{_named(VOXELS)}: save it again with the original data"
        )
    data, count = items.data(tag, 0), 1
    if tag == FRAMES:
        count = max(1, len(data) // size)
        if items.has(FRAME_COUNT):
            # the readers differ in how wide this integer is
            count = int.from_bytes(items.data(FRAME_COUNT, 1), "little")

    if len(data) != count * size or count < 1:
        raise ValueError(
            f"{items.name} has {len(data)} bytes in {_named(tag)}, expected {size} a frame (planes x beams x "
            f"samples: {' x '.join(map(str, shape))}) and {count} frames: copy it again"
        )
    if frame is not None and not 0 <= frame < count:
        raise ValueError(f"{items.name} has no frame {frame}: it holds {count}, counted from 0")
    if frame is None and count > 1:
        warnings.warn(
            f"{items.name} holds {count} frames in time; the first is read: read_kretz(path, frame=...) takes another",
            ReadWarning,
            stacklevel=3,
        )
    return np.frombuffer(data, np.uint8, size, (frame or 0) * size).reshape(shape)


def _cartesian_spacing_mm(items: _Items, spacing_mm: float | Sequence[float] | None) -> tuple[float, ...]:
    if spacing_mm is not None:
        return tuple(np.broadcast_to(spacing_mm, 3).tolist())
    tag = CARTESIAN_SPACING if items.has(CARTESIAN_SPACING) else STEP_M
    value, spacing = items.number(tag), _in_mm(items, tag)
    if (
        tag == CARTESIAN_SPACING
        and items.has(STEP_M)
        and not math.isclose(spacing, _in_mm(items, STEP_M), rel_tol=0.01)
    ):
        raise ValueError(
            f"{items.name} is a Cartesian Kretz file that states {spacing:g} mm in {_named(tag)} and "
            f"{_in_mm(items, STEP_M):g} mm in {_named(STEP_M)}, expected one: compare a known length, and pass spacing_mm"
        )
    if not SHORTEST_STEP_MM <= spacing <= LONGEST_STEP_MM:
        raise ValueError(
            f"{items.name} has {value:g} in {_named(tag)}, expected a voxel of {SHORTEST_STEP_MM} to {LONGEST_STEP_MM:g} mm: "
            "pass spacing_mm"
        )
    warnings.warn(
        f"{items.name} is a Cartesian Kretz file; {spacing:g} mm is taken from {_named(tag)}, which no public reader has "
        "confirmed: compare a known length, and pass spacing_mm if it is wrong",
        ReadWarning,
        stacklevel=3,
    )
    return (spacing,) * 3


def _in_mm(items: _Items, tag: Tag) -> float:
    """A spacing, by the unit that its size tells: of 0010,0022 readers say millimetres or metres."""
    value = items.number(tag)
    return value * 1000 if tag == STEP_M or value < SHORTEST_STEP_MM else value


@dataclass(frozen=True)
class _Sector:
    """Where the samples lie: angles (rad, 0 is straight ahead, rising) and radii (mm)."""

    phi_rad: Floats
    theta_rad: Floats
    near_mm: float
    step_mm: float
    samples: int
    centre_distance_mm: float

    def bounds_mm(self) -> tuple[Floats, Floats]:
        """The lowest and highest (x, y, z)."""
        far_mm = self.near_mm + (self.samples - 1) * self.step_mm
        d = self.centre_distance_mm
        points = []
        # x, y and z have their extremes at the ends of each range, or straight ahead
        for r, theta, phi in product((self.near_mm, far_mm), _ends(self.theta_rad), _ends(self.phi_rad)):
            reach = r * math.cos(theta) - d
            points.append((r * math.sin(theta), -math.sin(phi) * reach, d + reach * math.cos(phi)))
        return np.min(points, axis=0), np.max(points, axis=0)

    def index(self, x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats, Floats]:
        """The (plane, beam, sample) of a position, nan beyond the outermost plane or beam."""
        d = self.centre_distance_mm
        reach = np.hypot(y, z - d) + d
        plane = np.interp(np.arctan2(-y, z - d), self.phi_rad, np.arange(len(self.phi_rad)), np.nan, np.nan)
        beam = np.interp(np.arctan2(x, reach), self.theta_rad, np.arange(len(self.theta_rad)), np.nan, np.nan)
        return plane, beam, (np.hypot(x, reach) - self.near_mm) / self.step_mm


def _ends(angles: Floats) -> tuple[float, float, float]:
    first, last = float(angles[0]), float(angles[-1])
    return first, last, min(max(0.0, first), last)


def _sector(items: _Items, shape: tuple[int, ...]) -> _Sector:
    step_mm = items.number(STEP_M) * 1000
    if not SHORTEST_STEP_MM <= step_mm <= LONGEST_STEP_MM:
        raise ValueError(
            f"{items.name} has a step of {step_mm:g} mm along a beam, expected {SHORTEST_STEP_MM} to {LONGEST_STEP_MM:g}: "
            "copy it again"
        )
    phi_rad, theta_rad = _angles(items, PHI, shape[0]), _angles(items, THETA, shape[1])
    near_mm = items.number(OFFSET1) * step_mm
    centre_distance_mm = -items.number(OFFSET2) * step_mm

    # beyond this the planes cross each other before the first sample
    reach_mm = near_mm * math.cos(float(np.abs(theta_rad).max()))
    far_mm = near_mm + (shape[2] - 1) * step_mm
    if not 0 <= near_mm < far_mm <= FARTHEST_MM or not -FARTHEST_MM <= centre_distance_mm < reach_mm:
        raise ValueError(
            f"{items.name} goes from {near_mm:.4g} to {far_mm:.4g} mm from the centre of curvature, with the sweep's axis "
            f"at {centre_distance_mm:.4g} mm: expected 0 to {FARTHEST_MM:g} mm, and the axis behind the first sample of "
            "every beam: copy it again"
        )
    return _Sector(phi_rad, theta_rad, near_mm, step_mm, shape[2], centre_distance_mm)


def _angles(items: _Items, tag: Tag, count: int) -> Floats:
    """A table of angles (rad), 0 straight ahead; rising or falling as in the file."""
    data = items.data(tag, 0)
    if len(data) != 8 * count:
        raise ValueError(
            f"{items.name} has {len(data)} bytes in {_named(tag)}, expected {8 * count} ({count} doubles): copy it again"
        )
    angles = np.frombuffer(data, "<f8").astype(float) - math.pi / 2
    steps = np.diff(angles)
    monotonic = (steps > 0).all() or (steps < 0).all()
    if monotonic and np.abs(steps).max() > WIDEST_STEP * np.median(np.abs(steps)):
        raise ValueError(
            f"{items.name} has in {_named(tag)} a gap of {np.abs(steps).max():.3g} between angles that are "
            f"{np.median(np.abs(steps)):.3g} apart, expected no more than {WIDEST_STEP} times as much: copy it again"
        )
    if not (np.abs(angles) < math.pi / 2).all() or not monotonic or abs(angles[-1] - angles[0]) < NARROWEST_RAD:
        raise ValueError(
            f"{items.name} has in {_named(tag)} what no probe can have: expected between 0 and pi, rising or falling "
            f"throughout, by {NARROWEST_RAD} in all; copy it again"
        )
    return angles


def _scan_converted(voxels: Bytes, sector: _Sector, spacing_mm: float | Sequence[float] | None, name: str) -> Volume:
    """The volume in the probe's coordinates.

    Args:
        voxels: (planes, beams, samples).
        sector: where they lie.
        spacing_mm: edge of the new voxels, the default if None.
        name: of the file, for messages.
    """
    voxels, sector = _rising(voxels, sector)
    low, high = sector.bounds_mm()
    spacing = _default_spacing_mm(low, high, sector.step_mm) if spacing_mm is None else _one_spacing_mm(spacing_mm)
    first, counts = _grid(low, high, spacing)
    if math.prod(counts) > MOST_VOXELS:
        raise ValueError(
            f"{name} at {spacing:g} mm would take {math.prod(counts):.3g} voxels, expected at most {MOST_VOXELS:.3g}: "
            "give a larger spacing_mm"
        )

    x, y, z = (spacing * np.arange(start, start + count) for start, count in zip(first, counts, strict=True))
    out = np.zeros(counts[::-1], np.uint8)
    layers = max(1, BLOCK_VOXELS // (counts[0] * counts[1]))
    for start in range(0, counts[2], layers):
        block = slice(start, start + layers)
        index = sector.index(x[None, None, :], y[None, :, None], z[block, None, None])
        _fill(out[block], voxels, index)
    return Volume(out, (spacing,) * 3, origin=tuple((spacing * first).tolist()))


def _rising(voxels: Bytes, sector: _Sector) -> tuple[Bytes, _Sector]:
    """The same samples in the order of rising angles."""
    phi, theta = sector.phi_rad, sector.theta_rad
    if phi[0] > phi[-1]:
        voxels, phi = voxels[::-1], phi[::-1]
    if theta[0] > theta[-1]:
        voxels, theta = voxels[:, ::-1], theta[::-1]
    return voxels, _Sector(phi, theta, sector.near_mm, sector.step_mm, sector.samples, sector.centre_distance_mm)


def _fill(out: Bytes, voxels: Bytes, index: Sequence[Floats]) -> None:
    """Interpolate samples into a block of voxels; those outside the sector are left as they are."""
    plane, beam, sample = np.broadcast_arrays(*index)
    inside = np.isfinite(plane) & np.isfinite(beam) & (sample >= 0) & (sample <= voxels.shape[2] - 1)
    at = np.stack([plane[inside], beam[inside], sample[inside]])
    levels = ndimage.map_coordinates(voxels, at, output=np.float32, order=1, mode="nearest")
    out[inside] = np.rint(levels).astype(np.uint8)


def _grid(low: Floats, high: Floats, spacing_mm: float) -> tuple[NDArray[np.int64], tuple[int, int, int]]:
    """First whole multiple of the spacing, and number of voxels, along x, y and z."""
    first = np.floor(low / spacing_mm).astype(np.int64)
    x, y, z = (np.ceil(high / spacing_mm).astype(np.int64) - first + 1).tolist()
    return first, (x, y, z)


def _default_spacing_mm(low: Floats, high: Floats, step_mm: float) -> float:
    """The step along a beam, larger where the box would take too many voxels."""
    spacing = max(step_mm, math.cbrt(float(np.prod(high - low)) / DEFAULT_MOST_VOXELS))
    # the box grows to whole voxels
    while math.prod(_grid(low, high, spacing)[1]) > DEFAULT_MOST_VOXELS:
        spacing *= 1.01
    return spacing


def _one_spacing_mm(spacing_mm: float | Sequence[float]) -> float:
    given = {float(number) for number in np.ravel(spacing_mm)}
    spacing = given.pop()
    if given or not SHORTEST_STEP_MM <= spacing <= LONGEST_STEP_MM:
        raise ValueError(
            f"spacing_mm must be one positive number for all axes of a scan-converted volume, {SHORTEST_STEP_MM} to "
            f"{LONGEST_STEP_MM:g} mm, got {spacing_mm}: resample it afterwards"
        )
    return spacing
