"""Signed distances (mm, negative inside) of simple bodies, on arrays of any shape.

A point set is a tuple `(x, y, z)` of float32 arrays that broadcast together. Distances of ellipsoids are
first-order (`f / |grad f|`): exact on the surface, where they are used, and with unit gradient there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating]
Points = tuple[Field, ...]
Triple = tuple[float, float, float]
Vector = Sequence[float] | NDArray[np.floating]
Waves = list[tuple[NDArray[np.floating], float]]
TINY = np.float32(1e-6)  # keeps a length that others are divided by from being 0


def shifted(p: Points, centre: Vector) -> Points:
    """The points relative to `centre`."""
    return tuple(c - np.float32(o) for c, o in zip(p, centre, strict=True))


def divided(p: Points, radii: Vector) -> Points:
    """The points with each coordinate divided by a radius."""
    return tuple(c * np.float32(1 / r) for c, r in zip(p, radii, strict=True))


def rotated(p: Points, rotation: NDArray[np.floating]) -> Points:
    """`rotation @ point` for every point; written out so that the result does not depend on a BLAS."""
    m = rotation.astype(np.float32)
    return tuple(m[i, 0] * p[0] + m[i, 1] * p[1] + m[i, 2] * p[2] for i in range(3))


def dot(p: Points, vector: Vector) -> Field:
    """Scalar product of every point with `vector`."""
    v = np.asarray(vector, dtype=np.float32)
    return p[0] * v[0] + p[1] * v[1] + p[2] * v[2]


def length(p: Points) -> Field:
    """Distance of every point from the origin."""
    return np.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2])


def ellipsoid(p: Points, centre: Vector, radii: Vector) -> Field:
    """Axis-aligned ellipsoid; first-order distance.

    Args:
        p: points (mm).
        centre: x, y, z (mm).
        radii: along x, y and z (mm).
    """
    q = divided(shifted(p, centre), radii)
    n = length(q) + TINY
    slope = length(divided(q, radii)) + TINY
    return n * (n - 1) / slope


def sphere(p: Points, centre: Vector, radius: float) -> Field:
    """Exact distance to a sphere.

    Args:
        p: points (mm).
        centre: x, y, z (mm).
        radius: in mm.
    """
    return length(shifted(p, centre)) - np.float32(radius)


def capsule(p: Points, start: Vector, end: Vector, radius: float) -> Field:
    """Exact distance to a cylinder with round ends between two points.

    Args:
        p: points (mm).
        start: one end of the axis (mm).
        end: its other end (mm).
        radius: in mm.
    """
    axis = np.asarray(end, dtype=float) - np.asarray(start, dtype=float)
    q = shifted(p, start)
    along = np.clip(dot(q, axis / (axis @ axis)), 0, 1)
    aside = tuple(c - along * a for c, a in zip(q, axis.astype(np.float32), strict=True))
    return length(aside) - np.float32(radius)


def smooth_union(first: Field, second: Field, width_mm: float) -> Field:
    """Union with a fillet: `min` rounded by a quadratic.

    Args:
        first: distances to one body.
        second: distances to the other.
        width_mm: how far the two distances may differ where they are rounded.
    """
    overlap = np.maximum(np.float32(width_mm) - np.abs(first - second), 0)
    return np.minimum(first, second) - overlap * overlap * np.float32(0.25 / width_mm)


def smooth_intersection(first: Field, second: Field, width_mm: float) -> Field:
    """Intersection with a rounded edge.

    Args:
        first: distances to one body.
        second: distances to the other.
        width_mm: as in `smooth_union`.
    """
    return -smooth_union(-first, -second, width_mm)


def wave_vectors(rng: np.random.Generator, length_mm: float, count: int) -> Waves:
    """Wave vectors (rad/mm) and phases of a smooth random field, for `sum_of_waves`.

    Args:
        rng: where they are drawn from.
        length_mm: wavelengths lie between 0.7 and 1.4 times this.
        count: how many.
    """
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = length_mm * rng.uniform(0.7, 1.4, count)
    return list(zip(directions * (2 * np.pi / lengths)[:, None], rng.uniform(0, 2 * np.pi, count), strict=True))


def sum_of_waves(p: Points, waves: Waves) -> Field:
    """The smooth field `sum(sin(p . vector + phase))`."""
    return np.asarray(sum(np.sin(dot(p, vector) + np.float32(phase)) for vector, phase in waves))


def tapered(p: Points, start: Vector, end: Vector, radii: tuple[float, float]) -> tuple[Field, Field]:
    """Distance to a cone with round ends, to first order in its slope, and the share of its axis passed (0 to 1).

    Args:
        p: points (mm).
        start: one end of the axis (mm).
        end: its other end (mm).
        radii: at both ends (mm).
    """
    axis = np.asarray(end, dtype=float) - np.asarray(start, dtype=float)
    q = shifted(p, start)
    along = np.clip(dot(q, axis / (axis @ axis)), 0, 1)
    aside = tuple(c - along * a for c, a in zip(q, axis.astype(np.float32), strict=True))
    return length(aside) - (np.float32(radii[0]) + along * np.float32(radii[1] - radii[0])), along


def stretch_near(p: Points, centre: Vector, reach_mm: float) -> slice:
    """The part of a block's last axis that can hold points within `reach_mm` of `centre`; empty where there is none.

    Args:
        p: points of a small block of a grid, three-dimensional arrays.
        centre: in mm.
        reach_mm: in mm.
    """
    rows, columns = p[0].shape[:2]
    middle = [c[rows // 2, columns // 2] for c in p]
    offset = [m - np.float32(o) for m, o in zip(middle, centre, strict=True)]
    corners = [c[:: max(rows - 1, 1), :: max(columns - 1, 1)].reshape(-1, c.shape[2]) for c in p]
    away = sum((c - m) ** 2 for c, m in zip(corners, middle, strict=True)).max(0)
    spread = np.sqrt(away) * np.float32(1.1) + np.float32(1)  # the layers are curved a little
    near = np.flatnonzero(length(tuple(offset)) < spread + np.float32(reach_mm))
    return slice(int(near[0]), int(near[-1]) + 1) if near.size else slice(0, 0)


def cut(p: Points, part: slice) -> Points:
    """The points in a part of the last axis."""
    return tuple(c[..., part] for c in p)
