"""Findings about the form of a label: which slices, and none where a head is sound."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.outlines import check_nesting, check_outline
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume
from fhlib.phantom.scan import SCAN_DIRECTIONS, simulate_scan
from tests.cohorts.made import OBLIQUE

SHAPE, CENTRE, RADII = (50, 60, 70), (24, 30, 36), (14.5, 18.5, 16.5)
FIRST, LAST = 10, 38  # slices of the head along z; 4/3 pi 14.5 x 18.5 x 16.5 = 18,540 voxels


def head(scale=1.0):
    """An ellipsoid of 29 x 37 x 33 voxels of 2 x 1.5 x 1.8 mm in an oblique grid."""
    places = np.indices(SHAPE) - np.reshape(CENTRE, (3, 1, 1, 1))
    mask = ((places / np.reshape(np.multiply(scale, RADII), (3, 1, 1, 1))) ** 2).sum(0) < 1
    return Volume(mask, (2, 1.5, 1.8), (5, -6, 7), OBLIQUE)


def found(array):
    """(check, severity, message) of a changed head."""
    return list(check_outline(head().with_array(np.asarray(array, bool)), "label"))


def changed(change):
    mask = head().array.copy()
    change(mask, np.indices(SHAPE))
    return found(mask)


def without(mask, where):
    mask[where] = False


def only(mask, where):
    mask &= where


def also(mask, where):
    mask[where] = True


def shell(mask, thickness=2):
    return mask & ~ndimage.binary_erosion(mask, iterations=thickness)


DAMAGED = {
    "every 5th slice": (
        lambda mask, at: only(mask, at[0] % 5 == 0),
        "missing slices",
        "error",
        "no voxel in 20 slices between labelled ones, slices 11-14, 16-19, 21-24, 26-29, 31-34 along z",
    ),
    "every 2nd slice along x": (
        lambda mask, at: only(mask, at[2] % 2 == 0),
        "missing slices",
        "error",
        "no voxel in 16 slices between labelled ones, slices 21, 23, 25, 27, 29, 31, ... 51 along x",
    ),
    "two slices in the middle": (
        lambda mask, at: without(mask, (at[1] == 30) | (at[1] == 31)),
        "missing slices",
        "error",
        "no voxel in 2 slices between labelled ones, slices 30-31 along y",
    ),
    "one slice alone": (
        lambda mask, at: only(mask, at[0] == 24),
        "missing slices",
        "error",
        "is in slice 24 along z (counted from 0) alone, 2 mm of a head that is 59.4 mm long",
    ),
    "half of the slices": (
        lambda mask, at: only(mask, at[0] <= 24),
        "cut straight",
        "warning",
        "ends straight, in slice 24 along z (counted from 0), which has 100% of the largest slice's area",
    ),
    "half of one slice": (
        lambda mask, at: without(mask, (at[0] == 20) & (at[2] < 36)),
        "uneven slices",
        "warning",
        "is unlike both neighbours in slice 20 along z",
    ),
    "one slice flooded": (
        lambda mask, at: also(mask, (at[1] == 28) & (abs(at[0] - 24) < 20) & (abs(at[2] - 36) < 25)),
        "uneven slices",
        "warning",
        "is unlike both neighbours in slice 28 along y",
    ),
    "a stray blob of 27 voxels": (
        lambda mask, at: also(mask, np.all((at >= 2) & (at < 5), 0)),
        "several parts",
        "warning",
        "is in 2 parts: 27 voxels (0.14%) lie beside the largest one, in slices 2-4 along z",
    ),
    "a second head": (
        lambda mask, at: also(mask, np.all((at >= 40) & (at < 48), 0)),
        "several parts",
        "error",
        "is in 2 parts: 512 voxels (2.68%",
    ),
    "a hole of one voxel": (
        lambda mask, at: without(mask, (24, 30, 36)),
        "holes",
        "warning",
        "has holes, 1 voxels (0.01%), in slice 24 along z",
    ),
    "a hole of 1000 voxels": (
        lambda mask, at: without(mask, np.all(abs(at - np.reshape((24, 30, 36), (3, 1, 1, 1)) + 0.5) < 5, 0)),
        "holes",
        "error",
        "has holes, 1000 voxels (5.38%",
    ),
    "a shell": (lambda mask, at: only(mask, shell(mask)), "holes", "error", "in slices 12-36 along z"),
    "an open ring of bone": (
        lambda mask, at: only(mask, shell(mask) & ~((at[2] > 40) & (abs(at[1] - 30) < 6))),
        "holes",
        "error",
        "in slices 12-36 along z",
    ),
    "inverted": (lambda mask, at: np.logical_not(mask, out=mask), "inverted label", "error", "with all its corners"),
    "filled": (lambda mask, at: mask.fill(True), "inverted label", "error", "holds 100% of the image"),
}


@pytest.mark.parametrize(("change", "check", "severity", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_label_has_one_finding_with_its_slices(change, check, severity, message):
    ((name, harm, text),) = changed(change)
    assert (name, harm) == (check, severity)
    assert message in text and text.startswith("label ")


def test_a_sound_head_has_none():
    assert head().array.any((1, 2)).nonzero()[0][[0, -1]].tolist() == [FIRST, LAST]
    assert found(head().array) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_counted_along_the_axis_that_is_named(axis):
    mask = head().array.copy()
    np.moveaxis(mask, axis, 0)[CENTRE[axis]] = False
    ((_, _, text),) = found(mask)
    assert f"slice {CENTRE[axis]} along {'zyx'[axis]} (counted from 0)" in text


def test_a_head_at_the_border_names_the_sides():
    mask = np.roll(head().array, (-12, 14), (0, 1))  # along z from -2, along y to 62
    mask[40:], mask[:, :20] = False, False
    ((check, severity, text),) = [finding for finding in found(mask) if finding[0] == "head at the border"]
    assert severity == "warning" and check == "head at the border"
    assert "in slice 0 along z (counted from 0); slice 59 along y (counted from 0)" in text


def test_a_label_drawn_slice_by_slice_with_jumps():
    random = np.random.default_rng(0)
    mask = np.stack([np.roll(plane, random.integers(-2, 3, 2), (0, 1)) for plane in head().array])
    (finding,) = [finding for finding in found(mask) if "jumps" in finding[2]]
    assert finding[:2] == ("uneven slices", "warning") and "along z" in finding[2]


def test_head_and_skull_of_one_scan():
    skin, skull = head(), head(0.85)
    assert list(check_nesting(skin, skull)) == []
    assert [finding[:2] for finding in check_nesting(skull, skin)] == [("head and skull exchanged", "error")]
    assert [finding[:2] for finding in check_nesting(skin, head())] == [("skull is head", "error")]
    # the smaller one reaches to slice 36; 8 on, to slice 44
    ((check, severity, text),) = check_nesting(skin, skull.with_array(np.roll(skull.array, 8, 0)))
    assert (check, severity) == ("skull outside head", "error") and "44 along z (counted from 0)" in text
    poking = skull.array.copy()
    poking[24, 30, 50:66] = True  # from 53 on outside the head: 13 voxels of 11,390
    assert list(check_nesting(skin, skull.with_array(poking))) == []
    poking[24, 25:37, 53:66] = True
    assert [finding[1] for finding in check_nesting(skin, skull.with_array(poking))] == ["warning"]


@pytest.mark.parametrize(
    ("ga_weeks", "spacing_mm", "direction"),
    [(12, 2.0, 0), (12, 5.0, 1), (14, 3.5, 2), (17, 5.0, 0), (24, 4.0, 1), (32, 5.0, 2), (40, 4.0, 1)],
)
def test_simulated_labels_have_none(ga_weeks, spacing_mm, direction):
    scan = simulate_scan(900 + direction, ga_weeks, SCAN_DIRECTIONS[direction], spacing_mm=spacing_mm)
    skin, skull = (label.with_array(label.array > 0) for label in (scan.label, scan.label_skull))
    assert [*check_outline(skin, "label"), *check_outline(skull, "label_skull"), *check_nesting(skin, skull)] == []


def test_a_volume_of_one_slice_has_no_others_to_label():
    plane = head().array[24:25]
    assert [name for name, _, _ in check_outline(Volume(plane, (2, 1.5, 1.8)), "label")] == []


def test_a_picture_has_lines_instead_of_slices():
    plane = head().array[24]
    flat = Volume(plane, (1.5, 1.8))
    assert list(check_outline(flat, "label")) == []
    hollow = plane.copy()
    hollow[30, 36] = False
    assert [finding[0] for finding in check_outline(flat.with_array(hollow), "label")] == ["holes"]
    ((check, _, text),) = check_outline(flat.with_array(plane & (np.indices(plane.shape)[0] % 2 == 0)), "label")
    assert check == "missing slices" and "lines 13, 15, 17" in text


def test_a_cohort_lists_them_beside_its_other_findings(tmp_path):
    skin, skull = head(), head(0.85)
    image = skin.with_array(np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    for name, volume in {"i": image, "l": skull, "k": skin}.items():
        write_volume(volume, tmp_path / f"{name}.nrrd")
    (tmp_path / "cohort.csv").write_text("case,subject,image,label,label_skull\na,a,i.nrrd,l.nrrd,k.nrrd\n")
    findings = check_cohort(tmp_path, show_progress=False)
    assert findings[["case", "check", "severity"]].values.tolist() == [["a", "head and skull exchanged", "error"]]
