"""A mechanical convex 3D probe: its beams, and how a box of voxels is filled from them.

Toroidal geometry. In a plane at sweep angle phi a beam at lateral angle theta holds points at distance r from the
centre of curvature (range = r - probe radius), and the plane turns about an axis `centre_distance_mm` from it:

x = r sin(theta)      y = -sin(phi) (r cos(theta) - d)      z = d (1 - cos(phi)) + r cos(theta) cos(phi)

in probe coordinates (mm): x lateral, y elevation, z away from the probe. Beam arrays are (planes, beams, ranges).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.phantom.shapes import Field, Points

BLOCK = (16, 32, 128)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Probe:
    """Radii in mm, full angles in degrees.

    The paper states one scan angle of 75 degrees; that it holds for both the fan and the sweep is unconfirmed. Radii
    of 40-57 mm (probe) and 40-58 mm (motor) agree with the paper's box (derived); `d` is the difference of the two.
    """

    probe_radius_mm: float = 45.0
    motor_radius_mm: float = 50.0
    fan_degrees: float = 75.0
    sweep_degrees: float = 75.0

    @property
    def centre_distance_mm(self) -> float:
        """d: from the centre of curvature to the sweep's axis, negative where the motor radius is the larger."""
        return self.probe_radius_mm - self.motor_radius_mm

    def cartesian(self, phi: Field, theta: Field, r: Field) -> Points:
        """Probe coordinates (x, y, z) of beam coordinates."""
        d = np.float32(self.centre_distance_mm)
        reach = r * np.cos(theta)
        return r * np.sin(theta), -np.sin(phi) * (reach - d), d * (1 - np.cos(phi)) + reach * np.cos(phi)

    def beam(self, p: Points) -> tuple[Field, Field, Field]:
        """Beam coordinates (phi, theta, r) of probe coordinates; the inverse of `cartesian` in front of the probe."""
        d = np.float32(self.centre_distance_mm)
        x, y, z = p
        reach = np.hypot(y, z - d) + d
        return np.arctan2(-y, z - d), np.arctan2(x, reach), np.hypot(x, reach)

    def sees(self, p: Points, depth_mm: float, margin_degrees: float = 0.0) -> NDArray[np.bool_]:
        """Which points lie in the sector down to `depth_mm`."""
        phi, theta, r = self.beam(p)
        fan, sweep = (np.radians(angle / 2 - margin_degrees) for angle in (self.fan_degrees, self.sweep_degrees))
        near, far = self.probe_radius_mm, self.probe_radius_mm + depth_mm
        return (np.abs(phi) <= sweep) & (np.abs(theta) <= fan) & (r >= near) & (r <= far)


