"""Everything in front of the probe: the head in its pose, body, limbs, cord, fluid, placenta, uterus and the mother's
layers.

Surroundings are drawn for each scan (a fetus moves between scans, its anatomy does not). Their sizes, positions and textures
are unconfirmed general knowledge; only the depth of about 3 cm of overlying tissue has a source (Carson 1989).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.phantom.acoustics import Plates, Sample
from fhlib.phantom.anatomy import Head
from fhlib.phantom.probe import enclosing_sphere
from fhlib.phantom.shapes import Field, Points, capsule, dot, ellipsoid, rotated, shifted, wave_vectors
from fhlib.phantom.tissues import ID

LATTICE, LATTICE_MM = (64, 64, 128), 1.3
FAR_MM = 50.0
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
    """Where the head lies: `head = rotation @ (probe - centre)`, both in mm; `standoff_mm` is the depth of its
    nearest point.
    """

    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]
    standoff_mm: float

    def to_head(self, p: Points) -> Points:
        """Head coordinates of probe coordinates."""
        return rotated(shifted(p, self.centre), self.rotation)

    def to_probe(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probe coordinates (n, 3) of head coordinates (n, 3)."""
        return points @ self.rotation + self.centre


class Scene:
    """One scan's tissues: `sample` tells what lies at points in probe coordinates."""

    def __init__(
        self, head: Head, pose: Pose, surface: NDArray[np.float64], probe_radius_mm: float, rng: np.random.Generator
    ) -> None:
        self.head, self.pose, self.probe_radius = head, pose, probe_radius_mm
        self.head_centre = pose.to_probe(head.bounding[0][None])[0]
        self.layers = np.cumsum([rng.uniform(1.5, 2.5), rng.uniform(4, 14), rng.uniform(4, 9)])
        self.layers *= min(1.0, 0.85 * pose.standoff_mm / self.layers[-1])
        low, high = surface.min(0), surface.max(0)
        fluid = rng.uniform(0, 1) ** 1.5  # from a head wedged between the walls to one that floats
        room = rng.uniform(-8, 3 + 16 * fluid, (2, 3)) * np.array([1, 1, 0.7])
        room += rng.uniform(0.2, 1, (2, 3)) * max(0.0, SAC_MM - head.o)  # early in pregnancy the sac is wide
        self.cavity = (
            (low + high + room[0] - room[1]) / 2,
            (high - low) / 2 * (1.0 + 0.12 * fluid) + np.maximum(room.mean(0), -5),
        )
        self.wall_mm = rng.uniform(5, 10)
        self.film_mm = rng.uniform(6, 30)
        self.placenta_direction = _unit(rng)
        self.placenta_mm = rng.uniform(12, 28)
        self.placenta_extent = rng.uniform(0.0, 0.45)
        self.warp = wave_vectors(rng, 55, 4)
        self.pockets = [
            (self.cavity[0] + _unit(rng) * (self.cavity[1].max() + rng.uniform(5, 45)), rng.uniform(4, 26, 3))
            for _ in range(int(rng.integers(0, 4)))
        ]
        self.lattice = _lattice(rng)
        self._draw_fetus(rng)

    def _draw_fetus(self, rng: np.random.Generator) -> None:
        """Body axis, limbs (soft radius, bone radius) and cord, all in head coordinates."""
        o = self.head.o
        flexion, lean = np.radians(rng.uniform([-10, -12], [35, 12]))
        down = np.array([np.sin(lean), -np.sin(flexion), -np.cos(flexion)])
        down /= np.linalg.norm(down)
        neck = np.array([0, 0.10, -0.95]) * o
        pelvis = neck + down * o * (1.1 if self.head.subject.ga_weeks < 16 else 1.6)
        self.trunk = neck, pelvis
        self.limbs = []
        for side in (-1, 1):
            arm, leg = neck + np.array([side * 0.45, 0, -0.08]) * o, pelvis + np.array([side * 0.22, -0.05, 0]) * o
            for joint, length, size in ((arm, 0.5, 0.085), (leg, 0.55, 0.12)):
                for thinner in (1.0, 0.75):
                    direction = _unit(rng) * 0.8 + np.array([0.3 * side, -0.7, 0])
                    end = joint + direction / np.linalg.norm(direction) * length * o
                    self.limbs.append((joint, end, size * thinner * o))
                    joint = end
        for _ in range(int(rng.integers(1, 4))):  # hands, feet and loose folds against the head
            direction = _unit(rng)
            start = self.head.bounding[0] + direction * o * rng.uniform(0.56, 0.74)
            along = np.cross(direction, _unit(rng))
            end = start + (along / np.linalg.norm(along) + 0.25 * direction) * o * rng.uniform(0.3, 0.7)
            self.limbs.append((start, end, o * rng.uniform(0.055, 0.10)))
        start = self.head.bounding[0] + _unit(rng) * o * 0.72
        steps = np.cumsum(0.22 * o * np.array([_unit(rng) for _ in range(6)]) + 0.06 * o * _unit(rng), axis=0)
        path = np.vstack([start, start + steps])
        away = path - self.head.bounding[0]
        length = np.linalg.norm(away, axis=1, keepdims=True)
        self.cord = self.head.bounding[0] + away / length * np.maximum(length, 0.70 * o)
        self.cord_mm = 0.045 * o + 1.5

    def sample(self, p: Points, depth: Field) -> Sample:
        """Tissues at a block of points (probe coordinates, mm) whose depths from the probe's face are `depth`."""
        centre, radius = enclosing_sphere(p)
        warp = sum(np.sin(dot(p, vector) + np.float32(phase)) for vector, phase in self.warp) * np.float32(3.0)
        tissue, interface, to_wall = self._mother(p, depth, warp)
        h = self.pose.to_head(p)
        local = (self.pose.rotation @ (centre - self.pose.centre), radius)
        self._paint_fetus(h, local, tissue)
        interface = np.where(tissue > LAST_MATERNAL, np.float32(FAR_MM), interface)
        plates = None
        if np.linalg.norm(centre - self.head_centre) < radius + 1.1 * self.head.o:
            skull, interface = self._paint_head(h, tissue, interface, to_wall)
            if np.abs(skull).min() < 4:
                plates = Plates(skull, *self.head.plate(h, skull))
        # layers lie across the beam: where they do, they echo most
        layered = (p[0], p[1], depth + warp * np.float32(0.5))
        mother = tissue <= LAST_MATERNAL
        shaded = self._texture(layered, (0.35, 0.35, 1.2)) + warp * np.float32(0.2)
        texture = np.where(mother, shaded, self._texture(p, (1, 1, 1)))
        streak = np.where(mother, self._texture(layered, (0.35, 0.35, 2.8)), self._texture(layered, (0.8, 0.8, 2.2)))
        return Sample(tissue, texture, streak, interface, plates)

    def _paint_head(
        self, h: Points, tissue: NDArray[np.uint8], interface: Field, to_wall: Field
    ) -> tuple[Field, Field]:
        """Head into `tissue`; returns the skull's distance and that of the nearest interface. Where head and wall come closer than
        `film_mm`, the wall lies on the skin: thin films of fluid are squeezed out.
        """
        skull = self.head.skull(h)
        if skull.max() > -8:
            skin = self.head.skin(h, skull)
            if skin.min() > max(4, self.film_mm):
                return skull, interface
            film = (tissue == ID["amniotic fluid"]) & (
                np.hypot(np.maximum(skin, 0), np.maximum(to_wall, 0)) < np.float32(0.75 * self.film_mm)
            )
            tissue[film] = ID["uterine wall"]
            interface = np.where(film, np.float32(FAR_MM), interface)
            free = tissue <= LAST_MATERNAL  # where the neck leaves the trunk there is no skin
            interface = np.where(free & (np.abs(skin) < np.abs(interface)), skin, interface)
            self.head.paint_face(h, tissue, skin, skull)
        if skull.min() < 0:
            wall = self.head.paint_brain(h, tissue, skull)
            interface = np.where(skull < -1.5, wall, interface)
        return skull, interface

    def _texture(self, p: Points, stretch: tuple[float, float, float]) -> Field:
        """Random echogenicity with unit variance, correlated over some millimetres: a periodic lattice, looked up."""
        x, y, z = (
            np.floor(c * np.float32(s / LATTICE_MM)).astype(np.int32) & (n - 1)
            for c, s, n in zip(p, stretch, LATTICE, strict=True)
        )
        return self.lattice.take((x << 13) | (y << 7) | z)

    def _mother(self, p: Points, depth: Field, warp: Field) -> tuple[NDArray[np.uint8], Field, Field]:
        """Layers under the probe, then uterine wall, placenta and fluid; the signed distance to the cavity's wall; and, in fluid, the
        distance to wall or placenta.
        """
        cavity = ellipsoid(p, *self.cavity) + warp
        around = dot(shifted(p, self.cavity[0]), self.placenta_direction) / np.float32(self.cavity[1].mean())
        tissue = np.full(depth.shape, ID["maternal tissue"], np.uint8)
        middle, radius = enclosing_sphere(p)
        for centre, radii in self.pockets:  # bladder, vessels, bowel and cysts outside the uterus
            if np.linalg.norm(middle - centre) < radius + radii.max() + 8:
                tissue[ellipsoid(p, centre, radii) + warp < 0] = ID["blood"]
        tissue[cavity < self.wall_mm] = ID["uterine wall"]
        tissue[cavity < 0] = ID["amniotic fluid"]
        thickness = np.float32(self.placenta_mm) * np.clip((around - np.float32(self.placenta_extent)) * 3, 0, 1)
        placenta = (cavity < 0) & (cavity > -thickness)
        tissue[placenta] = ID["placenta"]
        layered = depth + warp * np.float32(0.25)
        for name, floor in reversed(list(zip(("maternal skin", "fat", "muscle"), self.layers, strict=True))):
            tissue[layered < np.float32(floor)] = ID[name]
        return tissue, np.where(placenta, np.float32(FAR_MM), cavity), -cavity - thickness

    def _paint_fetus(self, h: Points, local: tuple[NDArray[np.float64], float], tissue: NDArray[np.uint8]) -> None:
        """Trunk with spine, ribs and lungs, limbs and cord; `local` is the block's enclosing sphere in head
        coordinates.
        """
        o = self.head.o
        centre, radius = local
        start, end = self.trunk
        if _near(centre, start, end, radius + 0.6 * o):
            body = capsule(h, start, end, 0.40 * o)
            shoulders = capsule(
                h, start + np.array([-0.38, 0, -0.05]) * o, start + np.array([0.38, 0, -0.05]) * o, 0.15 * o
            )
            inside = np.minimum(body, shoulders) < 0
            tissue[inside] = ID["fetal soft tissue"]
            axis = (end - start) / np.linalg.norm(end - start)
            along = dot(shifted(h, start), axis)
            ribs = np.mod(along * np.float32(1 / (0.085 * o)), 1) < 0.4
            tissue[(body < -0.05 * o) & (along > 0.1 * o) & (along < 0.9 * o)] = ID["lung"]
            tissue[ribs & (np.abs(body + np.float32(0.045 * o)) < 0.016 * o) & (along > 0) & (along < 0.9 * o)] = ID[
                "bone"
            ]
            back = np.array([0, 0.26 * o, 0])
            length = float(np.linalg.norm(end - start))
            abdomen = (body < -0.06 * o) & (along > 0.45 * length)
            tissue[abdomen & (along < 0.9 * length)] = ID["fetal soft tissue"]
            for name, (down, left, front), radii in ORGANS:
                at = start + axis * (down * length) + np.array([left, -front, 0]) * o
                tissue[ellipsoid(h, at, np.array(radii) * o) < 0] = ID[name]
            spine = capsule(h, self.head.c2, start + back, 0.035 * o)
            spine = np.minimum(spine, capsule(h, start + back, end + back, 0.04 * o))
            tissue[(spine < 0) & ribs & (self.head.plane(h) > 0)] = ID["bone"]
        for begin, finish, size in self.limbs:
            if _near(centre, begin, finish, radius + size):
                limb = capsule(h, begin, finish, size)
                tissue[limb < 0] = ID["fetal soft tissue"]
                tissue[limb < -0.72 * size] = ID["bone"]
        if np.linalg.norm(centre - self.cord.mean(0)) < radius + 1.2 * o:
            cord = np.min(
                [capsule(h, a, b, self.cord_mm) for a, b in zip(self.cord[:-1], self.cord[1:], strict=True)], axis=0
            )
            tissue[cord < 0] = ID["cord"]
            tissue[(cord < -0.35 * self.cord_mm)] = ID["blood"]


def _lattice(rng: np.random.Generator) -> Field:
    """Periodic smooth noise (flat) of unit variance, with fine and coarse parts."""
    white = rng.standard_normal(LATTICE, np.float32)
    parts = (ndimage.gaussian_filter(white, sigma, mode="wrap") for sigma in (1.3, 4.0))
    total = sum(part / part.std() for part in parts)
    return (total / total.std()).astype(np.float32).ravel()


def _unit(rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _near(centre: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64], reach: float) -> bool:
    point = tuple(np.full(1, c, np.float32) for c in centre)
    return bool(capsule(point, start, end, reach)[0] < 0)
