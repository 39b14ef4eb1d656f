"""The simulator: exact anatomy, probe geometry, speckle statistics, reproducible bytes, and a problem that thresholds cannot solve."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from fhlib.cohorts import simulated as simulate
from fhlib.cohorts.checks import check_cohort
from fhlib.images.formats import read_volume
from fhlib.measures import growth
from fhlib.measures.metrics import evaluate
from fhlib.phantom import acoustics, shapes
from fhlib.phantom import probe as machines
from fhlib.phantom.anatomy import Head, draw_subject
from fhlib.phantom.probe import BeamGrid, Box, Probe, blocks, scan_convert
from fhlib.phantom.scan import SCAN_DIRECTIONS, set_up, simulate_scan, tissue_map
from fhlib.phantom.tissues import ID
from fhlib.presets import SimulatedCohort


@pytest.fixture(scope="module")
def scans():
    return [simulate_scan(seed, spacing_mm=2.5) for seed in range(10)]


def feret(mask, spacing_mm, direction):
    """Extent of a mask's voxel centres along a unit vector (array order); oblique to the grid some centre is always near the edge."""
    return np.ptp(np.argwhere(mask) @ np.asarray(direction)) * spacing_mm


# Shapes


def test_distances_of_simple_bodies():
    p = tuple(np.array([value], np.float32) for value in (3.0, 4.0, 0.0))
    assert shapes.sphere(p, (0, 0, 0), 2)[0] == pytest.approx(3)
    assert shapes.capsule(p, (0, 0, 0), (3, 0, 0), 1)[0] == pytest.approx(3)
    on_surface = tuple(np.array([value], np.float32) for value in (0.0, 0.0, 5.0))
    above = tuple(np.array([value], np.float32) for value in (0.0, 0.0, 5.1))
    assert shapes.ellipsoid(on_surface, (0, 0, 0), (2, 3, 5))[0] == pytest.approx(0, abs=1e-4)
    assert shapes.ellipsoid(above, (0, 0, 0), (2, 3, 5))[0] == pytest.approx(0.1, rel=0.05)
    one = np.array([1.0], np.float32)
    assert shapes.smooth_union(one, one, 0.4)[0] == pytest.approx(0.9)  # min - width / 4 where both are equal


# Anatomy


def test_subject_is_reproducible_and_follows_the_charts():
    assert draw_subject(5) == draw_subject(5)
    subjects = [draw_subject(seed, ga_weeks=26.0) for seed in range(120)]
    for measure, values in (("bpd", "bpd_mm"), ("ofd", "ofd_mm"), ("hc", "hc_mm"), ("tcd", "tcd_mm")):
        mean, sd = growth.reference(measure, 26.0)
        drawn = np.array([getattr(subject, values) for subject in subjects])
        assert abs(drawn.mean() - mean) < 0.25 * sd, measure
        assert 0.7 * sd < drawn.std(ddof=1) < 1.3 * sd, measure


def test_default_cohort_has_the_calibrated_head_volume():
    subjects = [draw_subject(seed) for seed in range(100)]
    volumes = np.array([subject.head_volume_ml for subject in subjects])
    assert volumes.mean() == pytest.approx(236, abs=15)
    assert volumes.std(ddof=1) == pytest.approx(70, abs=10)
    ages = np.array([subject.ga_weeks for subject in subjects])
    assert ((ages >= 20) & (ages <= 31)).all() and ages.mean() == pytest.approx(25, abs=0.5)


def test_ages_outside_the_simulator_are_refused():
    assert draw_subject(1, 12).bpd_mm == pytest.approx(20.9, rel=0.15)
    with pytest.raises(ValueError, match="12-40"):
        draw_subject(1, 11.5)


def test_volumes_agree_with_a_finer_integration():
    subject = draw_subject(3)
    head_ml, skull_ml = Head(subject).volumes_ml(spacing_mm=0.6)
    assert subject.head_volume_ml == pytest.approx(head_ml, rel=0.003)
    assert subject.skull_volume_ml == pytest.approx(skull_ml, rel=0.003)


