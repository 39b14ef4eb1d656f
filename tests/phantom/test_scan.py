"""Simulated scans: labels, geometry, reproducible bytes, and a problem that thresholds cannot solve."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from fhlib.measures.metrics import evaluate
from fhlib.phantom import probe as machines
from fhlib.phantom import scan as scan_module
from fhlib.phantom.anatomy import Head, draw_subject
from fhlib.phantom.scan import SCAN_DIRECTIONS, set_up, simulate, simulate_scan, tissue_map
from fhlib.phantom.tissues import ID

PAPER_LIKE_MEAN, PAPER_LIKE_VOXELS = 27.241, (2856, 2115)
CUT_OFF = 503, 14


@pytest.fixture(scope="module")
def scans():
    return [simulate_scan(seed, spacing_mm=2.5) for seed in range(10)]


def feret(mask, spacing_mm, direction):
    """Extent of a mask's voxel centres along a unit vector (array order); oblique to the grid some centre is always near the edge."""
    return np.ptp(np.argwhere(mask) @ np.asarray(direction)) * spacing_mm


@pytest.mark.parametrize("direction", SCAN_DIRECTIONS)
def test_labels_measure_what_was_drawn(direction):
    from fhlib.phantom import scan

    seed, spacing = 6, 0.95
    made = simulate_scan(seed, scan_direction=direction, spacing_mm=spacing)
    rng = np.random.default_rng([seed, 201, SCAN_DIRECTIONS.index(direction)])
    subject = draw_subject(seed)
    pose, _, _ = scan._place(Head(subject), SCAN_DIRECTIONS.index(direction), machines.SITES["paper-like"], rng)
    across, along = (pose.rotation[axis][::-1] for axis in (0, 1))  # the head's x and y in array order (z, y, x)
    skull = made.label_skull.array.astype(bool)
    assert feret(skull, spacing, across) == pytest.approx(subject.bpd_mm, rel=0.015)
    assert feret(skull, spacing, along) == pytest.approx(subject.ofd_mm, rel=0.015)
    assert skull.sum() * spacing**3 / 1000 == pytest.approx(subject.skull_volume_ml, rel=0.005)
    assert made.label.array.sum() * spacing**3 / 1000 == pytest.approx(subject.head_volume_ml, rel=0.005)
    assert made.subject == subject and made.scan_direction == direction


@pytest.mark.slow
@pytest.mark.parametrize("direction", SCAN_DIRECTIONS)
def test_labels_at_full_resolution_keep_the_integrated_volume(direction):
    from fhlib.phantom import scan

    setting = set_up(21, scan_direction=direction, spacing_mm=0.38)
    head_ml, skull_ml = setting.head.volumes_ml(spacing_mm=0.4)
    for label, millilitres in zip(scan._labels(setting, 2), (head_ml, skull_ml), strict=True):
        assert label.sum() * 0.38**3 / 1000 == pytest.approx(millilitres, rel=0.005)


def test_scan_geometry_is_oblique_valid_and_shared(scans):
    for made in scans:
        assert made.image.same_geometry(made.label) and made.image.same_geometry(made.label_skull)
        matrix = np.array(made.image.direction).reshape(3, 3)
        assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6) and not np.allclose(matrix, np.eye(3), atol=0.05)
        assert np.linalg.det(matrix) == pytest.approx(1)
        if made.box_grown == 1:
            assert made.image.shape == (67, 39, 59)  # 167.2, 98.04, 147.44 mm at 2.5 mm
        assert made.image.array.dtype == np.uint8 and made.image.spacing_mm == (2.5, 2.5, 2.5)


def test_head_lies_in_the_field_of_view(scans):
    for made in scans:
        label = made.label.array.astype(bool)
        assert not any(np.take(label, edge, axis).any() for axis in range(3) for edge in (0, -1))
        assert (made.image.array[label] > 0).mean() > 0.98
        assert made.label_skull.array[~label].sum() < 0.01 * label.sum()


def test_the_best_threshold_is_not_enough(scans):
    """Smoothing, threshold, hole filling, largest component, with the threshold chosen by the truth for each scan."""
    best = []
    for made in scans:
        label, grey = made.label.array.astype(bool), ndimage.gaussian_filter(made.image.array.astype(np.float32), 0.7)
        scores = [0.0]
        for threshold in range(10, 200, 12):
            for mask in (grey > threshold, (grey < threshold) & (made.image.array > 0)):
                components, count = ndimage.label(mask)
                if count:
                    largest = components == 1 + np.argmax(np.bincount(components.ravel())[1:])
                    scores.append(evaluate_dice(ndimage.binary_fill_holes(largest), label))
        best.append(max(scores))
    assert np.mean(best) < 0.75


def evaluate_dice(prediction, reference):
    return 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum())


