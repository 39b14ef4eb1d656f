"""A mechanical convex 3D probe: its beams, how a box of voxels is filled from them, and the machines it sits on.

Toroidal geometry. A plane at sweep angle phi holds beams at lateral angles theta. A beam holds points at
distance r from the centre of curvature (range = r - probe radius). The planes turn about an axis
`centre_distance_mm` (d) from that centre:

    x = r sin(theta)
    y = -sin(phi) (r cos(theta) - d)
    z = d (1 - cos(phi)) + r cos(theta) cos(phi)

in probe coordinates (mm): x lateral, y elevation, z away from the probe. Beam arrays are (planes, beams,
ranges).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.phantom.shapes import Field, Points, Triple

BLOCK = (16, 32, 128)
LEAST_HEAD_CUBED = 0.028
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Probe:
    """Radii in mm, full angles in degrees.

    The paper states one scan angle of 75 degrees; that it holds for both the fan and the sweep is
    unconfirmed. Radii of 40-57 mm (probe) and 40-58 mm (motor) agree with the paper's box (derived).
    Machines may show a part alone, the region of interest: a fan and a sweep about angles of their own
    (`fan_centre_degrees`, `sweep_centre_degrees`), from `near_mm` below the probe's face on.
    """

    probe_radius_mm: float = 45.0
    motor_radius_mm: float = 50.0
    fan_degrees: float = 75.0
    sweep_degrees: float = 75.0
    fan_centre_degrees: float = 0.0
    sweep_centre_degrees: float = 0.0
    near_mm: float = 0.0

    @property
    def centre_distance_mm(self) -> float:
        """d: from the centre of curvature to the sweep's axis, negative where the motor radius is the larger.

        Beams exist where r cos(theta) > d.
        """
        return self.probe_radius_mm - self.motor_radius_mm

    def cartesian(self, phi: Field, theta: Field, r: Field) -> Points:
        """Probe coordinates (x, y, z) of beam coordinates.

        Args:
            phi: sweep angle (rad).
            theta: lateral angle (rad).
            r: distance from the centre of curvature (mm).
        """
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
        """Which points lie in the sector.

        Args:
            p: points in probe coordinates (mm).
            depth_mm: how deep the sector reaches.
            margin_degrees: by how much the sector is narrowed at each side (widened where negative).
        """
        phi, theta, r = self.beam(p)
        fan, sweep = (np.radians(angle / 2 - margin_degrees) for angle in (self.fan_degrees, self.sweep_degrees))
        phi, theta = phi - np.radians(self.sweep_centre_degrees), theta - np.radians(self.fan_centre_degrees)
        near, far = self.probe_radius_mm + self.near_mm, self.probe_radius_mm + depth_mm
        return (np.abs(phi) <= sweep) & (np.abs(theta) <= fan) & (r >= near) & (r <= far)

    def edges(self, depth_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest (x, y, z) of the sector (mm); `depth_mm` is how deep it reaches."""
        angles = np.linspace(-0.5, 0.5, 41)
        phi = np.radians(self.sweep_centre_degrees + self.sweep_degrees * angles)[:, None, None]
        theta = np.radians(self.fan_centre_degrees + self.fan_degrees * angles)[None, :, None]
        r = self.probe_radius_mm + np.array([self.near_mm, depth_mm])
        corners = np.stack([c.ravel() for c in np.broadcast_arrays(*self.cartesian(phi, theta, r))])
        return corners.min(1), corners.max(1)

    def volume_mm3(self, depth_mm: float) -> float:
        """Of the sector: the integral of r (r cos(theta) - d); `depth_mm` is how deep it reaches."""
        half, centre = np.radians(self.fan_degrees / 2), np.radians(self.fan_centre_degrees)
        near, far = self.probe_radius_mm + self.near_mm, self.probe_radius_mm + depth_mm
        wide = (far**3 - near**3) / 3 * 2 * np.sin(half) * np.cos(centre)
        return float(np.radians(self.sweep_degrees) * (wide - self.centre_distance_mm * (far**2 - near**2) * half))


