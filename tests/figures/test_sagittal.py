"""The median plane, and sagittal planes beside it."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.figures.sagittal import head_axes, median_plane, sagittal_comparison
from fhlib.images.volume import Volume
from tests.figures.made import SPACING, ball, posed_head, texts

TILT = np.array([0.3, 0.5, 0.812])  # of length 1 to three digits


def head_with_a_nose(normal: np.ndarray = TILT) -> np.ndarray:
    """An ellipsoid, flatter along `normal`, with a ball (a face) on one side of it, symmetric about the plane across `normal`."""
    first = np.cross(normal, (1.0, 0, 0))
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    grid = np.meshgrid(
        *[(np.arange(n) + 0.5) * step for n, step in zip((80, 42, 22), SPACING, strict=True)], indexing="ij"
    )
    points = np.stack(grid, axis=-1) - (20, 21, 22)
    along, a, b = points @ normal, points @ first, points @ second
    skull = (along / 11) ** 2 + (a / 14) ** 2 + (b / 12) ** 2 <= 1
    return skull | (along**2 + (a - 12) ** 2 + (b - 7) ** 2 <= 5**2)


def test_the_median_plane_is_the_one_that_mirrors_the_face() -> None:
    centre, normal, symmetry = median_plane(head_with_a_nose(), SPACING)
    assert np.degrees(np.arccos(abs(normal @ TILT) / np.linalg.norm(TILT))) < 5
    assert abs((centre - (20, 21, 22)) @ TILT) < 0.5 and 0.9 < symmetry <= 1
    with pytest.raises(ValueError, match="not empty"):
        median_plane(np.zeros((4, 6, 8)), SPACING)


def test_fig6_shows_sagittal_planes_named_right_and_left_where_that_is_known(scan: Volume) -> None:
    head = head_with_a_nose()
    names = [axis.get_title() for axis in sagittal_comparison(scan, {"expert": head, "A": head}).axes]
    # the head is 22 mm wide: a quarter of it is 5.5 mm from the middle
    assert [name.split(",")[0] for name in names] == ["one side", "middle", "other side"]
    assert all(4 <= int(name.split()[-2]) <= 7 for name in (names[0], names[2]))
    known = sagittal_comparison(scan, {"expert": head}, right=TILT)
    assert [axis.get_title().split(",")[0] for axis in known.axes] == ["right", "middle", "left"]
    assert "mirror symmetry of expert" in texts(known)
    assert len(sagittal_comparison(Volume(scan.array[:, 20], (0.5, 2.0)), {"expert": head[:, 20]}).axes) == 1


def test_a_sagittal_plane_across_the_last_axis_is_that_slice(scan: Volume) -> None:
    """A head that is symmetric about w = 22 mm, in a volume whose grey levels count the voxels along d."""
    head = head_with_a_nose(np.array([0, 0, 1.0]))
    counting = Volume(np.repeat(np.arange(80, dtype=np.float32)[:, None, None], 42, 1).repeat(22, 2), SPACING)
    middle = sagittal_comparison(counting, {"expert": head}).axes[1].images[0]
    shown = np.asarray(middle.get_array())
    rows = shown[:, shown.shape[1] // 2]
    rows = rows[(rows > 2) & (rows < 77)]
    np.testing.assert_allclose(
        np.diff(rows), 1.0, atol=0.02
    )  # grey grows by one each voxel of d, 0.5 mm, the plane's step


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_face_and_vertex_are_found_in_any_pose(seed: int) -> None:
    mask, spacing, forward, up = posed_head(seed)
    axes = head_axes(mask, spacing)
    assert axes is not None
    assert np.degrees(np.arccos([axes.forward @ forward, axes.up @ up])).max() < 8


def test_a_ball_has_no_face() -> None:
    assert head_axes(ball(12), SPACING) is None