def test_bytes_depend_on_the_seed_only():
    first, threaded = (simulate_scan(2, spacing_mm=3.0, threads=threads) for threads in (1, 2))
    other = simulate_scan(3, spacing_mm=3.0)
    assert first.image.array.tobytes() == threaded.image.array.tobytes()
    assert first.image.origin == threaded.image.origin
    assert first.image.array.tobytes() != other.image.array.tobytes()


def test_same_head_from_three_sides():
    made = [simulate_scan(7, scan_direction=direction, spacing_mm=2.5) for direction in SCAN_DIRECTIONS]
    volumes = [scan.label.array.sum() * 2.5**3 / 1000 for scan in made]
    assert len({scan.subject for scan in made}) == 1
    assert np.ptp(volumes) < 0.01 * np.mean(volumes)
    prediction = made[0].label.array.astype(bool)
    assert evaluate(prediction, prediction, (2.5, 2.5, 2.5)).volume_ml == pytest.approx(volumes[0])


@pytest.mark.parametrize("site", sorted(machines.SITES))
def test_every_site_shows_the_skull_brighter_than_the_brain(site):
    made = simulate_scan(9, scan_direction="from the side", site=site, spacing_mm=2.5)
    skull = made.label_skull.array.astype(bool)
    inner = ndimage.binary_erosion(skull, iterations=3)
    rim = skull & ~ndimage.binary_erosion(skull, iterations=1)
    grey = made.image.array
    assert np.percentile(grey[rim], 90) > grey[inner].mean() + 60


