"""The fetus below its head, in head coordinates (mm): a curled trunk, arms with hands, legs with knees, the cord.

The trunk is a chain of cones along a bent spine. Its length is such that an evenly flexed fetus has the crown-rump
length of its age (`fhlib.phantom.fetus.sizes`). In the first trimester flexion is strong: the chin lies near the chest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fhlib.images.volume import Floats
from fhlib.phantom.fetus.sizes import abdomen_share, crown_rump_mm, femur_share
from fhlib.phantom.shapes import (
    Field,
    Points,
    capsule,
    cut,
    ellipsoid,
    smooth_union,
    stretch_near,
    tapered,
)
from fhlib.phantom.tissues import ID, Tissues

if TYPE_CHECKING:
    from fhlib.phantom.anatomy import Head

EVEN_FLEXION = np.radians(25.0)
CROWN = (0.0, 0.05, 0.395)
NECK_SHARE, CHEST_SHARE, BELLY_SHARE = 0.24, 0.36, 0.40  # of OFD; of what lies below the neck, the rest being pelvis
# How far each part is bent, as a share of the flexion at the abdomen
BEND = (0.5, 0.8, 1.15, 1.5)
# Dark or bright organs: node from which, share of the way to the next, left, front, radii (shares of OFD)
ORGANS = (
    ("blood", 1, 0.15, 0.07, 0.08, (0.12, 0.10, 0.12)),
    ("amniotic fluid", 2, 0.05, 0.15, 0.04, (0.07, 0.09, 0.09)),
    ("amniotic fluid", 3, -0.15, 0.0, 0.10, (0.07, 0.07, 0.07)),
)


@dataclass(frozen=True)
class Limb:
    """A round limb with a bone of `bone` times its radius (0: none)."""

    start: Floats
    end: Floats
    radius: float
    bone: float

    @property
    def middle(self) -> Floats:
        """Its middle."""
        return (self.start + self.end) / 2

    @property
    def reach(self) -> float:
        """Radius of a sphere about its middle that holds it."""
        return float(np.linalg.norm(self.end - self.start)) / 2 + self.radius


class Trunk:
    """Nodes of the spine's bent axis (neck, chest, abdomen, pelvis), radii there, and directions down and forward."""

    def __init__(self, head: Head, flexion: float, lean: float) -> None:
        self.head = head
        weeks = head.subject.ga_weeks
        self.radii = np.array([0.21, 0.335, abdomen_share(weeks), 0.29]) * head.o
        low, high = 0.2 * head.o, 6.0 * head.o
        for _ in range(40):
            below = (low + high) / 2
            longer = self._even_length(below) > crown_rump_mm(weeks) * (head.o / head.mean_ofd_mm)
            low, high = (low, below) if longer else (below, high)
        self.below = low
        self.nodes, self.down, self.forward = _bent(head, low, flexion, lean)

    def _even_length(self, below: float) -> float:
        nodes, down, _ = _bent(self.head, below, EVEN_FLEXION, 0.0)
        return float(np.linalg.norm(nodes[3] + down[3] * self.radii[3] - self.head.mm(*CROWN)))

    def crown_rump_mm(self) -> float:
        """From the crown to the rump's skin in this posture."""
        return float(np.linalg.norm(self.nodes[3] + self.down[3] * self.radii[3] - self.head.mm(*CROWN)))

    @property
    def middle(self) -> Floats:
        """Centre of a sphere that holds the trunk."""
        return (self.nodes[0] + self.nodes[3]) / 2

    @property
    def reach(self) -> float:
        """Its radius."""
        return float(np.linalg.norm(self.nodes - self.middle, axis=1).max() + self.radii.max())

    def distance(self, p: Points) -> tuple[Field, list[tuple[Field, Field]]]:
        """Distance to the trunk's skin; distance and share passed of each of its three cones."""
        parts = [
            tapered(p, self.nodes[k], self.nodes[k + 1], (float(self.radii[k]), float(self.radii[k + 1])))
            for k in range(3)
        ]
        whole = parts[0][0]
        for distance, _ in parts[1:]:
            whole = smooth_union(whole, distance, 0.1 * self.head.o)
        return whole, parts

    def at(self, node: int, share: float, left: float, front: float) -> Floats:
        """A place beside the axis: `left` and `front` are in OFD."""
        following = min(node + 1, 3)
        place = self.nodes[node] + share * (self.nodes[following] - self.nodes[node])
        return place + self.head.mm(left, 0, 0) + self.forward[node] * front * self.head.o


def _bent(head: Head, below: float, flexion: float, lean: float) -> tuple[Floats, Floats, Floats]:
    """Nodes, and unit vectors down and forward at each, of a trunk of length `below` (mm) under the neck."""
    angles = np.array(BEND) * flexion
    down = np.stack([np.full(4, np.sin(lean)), -np.sin(angles), -np.cos(angles)], 1)
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    forward = np.stack([np.zeros(4), -np.cos(angles), np.sin(angles)], 1)
    steps = np.array(
        [NECK_SHARE * head.o, *(np.array([CHEST_SHARE, BELLY_SHARE, 1 - CHEST_SHARE - BELLY_SHARE]) * below)]
    )
    return head.c2 + np.cumsum(down * steps[:, None], 0), down, forward