@dataclass(frozen=True)
class BeamGrid:
    """The sampled beams of one scan: angles (rad) and radii (mm), each increasing and equally spaced."""

    probe: Probe
    phi: NDArray[np.float32] = field(repr=False)
    theta: NDArray[np.float32] = field(repr=False)
    r: NDArray[np.float32] = field(repr=False)

    @classmethod
    def build(cls, probe: Probe, depth_mm: float, range_step_mm: float, theta_step: float, phi_step: float) -> BeamGrid:
        """A grid over the whole sector, from the probe's face on; steps are no larger than those given.

        Args:
            probe: whose sector it is.
            depth_mm: how deep it reaches.
            range_step_mm: step along a beam.
            theta_step: step between the beams of a plane (rad).
            phi_step: step between planes (rad).
        """

        def spread(full_degrees: float, centre_degrees: float, step: float) -> NDArray[np.float32]:
            half, centre = np.radians(full_degrees) / 2, np.radians(centre_degrees)
            return np.linspace(centre - half, centre + half, int(np.ceil(2 * half / step)) + 1, dtype=np.float32)

        count = int(np.ceil(depth_mm / range_step_mm)) + 1
        r = probe.probe_radius_mm + np.linspace(0, depth_mm, count, dtype=np.float32)
        phi = spread(probe.sweep_degrees, probe.sweep_centre_degrees, phi_step)
        return cls(probe, phi, spread(probe.fan_degrees, probe.fan_centre_degrees, theta_step), r)

    def towards(self, box: Box, margin_degrees: float, margin_mm: float) -> BeamGrid:
        """The planes, beams and ranges that reach a box.

        Args:
            box: voxels in probe coordinates.
            margin_degrees: how far beyond it planes and beams are kept.
            margin_mm: how far beyond it ranges are kept.
        """
        corners = tuple(
            np.linspace(0, n - 1, 9) * box.spacing_mm + c for n, c in zip(box.shape[::-1], box.corner, strict=True)
        )
        phi, theta, r = self.probe.beam(tuple(np.meshgrid(*corners)))
        margin = np.radians(margin_degrees)
        kept = [(a >= b.min() - margin) & (a <= b.max() + margin) for a, b in ((self.phi, phi), (self.theta, theta))]
        return BeamGrid(self.probe, self.phi[kept[0]], self.theta[kept[1]], self.r[self.r <= r.max() + margin_mm])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(planes, beams, ranges)."""
        return len(self.phi), len(self.theta), len(self.r)

    @property
    def starts(self) -> tuple[np.float32, np.float32, np.float32]:
        """Where planes (rad), beams (rad) and ranges (mm) begin."""
        return self.phi[0], self.theta[0], self.r[0]

    @property
    def steps(self) -> Triple:
        """Steps along planes (rad), beams (rad) and ranges (mm)."""
        phi, theta, r = (float((axis[-1] - axis[0]) / (len(axis) - 1)) for axis in (self.phi, self.theta, self.r))
        return phi, theta, r

    @property
    def depth_mm(self) -> NDArray[np.float32]:
        """Depth below the probe's face of each range."""
        return self.r - self.probe.probe_radius_mm

    def points(self, block: tuple[slice, ...]) -> Points:
        """Probe coordinates of a block of the grid, each (planes, beams, ranges)."""
        phi, theta, r = self.phi[block[0], None, None], self.theta[None, block[1], None], self.r[None, None, block[2]]
        return tuple(np.ascontiguousarray(c) for c in np.broadcast_arrays(*self.probe.cartesian(phi, theta, r)))


def blocks(shape: tuple[int, ...], size: tuple[int, ...] = BLOCK) -> Iterator[tuple[slice, ...]]:
    """Boxes that tile an array of this shape, so small that the work on one stays in the processor's cache."""
    yield from product(*map(_tiles, shape, size))


