"""Signed distances (mm, negative inside) of simple bodies, on arrays of any shape.

A point set is a tuple `(x, y, z)` of float32 arrays that broadcast together. Distances of ellipsoids are first-order
(`f / |grad f|`): exact on the surface, where they are used, and with unit gradient there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
Points = tuple[Field, ...]
Vector = Sequence[float] | NDArray[np.floating[Any]]


def shifted(p: Points, centre: Vector) -> Points:
    """The points relative to `centre`."""
    return tuple(c - np.float32(o) for c, o in zip(p, centre, strict=True))


def rotated(p: Points, rotation: NDArray[np.floating]) -> Points:
    """`rotation @ point` for every point; written out so that the result does not depend on a BLAS."""
    m = rotation.astype(np.float32)
    return tuple(m[i, 0] * p[0] + m[i, 1] * p[1] + m[i, 2] * p[2] for i in range(3))


def dot(p: Points, vector: Vector) -> Field:
    """Scalar product of every point with `vector`."""
    v = np.asarray(vector, dtype=np.float32)
    return p[0] * v[0] + p[1] * v[1] + p[2] * v[2]


def ellipsoid(p: Points, centre: Vector, radii: Vector) -> Field:
    """Axis-aligned ellipsoid; first-order distance."""
    q = [(c - np.float32(o)) * np.float32(1 / r) for c, o, r in zip(p, centre, radii, strict=True)]
    n = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) + np.float32(1e-6)
    for component, r in zip(q, radii, strict=True):
        component *= np.float32(1 / r)
    slope = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) + np.float32(1e-6)
    return n * (n - 1) / slope


def sphere(p: Points, centre: Vector, radius: float) -> Field:
    """Exact distance to a sphere."""
    x, y, z = shifted(p, centre)
    return np.sqrt(x * x + y * y + z * z) - np.float32(radius)


def capsule(p: Points, start: Vector, end: Vector, radius: float) -> Field:
    """Exact distance to a cylinder with round ends between two points."""
    axis = np.asarray(end, dtype=float) - np.asarray(start, dtype=float)
    q = shifted(p, start)
    along = np.clip(dot(q, axis / (axis @ axis)), 0, 1)
    a = axis.astype(np.float32)
    x, y, z = q[0] - along * a[0], q[1] - along * a[1], q[2] - along * a[2]
    return np.sqrt(x * x + y * y + z * z) - np.float32(radius)


def smooth_union(first: Field, second: Field, width_mm: float) -> Field:
    """Union with a fillet: `min` rounded by a quadratic over `width_mm`."""
    overlap = np.maximum(np.float32(width_mm) - np.abs(first - second), 0)
    return np.minimum(first, second) - overlap * overlap * np.float32(0.25 / width_mm)


def smooth_intersection(first: Field, second: Field, width_mm: float) -> Field:
    """Intersection with a rounded edge."""
    return -smooth_union(-first, -second, width_mm)


def wave_vectors(rng: np.random.Generator, length_mm: float, count: int) -> list[tuple[NDArray[np.floating], float]]:
    """Wave vectors (rad/mm) and phases of a smooth field `sum(sin(p . vector + phase))`, with wavelengths from 0.7 to
    1.4 times `length_mm`.
    """
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = length_mm * rng.uniform(0.7, 1.4, count)
    return list(zip(directions * (2 * np.pi / lengths)[:, None], rng.uniform(0, 2 * np.pi, count), strict=True))