def test_skull_distance_has_unit_slope_at_the_surface():
    head = Head(draw_subject(4))
    rng = np.random.default_rng(0)
    p = tuple(rng.uniform(-0.6, 0.6, (3, 40000)).astype(np.float32) * head.o)
    skull = head.skull(p)
    near = (np.abs(skull) < 1) & (p[2] > -0.1 * head.o)
    step = 0.05
    slope = [(head.skull(shapes.shifted(p, -step * np.eye(3)[i])) - skull)[near] / step for i in range(3)]
    assert np.linalg.norm(slope, axis=0).mean() == pytest.approx(1, abs=0.05)


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


@pytest.mark.parametrize("direction", SCAN_DIRECTIONS)
def test_labels_at_full_resolution_keep_the_integrated_volume(direction):
    from fhlib.phantom import scan

    setting = set_up(21, scan_direction=direction, spacing_mm=0.38)
    head_ml, skull_ml = setting.head.volumes_ml(spacing_mm=0.4)
    for label, millilitres in zip(
        scan._labels(setting.head, setting.pose, setting.box, 2), (head_ml, skull_ml), strict=True
    ):
        assert label.sum() * 0.38**3 / 1000 == pytest.approx(millilitres, rel=0.005)


def test_circumference_equals_the_perimeter_of_the_section():
    subject = draw_subject(8)
    angle = np.linspace(0, 2 * np.pi, 721)
    head, low, high = Head(subject), np.zeros(721), np.full(721, 90.0)
    for _ in range(30):
        middle = (low + high) / 2
        x, y = (middle * np.cos(angle)).astype(np.float32), (middle * np.sin(angle)).astype(np.float32)
        outside = head.skull((x, y, np.zeros(721, np.float32))) > 0
        low, high = np.where(outside, low, middle), np.where(outside, middle, high)
    perimeter = np.hypot(np.diff(low * np.cos(angle)), np.diff(low * np.sin(angle))).sum()
    assert subject.hc_mm == pytest.approx(perimeter, rel=0.002)


# Probe


def test_beam_coordinates_invert():
    probe = Probe(45, 50)
    phi, theta, r = (np.array(values, np.float32) for values in ([0.3, -0.6, 0], [-0.5, 0.2, 0], [60, 170, 45]))
    x, y, z = probe.cartesian(phi, theta, r)
    # By hand for the last point: straight ahead at the probe's face.
    assert (x[2], y[2], z[2]) == pytest.approx((0, 0, 45))
    # By hand for the first: d = -5, reach = 60 cos 0.5 = 52.655.
    assert (x[0], y[0], z[0]) == pytest.approx(
        (-28.766, -np.sin(0.3) * 57.655, -5 * (1 - np.cos(0.3)) + 52.655 * np.cos(0.3)), abs=1e-3
    )
    assert np.allclose(probe.beam((x, y, z)), (phi, theta, r), atol=1e-4)


def test_blocks_tile_an_array():
    counted = np.zeros((17, 40, 70), int)
    for block in blocks(counted.shape):
        counted[block] += 1
    assert (counted == 1).all()


def test_scan_conversion_reproduces_a_linear_field_and_blanks_the_outside():
    probe = Probe(45, 50, 60, 50)
    grid = BeamGrid.build(probe, 120, 1.0, 0.02, 0.03)
    beams = np.broadcast_to((grid.r - 45 + 50).astype(np.uint8), grid.shape)
    box = Box.build((120, 80, 130), 2.5, 37)
    image = scan_convert(np.ascontiguousarray(beams), grid, box)
    p = box.points(tuple(slice(0, n) for n in box.shape))
    expected, inside = probe.beam(p)[2] + 5, probe.sees(p, 119, margin_degrees=0.1)
    assert image.shape == (52, 32, 48)
    assert np.abs(image[inside] - expected[inside]).max() <= 1.6  # rounding of beams and of voxels
    assert (image[~probe.sees(p, 121, margin_degrees=-0.1)] == 0).all()