def _tiles(count: int, size: int) -> list[slice]:
    # a last layer of one sample joins the tile before it, since slopes along an axis need two
    edges = [*range(0, max(count - 1, 1), size), count]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Call `work` on every item and return its results in order.

    Args:
        work: called once for an item; no two calls may write to the same place.
        items: what it is called with.
        threads: how many calls run at a time.
    """
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def enclosing_sphere(p: Points) -> tuple[NDArray[np.float64], float]:
    """Centre and radius (mm) of a sphere that holds a block of points."""
    low = np.array([float(c.min()) for c in p])
    high = np.array([float(c.max()) for c in p])
    return (low + high) / 2, float(np.linalg.norm(high - low)) / 2


@dataclass(frozen=True)
class Box:
    """Voxels in probe coordinates.

    `shape` follows the array (z, y, x), `spacing_mm` holds for all axes and `corner` is (x, y, z) of voxel
    0, 0, 0.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    corner: Triple

    @classmethod
    def build(cls, size_mm: Triple, spacing_mm: float, top_mm: float) -> Box:
        """A box centred in x and y.

        Args:
            size_mm: along x, y and z.
            spacing_mm: of its voxels.
            top_mm: z of its first layer of voxels.
        """
        x, y, z = (max(2, round(size / spacing_mm)) for size in size_mm)
        return cls((z, y, x), spacing_mm, (-(x - 1) / 2 * spacing_mm, -(y - 1) / 2 * spacing_mm, top_mm))

    @classmethod
    def spanning(cls, low: NDArray[np.float64], high: NDArray[np.float64], spacing_mm: float) -> Box:
        """The box between two corners (x, y, z; mm), its voxels of one size."""
        x, y, z = (max(2, round(float(size) / spacing_mm)) for size in high - low)
        corner = (low + high) / 2 - (np.array([x, y, z]) - 1) / 2 * spacing_mm
        return cls((z, y, x), spacing_mm, tuple(corner.tolist()))

    def points(self, block: tuple[slice, ...]) -> Points:
        """Probe coordinates (x, y, z) of a block of voxels, each shaped like the block."""
        z, y, x = (
            np.arange(part.start, part.stop, dtype=np.float32) * np.float32(self.spacing_mm) + np.float32(start)
            for part, start in zip(block, self.corner[::-1], strict=True)
        )
        parts = np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None])
        return tuple(np.ascontiguousarray(c) for c in parts)


def scan_convert(beams: NDArray[np.uint8], grid: BeamGrid, box: Box, threads: int = 1) -> NDArray[np.uint8]:
    """Trilinear interpolation of beam data into the box; voxels outside the sector, or nearer than it begins, are 0.

    Args:
        beams: the beam image (planes, beams, ranges).
        grid: where its samples lie.
        box: the voxels to fill.
        threads: how many work on it; the result does not depend on it.
    """
    out = np.zeros(box.shape, np.uint8)
    rates = [np.float32(1 / step) for step in grid.steps]
    first = (0.0, 0.0, grid.probe.near_mm * rates[2])

    def convert(block: tuple[slice, ...]) -> None:
        at = zip(grid.probe.beam(box.points(block)), grid.starts, rates, strict=True)
        index = np.stack([(coordinate - start) * rate for coordinate, start, rate in at])
        inside = np.all([(i >= f) & (i <= n - 1) for i, f, n in zip(index, first, grid.shape, strict=True)], axis=0)
        if inside.any():
            values = ndimage.map_coordinates(beams, index[:, inside], output=np.float32, order=1, mode="nearest")
            out[block][inside] = np.rint(values).astype(np.uint8)

    in_threads(convert, blocks(box.shape, (8, 64, 256)), threads)
    return out


@dataclass(frozen=True)
class Site:
    """A machine with its settings.

    Resolutions are full widths at half maximum (-6 dB) of the amplitude: axial in mm, lateral and elevation
    as a share of the depth, with a floor in mm. The default's are derived for 3.5 MHz: lateral 1.2 / 2.0 / 2.7 mm
    and elevation 2.0 / 3.3 / 4.6 mm at depths of 60 / 100 / 140 mm. Before its focus the beam narrows in elevation
    from the width of the aperture.

    `top_db` is the echo shown white. `shadow_degrees` is the angle over which shadows are averaged,
    `smoothing` the filter of the displayed levels as a share of the point spread; `box_mm` is (x, y, z).
    An echo comes again `reverberations` times, each `reverberation_mm` behind the one before and weaker by
    `reverberation_db`. `ring_down_db` is the echo of the probe itself, in bands `ring_down_mm` apart that fade
    within some of them.

    Where `tissue_grey` is given, gain and depth gain follow the picture, as an operator sets them: the
    brightest twelfth of it begins at about that grey level at middle depth, and rises by `tilt_db` from its
    nearest to its deepest range. `reject_grey` is the display's lower threshold: grey levels up to it are black, those
    above are spread over the whole range again.

    The default is faithful to what the paper states (75 degrees, box; 3.5 MHz is assumed). All else, and all
    of the other sites, is unconfirmed: set by eye beside HC18 images, and so that a quarter to a half of the
    head's surface shows no edge (`fhlib.phantom.realism`).
    """

    name: str = "paper-like"
    probe: Probe = field(default_factory=Probe)
    box_mm: Triple = (147.44, 98.04, 167.2)
    frequency_mhz: float = 3.5
    axial_mm: float = 0.6
    lateral_share: float = 0.0195
    elevation_share: float = 0.033
    lateral_floor_mm: float = 0.9
    elevation_floor_mm: float = 1.6
    elevation_focus_mm: float = 60.0
    elevation_aperture_mm: float = 6.0
    dynamic_range_db: float = 62.0
    top_db: float = 14.0
    tgc_db: float = 0.36
    noise_db: float = -72.0
    clutter_db: float = -26.0
    reverberation_db: float = -40.0
    reverberation_mm: float = 6.0
    shadow_degrees: float = 2.0
    smoothing: float = 0.6
    reverberations: int = 1
    ring_down_db: float | None = None
    ring_down_mm: float = 2.0
    tissue_grey: float | None = None
    tilt_db: float = 0.0
    reject_grey: float = 0.0