@dataclass(frozen=True)
class BeamGrid:
    """The sampled beams of one scan: angles (rad) and radii (mm), each increasing and equally spaced."""

    probe: Probe
    phi: NDArray[np.float32] = field(repr=False)
    theta: NDArray[np.float32] = field(repr=False)
    r: NDArray[np.float32] = field(repr=False)

    @classmethod
    def build(cls, probe: Probe, depth_mm: float, range_step_mm: float, theta_step: float, phi_step: float) -> BeamGrid:
        """A grid over the whole sector down to `depth_mm` with steps no larger than those given (mm, rad, rad)."""

        def spread(full_degrees: float, step: float) -> NDArray[np.float32]:
            half = np.radians(full_degrees) / 2
            return np.linspace(-half, half, int(np.ceil(2 * half / step)) + 1, dtype=np.float32)

        count = int(np.ceil(depth_mm / range_step_mm)) + 1
        r = probe.probe_radius_mm + np.linspace(0, depth_mm, count, dtype=np.float32)
        return cls(probe, spread(probe.sweep_degrees, phi_step), spread(probe.fan_degrees, theta_step), r)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(planes, beams, ranges)."""
        return len(self.phi), len(self.theta), len(self.r)

    @property
    def steps(self) -> tuple[float, float, float]:
        """Steps along planes (rad), beams (rad) and ranges (mm)."""
        phi, theta, r = (float((axis[-1] - axis[0]) / (len(axis) - 1)) for axis in (self.phi, self.theta, self.r))
        return phi, theta, r

    def points(self, block: tuple[slice, ...]) -> Points:
        """Probe coordinates of a block of the grid, each (planes, beams, ranges)."""
        phi, theta, r = self.phi[block[0], None, None], self.theta[None, block[1], None], self.r[None, None, block[2]]
        return tuple(np.ascontiguousarray(c) for c in np.broadcast_arrays(*self.probe.cartesian(phi, theta, r)))


def blocks(shape: tuple[int, ...], size: tuple[int, ...] = BLOCK) -> Iterator[tuple[slice, ...]]:
    """Boxes that tile an array of this shape; small enough that the work on one stays in the processor's cache. A last layer of one
    sample joins the box before it, since slopes along an axis need two.
    """
    parts = [
        [slice(i, n if i + s >= n - 1 else i + s) for i in range(0, max(n - 1, 1), s)]
        for n, s in zip(shape, size, strict=True)
    ]
    yield from product(*parts)


def in_threads(work: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Call `work` on every item, in `threads` threads; items must not write to the same place."""
    if threads <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, items))


def enclosing_sphere(p: Points) -> tuple[NDArray[np.float64], float]:
    """Centre and radius (mm) of a sphere that holds a block of points."""
    low, high = (np.array([float(f(c)) for c in p]) for f in (np.min, np.max))
    return (low + high) / 2, float(np.linalg.norm(high - low)) / 2


@dataclass(frozen=True)
class Box:
    """Voxels in probe coordinates: `shape` and `spacing_mm` follow the array (z, y, x), `corner` is (x, y, z) of
    voxel 0, 0, 0.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    corner: tuple[float, float, float]

    @classmethod
    def build(cls, size_mm: tuple[float, float, float], spacing_mm: float, top_mm: float) -> Box:
        """A box of (x, y, z) size, centred in x and y, whose first layer of voxels lies at z = `top_mm`."""
        x, y, z = (max(2, round(size / spacing_mm)) for size in size_mm)
        return cls((z, y, x), spacing_mm, (-(x - 1) / 2 * spacing_mm, -(y - 1) / 2 * spacing_mm, top_mm))

    def points(self, block: tuple[slice, ...]) -> Points:
        """Probe coordinates (x, y, z) of a block of voxels, each shaped like the block."""
        z, y, x = (
            np.arange(part.start, part.stop, dtype=np.float32) * np.float32(self.spacing_mm) + np.float32(start)
            for part, start in zip(block, self.corner[::-1], strict=True)
        )
        parts = np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None])
        return tuple(np.ascontiguousarray(c) for c in parts)


def scan_convert(beams: NDArray[np.uint8], grid: BeamGrid, box: Box, threads: int = 1) -> NDArray[np.uint8]:
    """Trilinear interpolation of beam data into the box; voxels outside the sector are 0."""
    out = np.zeros(box.shape, np.uint8)
    steps, starts = grid.steps, (grid.phi[0], grid.theta[0], grid.r[0])

    def convert(block: tuple[slice, ...]) -> None:
        coordinates = grid.probe.beam(box.points(block))
        index = np.stack(
            [(c - s) * np.float32(1 / step) for c, s, step in zip(coordinates, starts, steps, strict=True)]
        )
        inside = np.all([(i >= 0) & (i <= n - 1) for i, n in zip(index, grid.shape, strict=True)], axis=0)
        if inside.any():
            values = ndimage.map_coordinates(beams, index[:, inside], output=np.float32, order=1, mode="nearest")
            out[block][inside] = np.rint(values).astype(np.uint8)

    in_threads(convert, blocks(box.shape, (8, 64, 256)), threads)
    return out
