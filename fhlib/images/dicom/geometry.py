"""How frames or slices make a regular volume, and a refusal where they make none."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fhlib.images.dicom.headers import functional, why_no_slices
from fhlib.images.dicom.pixel_size import (
    REMEDY,
    SAME_SIZE,
    numbers,
    pixel_size,
    positive,
    require_plausible,
    required_pixel,
)
from fhlib.images.volume import Floats, ReadWarning

if TYPE_CHECKING:
    from pydicom import Dataset

SAME_STEP = 0.05
"""Distances of slices that differ by less than this fraction are one."""
STRAIGHT_DEGREES = 1.0
"""Slices may step aside by so much, which rounding and a moving table explain."""
RIGHT_ANGLE = 0.02
"""Directions may differ by so much from unit vectors at right angles, which rounding explains."""

Given = Sequence[float] | None
"""A spacing that the caller knows: what the file states of it is not asked for."""


@dataclass(frozen=True)
class Plane:
    """Where one slice lies: position (x, y, z), orientation (row, then column direction), pixel size (h, w) in mm."""

    position: Floats | None
    orientation: Floats | None
    pixel_mm: tuple[float, float] | None

    @property
    def placed(self) -> bool:
        """Whether both position and orientation are known."""
        return self.position is not None and self.orientation is not None


@dataclass(frozen=True)
class Grid:
    """How frames make a volume: their order, and the geometry in the words of `Volume`."""

    order: Sequence[int]
    spacing_mm: tuple[float, ...]
    origin: tuple[float, ...] = ()
    direction: tuple[float, ...] = ()


def grid_of_image(header: Dataset, name: str, given: Given) -> Grid:
    """Pixel size of a file of one frame, which becomes 2D."""
    if given is not None:
        return Grid([0], (1.0, 1.0))
    pixel = required_pixel(header, name, functional(header, "PixelMeasuresSequence", "PixelSpacing", 1))
    require_plausible(pixel, name)
    return Grid([0], pixel)


def grid_of_frames(header: Dataset, name: str, frames: int, given: Given) -> Grid:
    """Geometry of a file of several frames: from functional groups, else from tags for all of them."""
    planes = _planes_of_frames(header, name, frames, given)
    if all(plane.placed for plane in planes):
        grid = _stack(planes, f"the frames of {name}", given)
        _compare_gap(grid, _stated_gaps(header, frames), f"the frames of {name}", given)
    elif why := why_no_slices(header):
        # one number says how large a pixel is, and nothing of the frames
        if given is None or len(given) != 3:
            raise ValueError(
                f"{name} is a clip: its {frames} frames {why}, not depths, and no volume: export the volume; if they are "
                "slices all the same, give all three numbers of spacing_mm (--spacing-mm)"
            )
        _require_one_time(header, name, frames, given)
        return _unknown(frames)
    else:
        _require_one_time(header, name, frames, given)
        grid = _unknown(frames) if given is not None else _evenly_stacked(header, planes, name)
    if given is None:
        require_plausible(grid.spacing_mm, name)
    return grid


def grid_of_slices(headers: Sequence[Dataset], names: Sequence[str], series: str, given: Given) -> Grid:
    """Geometry of a series, one file a slice.

    Args:
        headers: of its files.
        names: of its files, for messages.
        series: its name.
        given: a spacing that replaces theirs.
    """
    where = f"the slices in {series}"
    planes = [_plane_of_slice(header, name, given) for header, name in zip(headers, names, strict=True)]
    placed = sum(plane.placed for plane in planes)
    if placed == len(planes):
        _require_one_stack(headers, where)
        grid = _stack(planes, where, given)
        _compare_gap(grid, {header.get("SpacingBetweenSlices") for header in headers}, where, given)
    elif placed == 0:
        grid = _numbered(headers, planes, series, given)
    else:
        raise ValueError(_not_placed(placed, len(planes), series))
    if given is None:
        require_plausible(grid.spacing_mm, where)
    _compare_count(headers, where)
    return grid


def _compare_count(headers: Sequence[Dataset], where: str) -> None:
    """Warn where slices at an end may be missing, which positions do not tell."""
    stated = max(int(header.get("ImagesInAcquisition") or 0) for header in headers)
    if stated > len(headers):
        warnings.warn(
            f"{where} are {len(headers)}, and state that their acquisition has {stated} images (ImagesInAcquisition): if some "
            "are missing, copy the series again",
            ReadWarning,
            stacklevel=4,
        )


def _unknown(frames: int) -> Grid:
    """The order of the file; its spacing is replaced by what the caller gave."""
    return Grid(range(frames), (1.0, 1.0, 1.0))


def _planes_of_frames(header: Dataset, name: str, frames: int, given: Given) -> list[Plane]:
    """Planes by the functional groups, of a volume's own frame of reference or the patient's."""
    pixels = functional(header, "PixelMeasuresSequence", "PixelSpacing", frames)
    positions = functional(header, "PlanePositionVolumeSequence", "ImagePositionVolume", frames)
    orientations = functional(header, "PlaneOrientationVolumeSequence", "ImageOrientationVolume", frames)
    if not any(value is not None for value in positions):
        positions = functional(header, "PlanePositionSequence", "ImagePositionPatient", frames)
        orientations = functional(header, "PlaneOrientationSequence", "ImageOrientationPatient", frames)

    # frames of different sizes are told apart later; here the file is held against itself
    common = None if given is not None else pixel_size(header, name, pixels[:1])
    planes = []
    for pixel, position, orientation in zip(pixels, positions, orientations, strict=True):
        size = positive(pixel, 2) or common
        planes.append(Plane(numbers(position, 3), numbers(orientation, 6), (size[0], size[1]) if size else None))
    return planes


def _plane_of_slice(header: Dataset, name: str, given: Given) -> Plane:
    """Position and orientation from functional groups, else from the tags of a single image."""
    pixel = grid_of_image(header, name, given).spacing_mm
    plane = _planes_of_frames(header, name, 1, given)[0]
    position, orientation = plane.position, plane.orientation
    if not plane.placed:
        position = numbers(header.get("ImagePositionPatient"), 3)
        orientation = numbers(header.get("ImageOrientationPatient"), 6)
    return Plane(position, orientation, (pixel[0], pixel[1]))


def _evenly_stacked(header: Dataset, planes: Sequence[Plane], name: str) -> Grid:
    """Frames one SpacingBetweenSlices apart, in the order of the file."""
    frames = len(planes)
    placed = sum(plane.position is not None for plane in planes)
    if placed:
        raise ValueError(
            f"of the {frames} frames of {name} {placed} state a position, and not all a position and an orientation, "
            f"expected all or none: export it again, or {REMEDY}"
        )
    pixel = _common_pixel(planes, f"the frames of {name}", None) if planes[0].pixel_mm else required_pixel(header, name)
    gap = _stated_gap(header, name, frames)
    for tag in ("SliceLocationVector", "GridFrameOffsetVector"):
        _require_same_gap(header.get(tag), frames, gap, f"the frames of {name}", tag)
    position = numbers(header.get("ImagePositionPatient"), 3)
    orientation = numbers(header.get("ImageOrientationPatient"), 6)
    if position is None or orientation is None:
        return Grid(range(frames), (gap, *pixel))
    direction = tuple(_direction(orientation, f"the frames of {name}").ravel().tolist())
    return Grid(range(frames), (gap, *pixel), tuple(position.tolist()), direction)


def _stated_gap(header: Dataset, name: str, frames: int) -> float:
    """SpacingBetweenSlices of functional groups, else of the file."""
    gaps = _stated_gaps(header, frames)
    gap = positive(gaps.pop(), 1)
    if gaps - {None}:
        raise ValueError(f"the frames of {name} state several distances between them: export it on a regular grid")
    if gap is None:
        raise ValueError(
            f"{name} has {frames} frames and states no distance between them (neither positions nor "
            f"SpacingBetweenSlices): a clip's frames are times, not depths; if they are slices, {REMEDY}"
        )
    return gap[0]


def _stated_gaps(header: Dataset, frames: int) -> set[Any]:
    """Each SpacingBetweenSlices of a file; {None} where it states none."""
    gaps = set(functional(header, "PixelMeasuresSequence", "SpacingBetweenSlices", frames))
    return {header.get("SpacingBetweenSlices")} if gaps == {None} else gaps


def _compare_gap(grid: Grid, stated: set[Any], where: str, given: Given) -> None:
    """Warn where SpacingBetweenSlices is not the distance of the positions, which are taken."""
    gaps = [gap[0] for gap in (positive(value, 1) for value in stated) if gap]
    others = [gap for gap in gaps if abs(gap - grid.spacing_mm[0]) > SAME_STEP * grid.spacing_mm[0]]
    if others and given is None:
        warnings.warn(
            f"{where} are {grid.spacing_mm[0]:.4g} mm apart by their positions, which are taken, and state "
            f"SpacingBetweenSlices {others[0]:.4g} mm: compare a known length",
            ReadWarning,
            stacklevel=4,
        )


def _require_same_gap(places: Any, count: int, gap: float | None, where: str, tag: str) -> None:
    """Raise ValueError for places of slices, along one line, that are not evenly the gap apart.

    Args:
        places: a number a slice, in the order of the stack; all alike, or another count, says nothing.
        count: of slices.
        gap: in mm; None where the caller answers for it.
        where: what an error calls the slices.
        tag: where the places stand.
    """
    read = numbers(places, count)
    if read is None or np.ptp(read) == 0:
        return
    steps = np.diff(read) * np.sign(read[-1] - read[0])
    expected = float(np.median(steps)) if gap is None else gap
    if np.abs(steps - expected).max() > SAME_STEP * abs(expected) + 1e-3:
        raise ValueError(
            f"{where} are {steps.min():.4g} to {steps.max():.4g} mm apart by {tag}, expected {expected:.4g} mm: a slice is "
            "missing, or their order or distance is wrong; export it again"
        )


def _require_one_time(header: Dataset, name: str, frames: int, given: Given) -> None:
    """Raise ValueError for frames of several times, which nothing places."""
    times = set(functional(header, "FrameContentSequence", "TemporalPositionIndex", frames)) - {None}
    count, tag = len(times), "TemporalPositionIndex"
    if count < 2:
        count, tag = int(header.get("NumberOfTemporalPositions") or 1), "NumberOfTemporalPositions"
    # a swept plane may have a time of its own in each place
    if count > 1 and not (count == frames and given is not None and len(given) == 3):
        raise ValueError(
            f"the frames of {name} are of {count} times ({tag}) and state no position, expected one time: export one of them"
        )


def _numbered(headers: Sequence[Dataset], planes: Sequence[Plane], series: str, given: Given) -> Grid:
    """Slices without positions, in the order of their numbers, where a distance between them is known."""
    where = f"the slices in {series}"
    stated = [header.get("InstanceNumber") for header in headers]
    if None in stated or len(set(stated)) < len(stated):
        raise ValueError(_not_placed(0, len(planes), series))
    order = np.argsort([int(number) for number in stated]).tolist()
    times = {header.get("TemporalPositionIdentifier") for header in headers} - {None}
    if len(times) > 1:
        raise ValueError(
            f"{where} are of {len(times)} times (TemporalPositionIdentifier) and state no position: export one of them"
        )
    steps = np.diff(sorted(int(number) for number in stated))
    places = [headers[index].get("SliceLocation") for index in order]
    if given is not None:
        if steps.min() < steps.max():
            raise ValueError(_left_out(stated, where))
        _require_same_gap(places, len(order), None, where, "SliceLocation")
        return Grid(order, (1.0, 1.0, 1.0))

    gaps = {positive(header.get("SpacingBetweenSlices"), 1) for header in headers}
    gap = gaps.pop()
    if gap is None or gaps or any(why_no_slices(header) for header in headers):
        raise ValueError(_not_placed(0, len(planes), series))
    if steps.max() > 1:
        raise ValueError(_left_out(stated, where))
    _require_same_gap(places, len(order), gap[0], where, "SliceLocation")
    warnings.warn(
        f"{where} state no position: they are stacked by InstanceNumber, one SpacingBetweenSlices apart; whether the "
        "first is the nearest or the farthest is not known",
        ReadWarning,
        stacklevel=4,
    )
    pixel = _common_pixel(planes, where, None)
    return Grid(order, (*gap, *pixel))


def _left_out(stated: Sequence[Any], where: str) -> str:
    first, last = min(map(int, stated)), max(map(int, stated))
    return (
        f"{where} state no position, and their numbers (InstanceNumber) go from {first} to {last} for {len(stated)} "
        "slices, expected none left out: a slice is missing; export it again"
    )


def _not_placed(placed: int, count: int, series: str) -> str:
    return (
        f"of the {count} slices in {series} {placed} state position and orientation, expected all, or none and their "
        "SpacingBetweenSlices: a clip's frames are times, not depths; if they are slices, number them (InstanceNumber) "
        f"and {REMEDY}"
    )


def _require_one_stack(headers: Sequence[Dataset], where: str) -> None:
    """Raise ValueError for two scans under one series: positions alone may interleave them."""
    frames_of_reference = {header.get("FrameOfReferenceUID") for header in headers} - {None}
    # some writers make one up for each slice
    if 1 < len(frames_of_reference) < len(headers):
        raise ValueError(
            f"{where} have {len(frames_of_reference)} frames of reference, expected one: these are several scans; "
            "export one of them"
        )
    counted = Counter(header.get("InstanceNumber") for header in headers)
    times = min(counted.values())
    if len(counted) > 1 and times > 1:
        raise ValueError(
            f"{where} bear each number (InstanceNumber) {times} times or more, expected once: these are several scans; "
            "export one of them"
        )


def _stack(planes: Sequence[Plane], where: str, given: Given) -> Grid:
    """The regular volume that planes make, sorted along their normal; ValueError where they make none.

    Args:
        planes: with position and orientation.
        where: what an error calls them.
        given: by the caller, who then answers for the size of pixels.
    """
    directions = np.array([plane.orientation for plane in planes]).reshape(-1, 2, 3)
    direction = _direction(directions[0], where)
    turned = np.linalg.norm(directions - directions[0], axis=2).max()
    degrees = np.rad2deg(2 * np.arcsin(min(1.0, turned / 2)))
    if degrees > STRAIGHT_DEGREES:
        raise ValueError(
            f"{where} are turned against one another by up to {degrees:.3g} degrees, expected parallel planes: "
            "a fan or a set of views is no volume; export a volume on a regular grid"
        )
    normal = direction[:, 2]
    positions = np.array([plane.position for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    gap = _step_mm(np.diff(positions[order], axis=0), normal, where)
    pixel = _common_pixel(planes, where, given)
    return Grid(order.tolist(), (gap, *pixel), tuple(positions[order[0]].tolist()), tuple(direction.ravel().tolist()))


def _direction(orientation: Floats, where: str) -> Floats:
    """ITK's matrix: columns are the directions of x, y and the normal; rounding is taken out."""
    along_row, along_column = orientation.reshape(2, 3)
    products = orientation.reshape(2, 3) @ orientation.reshape(2, 3).T
    if np.abs(products - np.eye(2)).max() > RIGHT_ANGLE:
        shown = ", ".join(f"{number:.4g}" for number in orientation.ravel())
        raise ValueError(
            f"{where} state an orientation of ({shown}), expected two unit vectors at right angles: export it again"
        )
    along_row = along_row / np.linalg.norm(along_row)
    along_column = along_column - (along_column @ along_row) * along_row
    along_column = along_column / np.linalg.norm(along_column)
    return np.stack([along_row, along_column, np.cross(along_row, along_column)], axis=1)