SITES = {
    site.name: site
    for site in (
        Site(),
        Site(
            "high-frequency",
            Probe(40, 42, 70, 70),
            frequency_mhz=5.0,
            axial_mm=0.45,
            lateral_share=0.015,
            elevation_share=0.026,
            noise_db=-66.0,
        ),
        Site(
            "low-cost",
            Probe(50, 46, 68, 65),
            frequency_mhz=3.0,
            axial_mm=0.8,
            dynamic_range_db=55.0,
            top_db=11.0,
            noise_db=-64.0,
            clutter_db=-22.0,
            smoothing=0.3,
        ),
        Site(
            "speckle-reduced",
            Probe(45, 55, 80, 80),
            (160.0, 120.0, 160.0),
            dynamic_range_db=70.0,
            top_db=16.0,
            clutter_db=-34.0,
            smoothing=1.2,
        ),
    )
}


def drawn_machine(rng: np.random.Generator, probe: Probe, ofd_mm: float) -> Site:
    """A machine that is nobody's: one of the sites with nearly all of its settings drawn widely.

    Small heads are seen at higher frequencies. The ranges are unconfirmed. Their middles give planes about
    the grey levels and grain of real images, but for the skull, which stands out less
    (`fhlib.phantom.plane`, notebook 12).

    Args:
        rng: where the settings are drawn from.
        probe: the probe it has.
        ofd_mm: the head's length.
    """
    frequency = float(np.clip(rng.normal(6.5 - 0.025 * ofd_mm, 0.8), 2.5, 7.5))
    sharp = float(np.clip(3.5 / frequency, 0.55, 1.3))
    return replace(
        SITES[str(rng.choice(list(SITES)))],
        name="drawn",
        probe=probe,
        frequency_mhz=frequency,
        axial_mm=0.65 * sharp * float(rng.uniform(0.7, 1.4)),
        lateral_share=0.027 * sharp * float(rng.uniform(0.7, 1.3)),
        lateral_floor_mm=0.9 * sharp,
        elevation_floor_mm=1.6 * sharp,
        dynamic_range_db=float(rng.uniform(60, 90)),
        top_db=float(rng.uniform(5, 19)),
        tgc_db=float(rng.uniform(0.2, 0.42)),
        noise_db=float(rng.uniform(-102, -80)),
        clutter_db=float(rng.uniform(-46, -27)),
        smoothing=float(rng.uniform(0.3, 1.4)),
    )


def drawn_region(rng: np.random.Generator, head_mm: float, widest_mm: float) -> tuple[Probe, float]:
    """A probe with its region of interest, and how deep that reaches (mm).

    The sweep's axis lies 10 mm behind the centre of curvature to 35 mm before it. Half of the draws are
    about +27 mm: five clinical exports of the first trimester are fitted by +25 to +29. The region is 1.1 to 2.6
    times as thick as the head is long. Its box is 0.6 to 1.8 times as wide as deep, in elevation 0.5 to
    2.2 times, and the region fills 35 % of it or more; the head takes 0.6 % of it or more (its volume is about
    0.21 times its length cubed). All ranges but the centre distance's are unconfirmed.

    Args:
        rng: where it is drawn from.
        head_mm: the whole head's length.
        widest_mm: the box's edges are no longer.
    """
    while True:
        radius = float(rng.uniform(36, 60))
        centre = float(rng.normal(27, 3) if rng.uniform() < 0.5 else rng.uniform(-10, 35))
        centre = float(np.clip(centre, -10, min(35, radius - 8)))
        near = 0.0 if rng.uniform() < 0.3 else float(rng.uniform(4, 0.6 * head_mm + 15))
        depth = near + min(6 + head_mm * float(np.exp(rng.uniform(*np.log([1.1, 2.6])))), 190)
        fan, sweep = rng.uniform(30, 90), rng.uniform(25, 90)
        aside = rng.normal(0, 3, 2) * (rng.uniform() < 0.4)
        probe = Probe(radius, radius - centre, float(fan), float(sweep), float(aside[0]), float(aside[1]), near)
        low, high = probe.edges(depth)
        x, y, z = high - low
        filled = probe.volume_mm3(depth) / (x * y * z)
        if head_mm**3 < LEAST_HEAD_CUBED * x * y * z:
            continue
        if 0.6 < x / z < 1.8 and 0.5 < y / z < 2.2 and filled > 0.35 and max(x, y, z) < widest_mm:
            return probe, depth


