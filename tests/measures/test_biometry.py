"""Biometry against analytic ellipses and ellipsoids, and against the simulated subjects' true values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special
from scipy.spatial.transform import Rotation

from fhlib.images.volume import Volume
from fhlib.measures.biometry import _long_and_vertical, biometry, ellipse_perimeter
from fhlib.phantom.anatomy import Head, draw_subject


def oblique_grid(shape, spacing, rotation):
    """Positions (mm, from the array's middle) of all voxels in a rotated frame, one array an axis."""
    axes = [(np.arange(n) - n / 2) * s for n, s in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return np.moveaxis(grid @ rotation, -1, 0)


@pytest.mark.parametrize("spacing", [(0.5, 0.8), (1.0, 0.6)])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_oblique_ellipse(spacing, angle):
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    y, x = oblique_grid((240, 200), spacing, rotation)
    found = biometry(Volume((y / 47) ** 2 + (x / 37) ** 2 <= 1, spacing), "skull")
    perimeter = 4 * 47 * special.ellipe(1 - (37 / 47) ** 2)
    assert found.ofd_mm == pytest.approx(94, rel=0.005)
    assert found.bpd_mm == pytest.approx(74, rel=0.005)
    assert found.hc_mm == pytest.approx(perimeter, rel=0.001)
    assert found.area_mm2 == pytest.approx(math.pi * 47 * 37, rel=0.002)
    assert math.isnan(found.volume_ml)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_oblique_anisotropic_ellipsoid(seed):
    spacing, rotation = (1.4, 0.8, 1.0), Rotation.random(random_state=seed).as_matrix()
    z, y, x = oblique_grid((90, 150, 116), spacing, rotation)
    mask = (y / 50) ** 2 + (x / 39) ** 2 + (z / 33) ** 2 <= 1
    found = biometry(Volume(mask, spacing), "skull")
    assert found.ofd_mm == pytest.approx(100, rel=0.01)
    assert found.bpd_mm == pytest.approx(78, rel=0.01)
    assert found.hc_mm == pytest.approx(4 * 50 * special.ellipe(1 - (39 / 50) ** 2), rel=0.004)
    assert found.volume_ml == pytest.approx(4 / 3 * math.pi * 50 * 39 * 33 / 1000, rel=0.003)
    points = np.argwhere(mask) * spacing
    long, vertical = _long_and_vertical(points - points.mean(axis=0))
    assert abs(long @ rotation[:, 1]) == pytest.approx(1, abs=1e-2)
    assert abs(vertical @ rotation[:, 0]) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("seed", [4, 6, 14, 5069, 5140])  # the last two are narrower than high
def test_simulated_skulls_give_their_true_values(seed):
    subject, spacing = draw_subject(seed), (0.9, 0.9, 0.9)
    n = int(1.45 * subject.ofd_mm / spacing[0])
    points = oblique_grid((n, n, n), spacing, Rotation.random(random_state=seed).as_matrix()).astype(np.float32)
    mask = Head(subject).skull(tuple(points)) < 0
    found = biometry(Volume(mask, spacing), "skull")
    assert found.bpd_mm == pytest.approx(subject.bpd_mm, rel=0.01)
    assert found.ofd_mm == pytest.approx(subject.ofd_mm, rel=0.01)
    assert found.hc_mm == pytest.approx(subject.hc_mm, rel=0.01)
    assert found.volume_ml == pytest.approx(subject.skull_volume_ml, rel=0.01)


def test_skin_measures_are_named_so_and_get_no_centile():
    y, x = oblique_grid((120, 100), (1.0, 1.0), np.eye(2))
    mask = Volume((y / 42.45) ** 2 + (x / 33.8) ** 2 <= 1, (1.0, 1.0))
    skull, skin = biometry(mask, "skull"), biometry(mask, "skin")
    assert {"skin_bpd_mm", "skin_ofd_mm", "skin_hc_mm"} <= set(skin.asdict()) and "bpd_mm" not in skin.asdict()
    assert skull.asdict()["hc_mm"] == skin.asdict()["skin_hc_mm"]
    with pytest.raises(ValueError, match="mask is of the skin"):
        skin.growth(26)
    found = skull.growth(26)  # BPD 67.6 and OFD 84.9 mm are the means at 26 weeks
    assert found["bpd_centile"] == pytest.approx(50, abs=5) and found["ofd_z"] == pytest.approx(0, abs=0.15)
    with pytest.raises(ValueError, match="valid from 14"):
        skull.growth(12)
    with pytest.raises(ValueError, match="expected 'skull' or 'skin'"):
        biometry(mask, "head")


def test_a_head_that_is_cut_off_straight_reaches_to_the_cut():
    y, x = oblique_grid((140, 100), (0.5, 0.8), np.eye(2))
    rectangle = biometry(Volume((np.abs(y) < 15) & (np.abs(x) < 20), (0.5, 0.8)), "skull")
    assert (rectangle.bpd_mm, rectangle.ofd_mm) == pytest.approx((30, 40), abs=0.8)
    ellipse = (y / 30) ** 2 + (x / 20) ** 2 <= 1
    cut = biometry(Volume(ellipse & (y < 15), (0.5, 0.8)), "skull")  # 15 of 60 mm are beyond the field of view
    assert (cut.bpd_mm, cut.ofd_mm) == pytest.approx((40, 45), abs=0.8)


def test_masks_without_an_ellipse():
    for mask in (np.zeros((4, 5, 6), bool), np.ones((1, 5, 6), bool), np.eye(5, dtype=bool)[:1]):
        found = biometry(Volume(mask, (1.0,) * mask.ndim), "skull")
        assert math.isnan(found.hc_mm) and math.isnan(found.bpd_mm) and "too small" in found.note
    assert biometry(Volume(np.ones((1, 5, 6), bool), (1.0, 1.0, 1.0)), "skull").volume_ml == pytest.approx(0.03)


def test_perimeter():
    assert ellipse_perimeter(3, 3) == pytest.approx(6 * math.pi)
    assert ellipse_perimeter(1, 0.5) == pytest.approx(4 * special.ellipe(0.75), rel=1e-5)


def test_what_is_no_mask_is_refused():
    y, x = oblique_grid((120, 100), (0.8, 1.0), np.eye(2))
    distance = (y / 40) ** 2 + (x / 33) ** 2
    head = distance <= 1
    probability = np.clip(1.2 - distance, 0.01, 1)  # above 0 everywhere
    for other in (
        probability,
        np.where(head, 1, math.nan),
        np.where(head, math.inf, 0),
        head * (y + 50),
        head + 1 * (y < 0),
    ):
        with pytest.raises(ValueError, match="expected one besides 0; threshold it, or choose one structure"):
            biometry(Volume(other, (0.8, 1.0)), "skull")
    for value in (255, -1, 0.5):
        assert biometry(Volume(head * value, (0.8, 1.0)), "skull") == biometry(Volume(head, (0.8, 1.0)), "skull")


def test_a_large_thin_mask_has_no_ellipse():
    # its voxels lie in an odd slice, which a coarser look at every second one would miss
    sheet = np.zeros((3, 1200, 1000), bool)
    sheet[1] = True
    found = biometry(Volume(sheet, (2.0, 0.5, 0.4)), "skull")
    assert math.isnan(found.hc_mm) and "too small" in found.note
    assert found.volume_ml == pytest.approx(1200 * 1000 * 0.4 / 1000)


def test_doubtful_lengths_are_said():
    y, x = oblique_grid((120, 100), (1.0, 1.0), np.eye(2))
    few = biometry(Volume(y**2 + x**2 <= 1.5**2, (1.0, 1.0)), "skull")  # 3 x 3 pixels
    assert "voxels across: lengths are good to a voxel only" in few.note
    # two bars: most of it lies far out along y, though it is wider along x
    bars = (np.abs(y) >= 8) & (np.abs(y) < 14) & (np.abs(x) < 15)
    crossed = biometry(Volume(bars, (1.0, 1.0)), "skull")
    assert crossed.bpd_mm > crossed.ofd_mm and "longer across than along" in crossed.note
    assert biometry(Volume((y / 40) ** 2 + (x / 33) ** 2 <= 1, (1.0, 1.0)), "skull").note == ""


def test_perimeters_of_no_ellipse():
    assert ellipse_perimeter(0, 0) == 0
    with pytest.raises(ValueError, match="expected lengths of 0 and more"):
        ellipse_perimeter(-1, 2)