# Acoustics


def speckle_block():
    iq = acoustics.speckle_source(np.random.default_rng(1), (48, 96, 400))
    acoustics.point_spread(iq, tuple(acoustics.kernel(sigma) for sigma in (1.2, 1.5, 2.0)))
    return iq[8:-8, 8:-8, 8:-8]


def test_speckle_is_fully_developed():
    envelope = np.abs(speckle_block())
    assert (envelope**2).mean() == pytest.approx(1, rel=0.03)  # unit-energy kernels keep the mean power
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, abs=0.05)
    assert (20 * np.log10(envelope)).std() == pytest.approx(5.57, abs=0.3)


def test_autocovariance_width_is_the_point_spread():
    intensity = np.abs(speckle_block()) ** 2
    centred = intensity - intensity.mean()
    for axis, sigma in ((0, 1.2), (1, 1.5), (2, 2.0)):
        moved = np.moveaxis(centred, axis, 0)
        # A Gaussian amplitude of width sigma gives an intensity autocovariance exp(-lag^2 / (2 sigma^2)).
        lag = 2
        ratio = (moved[:-lag] * moved[lag:]).mean() / (moved**2).mean()
        assert np.sqrt(-(lag**2) / (2 * np.log(ratio))) == pytest.approx(sigma, rel=0.10)


def test_simulated_tissue_has_speckle_in_the_whole_chain():
    """A uniform medium through form_image without noise, smoothing and attenuation keeps the statistics of speckle."""
    site = dataclasses.replace(
        machines.Site(),
        noise_db=-200.0,
        smoothing=0.0,
        clutter_db=-200.0,
        tgc_db=0.0,
        top_db=25.0,
        dynamic_range_db=80.0,
    )
    grid = BeamGrid.build(site.probe, 60, 0.4, 0.02, 0.03)
    power, coherent, loss = (np.full(grid.shape, value, np.float32) for value in (1.0, 0.0, 0.0))
    beams = acoustics.form_image(acoustics.Beams(power, coherent, loss, grid, site), np.random.default_rng(2))
    level = (beams[4:-4, 4:-4, 4:-4].astype(float) - 255) * 80 / 254
    assert level.std() == pytest.approx(5.57, abs=0.3)
    assert 10 * np.log10((10 ** (level / 10)).mean()) == pytest.approx(-25, abs=0.3)


def test_the_beam_is_as_wide_as_its_source_says_and_focused_in_elevation():
    grid = BeamGrid.build(Probe(), 150, 0.5, 0.002, 0.002)
    planes, beams, ranges = acoustics.point_spread_kernels(grid, machines.Site())
    depth = grid.r - 45

    def width_mm(taps, at_mm, steps_mm):  # a Gaussian's variance is that of its taps
        taps = taps[:, np.abs(depth - at_mm).argmin()]
        lags = np.arange(len(taps))
        return 2.3548 * np.sqrt((2 * taps * lags**2).sum() / (taps[0] + 2 * taps[1:].sum())) * steps_mm

    for at, lateral, elevation in ((60, 1.2, 2.0), (100, 2.0, 3.3), (140, 2.7, 4.6)):
        assert width_mm(beams, at, grid.steps[1] * (45 + at)) == pytest.approx(lateral, rel=0.10)
        assert width_mm(planes, at, grid.steps[0] * (50 + at)) == pytest.approx(elevation, rel=0.10)
    assert width_mm(planes, 20, grid.steps[0] * 70) > 1.5 * width_mm(planes, 60, grid.steps[0] * 110)
    assert ranges[1] / ranges[0] == pytest.approx(2 ** -((0.5 / 0.3) ** 2), rel=0.02)  # half at half of 0.6 mm


