"""Distances on surfaces, still and turning."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.contour import ContourSet

from fhlib.figures import surfaces
from tests.figures.made import SPACING, ball, posed_head, smallest_letters, texts


def test_surface_distance_of_concentric_balls_is_the_difference_of_radii() -> None:
    surface = surfaces.surface_distance(ball(12), ball(15), SPACING)
    low, mean, high = surface.summary()
    assert mean == pytest.approx(3.0, abs=0.15) and low > 1.9 and high < 3.8  # voxels of up to 2 mm
    np.testing.assert_allclose(surface.vertices_mm.mean(axis=0), (20, 21, 22), atol=0.5)


def test_surface_distance_of_a_shifted_ball_and_of_itself() -> None:
    moved = surfaces.surface_distance(ball(12, (24, 21, 22)), ball(12), SPACING)
    assert moved.summary()[2] == pytest.approx(4.0, abs=0.4)
    assert surfaces.surface_distance(ball(12), ball(12), SPACING).summary() == pytest.approx((0, 0, 0), abs=1e-5)


def test_surfaces_refuse_images_and_empty_masks() -> None:
    with pytest.raises(ValueError, match="3D"):
        surfaces.surface_distance(ball(12)[0], ball(12)[0], SPACING[1:])
    with pytest.raises(ValueError, match="not empty"):
        surfaces.surface_distance(np.zeros_like(ball(12)), ball(12), SPACING)


def test_surface_map_says_mean_and_max_and_decimation_keeps_the_shape() -> None:
    surface = surfaces.surface_distance(ball(12), ball(15), SPACING)
    figure = surfaces.surface_distance_map({"USegNet": surface, "USegNet-DS": surface}, title="case")
    _, mean, high = surface.summary()
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert words.count(f"mean {mean:.1f}\nmax {high:.1f} mm") == 2 and "case: 2 surfaces" in texts(figure)
    assert smallest_letters(figure) >= 7
    assert words.count("depth down") == 4, "a ball has no face"
    small = surfaces.decimate(surface, 500)
    assert 100 < len(small.faces) < 900 and small.distance_mm.mean() == pytest.approx(mean, abs=0.2)
    assert np.linalg.norm(small.vertices_mm - (20, 21, 22), axis=1).mean() == pytest.approx(12, abs=0.6)


def test_a_ghost_has_the_size_of_the_truth() -> None:
    """The truth is a ball of 15 mm around the predicted one of 12 mm: its outline is a circle of 15 mm."""
    surface = surfaces.surface_distance(ball(12), ball(15), SPACING)
    side = surfaces.surface_distance_map({"": surface}).axes[0]
    outline = next(part for part in side.collections if isinstance(part, ContourSet) and not part.filled)
    (line,) = (path.vertices for path in outline.get_paths())
    assert np.linalg.norm(line - line.mean(axis=0), axis=1).mean() == pytest.approx(15, abs=1.0)


def test_standard_views_show_a_head_from_its_left_and_from_its_face() -> None:
    """A head of the simulator in a drawn pose: what lies forward is drawn on the left, then in front; up is up."""
    mask, spacing, forward, up = posed_head(3)
    figure = surfaces.surface_distance_map({"": surfaces.surface_distance(mask, mask, spacing, resolution_mm=3)})
    side, front, *_ = figure.axes
    assert [text.get_text() for text in (side.texts[0], front.texts[0])] == ["◄ face", "from the front"]
    left = np.cross(-forward[::-1], up[::-1])[::-1]  # of the fetus: z up, y back and x left are right-handed
    surface = surfaces.surface_distance(mask, mask, spacing, resolution_mm=3)
    for axis, right in ((side, -forward), (front, left)):
        drawn = np.concatenate([path.vertices for path in axis.collections[0].get_paths()])
        expected = np.column_stack([surface.vertices_mm @ right, surface.vertices_mm @ up])
        for low_or_high in (np.min, np.max):
            assert low_or_high(drawn, axis=0) == pytest.approx(
                low_or_high(expected, axis=0), abs=8
            )  # turned by a few degrees


def test_turning_surfaces_share_a_scale_and_mark_min_mean_and_max() -> None:
    near = surfaces.surface_distance(ball(12), ball(13), SPACING)
    far = surfaces.surface_distance(ball(12), ball(15), SPACING)
    figure = surfaces.interactive_surfaces({"near": near, "far": far}, limit_mm=2.0, faces=500)
    assert [mesh.visible for mesh in figure.data] == [True, False]
    assert {(mesh.cmin, mesh.cmax) for mesh in figure.data} == {(0, 2.0)}
    buttons = figure.layout.updatemenus[0].buttons
    assert [(b.label, b.args[0]["visible"]) for b in buttons] == [("near", [True, False]), ("far", [False, True])]
    words = figure.data[1].colorbar.ticktext  # 3 mm off everywhere, beyond a scale of 2 mm
    assert any(text.startswith(f"max {far.summary()[2]:.2f}") and "ends" in text for text in words)
    assert len(figure.data[1].i) == len(surfaces.decimate(far, 500).faces)
    assert len(figure.to_json()) < 60_000


def test_turned_surfaces_are_no_mirror_images() -> None:
    """Three marks along d, h and w keep their handedness: a right hand stays a right hand."""
    surface = surfaces.surface_distance(ball(12), ball(15), SPACING)
    mesh = surfaces.interactive_surfaces({"": surface}, faces=10**6).data[0]
    drawn = np.column_stack([mesh.x, mesh.y, mesh.z])
    turn, *_ = np.linalg.lstsq(
        surface.vertices_mm[:, ::-1], drawn, rcond=None
    )  # from (w, h, d), which is ITK's (x, y, z)
    assert np.linalg.det(turn) == pytest.approx(1.0, abs=0.01) and mesh.z.max() <= 0  # depth points down
