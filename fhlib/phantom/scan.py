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
from fhlib.phantom.acoustics import Beams, Skull, form_image, local_response
from fhlib.phantom.anatomy import Head, Subject, draw_subject
from fhlib.phantom.probe import (
    SITES,
    BeamGrid,
    Box,
    Probe,
    Site,
    blocks,
    drawn_machine,
    enclosing_sphere,
    in_threads,
    scan_convert,
)
from fhlib.phantom.scene import Pose, Scene
from fhlib.phantom.shapes import Triple
from fhlib.phantom.tissues import ID, tissue_gains

SCAN_DIRECTIONS = ("from the front", "from the side", "from the top of the head")
TOP_ABOVE_FACE_MM = 8.0
TRIES, GROWTH = 30, 1.06
ANY, FEWEST_ANY = "any", 80
CUBE = (32, 32, 32)


@dataclass(frozen=True)
class Scan:
    """A simulated volume with its truth; all three volumes share one geometry.

    `image` is uint8, 0 outside the sector. `label` is the whole head to its skin above the plane through
    lower jaw and C2, `label_skull` the filled outer skull. `box_grown` is the factor by which the site's box
    had to grow to hold this head (1 if it did not).
    """

    image: Volume
    label: Volume
    label_skull: Volume
    subject: Subject
    scan_direction: str
    site: str
    standoff_mm: float
    box_grown: float


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

    With site `any` probe, settings and field of view are drawn widely, and voxels are no larger than an
    eightieth of the depth. Two scans in five are cut to a region around the head. So the head takes from
    about 1 % to 40 % of the box.

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
    setting = set_up(subject_seed, ga_weeks, scan_direction, site, spacing_mm, has_head)
    beams = acquire(setting.scene, setting.site, setting.grid, setting.half_mm, setting.rng, threads)
    image = form_image(beams, setting.rng, threads)

    label, skull = np.zeros((2, *setting.box.shape), np.uint8)
    if has_head:
        label, skull = _labels(setting.head, setting.pose, setting.box, threads)
    geometry = _geometry(setting.box, setting.rng)
    return Scan(
        image=Volume(scan_convert(image, setting.grid, setting.box, threads), *geometry),
        label=Volume(label, *geometry),
        label_skull=Volume(skull, *geometry),
        subject=setting.head.subject,
        scan_direction=setting.scan_direction,
        site=setting.site.name,
        standoff_mm=setting.pose.standoff_mm,
        box_grown=setting.box_grown,
    )