@pytest.mark.parametrize("step_mm", [0.3, 0.6, 1.2])
def test_haze_behind_a_plate_does_not_depend_on_the_sampling(step_mm):
    site = dataclasses.replace(machines.Site(), noise_db=-200.0, clutter_db=-20.0, tgc_db=0.0, reverberation_db=-200.0)
    grid = BeamGrid.build(site.probe, 60, step_mm, 0.02, 0.03)
    coherent = np.zeros(grid.shape, np.float32)
    coherent[:] = 50 * np.clip(1 - np.abs(grid.r - 65) / 1.2, 0, 1)
    beams = acoustics.Beams(np.zeros_like(coherent), coherent, np.zeros_like(coherent), grid, site)
    level = acoustics.expected_level_db(beams)
    middle = tuple(n // 2 for n in grid.shape[:2])
    # by hand: 0.01 * 0.11 of the plate's energy, 2500 * 0.8 mm, spread over 7 mm and decayed over 10 mm
    expected = 10 * np.log10(0.0011 * 2500 * 0.8 / 7 * np.exp(-10 / 7))
    assert level[middle][np.abs(grid.r - 75).argmin()] == pytest.approx(expected, abs=0.8)


def test_skull_loss_grows_with_the_angle_of_incidence():
    skull = acoustics.Skull(normal_loss_db=5, oblique_loss_db=20, critical_degrees=40)
    loss = acoustics.skull_loss_db(np.cos(np.radians([0, 40, 80])).astype(np.float32), skull)
    # a logistic of slope 8 about cos 40 degrees = 0.766 has 0.133 at normal incidence and 0.991 at 80 degrees
    assert loss == pytest.approx([5, 5 + 20 * (0.5 - 0.133), 5 + 20 * (0.991 - 0.133)], abs=0.05)


def test_gain_with_depth_by_hand():
    site = dataclasses.replace(machines.Site(), tgc_db=0.5, frequency_mhz=4.0)
    assert acoustics.tgc_db(np.array([50.0, 500.0]), site) == pytest.approx([20, 42])  # 0.5 * 4 * 2 * 5 cm


# Scans


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


# Cohorts


SPEC = SimulatedCohort(
    train_subjects=3,
    test_subjects=1,
    reproducibility_subjects=1,
    spacing_mm=5.0,
    seed=3,
    sites=("paper-like", "low-cost"),
)


def test_plan_has_three_directions_for_reproducibility_and_no_leaks():
    tasks = simulate.plan_cohort(SPEC)
    table = pd.DataFrame([dataclasses.asdict(task) for task in tasks])
    assert table["split"].value_counts().to_dict() == {"train": 2, "repro": 3, "val": 1, "test": 1}
    assert set(table[table["split"] == "repro"]["scan_direction"]) == set(SCAN_DIRECTIONS)
    assert table.groupby("subject")["split"].nunique().max() == 1 and table["case"].is_unique
    assert set(table["site"]) == set(SPEC.sites)
    assert {task.split for task in simulate.plan_cohort(SPEC, val_fraction=0)} == {"train", "test", "repro"}


def test_cohort_resumes_and_does_not_depend_on_workers(tmp_path, monkeypatch):
    cohort = simulate.simulate_cohort(tmp_path / "a", SPEC, workers=1)
    assert len(cohort.table) == 7 and (tmp_path / "a" / "subjects.csv").exists()
    row = cohort.table.iloc[0]
    image, skull = read_volume(tmp_path / "a" / row["image"]), read_volume(tmp_path / "a" / row["label_skull"])
    assert image.same_geometry(skull) and image.array.max() > 100
    truth = pd.read_csv(tmp_path / "a" / "subjects.csv").set_index("subject").loc[row["subject"]]
    assert float(row["reference_volume_ml"]) == pytest.approx(truth["head_volume_ml"])
    assert float(row["reference_hc_mm"]) == pytest.approx(truth["hc_mm"])

    simulate.simulate_cohort(tmp_path / "b", SPEC, workers=2)
    for case in cohort.table["case"]:
        both = (tmp_path / name / "images" / f"{case}.nrrd" for name in "ab")
        assert len({path.read_bytes() for path in both}) == 1

    # What is missing is redone, the rest is kept.
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "images").iterdir()}
    (tmp_path / "a" / row["label"]).unlink()
    simulate.simulate_cohort(tmp_path / "a", SPEC, workers=1)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "images").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {f"{row['case']}.nrrd"}

    monkeypatch.setattr(simulate, "code_digest", lambda *modules: "changed")
    redone = []
    monkeypatch.setattr(
        simulate, "_run", lambda work, tasks, workers, total: redone.extend(tasks) or [work(t) for t in tasks]
    )
    simulate.simulate_cohort(
        tmp_path / "a", SPEC.model_copy(update={"test_subjects": 0, "train_subjects": 1, "reproducibility_subjects": 0})
    )
    assert len(redone) == 1