def test_large_heads_make_the_box_grow():
    made = simulate_scan(0, ga_weeks=38, scan_direction="from the side", spacing_mm=3.0)
    assert made.box_grown > 1 and made.image.shape[1] > 33
    assert made.label.array.sum() * 27 / 1000 == pytest.approx(made.subject.head_volume_ml, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scan_direction": "from below"}, "from the front"),
        ({"site": "nowhere"}, "paper-like"),
        ({"spacing_mm": 0.0}, "0.1-5"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_scan(0, **arguments)


def test_any_machine_shows_heads_of_many_sizes_whole():
    shares, sites = [], set()
    for seed, ga_weeks in enumerate((12, 14, 20, 26, 32, 39)):
        setting = set_up(seed, ga_weeks, site="any", spacing_mm=3.0)
        surface = setting.pose.to_probe(setting.head.surface())
        low = np.array(setting.box.corner)
        voxel = setting.box.spacing_mm
        assert voxel == min(3.0, setting.site.box_mm[2] / 80, setting.head.o / 40)
        inside = ((surface > low) & (surface < low + voxel * np.array(setting.box.shape[::-1]))).all(1)
        assert inside.all() or not probe_sees(setting, surface).all()  # only the sector may cut a head off
        shares.append(setting.head.subject.head_volume_ml * 1000 / (np.prod(setting.box.shape) * voxel**3))
        sites.add((setting.site.frequency_mhz, setting.site.top_db))
    assert 0.004 < min(shares) < 0.06 and 0.1 < max(shares) < 0.5
    assert len(sites) == 6


def test_outlines_before_a_drawn_machine_end_where_the_sector_does():
    setting = set_up(0, 14, site="any", spacing_mm=3.0)
    half = dataclasses.replace(setting.site.probe, fan_degrees=setting.site.probe.fan_degrees / 4)
    narrow = dataclasses.replace(
        setting,
        site=dataclasses.replace(setting.site, probe=half),
        grid=machines.BeamGrid.build(half, float(setting.grid.depth_mm[-1]), 1.0, 0.02, 0.03),
        motion=None,
    )
    whole = scan_module._labels(narrow, 1)[0]
    made = simulate(narrow)
    assert not made.label.array[made.image.array == 0].any() and not made.label_skull.array[made.image.array == 0].any()
    inside = made.image.array > 0
    assert np.array_equal(made.label.array[inside], whole[inside]) and made.label.array.sum() < whole.sum()
    share = made.label.array.sum() * setting.box.spacing_mm**3 / 1000 / setting.head.subject.head_volume_ml
    assert made.head_in_view == pytest.approx(share) and 0 < share < 0.95


def probe_sees(setting, surface):
    return setting.site.probe.sees(tuple(surface.T), float(setting.grid.depth_mm[-1]))


def test_new_effects_leave_the_paper_like_machine_alone():
    # measured before drawn machines had regions of interest, motion and a skull of their own
    made = simulate_scan(3, 24, spacing_mm=4.0)
    assert made.image.array.mean() == pytest.approx(PAPER_LIKE_MEAN, abs=0.002)
    assert (int(made.label.array.sum()), int(made.label_skull.array.sum())) == PAPER_LIKE_VOXELS
    setting = set_up(3, 24, spacing_mm=4.0)
    assert setting.motion is None and setting.skull is None and made.head_in_view == pytest.approx(1, abs=0.02)
    for site in machines.SITES.values():
        assert (site.tissue_grey, site.ring_down_db, site.reverberations, site.probe.near_mm) == (None, None, 1, 0)


def test_labels_follow_the_motion_between_planes():
    setting = set_up(502, 13.5, site="any", spacing_mm=1.0)
    voxel, rest = setting.box.spacing_mm, dataclasses.replace(setting, motion=None)
    # a wave of no cycles and a quarter's phase is the same in every plane: two voxels along x
    moved = dataclasses.replace(setting, motion=machines.Motion(np.array([[2 * voxel, 0, 0, 0, np.pi / 2]])))
    still, shifted = (scan_module._labels(each, 1)[0] for each in (rest, moved))
    assert still.any() and np.array_equal(np.roll(still, 2, axis=2)[:, :, 2:], shifted[:, :, 2:])

    # 3 mm to and fro: the image's bright skull lies on the displaced label, not on that at rest
    wave = machines.Motion(np.array([[0, 0, 3.0, 2 / np.radians(setting.site.probe.sweep_degrees), 0.3]]))
    bright = dataclasses.replace(setting.skull, echo_db=34.0, gap_below=None)
    skull = scan_module._labels(rest, 1)[1] > 0
    made = simulate(dataclasses.replace(setting, motion=wave, skull=bright))

    def rim(mask):
        return made.image.array[mask & ~ndimage.binary_erosion(mask)].mean()

    assert rim(made.label_skull.array > 0) > rim(skull) + 10


def test_the_share_of_the_head_in_view_is_that_of_its_volume():
    seed, ga_weeks = CUT_OFF
    setting = dataclasses.replace(set_up(seed, ga_weeks, site="any", spacing_mm=1.0), motion=None)
    head, probe = setting.head, setting.site.probe
    axis = np.arange(-0.9, 0.9, 0.02, dtype=np.float32) * head.o
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    inside = points[head.whole(tuple(points.T)) <= 0]
    seen = probe.sees(tuple(setting.pose.to_probe(inside).T), float(setting.grid.depth_mm[-1])).mean()
    assert 0.3 < seen < 0.96 and simulate(setting).head_in_view == pytest.approx(seen, abs=0.03)


def test_regions_of_interest_fill_their_boxes_as_exports_do():
    regions = [machines.drawn_region(np.random.default_rng(seed), 35.0, 270.0) for seed in range(40)]
    sizes = np.array([np.subtract(*probe.edges(depth)[::-1]) for probe, depth in regions])
    filled = [probe.volume_mm3(depth) / size.prod() for (probe, depth), size in zip(regions, sizes, strict=True)]
    lateral, elevation = (sizes[:, :2] / sizes[:, 2:]).T
    assert min(filled) > 0.35 and max(filled) < 1
    assert 0.6 < lateral.min() < 1 and 1.5 < lateral.max() < 1.8
    assert 0.5 < elevation.min() < 1 and 1.5 < elevation.max() < 2.2
    centres = np.array([probe.centre_distance_mm for probe, _ in regions])
    assert centres.min() > -10 and centres.max() < 35 and ((centres > 24) & (centres < 30)).mean() > 0.3
    assert all(probe.probe_radius_mm - probe.centre_distance_mm >= 8 for probe, _ in regions)


def test_early_heads_have_wide_choroid_plexus_and_a_wide_sac():
    def share(ga_weeks, name):
        setting = set_up(3, ga_weeks, "from the side", spacing_mm=1.0)
        tissue = tissue_map(setting)
        points = setting.pose.to_head(setting.box.points(tuple(slice(0, n) for n in setting.box.shape)))
        skull = setting.head.skull(points)
        region = skull < 0 if name == "choroid plexus" else (skull > 0) & (skull < 0.5 * setting.head.o)
        return (tissue.array[region] == ID[name]).mean()

    assert share(13, "choroid plexus") > 0.10 > 3 * share(24, "choroid plexus")
    assert share(13, "amniotic fluid") > share(24, "amniotic fluid")


@pytest.mark.parametrize(("seed", "site"), [(7, None), (4, None), (13, "any"), (14, "any")])
def test_a_scan_without_a_head_has_empty_labels_and_an_image(seed, site):
    scan = simulate_scan(seed, site=site, spacing_mm=4.0, has_head=False, threads=1)
    assert not scan.label.array.any() and not scan.label_skull.array.any()
    assert scan.image.array[scan.image.array > 0].std() > 5
    setting = set_up(seed, site=site, spacing_mm=4.0, has_head=False)
    surface = tuple(setting.pose.to_probe(setting.head.surface()).T)
    assert not setting.site.probe.sees(surface, setting.grid.r[-1] - setting.grid.r[0]).any()
