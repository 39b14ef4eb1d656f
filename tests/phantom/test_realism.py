"""How an outline shows, and whether simulated images are like real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from fhlib.images.volume import Volume
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


@pytest.mark.slow
def test_edges_fade_where_the_physics_says():
    contrasts = [edge_contrast(seed, spacing_mm=1.3, points=1500) for seed in range(8)]
    share = pd.DataFrame([invisible_share(contrast) for contrast in contrasts]).mean()
    assert set(contrasts[0]["region"]) == set(REGIONS) and 0.25 < share["overall"] < 0.55
    assert share["near"] < share["side wall"] < share["face"] < share["neck"]


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