class Body:
    """One scan's body in its posture."""

    def __init__(self, head: Head, rng: np.random.Generator) -> None:
        self.head = head
        early = float(np.clip((20 - head.subject.ga_weeks) / 6, 0, 1))
        flexion = rng.uniform(-5, 40) * (1 - early) + rng.uniform(10, 65) * early
        self.trunk = Trunk(head, float(np.radians(flexion)), float(np.radians(rng.uniform(-12, 12))))
        self.limbs = [*self._arms(rng, early), *self._legs(rng)]
        right, left = (self.trunk.at(0, 0.35, side * 0.28, 0) for side in (-1, 1))
        self.flesh = [
            Limb(head.mm(0, 0.10, -0.50), self.trunk.nodes[0], 0.17 * head.o, 0.0),
            Limb(right, left, 0.12 * head.o, 0.0),
        ]
        self.cord_mm = 0.045 * head.o + 1.0
        self.ribs_mm = 0.085 * head.o
        self.navel = self.trunk.at(2, 0.35, 0, 0) + self.trunk.forward[2] * self.trunk.radii[2]
        self.cord: list[Limb] = []

    def surface(self) -> Floats:
        """Points (n, 3) about the ends of trunk and limbs, to place the womb around them."""
        about = np.concatenate([np.eye(3), -np.eye(3)])
        trunk = [node + radius * about for node, radius in zip(self.trunk.nodes, self.trunk.radii, strict=True)]
        limbs = [limb.end + limb.radius * about for limb in self.limbs]
        return np.concatenate([*trunk, *limbs])

    def lead_cord(self, target: Floats, rng: np.random.Generator) -> None:
        """Lead the cord from the navel to `target` in loops.

        Args:
            target: where it enters the placenta, in head coordinates (mm).
            rng: where the loops are drawn from.
        """
        count, o = 9, self.head.o
        share = np.linspace(0, 1, count + 1)[:, None]
        wander = np.cumsum(rng.normal(0, 0.16 * o, (count + 1, 3)), 0)
        wander -= wander[0] + share * (wander[-1] - wander[0])
        line = self.navel + share * (target - self.navel) + wander
        centre = self.head.bounding[0]
        away = line - centre
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        line = centre + away / distance * np.maximum(distance, 0.72 * o)
        self.cord = [Limb(a, b, self.cord_mm, 0.0) for a, b in pairwise(line)]

    def paint(self, h: Points, tissue: Tissues) -> Field | None:
        """The body into `tissue`; returns the distance to the trunk's skin where the trunk is near, else None."""
        skin = self._paint_trunk(h, tissue)
        for limb in [*self.flesh, *self.limbs]:
            part = stretch_near(h, limb.middle, limb.reach)
            if part.start == part.stop:
                continue
            q, painted = cut(h, part), tissue[..., part]
            distance = capsule(q, limb.start, limb.end, limb.radius)
            painted[distance < 0] = ID["fetal soft tissue"]
            if limb.bone:
                painted[distance < max((limb.bone - 1) * limb.radius, 0.35 - limb.radius)] = ID["bone"]
        for loop in self.cord:
            part = stretch_near(h, loop.middle, loop.reach)
            if part.start < part.stop:
                distance = capsule(cut(h, part), loop.start, loop.end, loop.radius)
                tissue[..., part][distance < 0] = ID["cord"]
                tissue[..., part][distance < -0.4 * loop.radius] = ID["blood"]
        return skin

    def _paint_trunk(self, h: Points, tissue: Tissues) -> Field | None:
        """Trunk with shoulders, lungs, ribs, organs and spine."""
        trunk, o = self.trunk, self.head.o
        part = stretch_near(h, trunk.middle, trunk.reach)
        if part.start == part.stop:
            return None
        q, painted = cut(h, part), tissue[..., part]
        body, cones = trunk.distance(q)
        if body.min() > 2:
            return None
        painted[body < 0] = ID["fetal soft tissue"]
        deep = body < np.float32(-0.075 * o)
        chest, passed = cones[1][0] < cones[2][0], cones[1][1]
        ribs = np.mod(passed * np.float32(CHEST_SHARE * trunk.below / self.ribs_mm), 1) < 0.4
        chest &= cones[0][1] > 0.99
        lungs = chest & (passed < 0.75)
        painted[deep & lungs] = ID["lung"]
        painted[deep & ~lungs & (cones[0][1] > 0.99)] = ID["viscera"]
        wall = np.abs(body + np.float32(0.05 * o)) < np.float32(max(0.014 * o, 0.35))
        painted[wall & ribs & lungs] = ID["bone"]
        for name, node, share, left, front, radii in ORGANS:
            organ = ellipsoid(q, trunk.at(node, share, left, front), self.head.mm(*radii))
            painted[deep & (organ < 0)] = ID[name]
        if part == slice(0, tissue.shape[-1]):
            return body
        skin = np.full(tissue.shape, np.float32(50))
        skin[..., part] = body
        return skin

    def paint_spine(self, h: Points, tissue: Tissues) -> None:
        """Three ossification centres of each vertebra, from C3 down, over what has been painted."""
        trunk, o = self.trunk, self.head.o
        back = trunk.nodes - trunk.forward * (trunk.radii - 0.085 * o)[:, None]
        back[0] = trunk.nodes[0] - trunk.forward[0] * 0.06 * o
        line = [self.head.c2, *back]
        for start, end in pairwise(line):
            span = float(np.linalg.norm(end - start))
            part = stretch_near(h, (start + end) / 2, span / 2 + 0.1 * o)
            if part.start == part.stop:
                continue
            q, painted = cut(h, part), tissue[..., part]
            side = (np.abs(q[0] - np.float32(start[0])), q[1], q[2])
            body, passed = tapered(q, start, end, (0.028 * o, 0.032 * o))
            behind = np.array([0.05, 0.055, 0]) * o
            ahead = end + behind - np.array([start[0], 0, 0])
            arches = capsule(side, start + behind - np.array([start[0], 0, 0]), ahead, 0.02 * o)
            vertebrae = np.mod(passed * np.float32(span / (0.075 * o)), 1) < 0.62
            painted[(np.minimum(body, arches) < 0) & vertebrae & (self.head.plane(q) > 0)] = ID["bone"]

    def _arms(self, rng: np.random.Generator, early: float) -> Iterator[Limb]:
        """Arms, most often with the hands before the face."""
        head, o, trunk = self.head, self.head.o, self.trunk
        upper = 0.95 * femur_share(head.subject.ga_weeks) * o
        lower, s = 0.86 * upper, head.subject.face_scale
        for side in (-1, 1):
            shoulder = trunk.at(0, 0.25, side * 0.30, 0)
            if rng.uniform() < 0.45 + 0.3 * early:
                away = rng.uniform([-0.02, -0.72, -0.62], [0.34, -0.55, -0.20])
                hand = head.mm(side * away[0], s * away[1], s * away[2])
            else:
                hand = trunk.at(1, rng.uniform(0.2, 1.2), side * rng.uniform(0.0, 0.5), rng.uniform(0.42, 0.75))
            elbow, wrist = _joint(shoulder, hand, upper, lower, np.array([0.7 * side, -0.3, -0.7]))
            yield Limb(shoulder, elbow, 0.070 * o, 0.34)
            yield Limb(elbow, wrist, 0.055 * o, 0.34)
            yield from self._hand(wrist, wrist - elbow, rng)

    def _hand(self, wrist: Floats, forearm: Floats, rng: np.random.Generator) -> Iterator[Limb]:
        o = self.head.o
        along = _unit(_unit(forearm) + 0.5 * _unit(rng.normal(size=3)))
        across = _unit(np.cross(along, rng.normal(size=3)))
        palm = wrist + along * 0.11 * o
        yield Limb(wrist, palm, 0.055 * o, 0.0)
        curl = np.cross(along, across) * rng.uniform(-0.6, 0.6)
        for finger in (-1.5, -0.5, 0.5, 1.5):
            base = palm + across * finger * 0.032 * o
            tip = base + _unit(along + across * 0.12 * finger + curl) * 0.12 * o
            yield Limb(base, tip, max(0.017 * o, 0.45), 0.4)

    def _legs(self, rng: np.random.Generator) -> Iterator[Limb]:
        """Bent legs: hip, knee, ankle and foot."""
        o, trunk = self.head.o, self.trunk
        thigh = femur_share(self.head.subject.ga_weeks) * o
        down, forward = trunk.down[3], trunk.forward[3]
        for side in (-1, 1):
            aside = np.array([side * rng.uniform(0.1, 0.6), 0, 0])
            hip = trunk.at(3, 0, side * 0.17, 0.05)
            knee = hip + thigh * _unit(forward * rng.uniform(0.4, 1.0) + down * rng.uniform(-0.5, 0.6) + aside)
            inward = aside * rng.uniform(-1.2, 0.2)
            shin = _unit(down * rng.uniform(0.4, 1.0) - forward * rng.uniform(-0.2, 0.6) + inward)
            ankle = knee + 0.88 * thigh * shin
            yield Limb(hip, knee, 0.105 * o, 0.28)
            yield Limb(knee, ankle, 0.072 * o, 0.32)
            foot = ankle + 0.35 * thigh * _unit(forward + 0.4 * _unit(rng.normal(size=3)))
            yield Limb(ankle, foot, 0.048 * o, 0.3)


def _joint(start: Floats, target: Floats, upper: float, lower: float, pole: Floats) -> tuple[Floats, Floats]:
    """Elbow and wrist of an arm that reaches for `target`, as far as it can, with the elbow towards `pole`."""
    way = target - start
    direction = _unit(way)
    span = min(float(np.linalg.norm(way)), 0.97 * (upper + lower))
    span = max(span, 1.05 * abs(upper - lower) + 1e-3)
    along = (span**2 + upper**2 - lower**2) / (2 * span)
    aside = np.sqrt(max(upper**2 - along**2, 0.0))
    bent = _unit(pole - direction * float(pole @ direction))
    return start + direction * along + bent * aside, start + direction * span


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)