@dataclass(frozen=True)
class Setting:
    """A scan before it is acquired: who, where, by which machine.

    `half_mm` is half the box across the beam (x, y), `rng` the scan's stream of random numbers.
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
    profile = _any_site(head, rng) if anywhere else _site(site)
    pose, size_mm, grown = _place(head, view, profile, rng, anywhere)
    if anywhere:
        spacing_mm = min(spacing_mm, size_mm[2] / FEWEST_ANY)

    box = Box.build(size_mm, spacing_mm, profile.probe.probe_radius_mm - TOP_ABOVE_FACE_MM)
    surface = pose.to_probe(head.surface())
    if not has_head:
        pose = _head_out_of_view(head, pose, surface, profile, size_mm[2], rng)
    elif anywhere and rng.uniform() < 0.4:
        box = _around(box, surface, 2 + rng.uniform(0.0, 0.6, (2, 3)) * rng.uniform(0.02, 0.6) * head.o)
    scene = Scene(head, pose, surface, rng)
    grid = _scan_grid(profile, size_mm[2], spacing_mm)
    return Setting(head, pose, scene, profile, grid, box, (size_mm[0] / 2, size_mm[1] / 2), direction, grown, rng)


def tissue_map(setting: Setting, threads: int = 2) -> Volume:
    """What lies in each voxel of a scan's box: an index into `fhlib.phantom.tissues.TISSUES` (uint8).

    The geometry is the box's own (not oblique). Closed skull plates are bone.
    """
    box, probe = setting.box, setting.site.probe
    out = np.zeros(box.shape, np.uint8)

    def fill(block: tuple[slice, ...]) -> None:
        p = box.points(block)
        sample = setting.scene.sample(p, probe.beam(p)[2] - np.float32(probe.probe_radius_mm))
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


def _any_site(head: Head, rng: Generator) -> Site:
    """A drawn machine whose box is 1.1-3.3 times as deep as the whole head is long (about 1.25 OFD), up to 240 mm."""
    radius = float(rng.uniform(35, 60))
    probe = Probe(radius, radius + float(rng.uniform(-6, 6)), *rng.uniform([60, 50], [85, 85]).tolist())
    deep = min(1.25 * head.o * float(np.exp(rng.uniform(*np.log([1.1, 3.3])))) + 15, 240.0)
    machine = drawn_machine(rng, probe, head.o)
    return replace(machine, box_mm=(deep * float(rng.uniform(0.65, 1.0)), deep * float(rng.uniform(0.5, 0.9)), deep))


def _place(head: Head, view: int, site: Site, rng: Generator, anywhere: bool = False) -> tuple[Pose, Triple, float]:
    """Draw poses until the whole head lies in the sector and the box.

    Where none of 30 does, the box and its depth grow by 6 %. Returns the pose, the box's size and its growth.
    """
    surface, grown = head.surface(), 1.0
    x, y, z = site.box_mm
    while True:
        size = (x * grown, y * grown, z * grown)
        for _ in range(TRIES):
            pose = _draw_pose(surface, view, site, grown, rng, anywhere)
            if _fits(pose.to_probe(surface), site, size):
                return pose, size, grown
        grown *= GROWTH


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


def _draw_pose(surface: Floats, view: int, site: Site, grown: float, rng: Generator, anywhere: bool) -> Pose:
    """A random tilt about a standard view (of `SCAN_DIRECTIONS`), the head's box near the probe's axis.

    With `anywhere` it is tilted more and placed wherever the box allows.
    """
    side = 1 if rng.uniform() < 0.5 else -1
    # The probe's x (lateral) and z (depth) axes in head coordinates; y (elevation) follows.
    lateral, depth = (
        ([0, 0, side], [0, 1, 0]),  # from the front
        ([0, 0, 1], [side, 0, 0]),  # from the side
        ([0, side, 0], [0, 0, -1]),  # from the top of the head
    )[view]
    axes = np.array([lateral, np.cross(depth, lateral), depth], float)
    tilt = np.radians([13, 13, 12]) * (2.5 if anywhere else 1)
    turned = (rotation(rng.normal(0, tilt)) @ axes).T

    extent = surface @ turned
    low, high = extent.min(0), extent.max(0)
    standoff = rng.uniform(14, 38) * (1 + 2 * (grown - 1)) + 40 * (grown - 1)
    standoff = min(standoff, 0.4 * site.box_mm[2] * grown)
    middle = -(low + high) / 2 + rng.normal(0, 4, 3)
    if anywhere:
        room = np.maximum(np.array(site.box_mm) * grown - (high - low) - (0, 0, standoff), 0)
        middle += rng.uniform(-0.5, 0.5, 3) * room
        standoff += rng.uniform(0, 0.7) * room[2]
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


def acquire(
    scene: Scene,
    site: Site,
    grid: BeamGrid,
    half_mm: tuple[float, float],
    rng: Generator,
    threads: int,
    gain_spread_db: float = 1.5,
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
    """
    skull = _draw_skull(scene.head, rng)
    clutter_db = site.clutter_db + float(rng.normal(0, 2.5))
    site = replace(site, clutter_db=clutter_db, tgc_db=site.tgc_db * float(rng.uniform(0.85, 1.15)))
    gains = tissue_gains(rng, gain_spread_db)
    power, coherent, loss = (np.zeros(grid.shape, np.float32) for _ in range(3))

    def fill(block: tuple[slice, ...]) -> None:
        p = grid.points(block)
        if np.abs(p[0]).min() > half_mm[0] + 6 or np.abs(p[1]).min() > half_mm[1] + 6:
            return  # beams that have left the box do not come back
        sample = scene.sample(p, np.broadcast_to(grid.depth_mm[block[2]], p[0].shape))
        power[block], coherent[block], loss[block] = local_response(sample, grid.steps[2], site, skull, gains)

    in_threads(fill, blocks(grid.shape), threads)
    loss[:, :, 0] += _contact_loss_db(grid, rng)
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


def _contact_loss_db(grid: BeamGrid, rng: Generator) -> NDArray[np.float32]:
    """Two-way loss of each beam (planes, beams) where the probe couples poorly or bowel and ribs lie above.

    Drawn on a coarse lattice of angles, so that it does not depend on the sampling. Sizes are unconfirmed.
    """
    coarse = rng.normal(size=(9, 9))
    where = np.meshgrid(np.degrees(grid.phi) / 11 + 4, np.degrees(grid.theta) / 11 + 4, indexing="ij")
    smooth = ndimage.map_coordinates(coarse, where, order=3, mode="nearest")
    return (np.clip(smooth - 0.4, 0, 1.5) * 16).astype(np.float32)


def _labels(head: Head, pose: Pose, box: Box, threads: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Whole head and skull on the voxels of a box."""
    label, skull = np.zeros((2, *box.shape), np.uint8)
    centre, reach = pose.to_probe(head.bounding[0][None])[0], head.bounding[1]

    def fill(block: tuple[slice, ...]) -> None:
        p = box.points(block)
        middle, radius = enclosing_sphere(p)
        if np.linalg.norm(middle - centre) < radius + reach:
            h = pose.to_head(p)
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
