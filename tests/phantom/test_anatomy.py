"""Subjects follow the charts; volumes and sections are exact."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.measures import growth
from fhlib.phantom import shapes
from fhlib.phantom.anatomy import Head, draw_subject


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
    with pytest.raises(ValueError, match="11-40"):
        draw_subject(1, 10.9)


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
