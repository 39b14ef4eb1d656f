"""What a grid leaves of a label."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.images.volume import Volume
from fhlib.paper.ceiling import ceilings


def test_a_cuboid_on_whole_coarse_voxels_comes_back_but_for_its_edges():
    """Cut at one half between voxels of 1 and 0, faces come back where they were; only edges and corners are rounded."""
    array = np.zeros((24, 36, 30), np.uint8)
    array[6:18, 9:27, 12:24] = 1
    label = Volume(array, (1.0, 1.0, 1.0))
    same, coarse = ceilings([label], [1.0, 3.0]).to_dict("records")
    assert (same["dsc_mean"], same["adb_mm_mean"], same["n"]) == (1.0, 0.0, 1)
    assert 0.95 < coarse["dsc_mean"] < 1 and coarse["hdb_mm_mean"] <= 3


def test_a_sphere_loses_the_more_the_coarser_the_grid():
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip((40, 50, 60), (1.0, 0.8, 0.7), strict=True)), indexing="ij")
    ball = sum((axis - axis.mean()) ** 2 for axis in axes) < 15**2
    table = ceilings([Volume(ball.astype(np.uint8), (1.0, 0.8, 0.7))] * 2, [2.0, 4.0, 6.0])
    assert table["n"].tolist() == [2, 2, 2] and table["dsc_sd"].max() == pytest.approx(0)
    assert table["dsc_mean"].is_monotonic_decreasing and table["adb_mm_mean"].is_monotonic_increasing
    # a surface point lies anywhere in a voxel: its distance to the grid's surface is below half a diagonal
    assert (table["hdb_mm_mean"] < table["spacing_mm"] * 3**0.5).all() and table["dsc_mean"].min() > 0.85
