"""Simulated single images, how their outline shows, and whether they are like real ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import copy_clone, execute_notebook
from scipy import ndimage
from test_importers import make_hc18

from fhlib import simulate_scan
from fhlib.cohorts.manifest import load_cohort, write_manifest
from fhlib.cohorts.simulated import add_planes
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume
from fhlib.measures.comparison import by_head_size
from fhlib.phantom import acoustics
from fhlib.phantom import probe as machines
from fhlib.phantom.plane import simulate_plane
from fhlib.phantom.probe import BeamGrid
from fhlib.phantom.realism import (
    MEASURES,
    REGIONS,
    _surface,
    compare_planes,
    edge_contrast,
    invisible_share,
    plane_measures,
)
from fhlib.phantom.scan import set_up


@pytest.fixture(scope="module")
def plane():
    return simulate_plane(3, ga_weeks=21, pixel_mm=0.3, shape=(360, 480))


def test_a_plane_shows_the_section_of_its_subjects_skull(plane):
    assert plane.image.shape == plane.label.shape == (360, 480) and plane.image.spacing_mm == (0.3, 0.3)
    area = plane.label.array.sum() * 0.09
    # tilted by degrees and at most a tenth of the OFD off the standard plane, whose section is nearly an ellipse
    ellipse = np.pi / 4 * plane.subject.bpd_mm * plane.subject.ofd_mm
    assert 0.85 < area / ellipse < 1.05
    measures = plane_measures(plane.image, plane.label)
    assert measures["skull_minus_brain"] > 30


def test_a_plane_is_the_same_for_the_same_seed_and_refuses_other_ages(plane):
    again = simulate_plane(3, ga_weeks=21, pixel_mm=0.3, shape=(360, 480))
    assert (again.image.array == plane.image.array).all()
    with pytest.raises(ValueError, match="12-40"):
        simulate_plane(3, ga_weeks=41)


def test_planes_join_real_images_that_only_test(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for case in ("a", "b"):
        label = np.zeros((40, 50), np.uint8)
        label[10:30, 10:40] = 1
        write_volume(Volume(random.integers(0, 255, (40, 50)).astype(np.uint8), (0.5, 0.5)), tmp_path / f"{case}.nrrd")
        write_volume(Volume(label, (0.5, 0.5)), tmp_path / f"{case}_label.nrrd")
        rows.append(
            {"case": case, "subject": case, "image": f"{case}.nrrd", "label": f"{case}_label.nrrd", "split": "train"}
        )
    real = write_manifest(pd.DataFrame(rows).assign(label_skull=lambda frame: frame["label"]), tmp_path)
    joined = add_planes(real, 3, val_fraction=0.34, workers=1)
    assert joined.table["split"].value_counts().to_dict() == {"test": 2, "train": 2, "val": 1}
    assert joined.outlines_skull and joined.read_image("plane-00000").shape == (540, 800)
    written = (tmp_path / "images" / "plane-00000.nrrd").stat().st_mtime_ns
    again = add_planes(joined, 3, val_fraction=0.34, workers=1)
    assert (tmp_path / "images" / "plane-00000.nrrd").stat().st_mtime_ns == written
    assert again.table.equals(joined.table)
    heads = write_manifest(pd.DataFrame(rows), tmp_path)
    with pytest.raises(ValueError, match="its label is the whole head"):
        add_planes(heads, 1)


@pytest.mark.parametrize(("seed", "site"), [(7, None), (4, None), (13, "any"), (14, "any")])
def test_a_scan_without_a_head_has_empty_labels_and_an_image(seed, site):
    scan = simulate_scan(seed, site=site, spacing_mm=4.0, has_head=False, threads=1)
    assert not scan.label.array.any() and not scan.label_skull.array.any()
    assert scan.image.array[scan.image.array > 0].std() > 5
    setting = set_up(seed, site=site, spacing_mm=4.0, has_head=False)
    surface = tuple(setting.pose.to_probe(setting.head.surface()).T)
    assert not setting.site.probe.sees(surface, setting.grid.r[-1] - setting.grid.r[0]).any()


def test_the_notebook_compares_real_and_simulated_planes(tmp_path):
    clone = copy_clone(tmp_path / "clone")
    source = make_hc18(tmp_path / "hc18", "subfolders")
    out = tmp_path / "12_realism.ipynb"
    execute_notebook(clone, "12_realism", out, hc18=source, planes=3)
    table = pd.read_csv(clone / "data" / "runs" / "smoke" / "tables" / "realism.csv")
    assert list(table["measure"]) == list(MEASURES) and table["ks"].between(0, 1).all()
    split = load_cohort(clone / "data" / "cohorts" / "sim-to-real").table["split"]
    assert (split == "train").sum() == 2 and (split == "test").sum() >= 3
    assert "has no scores yet" in out.read_text(encoding="utf-8")


# The expected image and its edges


def quiet_site():
    return dataclasses.replace(machines.Site(), noise_db=-200.0, clutter_db=-200.0, tgc_db=0.0)


def beams_of(power: np.ndarray, grid: BeamGrid) -> acoustics.Beams:
    return acoustics.Beams(power.copy(), np.zeros_like(power), np.zeros_like(power), grid, quiet_site())


def test_expected_level_of_a_uniform_medium_is_its_power():
    grid = BeamGrid.build(quiet_site().probe, 60, 0.4, 0.02, 0.03)
    level = acoustics.expected_level_db(beams_of(np.full(grid.shape, 0.01, np.float32), grid))
    assert level[5:-5, 8:-8, 10:-10] == pytest.approx(-20, abs=0.05)  # unit energy: speckle keeps its mean power


def test_expected_level_is_the_mean_intensity_of_many_speckle_patterns():
    grid = BeamGrid.build(quiet_site().probe, 30, 0.5, 0.03, 0.05)
    power = np.ones(grid.shape, np.float32)
    power[:, grid.shape[1] // 2 :] = 0.01
    kernels = acoustics.point_spread_kernels(grid, quiet_site())
    total, random = np.zeros(grid.shape), np.random.default_rng(0)
    for _ in range(150):
        iq = acoustics.speckle_source(random, grid.shape) * np.sqrt(power)
        acoustics.point_spread(iq, kernels)
        total += np.abs(iq) ** 2 / 150
    # averaged over planes and ranges too, across the step
    inner = (slice(4, -4), slice(None), slice(6, -6))
    measured = 10 * np.log10(total[inner].mean((0, 2)))
    expected = 10 * np.log10((10 ** (acoustics.expected_level_db(beams_of(power, grid))[inner] / 10)).mean((0, 2)))
    assert measured == pytest.approx(expected, abs=0.15)


def test_invisible_share_weighs_by_area():
    frame = pd.DataFrame(
        {"region": ["near", "near", "face"], "weight": [1.0, 3.0, 4.0], "visible": [True, False, False]}
    )
    share = invisible_share(frame)
    assert share["overall"] == pytest.approx(7 / 8) and share["near"] == pytest.approx(0.75)
    assert share["face"] == 1 and np.isnan(share["neck"])


def test_surface_weights_integrate_to_the_heads_area():
    head = set_up(4, ga_weeks=25, spacing_mm=4.0).head
    at, normal, weight = _surface(head, 6000)
    assert np.linalg.norm(normal, axis=1) == pytest.approx(1)
    # divergence theorem: the volume is a third of the integral of position . normal
    volume = ((at - head.bounding[0]) * normal).sum(1) @ weight * 4 * np.pi / len(at) / 3
    assert volume / 1000 == pytest.approx(head.subject.head_volume_ml, rel=0.02)


def test_edges_fade_where_the_physics_says():
    contrasts = [edge_contrast(seed, spacing_mm=1.3, points=1500) for seed in range(8)]
    share = pd.DataFrame([invisible_share(contrast) for contrast in contrasts]).mean()
    assert set(contrasts[0]["region"]) == set(REGIONS) and 0.25 < share["overall"] < 0.55
    assert share["near"] < share["side wall"] < share["face"] < share["neck"]


# Realism


def test_measures_of_a_drawn_head_by_hand():
    y, x = np.mgrid[:300, :400]
    radius = np.hypot(y - 150, x - 200)
    inside = radius < 100
    grey = np.where(inside, 50, 90)
    grey[(radius >= 90) & inside] = 200
    measures = plane_measures(Volume(grey.astype(np.uint8), (0.2, 0.2)), Volume(inside.astype(np.uint8), (0.2, 0.2)))
    assert measures["brain_grey"] == 50 and measures["around_grey"] == 90
    assert measures["skull_grey"] == pytest.approx(200, abs=8) and measures["outline_visible"] == 1
    assert measures["black_share"] == 0


def test_grain_is_the_width_of_the_autocovariance():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(600, 700)), (2.0, 3.5))
    y, x = np.mgrid[:600, :700]
    inside = np.hypot(y - 300, x - 350) < 280
    image = Volume(np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8), (0.1, 0.1))
    measures = plane_measures(image, Volume(inside.astype(np.uint8), (0.1, 0.1)))
    # white noise blurred by sigma has an autocovariance of width sqrt(2) sigma
    for name, sigma in (("grain_along_mm", 0.2), ("grain_across_mm", 0.35)):
        assert measures[name] == pytest.approx(2.3548 * np.sqrt(2) * sigma, rel=0.1)
    assert measures["speckle_sd"] == pytest.approx(40, rel=0.15)


def test_distance_of_two_sets_by_hand():
    def frame(values):
        return pd.DataFrame({name: values for name in MEASURES})

    table = compare_planes(frame([1.0, 2.0, 3.0, 4.0]), frame([3.0, 4.0, 5.0, 6.0]))
    # of 16 pairs the simulated value is larger in 13 and equal in 2; the distributions differ most by 2 of 4
    assert (table["auc"] == 13 / 16 + 1 / 16).all() and (table["ks"] == 0.5).all()
    assert (table["real_q50"] == 2.5).all() and (table["simulated_q50"] == 4.5).all()


def test_scores_by_head_size():
    scores = pd.DataFrame(
        {
            "variant": "A",
            "status": ["found", "found", "missed"],
            "dsc": [0.9, 0.8, 0.0],
            "hc_mm": [92.0, 181.0, np.nan],
            "reference_hc_mm": [90.0, 180.0, 170.0],
        }
    )
    table = by_head_size(scores).set_index("hc_band_mm")
    assert list(table.index) == ["0-100", "150-200", "all"]
    assert table.loc["150-200", ["n", "missed", "dsc_mean", "hc_mae_mm"]].tolist() == [2, 1, 0.4, 1.0]
    assert table.loc["all", "dsc_mean"] == pytest.approx(1.7 / 3) and table.loc["all", "hc_bias_mm"] == 1.5
