"""Does a mask outline one solid head? What is wrong with its form, and in which slices.

Limits were set between simulated labels (12 to 40 weeks, voxels of 1 to 5 mm), of which none is reported, and the same labels
damaged; see `tests/cohorts/test_outlines.py`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fhlib.images.volume import Array, Mask, Volume

Problem = tuple[str, str, str]  # check, severity, message
Problems = Generator[Problem, None, None]

AXES = "zyx"
SHOWN_RUNS = 6

HARMFUL = 0.02
"""Share of the head from which voxels too many or too few are an error: it costs a point of the DSC."""
HOLLOWS = 0.005
"""Share of hollows that are open on one side: simulated heads reach 0.0001."""
STRAIGHT = 0.6
"""Largest share of an end slice in the largest slice: simulated heads of 10 slices reach 0.47, of 20 slices 0.29."""
JAGGED = 0.12
"""Largest share of changes that the next slice takes back: simulated heads have 0.016; jumps of a voxel give 0.17."""
THIN = 0.35
"""Least extent over the largest one: simulated heads have 0.6."""


class Head(NamedTuple):
    """A mask without the empty space around it."""

    mask: Mask
    first: tuple[int, ...]  # index of its first voxel in the image
    shape: tuple[int, ...]  # of the image
    spacing_mm: tuple[float, ...]
    column: str  # of the manifest

    def slices(self, axis: int, numbers: Array) -> str:
        """Slices as text, numbered as in the image."""
        return _slices(numbers + self.first[axis], axis, len(self.shape))

    def place(self, voxels: Mask) -> str:
        """The slices in which some voxels lie."""
        return self.slices(0, np.flatnonzero(_along(voxels, 0)))


def check_outline(label: Volume, column: str) -> Problems:
    """What is wrong with the form of a mask that is not empty.

    - Inverted or full: it holds all corners of the image.
    - Slices: missing between labelled ones, too few to span a head, or jumping from one to the next.
    - Parts and holes, also those of a shell that is open somewhere; one that is cut straight.
    - At the border of the image.

    Args:
        label: bool.
        column: of the manifest, for the messages.
    """
    corners = label.array[np.ix_(*((0, -1) for _ in label.shape))]
    if corners.all():
        message = f"{column} holds {label.array.mean():.0%} of the image, with all its corners"
        yield "inverted label", "error", f"{message}: is it inverted, or filled? Save 1 for the head and 0 around it"
        return
    sides = [np.flatnonzero(_along(label.array, axis)) for axis in range(label.ndim)]
    box = tuple(slice(side[0], side[-1] + 1) for side in sides)
    head = Head(label.array[box], tuple(side.start for side in box), label.shape, label.spacing_mm, column)

    yield from _check_border(head)
    missing = list(_check_missing(head))
    yield from missing
    # what else a head with gaps looks like follows from them
    if not missing:
        head = yield from _check_parts(head)
        yield from _check_holes(head)
        yield from _check_ends(head)
        yield from _check_jumps(head)


def check_nesting(head: Volume, skull: Volume) -> Problems:
    """What is wrong with a head (skin) and a skull of one scan; both bool, in one geometry, and not empty."""
    beyond = skull.array & ~head.array
    outside, larger = np.count_nonzero(beyond), np.count_nonzero(skull.array) - np.count_nonzero(head.array)
    if not outside and not larger:
        remedy = "where they outline the skull, name one file in both columns; where the skin, leave label_skull empty"
        yield "skull is head", "error", f"label and label_skull hold the same voxels: {remedy}"
    elif larger > 0 and outside - larger < HARMFUL * np.count_nonzero(head.array):
        message = "label lies within label_skull: head (skin) and skull are exchanged; exchange the files' names"
        yield "head and skull exchanged", "error", message
    elif (share := outside / np.count_nonzero(skull.array)) > HARMFUL / 2:
        where = _slices(np.flatnonzero(_along(beyond, 0)), 0, beyond.ndim)
        message = f"{share:.1%} of label_skull lies outside of label, in {where}: correct the one that is wrong"
        yield "skull outside head", "error" if share > 5 * HARMFUL else "warning", message


def _check_border(head: Head) -> Problems:
    sides = []
    for axis, size in enumerate(head.mask.shape):
        first, last = head.first[axis], head.first[axis] + size - 1
        ends = [end for end, touched in ((0, first == 0), (last, last == head.shape[axis] - 1)) if touched]
        if ends and head.shape[axis] > 1:
            sides.append(_slices(np.array(ends), axis, len(head.shape)))
    if sides:
        message = f"{head.column} touches the edge of the field of view in {'; '.join(sides)}: the head may be cut off"
        yield "head at the border", "warning", message


def _check_missing(head: Head) -> Problems:
    """Empty slices between labelled ones that are alike, and a few slices instead of a head."""
    extents = np.array(head.mask.shape) * head.spacing_mm
    for axis, count in enumerate(head.mask.shape):
        if head.mask.ndim == 3 and extents[axis] < THIN * extents.max() and count < head.shape[axis]:
            message = f"{head.column} is in {head.slices(axis, np.arange(count))} alone, {extents[axis]:.3g} mm"
            yield (
                "missing slices",
                "error",
                f"{message} of a head that is {extents.max():.3g} mm long: label all its slices",
            )
        empty = np.flatnonzero(~_along(head.mask, axis))
        if len(empty) and _interrupted(np.moveaxis(head.mask, axis, 0), empty):
            message = f"{head.column} has no voxel in {len(empty)} slices between labelled ones"
            where = head.slices(axis, empty)
            yield "missing slices", "error", f"{message}, {where}: label them (in 3D Slicer: Fill between slices)"


def _interrupted(mask: Mask, empty: Array) -> bool:
    """Whether slices on both sides of some gap are alike, so that they are of one structure."""
    for gap in np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1):
        before, after = mask[gap[0] - 1], mask[gap[-1] + 1]
        if 2 * np.count_nonzero(before & after) > 0.5 * (np.count_nonzero(before) + np.count_nonzero(after)):
            return True
    return False


def _check_parts(head: Head) -> Generator[Problem, None, Head]:
    """Voxels that have no connection to the largest part, not even by a corner; returns the largest part."""
    labels, count = ndimage.label(head.mask, np.ones((3,) * head.mask.ndim))
    if count == 1:
        return head
    sizes = ndimage.sum_labels(head.mask, labels, np.arange(1, count + 1))
    main = labels == sizes.argmax() + 1
    stray = head.mask & ~main
    severity, amount = _amount(stray, head.mask)
    message = f"{head.column} is in {count} parts: {amount} lie beside the largest one, in {head.place(stray)}"
    yield "several parts", severity, f"{message}; erase them (in 3D Slicer: Islands, keep largest)"
    return head._replace(mask=main)


def _check_holes(head: Head) -> Problems:
    """Cavities; and hollows that are open somewhere, where they are large."""
    holes = _surrounded(head.mask)
    if np.count_nonzero(holes) <= HOLLOWS * np.count_nonzero(head.mask):
        holes = _cavities(head.mask, holes)
    if holes.any():
        severity, amount = _amount(holes, head.mask | holes)
        message = f"{head.column} has holes, {amount}, in {head.place(holes)}"
        yield "holes", severity, f"{message}: fill them (in 3D Slicer: Smoothing, fill holes)"


def _amount(voxels: Mask, of: Mask) -> tuple[str, str]:
    """Severity of voxels that are wrong, and how many they are."""
    count = np.count_nonzero(voxels)
    share = count / np.count_nonzero(of)
    return "error" if share > HARMFUL else "warning", f"{count} voxels ({share:.2%})"


def _surrounded(mask: Mask) -> Mask:
    """Voxels outside of a mask that lie between two of its voxels along every axis."""
    inside = ~mask
    for axis in range(mask.ndim):
        lines = np.moveaxis(mask, axis, 0)
        first, last = lines.argmax(0), len(lines) - 1 - lines[::-1].argmax(0)
        last[~lines.any(0)] = 0  # nothing lies between in a line without voxels
        at = np.arange(len(lines)).reshape(-1, *(1,) * (mask.ndim - 1))
        np.moveaxis(inside, axis, 0)[...] &= (at > first) & (at < last)
    return inside


def _cavities(mask: Mask, surrounded: Mask) -> Mask:
    """Of surrounded voxels those that have no way out."""
    if not surrounded.any():
        return surrounded
    labels, count = ndimage.label(surrounded)
    way_out = ndimage.binary_dilation(~mask & ~surrounded)
    leaking = np.zeros(count + 1, bool)
    leaking[np.unique(labels[way_out])] = True
    leaking[0] = True
    closed: Mask = ~leaking[labels]
    return closed


def _check_ends(head: Head) -> Problems:
    """A first or last slice nearly as large as the largest, within the image."""
    if head.mask.ndim < 3:
        return
    for axis in range(3):
        areas = head.mask.sum(tuple({0, 1, 2} - {axis}))
        for end, at in ((0, head.first[axis]), (len(areas) - 1, head.first[axis] + len(areas) - 1)):
            share = areas[end] / areas.max()
            if len(areas) >= 10 and share > STRAIGHT and 0 < at < head.shape[axis] - 1:
                message = f"{head.column} ends straight, in {head.slices(axis, np.array([end]))}"
                rest = f"has {share:.0%} of the largest slice's area: is a part of the head not labelled?"
                yield "cut straight", "warning", f"{message}, which {rest}"


def _check_jumps(head: Head) -> Problems:
    """Slices drawn one by one that do not fit their neighbours: what changes in one changes back in the next."""
    if head.mask.ndim < 3 or min(head.mask.shape) < 12:
        return
    for axis in range(3):
        mask = np.moveaxis(head.mask, axis, 0)
        changed = mask[1:] != mask[:-1]
        back = (changed[1:] & changed[:-1]).reshape(len(mask) - 2, -1).sum(1)
        areas = mask.reshape(len(mask), -1).sum(1)
        size = np.maximum(np.maximum(areas[:-2], areas[2:]), areas.max() / 10)
        alone = np.flatnonzero(back > 0.3 * size) + 1
        share = back.sum() / max(1, np.count_nonzero(changed))
        if len(alone):
            message = f"{head.column} is unlike both neighbours in {head.slices(axis, alone)}: correct them"
            yield "uneven slices", "warning", message
        elif share > JAGGED:
            worst = np.sort(np.argsort(back / size)[-SHOWN_RUNS:]) + 1
            message = f"{head.column} jumps from slice to slice, most in {head.slices(axis, worst)}"
            yield "uneven slices", "warning", f"{message}: smooth it (in 3D Slicer: Smoothing, median)"


def _along(mask: Mask, axis: int) -> Mask:
    """Which slices across an axis hold any voxel."""
    return np.asarray(mask.any(tuple(number for number in range(mask.ndim) if number != axis)))


def _slices(numbers: Array, axis: int, ndim: int) -> str:
    """Slices as text: `slices 3-5, 9 along z (counted from 0)`; the first runs of many."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:SHOWN_RUNS]]
    if len(runs) > SHOWN_RUNS:
        texts.append(f"... {numbers[-1]}")
    word = "slice" if ndim == 3 else "line"
    return f"{word}{'s' * (len(numbers) > 1)} {', '.join(texts)} along {AXES[axis - ndim]} (counted from 0)"
