"""The detailed fetus: sizes at 11 weeks, a head of a third of the length, plates that close, labels as drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fhlib.phantom.anatomy import Head, draw_subject
from fhlib.phantom.fetus.body import EVEN_FLEXION, Body, Trunk
from fhlib.phantom.fetus.sac import Sac
from fhlib.phantom.fetus.sizes import crown_rump_mm
from fhlib.phantom.scan import set_up, simulate_scan
from fhlib.phantom.shapes import capsule, stretch_near, tapered
from fhlib.phantom.tissues import EARLIEST, ID, TISSUES, tissue_gains


def test_sizes_at_eleven_weeks():
    # by hand: charts at 14 weeks times (11 - 7.2) / (14 - 7.2); BPD 29.61 mm, OFD 33.76 mm there
    subjects = [draw_subject(seed, 11) for seed in range(16)]
    assert np.mean([subject.bpd_mm for subject in subjects]) == pytest.approx(29.61 * 3.8 / 6.8, rel=0.06)
    assert np.mean([subject.ofd_mm for subject in subjects]) == pytest.approx(33.76 * 3.8 / 6.8, rel=0.06)
    assert crown_rump_mm(11) == pytest.approx((53.27 / 8.052) ** 2)  # 43.8 mm
    assert crown_rump_mm(14) == pytest.approx(85.1, abs=0.1)


@pytest.mark.parametrize("ga_weeks", [11, 13, 16])
def test_head_is_about_a_third_of_the_crown_rump_length(ga_weeks):
    head = Head(draw_subject(4, ga_weeks))
    trunk = Trunk(head, float(EVEN_FLEXION), 0.0)
    expected = crown_rump_mm(ga_weeks) * head.o / head.mean_ofd_mm
    assert trunk.crown_rump_mm() == pytest.approx(expected, rel=0.01)
    assert 0.30 < (0.395 * head.o - head.c2[2]) / expected < 0.40  # from the crown to C2


def test_a_strongly_flexed_chin_lies_near_the_chest():
    head = Head(draw_subject(4, 13))
    chin = tuple(np.full((1, 1, 1), c, np.float32) for c in head.chin + head.mm(0, 0, -0.06))
    flexed, stretched = (Trunk(head, np.radians(degrees), 0.0).distance(chin)[0].item() for degrees in (60, 0))
    assert flexed < 0.15 * head.o < stretched


def closed_share(head: Head) -> float:
    """Share of the upper skull's surface, seen from its centre, that is closed."""
    k = np.arange(4000) + 0.5
    polar, azimuth = np.arccos(1 - 2 * k / 4000), np.pi * (1 + 5**0.5) * k
    u = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    u = u[:, u[2] > 0.1] * np.array(head.subject.axes_mm)[:, None]
    return float((head.plate(tuple(c.astype(np.float32)[None, None] for c in u))[1] > 0.5).mean())


def test_plates_are_islands_at_eleven_weeks_and_closed_at_thirty():
    early, later = (
        np.mean([closed_share(Head(draw_subject(seed, weeks), True)) for seed in range(6)]) for weeks in (11, 30)
    )
    assert early < 0.35 and later > 0.75
    vertex = tuple(np.full((1, 1, 1), c, np.float32) for c in (3.0, 0.0, 0.395 * Head(draw_subject(1, 11)).o))
    assert Head(draw_subject(1, 11)).plate(vertex)[1].item() == 0


def test_the_label_of_a_drawn_machine_holds_the_analytic_volume():
    for ga_weeks in (12, 26):
        setting = set_up(5, ga_weeks, "from the top of the head", "any", 1.5)
        scan = simulate_scan(5, ga_weeks, "from the top of the head", "any", 1.5)
        millilitres = scan.label.array.sum() * scan.label.voxel_volume_ml
        assert millilitres == pytest.approx(setting.head.subject.head_volume_ml, rel=0.02)
        finer, _ = setting.head.volumes_ml(setting.head.o / 70)
        assert finer == pytest.approx(setting.head.subject.head_volume_ml, rel=0.01)


