"""Measures against numbers derived by hand and against MONAI, MedPy and surface-distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fhlib.measures.metrics import (
    MEASURES,
    conformity,
    dice,
    evaluate,
    image_diagonal_mm,
    missed_scores,
    surface,
)

SPACING = (1.5, 1.0, 0.5)


def ellipsoid(shape, spacing, centre_mm, radii_mm):
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((x * s - c) / r) ** 2 for x, s, c, r in zip(grid, spacing, centre_mm, radii_mm, strict=True)) <= 1


@pytest.fixture(scope="module")
def pair():
    """Two overlapping oblique bodies in an anisotropic, non-cubic volume."""
    shape = (40, 50, 90)
    first = ellipsoid(shape, SPACING, (29, 24, 22), (18, 15, 17)) | ellipsoid(shape, SPACING, (36, 30, 28), (12, 9, 10))
    second = ellipsoid(shape, SPACING, (30.5, 25, 21), (17, 17, 16))
    return first, second


def test_two_voxels_two_apart():
    first, second = np.zeros((2, 4, 5, 7), dtype=bool)
    first[1, 2, 2] = second[1, 2, 4] = True
    for axis, mm in ((2, 1.0), (1, 2.0), (0, 3.0)):
        second[:] = False
        place = [1, 2, 2]
        place[axis] += 2
        second[tuple(place)] = True
        scores = evaluate(first, second, SPACING)
        assert (scores.dsc, scores.jacc, scores.conf) == (0, 0, -math.inf)
        assert scores.hdb_mm == scores.hd95_mm == scores.adb_mm == scores.adb_filled_mm == pytest.approx(mm)
        assert scores.surface_dice_1mm == (1.0 if mm <= 1 else 0.0)
        assert scores.adb_eq7_voxels == pytest.approx(mm)
        assert scores.adb_eq7_mm3 == pytest.approx(mm / 0.75)
        assert scores.volume_ml == pytest.approx(0.00075)


def test_nested_boxes_by_hand():
    outer, inner = np.zeros((2, 9, 9), dtype=bool)
    outer[1:8, 2:7] = True  # 7 x 5 pixels, 20 on its surface
    inner[3:6, 4:5] = True  # 3 x 1 pixels, all on its surface
    scores = evaluate(inner, outer, (1.0, 2.0))
    assert scores.dsc == pytest.approx(2 * 3 / (35 + 3))
    assert scores.jacc == pytest.approx(3 / 35)
    assert scores.conf == pytest.approx((3 * 6 / 38 - 2) / (6 / 38))
    # inner to outer: rows 3 and 5 are 2 mm from the top and bottom, row 4 is 3 mm: sides are 2 pixels = 4 mm away
    # outer to inner: top and bottom rows (1, 7): sqrt(4 + (2 dc)^2), dc = 0, 1, 1, 2, 2; sides (rows 2 to 6, dc = 2):
    # 4 mm, or sqrt(17) in rows 2 and 6
    to_outer = [2, 3, 2]
    ends = [2, math.sqrt(8), math.sqrt(8), math.sqrt(20), math.sqrt(20)]
    sides = [math.sqrt(17), 4, 4, 4, math.sqrt(17)]
    to_inner = 2 * ends + 2 * sides
    assert scores.adb_mm == pytest.approx((sum(to_outer) + sum(to_inner)) / 23)
    assert scores.adb_directed_mm == pytest.approx((sum(to_outer) / 3 + sum(to_inner) / 20) / 2)
    assert scores.adb_filled_mm == pytest.approx(sum(to_inner) / 23)  # the inner box lies inside the outer one
    assert scores.adb_eq7_voxels == pytest.approx((sum(to_outer) / 3 + sum(to_inner) / 35) / 2)
    assert scores.adb_eq7_mm3 == pytest.approx(scores.adb_eq7_voxels / 2)
    assert scores.hdb_mm == pytest.approx(math.sqrt(20))
    assert scores.hd95_mm == pytest.approx(np.percentile(to_inner, 95))
    assert scores.surface_dice_1mm == 0
    assert (scores.area_mm2, scores.reference_area_mm2) == (6, 70)
    assert math.isnan(scores.volume_ml) and math.isnan(scores.volume_error_ml)
    assert scores.relative_volume_error == pytest.approx(-32 / 35)
    assert scores.absolute_relative_volume_error == pytest.approx(32 / 35)


def test_surface_dice_counts_a_distance_of_exactly_one_mm():
    first, second = np.zeros((2, 12, 12), dtype=bool)
    first[2:8, 2:8] = True
    second[3:9, 2:8] = True
    assert evaluate(first, second, (1.0, 1.0)).surface_dice_1mm == 1
    far = evaluate(first, second, (1.01, 1.0))
    # farther than 1 mm are the 6 points of the first box's top row and the middle 2 of its bottom row, whose nearest
    # point is 1.01 mm below; the other 12 lie on the second surface or 1 mm beside it; the second box mirrors this
    assert far.surface_dice_1mm == pytest.approx(12 / 20)


def test_concentric_spheres():
    spacing, shape = (1.0, 0.7, 0.8), (70, 90, 80)
    centre = (34, 31, 32)
    small, large = (ellipsoid(shape, spacing, centre, (r, r, r)) for r in (20, 25))
    scores = evaluate(small, large, spacing)
    assert scores.dsc == pytest.approx(2 * 20**3 / (20**3 + 25**3), abs=0.003)
    assert scores.adb_mm == pytest.approx(5, abs=0.2)  # stairs hold points that lie nearer
    assert scores.hd95_mm == pytest.approx(5, abs=0.5)
    assert scores.hdb_mm == pytest.approx(5, abs=0.7)
    assert scores.volume_ml == pytest.approx(4 / 3 * math.pi * 8, rel=0.005)
    assert scores.relative_volume_error == pytest.approx(0.8**3 - 1, abs=0.004)


def test_shifted_sphere_against_closed_forms():
    radius, shift, spacing = 24.0, 3.0, (0.75, 0.5, 0.6)
    shape, centre = (72, 110, 90), (26.25, 27.0, 26.4)
    first = ellipsoid(shape, spacing, centre, (radius,) * 3)
    second = np.roll(first, 4, axis=0)  # 4 x 0.75 mm
    scores = evaluate(first, second, spacing)
    lens = math.pi * (4 * radius + shift) * (2 * radius - shift) ** 2 / 12
    assert scores.dsc == pytest.approx(lens / (4 / 3 * math.pi * radius**3), abs=0.002)
    assert scores.hdb_mm == pytest.approx(shift, abs=1e-6)
    assert scores.adb_mm == pytest.approx(shift / 2, rel=0.06)  # mean of shift |cos theta| over the sphere
    assert scores.adb_filled_mm == pytest.approx(scores.adb_mm / 2, rel=0.1)  # half of each surface lies inside
    assert scores.volume_error_ml == 0


def test_concentric_ellipsoids_against_closed_forms():
    spacing, shape, radii, k = (0.9, 0.6, 0.5), (88, 112, 132), np.array([30.0, 26.0, 22.0]), 1.2
    middle = [(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
    inner, outer = (ellipsoid(shape, spacing, middle, scale * radii) for scale in (1.0, k))
    scores = evaluate(inner, outer, spacing)
    assert scores.dsc == pytest.approx(2 / (1 + k**3), rel=0.004)  # volumes are as 1 to k^3, one inside the other
    assert scores.relative_volume_error == pytest.approx(1 / k**3 - 1, abs=0.004)
    assert scores.volume_ml == pytest.approx(4 / 3 * math.pi * radii.prod() / 1000, rel=0.004)
    assert scores.hdb_mm == pytest.approx(0.2 * 30, abs=0.9)  # at the ends of the longest axis, to a voxel
    assert 0.2 * 22 - 0.6 < scores.adb_mm < 0.2 * 30


def test_same_mask_is_perfect(pair):
    scores = evaluate(pair[0], pair[0], SPACING)
    assert (scores.dsc, scores.conf, scores.jacc, scores.surface_dice_1mm) == (1, 1, 1, 1)
    assert scores.adb_mm == scores.hdb_mm == scores.hd95_mm == scores.adb_eq7_mm3 == 0


def test_whole_volume_border_counts_as_outside():
    whole, part = np.ones((6, 8, 10), dtype=bool), np.ones((6, 8, 10), dtype=bool)
    part[:, :, 5:] = False
    scores = evaluate(whole, part, SPACING)
    assert surface(whole).sum() == 6 * 8 * 10 - 4 * 6 * 8
    assert scores.hdb_mm == pytest.approx(5 * 0.5)  # from column 9 to column 4, the surface of `part`
    assert scores.dsc == pytest.approx(2 / 3)


def test_empty_masks():
    empty, one = np.zeros((2, 3, 4, 12), dtype=bool)
    one[1, 1, 1] = True
    diagonal = math.sqrt(4.5**2 + 4**2 + 6**2)
    assert image_diagonal_mm(empty.shape, SPACING) == pytest.approx(diagonal)

    both = evaluate(empty, empty, SPACING)
    assert (both.dsc, both.conf, both.jacc, both.surface_dice_1mm, both.hdb_penalised_mm) == (1, 1, 1, 1, 0)
    assert math.isnan(both.adb_mm) and math.isnan(both.hdb_mm) and math.isnan(both.relative_volume_error)
    assert both.volume_error_ml == 0

    missing = evaluate(empty, one, SPACING)
    assert (missing.dsc, missing.conf, missing.jacc, missing.surface_dice_1mm) == (0, -math.inf, 0, 0)
    assert missing.relative_volume_error == -1
    invented = evaluate(one, empty, SPACING)
    assert invented.dsc == 0 and math.isnan(invented.relative_volume_error)
    for scores in (missing, invented):
        assert scores.hdb_penalised_mm == pytest.approx(diagonal)
        assert all(
            math.isnan(getattr(scores, name))
            for name in MEASURES
            if name.startswith("adb") or name in ("hdb_mm", "hd95_mm")
        )


def test_missed_case_keeps_its_row():
    reference = np.zeros((3, 4, 12), dtype=bool)
    reference[1] = True
    row = missed_scores(reference, SPACING).asdict()
    assert tuple(row) == MEASURES
    assert row["dsc"] == row["jacc"] == row["volume_ml"] == 0
    assert math.isnan(row["conf"]) and math.isnan(row["hdb_mm"])
    assert row["hdb_penalised_mm"] == pytest.approx(math.sqrt(4.5**2 + 4**2 + 6**2))
    assert row["volume_error_ml"] == pytest.approx(-48 * 0.75 / 1000)
    assert missed_scores(np.zeros_like(reference), SPACING).dsc == 1


def test_wrong_input_is_refused():
    mask = np.ones((3, 4, 5), dtype=bool)
    with pytest.raises(ValueError, match="differ in shape"):
        evaluate(mask, mask[:2], SPACING)
    with pytest.raises(ValueError, match="3 positive numbers"):
        evaluate(mask, mask, (1.0, 1.0))
    with pytest.raises(ValueError, match="positive"):
        evaluate(mask, mask, (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="threshold it first"):
        evaluate(mask * 0.5, mask, SPACING)
    with pytest.raises(ValueError, match=r"\(d, h, w\) or \(h, w\)"):
        evaluate(mask[0, 0], mask[0, 0], (1.0,))
    with pytest.raises(TypeError):
        evaluate(mask, mask)
    assert evaluate(mask.astype(np.uint8), mask.astype(float), SPACING).dsc == 1


@settings(max_examples=40, deadline=None)
@given(arrays(bool, (2, 4, 5, 6)), st.sampled_from([(1.0, 1.0, 1.0), SPACING]))
def test_symmetry_and_bounds(masks, spacing):
    one, other = evaluate(masks[0], masks[1], spacing), evaluate(masks[1], masks[0], spacing)
    for name in ("dsc", "jacc", "adb_mm", "hdb_mm", "hd95_mm", "surface_dice_1mm", "adb_filled_mm", "adb_eq7_mm3"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True)
    assert 0 <= one.jacc <= one.dsc <= 1
    if masks[0].any() and masks[1].any():
        assert one.adb_filled_mm - 1e-12 <= one.adb_mm <= one.hdb_mm + 1e-12
        assert one.hd95_mm <= one.hdb_mm + 1e-12
        assert one.hdb_mm <= image_diagonal_mm((4, 5, 6), spacing)
        brute = np.linalg.norm(
            (np.argwhere(surface(masks[0]))[:, None] - np.argwhere(surface(masks[1]))) * spacing, axis=-1
        )
        assert one.adb_mm == pytest.approx(np.concatenate([brute.min(0), brute.min(1)]).mean())


def test_against_monai(pair):
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    scores = evaluate(*pair, SPACING)
    first, second = (torch.from_numpy(mask)[None, None] for mask in pair)
    options = {"include_background": True, "spacing": SPACING}
    assert scores.hdb_mm == pytest.approx(float(compute_hausdorff_distance(first, second, **options)), rel=1e-5)
    assert scores.hd95_mm == pytest.approx(
        float(compute_hausdorff_distance(first, second, percentile=95, **options)), rel=1e-5
    )
    assert scores.adb_mm == pytest.approx(
        float(compute_average_surface_distance(first, second, symmetric=True, **options)), rel=1e-5
    )
    surface_dice = compute_surface_dice(first, second, class_thresholds=[1.0], **options)
    assert scores.surface_dice_1mm == pytest.approx(float(surface_dice), abs=1e-5)


def test_against_medpy(pair):
    from medpy.metric import binary

    scores = evaluate(*pair, SPACING)
    assert scores.dsc == pytest.approx(binary.dc(*pair))
    assert scores.jacc == pytest.approx(binary.jc(*pair))
    assert scores.hdb_mm == pytest.approx(binary.hd(*pair, SPACING))
    assert scores.adb_mm == pytest.approx(binary.assd(*pair, SPACING))
    directed = binary.asd(*pair, SPACING), binary.asd(pair[1], pair[0], SPACING)
    assert scores.adb_directed_mm == pytest.approx(sum(directed) / 2)
    # MedPy pools both directions before it takes the percentile, so its value lies at or below the larger directed one
    assert binary.hd95(*pair, SPACING) <= scores.hd95_mm + 1e-9


def test_against_surface_distance(pair):
    import surface_distance

    scores = evaluate(*pair, SPACING)
    found = surface_distance.compute_surface_distances(pair[1], pair[0], SPACING)
    # its surface points are the corners between voxels, each weighted by its area: they lie denser on stairs, so
    # distances come out shorter, by about 0.3 voxel (1 mm here) on average and at most a voxel's diagonal at the
    # worst point
    worst = surface_distance.compute_robust_hausdorff(found, 100)
    assert scores.hdb_mm == pytest.approx(worst, abs=np.linalg.norm(SPACING))
    directed = surface_distance.compute_average_surface_distance(found)
    assert 0 < scores.adb_directed_mm - sum(directed) / 2 < 0.35
    within = surface_distance.compute_surface_dice_at_tolerance(found, 1.0)
    assert -0.25 < scores.surface_dice_1mm - within < 0


@pytest.mark.parametrize(
    "spacing", [(1e200,) * 3, (1e-200,) * 3, (math.inf, 1, 1), "1,1,1", None, 1.0, ("a", "b", "c")]
)
def test_impossible_spacings_are_refused(spacing):
    mask = np.ones((3, 4, 5), dtype=bool)
    with pytest.raises(ValueError, match="spacing_mm"):
        evaluate(mask, mask, spacing)
    with pytest.raises(ValueError, match="spacing_mm"):
        image_diagonal_mm((3, 4, 5), spacing)


@pytest.mark.parametrize("measure", [dice, lambda first, second: evaluate(first, second, SPACING)])
def test_masks_that_are_none_are_refused_by_every_measure(measure):
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[1, 1:3, 1:4] = True
    for other in (mask * np.uint8(255), mask * 0.7, np.where(mask, math.nan, 0.0), mask.astype(str)):
        with pytest.raises(ValueError, match="threshold it first"):
            measure(other, mask)
    with pytest.raises(ValueError, match="differ in shape"):
        measure(mask, mask[:2])
    with pytest.raises(ValueError, match="masked voxels: fill them first"):
        measure(np.ma.array(mask, mask=mask), mask)


def test_dice_and_surface_take_bytes_as_booleans():
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[0:3, 1:4, 1:4] = True
    half = mask.copy()
    half[2] = False
    assert dice(mask.astype(np.uint8), half) == pytest.approx(2 * 18 / (27 + 18))
    np.testing.assert_array_equal(surface(mask.astype(np.uint8)), surface(mask))
    assert surface(mask.astype(np.uint8)).sum() == 26  # all but the middle voxel
    with pytest.raises(ValueError, match="differ in shape"):
        dice(mask, mask[1])
    with pytest.raises(ValueError, match="threshold it first"):
        surface(mask * np.uint8(255))


def test_one_voxel_and_one_slice_have_distances():
    voxel, slab = np.zeros((2, 4, 5, 7), dtype=bool)
    voxel[1, 2, 2] = slab[3] = True
    # the slab is 2 x 1.5 mm away; its farthest corner from the voxel is (2, 2, 4) voxels: (3, 2, 2) mm
    scores = evaluate(voxel, slab, SPACING)
    assert scores.hdb_mm == pytest.approx(math.sqrt(9 + 4 + 4))
    assert scores.adb_directed_mm == pytest.approx(
        (3 + np.mean(np.linalg.norm([(3, i - 2, (j - 2) / 2) for i in range(5) for j in range(7)], axis=1))) / 2
    )


def test_conformity_is_of_a_fraction():
    assert math.isnan(conformity(math.nan)) and conformity(0) == -math.inf and conformity(1) == 1
    for wrong in (1.2, -0.1):
        with pytest.raises(ValueError, match="expected a fraction"):
            conformity(wrong)
