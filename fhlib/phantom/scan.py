"""One simulated scan with its truth.

A subject's anatomy depends on its seed (and age) alone; a scan's pose, surroundings and noise on seed and
direction. The same call gives the same bytes whatever the number of processes. Labels are evaluated on the
voxel grid from the same signed distances as the image. Numbers in this module are unconfirmed general
knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.images.volume import Floats, Volume
from fhlib.phantom.acoustics import Beams, Skull, form_image, local_response, ring_down
from fhlib.phantom.anatomy import Head, Subject, draw_subject
from fhlib.phantom.probe import (
    SITES,
    BeamGrid,
    Box,
    Motion,
    Probe,
    Site,
    blocks,
    drawn_region,
    drawn_scanner,
    enclosing_sphere,
    in_threads,
    scan_convert,
)
from fhlib.phantom.scene import Pose, Scene
from fhlib.phantom.shapes import Points, Triple
from fhlib.phantom.tissues import ID, tissue_gains

SCAN_DIRECTIONS = ("from the front", "from the side", "from the top of the head")
TOP_ABOVE_FACE_MM = 8.0
TRIES, GROWTH = 30, 1.06
ANY, FEWEST_ANY, WIDEST_ANY_MM = "any", 80, 270.0
FEWEST_A_HEAD = 40
LONGEST = 1.25  # the whole head, as a multiple of its OFD
CUT_SHARE = 0.08
NEAREST_MM = 8.0
MOST_MOVED = 0.03  # share of the OFD
CUBE = (32, 32, 32)


@dataclass(frozen=True)
class Scan:
    """A simulated volume with its truth; all three volumes share one geometry.

    `image` is uint8, 0 outside the sector. `label` is the whole head to its skin above the plane through
    lower jaw and C2, `label_skull` the filled outer skull. Of a drawn machine both end where the sector does, as an
    outline by hand would. `head_in_view` is the share (0-1) of the head's volume that the sector and the box hold.
    `box_grown` is the factor by which the site's box had to grow to hold this head (1 if it did not).
    """

    image: Volume
    label: Volume
    label_skull: Volume
    subject: Subject
    scan_direction: str
    site: str
    standoff_mm: float
    box_grown: float
    head_in_view: float


def simulate_scan(
    subject_seed: int,
    ga_weeks: float | None = None,
    scan_direction: str | None = None,
    site: str | None = None,
    spacing_mm: float = 0.38,
    threads: int = 2,
    has_head: bool = True,
) -> Scan:
    """Simulate one 3D scan.

    Voxels are isotropic; at the paper's 0.38 mm the paper-like box has 440 x 258 x 388 voxels (z, y, x). At a
    coarser spacing the beams are sampled more coarsely too and speckle is as wide as a voxel. Such a scan
    looks like a fine one that was resampled, without being its copy.

    With site `any` probe, settings and region of interest are drawn widely, and voxels are no larger than an
    eightieth of the depth, or a fortieth of the head's OFD. Two scans in five are cut to a box around the head. So the head takes from
    about 1 % to 40 % of the box. In about one of twelve the sector cuts the head off. In half of the scans
    the fetus moves while the planes are swept: the labels are displaced plane by plane like the image.

    Args:
        subject_seed: whose head it is.
        ga_weeks: gestational age, 11 to 40; drawn if None.
        scan_direction: one of `SCAN_DIRECTIONS`; drawn if None.
        site: the machine, one of `fhlib.phantom.probe.SITES` or `any`; paper-like if None.
        spacing_mm: edge of a voxel, 0.1 to 5.
        threads: how many work on it; the bytes do not depend on it.
        has_head: where False both labels are empty. The probe looks at the fetus's body, or in half of the
            scans at placenta, fluid and uterus alone.

    Raises ValueError for an unknown direction or site, a spacing or an age outside its range.

    >>> from fhlib import simulate_scan
    >>> scan = simulate_scan(7, ga_weeks=24, spacing_mm=4.0)
    >>> scan.image.shape, scan.scan_direction, scan.site
    ((42, 25, 37), 'from the side', 'paper-like')
    """
    return simulate(set_up(subject_seed, ga_weeks, scan_direction, site, spacing_mm, has_head), threads)


def simulate(setting: Setting, threads: int = 1) -> Scan:
    """The scan of a setting, which serves only once: its stream of random numbers moves on."""
    beams = setting.acquire(threads)
    image = form_image(beams, setting.rng, threads)

    label, skull = np.zeros((2, *setting.box.shape), np.uint8)
    if setting.has_head:
        label, skull = _labels(setting, threads)
    geometry = _geometry(setting.box, setting.rng)
    shown = scan_convert(image, setting.grid, setting.box, threads)
    if setting.cut_to_sector:
        label, skull = (np.where(shown > 0, solid, np.uint8(0)) for solid in (label, skull))
    seen_ml = float(((label > 0) & (shown > 0)).sum()) * setting.box.spacing_mm**3 / 1000
    return Scan(
        image=Volume(shown, *geometry),
        label=Volume(label, *geometry),
        label_skull=Volume(skull, *geometry),
        subject=setting.head.subject,
        scan_direction=setting.scan_direction,
        site=setting.site.name,
        standoff_mm=setting.pose.standoff_mm,
        box_grown=setting.box_grown,
        head_in_view=min(1.0, seen_ml / setting.head.subject.head_volume_ml),
    )


@dataclass(frozen=True)
class Setting:
    """A scan before it is acquired: who, where, by which machine.

    `half_mm` is half the box across the beam (x, y), `rng` the scan's stream of random numbers. `skull` (None: drawn
    when acquired) and `motion` are of drawn machines.
    """

    head: Head
    pose: Pose
    scene: Scene
    site: Site
    grid: BeamGrid
    box: Box
    half_mm: tuple[float, float]
    scan_direction: str
    box_grown: float
    rng: Generator
    has_head: bool = True
    cut_to_sector: bool = False
    skull: Skull | None = None
    motion: Motion | None = None

    def acquire(self, threads: int = 1) -> Beams:
        """What the probe receives."""
        return acquire(
            self.scene, self.site, self.grid, self.half_mm, self.rng, threads, skull=self.skull, motion=self.motion
        )

    def at_rest(self, p: Points) -> Points:
        """Where what is seen at points (probe coordinates, mm) lies in the scene."""
        return p if self.motion is None else self.motion.undone(p, self.site.probe.beam(p)[0])


def set_up(
    subject_seed: int,
    ga_weeks: float | None = None,
    scan_direction: str | None = None,
    site: str | None = None,
    spacing_mm: float = 0.38,
    has_head: bool = True,
) -> Setting:
    """Draw the scene of a scan.

    Args:
        subject_seed: this and all others as in `simulate_scan`.
        ga_weeks: gestational age.
        scan_direction: from where.
        site: the machine.
        spacing_mm: edge of a voxel.
        has_head: whether the head is in view.
    """
    direction = drawn_direction(subject_seed) if scan_direction is None else scan_direction
    if direction not in SCAN_DIRECTIONS:
        raise ValueError(f"scan_direction must be one of {SCAN_DIRECTIONS} or None, got {direction!r}")
    if not 0.1 <= spacing_mm <= 5:
        raise ValueError(f"spacing_mm must lie in 0.1-5 mm, got {spacing_mm}")

    view, anywhere = SCAN_DIRECTIONS.index(direction), site == ANY
    rng = default_rng([int(subject_seed), 201, view])
    head = Head(draw_subject(subject_seed, ga_weeks, anywhere), anywhere)
    if anywhere:
        return _any_set_up(head, view, spacing_mm, has_head, rng)
    profile = _site(site)
    pose, size_mm, grown = _place(head, view, profile, rng)
    box = Box.build(size_mm, spacing_mm, profile.probe.probe_radius_mm - TOP_ABOVE_FACE_MM)
    surface = pose.to_probe(head.surface())
    if not has_head:
        pose = _head_out_of_view(head, pose, surface, profile, size_mm[2], rng)
    scene = Scene(head, pose, surface, rng)
    grid = _scan_grid(profile, size_mm[2], spacing_mm)
    half_mm = size_mm[0] / 2, size_mm[1] / 2
    return Setting(head, pose, scene, profile, grid, box, half_mm, direction, grown, rng, has_head)


def _any_set_up(head: Head, view: int, spacing_mm: float, has_head: bool, rng: Generator) -> Setting:
    """`set_up` with a drawn machine."""
    probe, depth = drawn_region(rng, LONGEST * head.o, WIDEST_ANY_MM)
    pose, probe, depth, grown = _place_in_region(head, view, probe, depth, rng, cut=rng.uniform() < CUT_SHARE)
    site = drawn_scanner(rng, probe, head.o, depth)
    low, high = probe.edges(depth)
    spacing_mm = min(spacing_mm, float(high[2] - low[2]) / FEWEST_ANY, head.o / FEWEST_A_HEAD)
    box = Box.spanning(low, high, spacing_mm)
    surface = pose.to_probe(head.surface())
    grid = _sector_grid(site, depth, spacing_mm)
    if not has_head:
        pose = _head_out_of_view(head, pose, surface, site, depth, rng)
    elif rng.uniform() < 0.4:
        box = _around(box, surface, 2 + rng.uniform(0.0, 0.6, (2, 3)) * rng.uniform(0.02, 0.6) * head.o)
        grid = grid.towards(box, margin_degrees=4.0, margin_mm=4.0)
    scene = Scene(head, pose, surface, rng)
    skull, motion = _draw_speckled_skull(head, rng), Motion.draw(rng, probe, MOST_MOVED * head.o)
    half_mm = float(np.abs([low[0], high[0]]).max()), float(np.abs([low[1], high[1]]).max())
    site = replace(site, box_mm=tuple((high - low).tolist()))
    return Setting(
        head, pose, scene, site, grid, box, half_mm, SCAN_DIRECTIONS[view], grown, rng, has_head, True, skull, motion
    )


def tissue_map(setting: Setting, threads: int = 2) -> Volume:
    """What lies in each voxel of a scan's box: an index into `fhlib.phantom.tissues.TISSUES` (uint8).

    The geometry is the box's own (not oblique). Closed skull plates are bone.
    """
    box, probe = setting.box, setting.site.probe
    out = np.zeros(box.shape, np.uint8)

    def fill(block: tuple[slice, ...]) -> None:
        p = box.points(block)
        sample = setting.scene.sample(setting.at_rest(p), probe.beam(p)[2] - np.float32(probe.probe_radius_mm))
        out[block] = sample.tissue
        if sample.plates is not None:
            depth = -sample.plates.skull_mm
            thick = np.maximum(sample.plates.thickness_mm, np.float32(box.spacing_mm))
            out[block][(depth >= 0) & (depth < thick) & (sample.plates.closed > 0.5)] = ID["bone"]

    in_threads(fill, blocks(box.shape, CUBE), threads)
    return Volume(out, (box.spacing_mm,) * 3)


def drawn_direction(subject_seed: int) -> str:
    """The direction from which a subject is scanned when none is asked for."""
    return SCAN_DIRECTIONS[int(default_rng([int(subject_seed), 202]).integers(len(SCAN_DIRECTIONS)))]


def _site(name: str | None) -> Site:
    name = "paper-like" if name is None else name
    if name not in SITES:
        raise ValueError(f"site must be one of {(*SITES, ANY)}, got {name!r}")
    return SITES[name]


def _place(head: Head, view: int, site: Site, rng: Generator) -> tuple[Pose, Triple, float]:
    """Draw poses until the whole head lies in the sector and the box.

    Where none of 30 does, the box and its depth grow by 6 %. Returns the pose, the box's size and its growth.
    """
    surface, grown = head.surface(), 1.0
    x, y, z = site.box_mm
    while True:
        size = (x * grown, y * grown, z * grown)
        for _ in range(TRIES):
            pose = _draw_pose(surface, view, site, grown, rng)
            if _fits(pose.to_probe(surface), site, size):
                return pose, size, grown
        grown *= GROWTH


def _place_in_region(
    head: Head, view: int, probe: Probe, depth_mm: float, rng: Generator, cut: bool
) -> tuple[Pose, Probe, float, float]:
    """Draw poses until the region of interest holds the whole head, or part of it where it is to be `cut` off.

    Where none of 30 does, the region grows: by 6 % in thickness and in both angles, up to 110 degrees. Returns the pose,
    the probe, how deep the region reaches and its growth.
    """
    surface, grown = head.surface(), 1.0
    while True:
        for attempt in range(TRIES):
            turned = _turned(view, 2.5, rng)
            # at first anywhere, then nearer and nearer to the middle
            aside = rng.uniform(-0.5, 0.5, 3) * (1 - attempt / TRIES)
            phi = np.radians(probe.sweep_centre_degrees + probe.sweep_degrees * aside[0])
            theta = np.radians(probe.fan_centre_degrees + probe.fan_degrees * aside[1])
            r = probe.probe_radius_mm + probe.near_mm + (depth_mm - probe.near_mm) * (0.5 + aside[2])
            rotated = surface @ turned
            at = np.array(probe.cartesian(phi, theta, r)).ravel() - (rotated.min(0) + rotated.max(0)) / 2
            points = tuple((rotated + at).T)
            standoff = float(probe.beam(points)[2].min()) - probe.probe_radius_mm
            seen = float(probe.sees(points, depth_mm - 1).mean())
            if standoff > NEAREST_MM and (0.45 < seen < 0.93 if cut else seen > 0.995):
                return Pose(turned, at, standoff), probe, depth_mm, grown
        grown *= GROWTH
        fan, sweep = (min(GROWTH * angle, 110.0) for angle in (probe.fan_degrees, probe.sweep_degrees))
        probe = replace(probe, fan_degrees=fan, sweep_degrees=sweep)
        depth_mm += (GROWTH - 1) * (depth_mm - probe.near_mm)


def _around(box: Box, surface: Floats, margins: Floats) -> Box:
    """The part of a box that holds the head with `margins` (mm; before and after, x y z): a region of interest.

    Machines export such regions.
    """
    low, high = surface.min(0) - margins[0], surface.max(0) + margins[1]
    first, last = (np.round((edge - box.corner) / box.spacing_mm).astype(int) for edge in (low, high))
    first, last = np.maximum(first, 0), np.minimum(last, np.array(box.shape[::-1]) - 1)
    x, y, z = (box.corner + first * box.spacing_mm).tolist()
    depth, rows, columns = (last - first + 1)[::-1].tolist()
    return Box((depth, rows, columns), box.spacing_mm, (x, y, z))


def _turned(view: int, tilted: float, rng: Generator) -> Floats:
    """Rotation of a standard view (of `SCAN_DIRECTIONS`), from either side; its SD of 13 degrees is multiplied by `tilted`."""
    side = 1 if rng.uniform() < 0.5 else -1
    # The probe's x (lateral) and z (depth) axes in head coordinates; y (elevation) follows.
    lateral, depth = (
        ([0, 0, side], [0, 1, 0]),  # from the front
        ([0, 0, 1], [side, 0, 0]),  # from the side
        ([0, side, 0], [0, 0, -1]),  # from the top of the head
    )[view]
    axes = np.array([lateral, np.cross(depth, lateral), depth], float)
    return (rotation(rng.normal(0, np.radians([13, 13, 12]) * tilted)) @ axes).T


def _draw_pose(surface: Floats, view: int, site: Site, grown: float, rng: Generator) -> Pose:
    """A random tilt about a standard view, the head's box near the probe's axis."""
    turned = _turned(view, 1, rng)
    extent = surface @ turned
    low, high = extent.min(0), extent.max(0)
    standoff = rng.uniform(14, 38) * (1 + 2 * (grown - 1)) + 40 * (grown - 1)
    standoff = min(standoff, 0.4 * site.box_mm[2] * grown)
    middle = -(low + high) / 2 + rng.normal(0, 4, 3)
    middle[2] = site.probe.probe_radius_mm + standoff - low[2]
    return Pose(turned, middle, standoff)


def _head_out_of_view(head: Head, pose: Pose, surface: Floats, site: Site, depth_mm: float, rng: Generator) -> Pose:
    """The pose moved along the body until the head has left the sector.

    It is moved just so far, or (in half of the scans) until the trunk has left it too.
    """
    towards_body = pose.to_probe(np.array([[0.0, 0.0, -1.0]]))[0] - pose.to_probe(np.zeros((1, 3)))[0]
    step = 0.0
    while site.probe.sees(tuple((surface - towards_body * step).T), depth_mm, margin_degrees=-1.0).any():
        step += 2.0
    if rng.uniform() < 0.5:
        step += 2.6 * head.o
    return replace(pose, centre=pose.centre - towards_body * step)


def rotation(angles: Floats) -> Floats:
    """Rotation matrix of an axis-angle vector (Rodrigues)."""
    angle = float(np.linalg.norm(angles))
    x, y, z = angles / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def _fits(points: Floats, site: Site, size_mm: Triple) -> bool:
    margin, top = 3.0, site.probe.probe_radius_mm - TOP_ABOVE_FACE_MM
    x, y, z = points.T
    width, height, depth = size_mm
    inside = (np.abs(x) < width / 2 - margin) & (np.abs(y) < height / 2 - margin) & (z < top + depth - margin)
    seen = site.probe.sees((x, y, z), depth - TOP_ABOVE_FACE_MM - margin, 0.5)
    return bool(inside.all() and seen.mean() > 0.985)


def _scan_grid(site: Site, box_depth_mm: float, spacing_mm: float) -> BeamGrid:
    """Beams over the sector. Steps follow the spacing, but stay below the width of the point spread across the beams."""
    return BeamGrid.build(
        site.probe,
        depth_mm=box_depth_mm - TOP_ABOVE_FACE_MM,
        range_step_mm=max(0.32, 0.62 * spacing_mm),
        theta_step=float(np.clip(0.0068 * spacing_mm / 0.95, 0.0045, 0.0140)),
        phi_step=float(np.clip(0.0120 * spacing_mm / 0.95, 0.0085, 0.0200)),
    )


def _sector_grid(site: Site, depth_mm: float, spacing_mm: float) -> BeamGrid:
    """Beams over the region of interest, about two a point spread or a voxel at its middle."""
    probe = site.probe
    middle = (probe.near_mm + depth_mm) / 2
    r = probe.probe_radius_mm + middle
    lateral = max(site.lateral_share * middle, site.lateral_floor_mm)
    elevation = max(site.elevation_share * middle, site.elevation_floor_mm)
    return BeamGrid.build(
        probe,
        depth_mm=depth_mm,
        range_step_mm=float(np.clip(0.62 * spacing_mm, 0.32, 1.0)),
        theta_step=max(0.5 * lateral, 0.6 * spacing_mm) / r,
        phi_step=max(0.5 * elevation, 0.6 * spacing_mm) / (r - probe.centre_distance_mm),
    )


def acquire(
    scene: Scene,
    site: Site,
    grid: BeamGrid,
    half_mm: tuple[float, float],
    rng: Generator,
    threads: int,
    gain_spread_db: float = 1.5,
    *,
    skull: Skull | None = None,
    motion: Motion | None = None,
) -> Beams:
    """What the probe receives from a scene, apart from speckle and noise.

    The scan's own skull acoustics, gain and clutter are drawn around the site's.

    Args:
        scene: what lies before the probe.
        site: the machine.
        grid: its beams.
        half_mm: half the box across the beam (x, y); beams more than 6 mm beyond it are left empty.
        rng: the scan's stream of random numbers.
        threads: how many work on it.
        gain_spread_db: SD of each tissue's echogenicity.
        skull: acoustics of the calvarium; drawn if None.
        motion: of all but the mother's layers under the probe while the planes are swept; None at rest.
    """
    calvarium = _draw_skull(scene.head, rng) if skull is None else skull
    clutter_db = site.clutter_db + float(rng.normal(0, 2.5))
    site = replace(site, clutter_db=clutter_db, tgc_db=site.tgc_db * float(rng.uniform(0.85, 1.15)))
    gains = tissue_gains(rng, gain_spread_db)
    power, coherent, loss = (np.zeros(grid.shape, np.float32) for _ in range(3))

    def fill(block: tuple[slice, ...]) -> None:
        p = grid.points(block)
        if np.abs(p[0]).min() > half_mm[0] + 6 or np.abs(p[1]).min() > half_mm[1] + 6:
            return  # beams that have left the box do not come back
        if motion is not None:
            p = motion.undone(p, grid.phi[block[0], None, None])
        sample = scene.sample(p, np.broadcast_to(grid.depth_mm[block[2]], p[0].shape))
        power[block], coherent[block], loss[block] = local_response(sample, grid.steps[2], site, calvarium, gains)

    in_threads(fill, blocks(grid.shape), threads)
    contact = _contact_loss_db(grid, rng)
    loss[:, :, 0] += contact
    if site.ring_down_db is not None:
        near = int(np.searchsorted(grid.depth_mm, 10 * site.ring_down_mm))
        echo = (ring_down(grid, site) * np.exp(contact * 0.04)[..., None])[..., :near].astype(np.float32)
        coherent[..., :near] += echo
        power[..., :near] += np.square(echo * np.float32(0.3))
    return Beams(power, coherent, loss, grid, site, gain_db=float(rng.normal(0, 2.0)))


def _draw_skull(head: Head, rng: Generator) -> Skull:
    # A small head curves so much within a beam that its plates face the probe over a wider angle. In the first
    # trimester they are also less mineralised than thin (unconfirmed).
    curvature = float(np.clip(head.o / 85, 0.5, 1))
    mineral_db = 10 * float(np.clip((18 - head.subject.ga_weeks) / 6, 0, 1))
    return Skull(
        echo_db=float(rng.uniform(35, 43)) - mineral_db,
        power=float(rng.uniform(3.5, 6)) * curvature,
        normal_loss_db=float(rng.uniform(8, 15)),
        oblique_loss_db=float(rng.uniform(24, 40)),
        critical_degrees=float(rng.uniform(30, 44)),
    )


def _draw_speckled_skull(head: Head, rng: Generator) -> Skull:
    """The calvarium before a drawn machine: speckled, broken, from hardly brighter than the brain to white."""
    curvature = float(np.clip(head.o / 85, 0.5, 1))
    early = float(np.clip((22 - head.subject.ga_weeks) / 8, 0, 1))
    return Skull(
        echo_db=float(rng.uniform(19, 39)) - 4 * early,
        power=float(rng.uniform(2.5, 6)) * curvature,
        normal_loss_db=float(rng.uniform(2, 11)),
        oblique_loss_db=float(rng.uniform(14, 38)),
        critical_degrees=float(rng.uniform(30, 48)),
        rough=float(rng.uniform(0.15, 0.6)),
        texture_db=float(rng.uniform(4, 10)),
        gap_below=float(rng.uniform(-2.2, -0.8)) + 0.5 * early,
        width=float(rng.uniform(0.4, 0.9)),
    )


def _contact_loss_db(grid: BeamGrid, rng: Generator) -> NDArray[np.float32]:
    """Two-way loss of each beam (planes, beams) where the probe couples poorly or bowel and ribs lie above.

    Drawn on a coarse lattice of angles, so that it does not depend on the sampling. Sizes are unconfirmed.
    """
    coarse = rng.normal(size=(9, 9))
    where = np.meshgrid(np.degrees(grid.phi) / 11 + 4, np.degrees(grid.theta) / 11 + 4, indexing="ij")
    smooth = ndimage.map_coordinates(coarse, where, order=3, mode="nearest")
    return (np.clip(smooth - 0.4, 0, 1.5) * 16).astype(np.float32)


def _labels(setting: Setting, threads: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Whole head and skull on the voxels of a scan's box, each plane where the motion shows it."""
    head, pose, box = setting.head, setting.pose, setting.box
    label, skull = np.zeros((2, *box.shape), np.uint8)
    centre, reach = pose.to_probe(head.bounding[0][None])[0], head.bounding[1]
    if setting.motion is not None:
        reach += setting.motion.largest_mm

    def fill(block: tuple[slice, ...]) -> None:
        p = box.points(block)
        middle, radius = enclosing_sphere(p)
        if np.linalg.norm(middle - centre) < radius + reach:
            h = pose.to_head(setting.at_rest(p))
            distance = head.skull(h)
            skull[block] = distance <= 0
            label[block] = head.whole(h, distance) <= 0

    in_threads(fill, blocks(box.shape, CUBE), threads)
    return label, skull


def _geometry(box: Box, rng: Generator) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing, and an oblique but valid ITK origin and direction: the probe is held at an angle to the mother."""
    direction = rotation(rng.normal(0, 0.35, 3))
    origin = direction @ np.array(box.corner) + rng.uniform(-60, 60, 3)
    return (box.spacing_mm,) * 3, tuple(np.round(origin, 3).tolist()), tuple(direction.ravel().tolist())