def test_scans_of_the_papers_machines_draw_as_before():
    # what the labels were before there was a detailed look: they hold no rounding of the image's mathematics
    scan = simulate_scan(2, 26.5, site="low-cost", spacing_mm=4.0, threads=1)
    assert hashlib.sha256(scan.label.array.tobytes()).hexdigest()[:16] == LABEL
    first = tissue_gains(np.random.default_rng(3), 1.5)
    rng = np.random.default_rng(3)
    assert (first[:EARLIEST] == rng.normal(0, 1.5, EARLIEST).astype(np.float32)).all() and len(first) == len(TISSUES)
    again = np.random.default_rng(3)
    tissue_gains(again, 1.5)
    assert again.uniform() == rng.uniform()


LABEL = "e0998ffc9aa94e61"


def test_hands_reach_the_face_and_bones_lie_in_limbs():
    head = Head(draw_subject(9, 13))
    body = Body(head, np.random.default_rng(2))
    tissue = np.zeros((24, 24, 24), np.uint8)
    limb = body.limbs[0]
    axes = [np.linspace(c - 4, c + 4, 24, dtype=np.float32) for c in limb.middle]
    body.paint(tuple(np.ascontiguousarray(c) for c in np.meshgrid(*axes, indexing="ij")), tissue)
    assert {ID["bone"], ID["fetal soft tissue"]} <= set(np.unique(tissue))
    upper, lower = (np.linalg.norm(part.end - part.start) for part in body.limbs[:2])
    assert lower == pytest.approx(0.86 * upper, rel=1e-6)


def test_yolk_sac_is_a_ring_outside_the_amnion():
    cavity = np.zeros(3), np.array([35.0, 28.0, 30.0])
    sac = Sac(11.0, cavity, np.random.default_rng(1))
    assert sac.yolk is not None and sac.amnion is not None
    axes = [np.linspace(c - 4, c + 4, 41, dtype=np.float32) for c in sac.yolk]
    p = tuple(np.ascontiguousarray(c) for c in np.meshgrid(*axes, indexing="ij"))
    tissue = np.zeros(p[0].shape, np.uint8)
    amnion = sac.paint(p, tissue)
    assert amnion is not None
    ring = (tissue == ID["yolk sac"]).sum() * 0.2**3
    r = sac.yolk_mm
    assert ring == pytest.approx(4 / 3 * np.pi * (r**3 - (r - 0.8) ** 3), rel=0.05)
    assert 4 <= 2 * r <= 6 and amnion[tissue == ID["yolk sac"]].mean() > 0


def test_the_stretch_of_a_block_holds_all_near_points():
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(np.linspace(-9, 9, 8), np.linspace(-6, 6, 5), np.linspace(30, 130, 60), indexing="ij")
    p = tuple(c.astype(np.float32) for c in (x * z / 60, y * z / 60, z))
    for _ in range(20):
        centre, reach = rng.uniform([-15, -15, 20], [15, 15, 140]), rng.uniform(1, 20)
        near = np.flatnonzero((sum((c - o) ** 2 for c, o in zip(p, centre, strict=True)) < reach**2).any((0, 1)))
        part = stretch_near(p, centre, reach)
        assert not near.size or (part.start <= near[0] and near[-1] < part.stop)


def test_a_cone_of_one_radius_is_a_capsule():
    rng = np.random.default_rng(1)
    p = tuple(rng.uniform(-10, 10, (3, 4, 5, 6)).astype(np.float32))
    distance, along = tapered(p, (0, 1, 2), (4, -3, 5), (1.5, 1.5))
    np.testing.assert_allclose(distance, capsule(p, (0, 1, 2), (4, -3, 5), 1.5), atol=1e-5)
    assert along.min() >= 0 and along.max() <= 1