def _step_mm(steps: NDArray[Any], normal: Floats, where: str) -> float:
    """The one distance of planes along their normal."""
    lengths = np.linalg.norm(steps, axis=1)
    if lengths.max() < 1e-3:
        raise ValueError(
            f"{where} all lie at one position, expected a distance between them: a clip's frames are times, not depths"
        )
    if lengths.max() - lengths.min() > SAME_STEP * np.median(lengths) + 1e-3:
        raise ValueError(
            f"{where} are {lengths.min():.3g} to {lengths.max():.3g} mm apart, expected one distance: "
            "a slice is missing or doubled (several times or kinds of data lie at one place: export one of them)"
        )
    along = steps @ normal
    aside = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    degrees = np.rad2deg(np.arctan2(aside, along))
    # a thousandth of a millimetre is how positions are rounded
    if np.any((degrees > STRAIGHT_DEGREES) & (aside > 1e-3)):
        raise ValueError(
            f"{where} step aside by {aside.max():.3g} mm while they advance {np.median(along):.3g} mm "
            f"({degrees.max():.3g} degrees: a gantry tilt or a tilted sweep), expected along their normal: "
            "resample the series to a straight grid, with 3D Slicer for instance"
        )
    return float(along.mean())


def _common_pixel(planes: Sequence[Plane], where: str, given: Given) -> tuple[float, float]:
    if given is not None:
        return 1.0, 1.0  # replaced by what the caller gave
    sizes = [plane.pixel_mm for plane in planes if plane.pixel_mm]
    if len(sizes) < len(planes):
        raise ValueError(f"{where} state no pixel size (PixelSpacing): {REMEDY}")
    if not np.allclose(sizes, sizes[0], rtol=SAME_SIZE):
        low, high = np.min(sizes, axis=0), np.max(sizes, axis=0)
        raise ValueError(
            f"{where} have pixels of {low[0]:.4g} x {low[1]:.4g} to {high[0]:.4g} x {high[1]:.4g} mm, expected one "
            "size: export them at one zoom"
        )
    return sizes[0]