def test_a_cohort_of_all_ages_has_its_share_of_scans_without_a_head(tmp_path):
    spec = SPEC.model_copy(
        update={
            "train_subjects": 8,
            "test_subjects": 4,
            "reproducibility_subjects": 0,
            "sites": ("any",),
            "ga_weeks": (12.0, 40.0),
            "headless_share": 0.25,
        }
    )
    table = pd.DataFrame([dataclasses.asdict(task) for task in simulate.plan_cohort(spec)])
    assert table.groupby(table["split"] == "test")["has_head"].sum().to_dict() == {False: 6, True: 3}
    assert table["ga_weeks"].between(12, 40).all() and table["ga_weeks"].std() > 4
    alike = simulate.plan_cohort(spec.model_copy(update={"headless_share": 0.0}))
    assert [task.ga_weeks for task in alike] == table["ga_weeks"].tolist()  # one choice does not move another

    small = spec.model_copy(update={"train_subjects": 1, "test_subjects": 2, "headless_share": 0.5})
    cohort = simulate.simulate_cohort(tmp_path, small, workers=1)
    row = cohort.table[cohort.table["has_head"] == "false"].iloc[0]
    assert float(row["reference_volume_ml"]) == 0 and row["reference_hc_mm"] == ""
    assert not read_volume(tmp_path / row["label"]).array.any()
    assert not (check_cohort(cohort, show_progress=False)["severity"] == "error").any()


def test_any_machine_shows_heads_of_many_sizes_whole():
    shares, sites = [], set()
    for seed, ga_weeks in enumerate((12, 14, 20, 26, 32, 39)):
        setting = set_up(seed, ga_weeks, site="any", spacing_mm=3.0)
        surface = setting.pose.to_probe(setting.head.surface())
        low = np.array(setting.box.corner)
        voxel = setting.box.spacing_mm
        assert voxel == min(3.0, setting.site.box_mm[2] * setting.box_grown / 80)
        assert (surface > low).all() and (surface < low + voxel * np.array(setting.box.shape[::-1])).all()
        shares.append(setting.head.subject.head_volume_ml * 1000 / (np.prod(setting.box.shape) * voxel**3))
        sites.add((setting.site.frequency_mhz, setting.site.top_db))
    assert 0.004 < min(shares) < 0.06 and 0.1 < max(shares) < 0.5
    assert len(sites) == 6


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


def test_cohort_refuses_unknown_sites_and_a_full_disk(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="nowhere"):
        simulate.simulate_cohort(tmp_path / "c", SPEC.model_copy(update={"sites": ("nowhere",)}))

    def full(folder, needed_bytes):
        raise OSError(f"{needed_bytes} needed")

    monkeypatch.setattr(simulate, "require_free_space", full)
    with pytest.raises(OSError, match="needed"):
        simulate.simulate_cohort(tmp_path / "c", SPEC)
    assert not (tmp_path / "c").exists()
