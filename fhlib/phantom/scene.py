"""Everything in front of the probe: the head in its pose, its surroundings and the mother's layers.

The surroundings are body, limbs, cord, fluid, placenta and uterus. They are drawn for each scan: a fetus
moves between scans, its anatomy does not. Their sizes, positions and textures are unconfirmed general
knowledge; only the depth of about 3 cm of overlying tissue has a source (Carson 1989).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy import ndimage

from fhlib.images.volume import Floats
from fhlib.phantom.acoustics import Plates, Sample
from fhlib.phantom.anatomy import DETAILED_BELOW_WEEKS, Head
from fhlib.phantom.fetus.body import Body
from fhlib.phantom.fetus.brain import texture_shift
from fhlib.phantom.fetus.sac import Sac
from fhlib.phantom.probe import enclosing_sphere
from fhlib.phantom.shapes import (
    Field,
    Points,
    capsule,
    cut,
    dot,
    ellipsoid,
    rotated,
    shifted,
    stretch_near,
    sum_of_waves,
    wave_vectors,
)
from fhlib.phantom.tissues import ID, Tissues

Limb = tuple[Floats, Floats, float]
LATTICE, LATTICE_MM = (64, 64, 128), 1.3
FAR_MM = np.float32(50)
SAC_MM = 75.0
LAST_MATERNAL = ID["maternal tissue"]
# Dark organs of the trunk: share of its length from the neck, places to the left and front and radii as shares of OFD
ORGANS = (
    ("blood", (0.24, 0.06, 0.10), (0.13, 0.10, 0.12)),
    ("amniotic fluid", (0.52, 0.15, 0.02), (0.07, 0.09, 0.10)),
    ("amniotic fluid", (0.92, 0.0, 0.12), (0.09, 0.08, 0.09)),
)


@dataclass(frozen=True)
class Pose:
    """Where the head lies: `head = rotation @ (probe - centre)`, both in mm.

    `standoff_mm` is the depth of its nearest point.
    """

    rotation: Floats
    centre: Floats
    standoff_mm: float

    def to_head(self, p: Points) -> Points:
        """Head coordinates of probe coordinates."""
        return rotated(shifted(p, self.centre), self.rotation)

    def to_probe(self, points: Floats) -> Floats:
        """Probe coordinates (n, 3) of head coordinates (n, 3)."""
        return points @ self.rotation + self.centre


class Scene:
    """One scan's tissues: `sample` tells what lies at points in probe coordinates."""

    def __init__(self, head: Head, pose: Pose, surface: Floats, rng: np.random.Generator) -> None:
        self.head, self.pose = head, pose
        self.head_centre = pose.to_probe(head.bounding[0][None])[0]

        # skin, fat and muscle, together no thicker than what lies before the head
        self.layers = np.cumsum([rng.uniform(1.5, 2.5), rng.uniform(4, 14), rng.uniform(4, 9)])
        self.layers *= min(1.0, 0.85 * pose.standoff_mm / self.layers[-1])

        self.cavity = _draw_cavity(head, surface, rng)
        self.wall_mm = rng.uniform(5, 10)
        self.film_mm = rng.uniform(6, 30)
        self.placenta_direction = _unit(rng)
        self.placenta_mm = rng.uniform(12, 28)
        self.placenta_extent = rng.uniform(0.0, 0.45)
        self.waves = wave_vectors(rng, 55, 4)
        self.pockets = [self._draw_pocket(rng) for _ in range(int(rng.integers(0, 4)))]
        self.lattice = _lattice(rng)

        self.trunk = _draw_trunk(head, rng)
        self.limbs = [*_draw_limbs(head, self.trunk, rng), *_draw_folds(head, rng)]
        self.cord, self.cord_mm = _draw_cord(head, rng), 0.045 * head.o + 1.5
        self.body: Body | None = None
        if head.detailed:
            self._draw_details(surface, np.random.default_rng([head.subject.seed, 203, *_bits(pose.centre)]))

    def _draw_details(self, surface: Floats, rng: np.random.Generator) -> None:
        """The body in its posture, below 20 weeks the cavity around all of it, membranes, and tissues' brightness."""
        head, weeks = self.head, self.head.subject.ga_weeks
        self.body = Body(head, rng)
        self.folds = list(_draw_folds(head, rng)) if rng.uniform() < 0.5 else []
        if weeks < DETAILED_BELOW_WEEKS:
            whole = np.concatenate([surface, self.pose.to_probe(self.body.surface())])
            self.cavity = _draw_sac(whole, rng)
            self.film_mm = rng.uniform(2, 8)
            self.placenta_mm = rng.uniform(0.3, 0.6) * 0.7 * weeks + 4
        centre, radii = self.cavity
        self.sac = Sac(weeks, self.cavity, rng)
        entry = centre + 0.9 * radii * self.placenta_direction
        self.body.lead_cord(self.pose.rotation @ (entry - self.pose.centre), rng)
        self.shift = texture_shift(rng, head.early)

    def _draw_pocket(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Centre and radii of a bladder, vessel, bowel or cyst outside the uterus."""
        centre, radii = self.cavity
        return centre + _unit(rng) * (radii.max() + rng.uniform(5, 45)), rng.uniform(4, 26, 3)

    def sample(self, p: Points, depth: Field) -> Sample:
        """Tissues at a block of points (probe coordinates, mm) whose depths from the probe's face are `depth`."""
        centre, radius = enclosing_sphere(p)
        warp = sum_of_waves(p, self.waves) * np.float32(3.0)
        tissue, interface, to_wall = self._mother(p, depth, warp)
        h = self.pose.to_head(p)
        if self.body is None:
            self._paint_fetus(h, self.pose.rotation @ (centre - self.pose.centre), radius, tissue)
            interface = np.where(tissue > LAST_MATERNAL, FAR_MM, interface)
        else:
            interface = self._paint_details(p, h, tissue, interface)

        plates = None
        if np.linalg.norm(centre - self.head_centre) < radius + 1.1 * self.head.o:
            if self.body is None:
                skull, interface = self._paint_head(h, tissue, interface, to_wall)
                if np.abs(skull).min() < 4:
                    plates = Plates(skull, *self.head.plate(h))
            else:
                plates = self._paint_near_head(h, tissue, interface, to_wall)
                self.body.paint_spine(h, tissue)

        # layers lie across the beam: where they do, they echo most
        layered = (p[0], p[1], depth + warp * np.float32(0.5))
        mother = tissue <= LAST_MATERNAL
        shaded = self._texture(layered, (0.35, 0.35, 1.2)) + warp * np.float32(0.2)
        texture = np.where(mother, shaded, self._texture(p, (1, 1, 1)))
        if self.body is not None:
            texture += self.shift[tissue]
        streak = np.where(mother, self._texture(layered, (0.35, 0.35, 2.8)), self._texture(layered, (0.8, 0.8, 2.2)))
        return Sample(tissue, texture, streak, interface, plates)

    def _paint_details(self, p: Points, h: Points, tissue: Tissues, interface: Field) -> Field:
        """Body and membranes into `tissue`; returns the distance to the nearest interface.

        Args:
            p: points in probe coordinates (mm).
            h: the same in head coordinates.
            tissue: painted in place.
            interface: of the mother.
        """
        assert self.body is not None
        skin = self.body.paint(h, tissue)
        for start, end, size in self.folds:
            part = stretch_near(h, (start + end) / 2, float(np.linalg.norm(end - start)) / 2 + size)
            tissue[..., part][capsule(cut(h, part), start, end, size) < 0] = ID["fetal soft tissue"]
        amnion = self.sac.paint(p, tissue)
        if amnion is not None:
            free = (tissue == ID["amniotic fluid"]) & (np.abs(amnion) < np.abs(interface))
            interface = np.where(free, amnion, interface)
        interface = np.where(tissue > LAST_MATERNAL, FAR_MM, interface)
        return interface if skin is None else np.where(np.abs(skin) < np.abs(interface), skin, interface)

    def _paint_head(self, h: Points, tissue: Tissues, interface: Field, to_wall: Field) -> tuple[Field, Field]:
        """Head into `tissue`; returns the skull's distance and that of the nearest interface.

        Where head and wall come closer than `film_mm`, the wall lies on the skin: thin films of fluid are
        squeezed out.
        """
        skull = self.head.skull(h)
        if skull.max() > -8:
            skin = self.head.skin(h, skull)
            if self.body is not None:  # the neck goes on as the body's
                skin = np.maximum(skin, self.head.plane(h) - np.float32(0.08 * self.head.o))
            if skin.min() > max(4, self.film_mm):
                return skull, interface
            apart = np.hypot(np.maximum(skin, 0), np.maximum(to_wall, 0))
            film = (tissue == ID["amniotic fluid"]) & (apart < np.float32(0.75 * self.film_mm))
            tissue[film] = ID["uterine wall"]
            interface = np.where(film, FAR_MM, interface)
            free = tissue <= LAST_MATERNAL  # where the neck leaves the trunk there is no skin
            interface = np.where(free & (np.abs(skin) < np.abs(interface)), skin, interface)
            self.head.paint_face(h, tissue, skin, skull)
        if skull.min() < 0:
            wall = self.head.paint_brain(h, tissue, skull)
            if self.head.detailed:
                brain = self.head.brain
                brain.paint(h, tissue, skull, self._texture(h, (brain.stretch,) * 3))
            interface = np.where(skull < -1.5, wall, interface)
        return skull, interface

    def _paint_near_head(self, h: Points, tissue: Tissues, interface: Field, to_wall: Field) -> Plates | None:
        """Head into the part of `tissue` and `interface` that it can reach; returns its plates, if any are near."""
        centre, radius = self.head.bounding
        part = stretch_near(h, centre, radius + self.film_mm)
        if part.start == part.stop:
            return None
        q = cut(h, part)
        skull, interface[..., part] = self._paint_head(q, tissue[..., part], interface[..., part], to_wall[..., part])
        if np.abs(skull).min() >= 4:
            return None
        thick, closed = np.zeros((2, *tissue.shape), np.float32)
        distance = np.full(tissue.shape, FAR_MM)
        distance[..., part] = skull
        thick[..., part], closed[..., part] = self.head.plate(q)
        return Plates(distance, thick, closed)

    def _texture(self, p: Points, stretch: tuple[float, float, float]) -> Field:
        """Random echogenicity with unit variance, correlated over some millimetres: a periodic lattice, looked up."""
        # the lattice's sizes are powers of two: `&` wraps a place round, shifts find it in the flat array
        x, y, z = (
            np.floor(c * np.float32(s / LATTICE_MM)).astype(np.int32) & (n - 1)
            for c, s, n in zip(p, stretch, LATTICE, strict=True)
        )
        return self.lattice.take((x << 13) | (y << 7) | z)

    def _mother(self, p: Points, depth: Field, warp: Field) -> tuple[Tissues, Field, Field]:
        """Layers under the probe, uterine wall, placenta and fluid.

        Returns the tissues, the signed distance to the cavity's wall and, in fluid, the distance to wall or
        placenta.
        """
        centre, radii = self.cavity
        cavity = ellipsoid(p, centre, radii) + warp
        around = dot(shifted(p, centre), self.placenta_direction) / np.float32(radii.mean())
        thickness = np.float32(self.placenta_mm) * np.clip((around - np.float32(self.placenta_extent)) * 3, 0, 1)
        placenta = (cavity < 0) & (cavity > -thickness)

        tissue = np.full(depth.shape, ID["maternal tissue"], np.uint8)
        middle, reach = enclosing_sphere(p)
        for pocket, pocket_radii in self.pockets:
            if np.linalg.norm(middle - pocket) < reach + pocket_radii.max() + 8:
                tissue[ellipsoid(p, pocket, pocket_radii) + warp < 0] = ID["blood"]
        tissue[cavity < self.wall_mm] = ID["uterine wall"]
        tissue[cavity < 0] = ID["amniotic fluid"]
        tissue[placenta] = ID["placenta"]

        skin, fat, muscle = self.layers.astype(np.float32)
        layered = depth + warp * np.float32(0.25)
        tissue[layered < muscle] = ID["muscle"]
        tissue[layered < fat] = ID["fat"]
        tissue[layered < skin] = ID["maternal skin"]
        return tissue, np.where(placenta, FAR_MM, cavity), -cavity - thickness

    def _paint_fetus(self, h: Points, centre: Floats, radius: float, tissue: Tissues) -> None:
        """Trunk, limbs and cord; `centre` and `radius` are of the block's enclosing sphere in head coordinates."""
        o = self.head.o
        if _near(centre, *self.trunk, radius + 0.6 * o):
            self._paint_trunk(h, tissue)
        for start, end, size in self.limbs:
            if _near(centre, start, end, radius + size):
                limb = capsule(h, start, end, size)
                tissue[limb < 0] = ID["fetal soft tissue"]
                tissue[limb < -0.72 * size] = ID["bone"]
        if np.linalg.norm(centre - self.cord.mean(0)) < radius + 1.2 * o:
            parts = zip(self.cord[:-1], self.cord[1:], strict=True)
            cord = reduce(np.minimum, (capsule(h, start, end, self.cord_mm) for start, end in parts))
            tissue[cord < 0] = ID["cord"]
            tissue[cord < -0.35 * self.cord_mm] = ID["blood"]

    def _paint_trunk(self, h: Points, tissue: Tissues) -> None:
        """Trunk with shoulders, lungs, ribs, abdomen, organs and spine."""
        head, o = self.head, self.head.o
        start, end = self.trunk
        length = float(np.linalg.norm(end - start))
        axis = (end - start) / length
        along = dot(shifted(h, start), axis)
        body = capsule(h, start, end, 0.40 * o)
        shoulders = capsule(h, start + head.mm(-0.38, 0, -0.05), start + head.mm(0.38, 0, -0.05), 0.15 * o)
        tissue[np.minimum(body, shoulders) < 0] = ID["fetal soft tissue"]

        chest = along < 0.9 * o
        ribs = np.mod(along * np.float32(1 / (0.085 * o)), 1) < 0.4
        tissue[(body < -0.05 * o) & (along > 0.1 * o) & chest] = ID["lung"]
        tissue[ribs & (np.abs(body + np.float32(0.045 * o)) < 0.016 * o) & (along > 0) & chest] = ID["bone"]
        abdomen = (body < -0.06 * o) & (along > 0.45 * length) & (along < 0.9 * length)
        tissue[abdomen] = ID["fetal soft tissue"]
        for name, (down, left, front), radii in ORGANS:
            at = start + axis * (down * length) + head.mm(left, -front, 0)
            tissue[ellipsoid(h, at, head.mm(*radii)) < 0] = ID[name]

        back = head.mm(0, 0.26, 0)
        neck = capsule(h, head.c2, start + back, 0.035 * o)
        spine = np.minimum(neck, capsule(h, start + back, end + back, 0.04 * o))
        tissue[(spine < 0) & ribs & (head.plane(h) > 0)] = ID["bone"]


def _bits(vector: Floats) -> list[int]:
    """Whole numbers that stand for a vector, to seed a stream of random numbers."""
    return np.round(vector * 1000).astype(np.int64).view(np.uint64).astype(np.uint32).tolist()


def _draw_sac(points: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Centre and radii (mm) of the fluid's ellipsoid around all `points` (n, 3) of a fetus below 20 weeks."""
    low, high = points.min(0), points.max(0)
    room = rng.uniform(1, 14, (2, 3))
    return (low + high - room[0] + room[1]) / 2, 1.08 * (high - low + room.sum(0)) / 2


def _draw_cavity(head: Head, surface: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Centre and radii (mm) of the fluid's ellipsoid, around the head's `surface` in probe coordinates."""
    low, high = surface.min(0), surface.max(0)
    fluid = rng.uniform(0, 1) ** 1.5  # from a head wedged between the walls to one that floats
    room = rng.uniform(-8, 3 + 16 * fluid, (2, 3)) * np.array([1, 1, 0.7])
    room += rng.uniform(0.2, 1, (2, 3)) * max(0.0, SAC_MM - head.o)  # early in pregnancy the sac is wide
    radii = (high - low) / 2 * (1.0 + 0.12 * fluid) + np.maximum(room.mean(0), -5)
    return (low + high + room[0] - room[1]) / 2, radii


def _draw_trunk(head: Head, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Neck and pelvis in head coordinates."""
    flexion, lean = np.radians(rng.uniform([-10, -12], [35, 12]))
    down = np.array([np.sin(lean), -np.sin(flexion), -np.cos(flexion)])
    down /= np.linalg.norm(down)
    neck = head.mm(0, 0.10, -0.95)
    return neck, neck + down * head.o * 1.6


def _draw_limbs(head: Head, trunk: tuple[Floats, Floats], rng: np.random.Generator) -> Iterator[Limb]:
    """Start, end and radius of upper and lower arms and legs."""
    o = head.o
    neck, pelvis = trunk
    for side in (-1, 1):
        shoulder, hip = neck + head.mm(side * 0.45, 0, -0.08), pelvis + head.mm(side * 0.22, -0.05, 0)
        for joint, length, size in ((shoulder, 0.5, 0.085), (hip, 0.55, 0.12)):
            for thinner in (1.0, 0.75):
                direction = _unit(rng) * 0.8 + np.array([0.3 * side, -0.7, 0])
                end = joint + direction / np.linalg.norm(direction) * length * o
                yield joint, end, size * thinner * o
                joint = end


def _draw_folds(head: Head, rng: np.random.Generator) -> Iterator[Limb]:
    """Hands, feet and loose folds against the head, drawn like limbs."""
    o = head.o
    for _ in range(int(rng.integers(1, 4))):
        direction = _unit(rng)
        start = head.bounding[0] + direction * o * rng.uniform(0.56, 0.74)
        along = np.cross(direction, _unit(rng))
        end = start + (along / np.linalg.norm(along) + 0.25 * direction) * o * rng.uniform(0.3, 0.7)
        yield start, end, o * rng.uniform(0.055, 0.10)


def _draw_cord(head: Head, rng: np.random.Generator) -> Floats:
    """Points (7, 3) along the cord, a random walk that keeps out of the head."""
    o, centre = head.o, head.bounding[0]
    start = centre + _unit(rng) * o * 0.72
    turns = np.array([_unit(rng) for _ in range(6)])
    steps = np.cumsum(0.22 * o * turns + 0.06 * o * _unit(rng), axis=0)
    away = np.vstack([start, start + steps]) - centre
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    return centre + away / distance * np.maximum(distance, 0.70 * o)


def _lattice(rng: np.random.Generator) -> Field:
    """Periodic smooth noise (flat) of unit variance, with fine and coarse parts."""
    white = rng.standard_normal(LATTICE, np.float32)
    parts = (ndimage.gaussian_filter(white, sigma, mode="wrap") for sigma in (1.3, 4.0))
    total = sum(part / part.std() for part in parts)
    return (total / total.std()).astype(np.float32).ravel()


def _unit(rng: np.random.Generator) -> Floats:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _near(centre: Floats, start: Floats, end: Floats, reach: float) -> bool:
    point = tuple(np.full(1, c, np.float32) for c in centre)
    return bool(capsule(point, start, end, reach)[0] < 0)
