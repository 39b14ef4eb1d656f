"""Distances of simple bodies."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.phantom import shapes


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