def drawn_scanner(rng: np.random.Generator, probe: Probe, ofd_mm: float, depth_mm: float) -> Site:
    """A machine for volumes: `drawn_machine` with the display, near field and beam of real exports.

    Fluid is black in most draws and veiled in some, gain with depth over- or undercompensates, all widths of the
    beam follow the frequency. Deep regions are seen at lower frequencies, so that noise seldom covers them.

    Args:
        rng: where the settings are drawn from.
        probe: the probe it has.
        ofd_mm: the head's length.
        depth_mm: how deep the region of interest reaches.
    """
    machine = drawn_machine(rng, probe, ofd_mm)
    frequency = float(np.clip(min(machine.frequency_mhz, rng.uniform(380, 620) / depth_mm), 2.0, 7.5))
    sharp = float(np.clip(3.5 / frequency, 0.5, 1.2))
    veiled = rng.uniform() < 0.15
    return replace(
        machine,
        frequency_mhz=frequency,
        axial_mm=0.5 * sharp * float(rng.uniform(0.6, 1.3)),
        lateral_share=0.024 * sharp * float(rng.uniform(0.7, 1.3)),
        lateral_floor_mm=0.9 * sharp,
        elevation_share=0.036 * sharp * float(rng.uniform(0.6, 1.3)),
        elevation_floor_mm=1.6 * sharp,
        elevation_aperture_mm=float(rng.uniform(1.5, 4.5)),
        dynamic_range_db=float(rng.uniform(42, 70)),
        clutter_db=float(rng.uniform(-32, -24) if veiled else rng.uniform(-66, -46)),
        noise_db=float(rng.uniform(-118, -92)),
        tgc_db=float(rng.uniform(0.3, 0.6)),
        smoothing=float(rng.uniform(0.15, 0.8)),
        reverberation_db=float(rng.uniform(-44, -24)),
        reverberation_mm=float(rng.uniform(3, 14)),
        reverberations=3,
        ring_down_db=float(rng.uniform(-4, 18)),
        ring_down_mm=float(rng.uniform(0.7, 2.0)),
        tissue_grey=float(rng.uniform(150, 255)),
        tilt_db=float(rng.uniform(-16, 64)),
        reject_grey=float(rng.uniform(25, 85)) * (rng.uniform() < 0.85),
    )


@dataclass(frozen=True)
class Motion:
    """How what lies before the probe moves while the planes are swept (mm): a sum of sines of the sweep angle.

    `waves` holds rows (x, y, z, cycles a radian, phase).
    """

    waves: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, probe: Probe, largest_mm: float) -> Motion:
        """Half of the scans are at rest; the others breathe, and drift.

        Args:
            rng: where it is drawn from.
            probe: whose sweep it is.
            largest_mm: of a wave's amplitude.
        """
        moving = rng.uniform() < 0.5
        cycles = np.array([0.5, rng.uniform(1, 3), rng.uniform(2, 6)]) / np.radians(probe.sweep_degrees)
        size = largest_mm * rng.uniform(0, 1) * np.array([[1.0], [0.7], [0.3]]) * moving
        directions = rng.normal(size=(3, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        phases = rng.uniform(0, 2 * np.pi, 3)
        return cls(np.column_stack([directions * size, cycles, phases]))

    @property
    def largest_mm(self) -> float:
        """No point is displaced farther."""
        return float(np.linalg.norm(self.waves[:, :3], axis=1).sum())

    def at(self, phi: Field) -> Points:
        """Displacement (x, y, z) from the middle position at sweep angles (rad)."""
        waves = [np.sin(phi * np.float32(2 * np.pi * row[3]) + np.float32(row[4])) for row in self.waves]
        return tuple(
            np.asarray(sum(w * np.float32(row[a]) for w, row in zip(waves, self.waves, strict=True))) for a in range(3)
        )

    def undone(self, p: Points, phi: Field) -> Points:
        """Where what is seen at points `p` (mm) of planes at `phi` lies at rest."""
        return tuple(c - shift for c, shift in zip(p, self.at(phi), strict=True))
