"""Bones and soft parts of the face, and what lies between skull base and throat.

The face is the half of the head that shows little smooth outline: orbits with bright rims, jaws that cast shadows, a
darker tongue between them, a fluid throat, and the bones of the skull base behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fhlib.images.volume import Mask
from fhlib.phantom.shapes import Field, Points, capsule, cut, ellipsoid, sphere, stretch_near
from fhlib.phantom.tissues import ID, Tissues

if TYPE_CHECKING:
    from fhlib.phantom.anatomy import Head

# Left side, fractions of the OFD: start, end, radius. All but the first two are scaled with the face.
BONES = (
    ("clivus", (0.0, 0.00, -0.30), (0.0, 0.10, -0.44), 0.028),
    ("occipital condyle", (0.07, 0.13, -0.40), (0.15, 0.22, -0.33), 0.026),
    ("zygoma", (0.20, -0.36, -0.36), (0.27, -0.20, -0.34), 0.020),
    ("lateral orbital rim", (0.245, -0.36, -0.23), (0.225, -0.38, -0.35), 0.018),
    ("supraorbital rim", (0.06, -0.44, -0.215), (0.24, -0.38, -0.20), 0.016),
    ("infraorbital rim", (0.07, -0.42, -0.36), (0.21, -0.38, -0.365), 0.018),
    ("nasal septum", (0.0, -0.40, -0.28), (0.0, -0.30, -0.385), 0.012),
    ("pterygoid", (0.09, -0.17, -0.33), (0.10, -0.17, -0.44), 0.018),
    ("alveolar ridge", (0.0, -0.435, -0.43), (0.13, -0.33, -0.43), 0.026),
    ("mandible, front", (0.0, -0.42, -0.55), (0.10, -0.35, -0.55), 0.030),
    ("mandible, side", (0.10, -0.35, -0.55), (0.18, -0.18, -0.51), 0.026),
    ("hyoid", (0.0, -0.21, -0.585), (0.06, -0.17, -0.575), 0.012),
)
UNSCALED = 2


class Face:
    """One head's face; `paint` lays it over the simple one of `fhlib.phantom.anatomy`."""

    def __init__(self, head: Head) -> None:
        rng = np.random.default_rng([head.subject.seed, 104])
        o, s = head.o, head.subject.face_scale
        self.head = head
        thin = float(np.interp(head.subject.ga_weeks, (11, 16, 40), (0.75, 1.0, 0.9)))
        self.bones = []
        for number, (_, start, end, radius) in enumerate(BONES):
            scale = np.array([1, 1, 1]) if number < UNSCALED else np.array([1, s, s])
            size = max(radius * thin * float(rng.uniform(0.75, 1.35)) * o, 0.35)
            self.bones.append((np.array(start) * scale * o, np.array(end) * scale * o, size))
        self.tongue = np.array([0, -0.29 * s, -0.485 * s]) * o, np.array([0.085, 0.125, 0.045]) * o
        self.mouth = np.array([0, -0.36 * s, -0.455 * s]) * o, np.array([0.07, 0.09, 0.010 + 0.012 * rng.uniform()]) * o
        self.throat = (
            np.array([0, -0.13, -0.40]) * o,
            np.array([0, -0.10, -0.62]) * o,
            float(rng.uniform(0.018, 0.035)) * o,
        )
        self.airway = np.array([0.035, -0.38 * s, -0.37 * s]) * o, np.array([0.03, -0.16, -0.37]) * o, 0.014 * o

    def paint(self, p: Points, tissue: Tissues, inside: Mask) -> None:
        """Bones, tongue and fluid into `tissue` where the skin holds the points.

        Args:
            p: points in head coordinates (mm).
            tissue: painted in place.
            inside: where the skin holds the points and the skull does not.
        """
        o = self.head.o
        part = stretch_near(p, (0, -0.18 * o, -0.40 * o), 0.45 * o)
        if part.start == part.stop:
            return
        q, painted, free = cut(p, part), tissue[..., part], inside[..., part]
        side = (np.abs(q[0]), q[1], q[2])
        painted[free & (ellipsoid(q, *self.tongue) < 0)] = ID["tongue"]
        fluid = np.minimum(ellipsoid(q, *self.mouth), capsule(q, *self.throat))
        fluid = np.minimum(fluid, capsule(side, *self.airway))
        painted[free & (fluid < 0)] = ID["pharynx"]
        bone = self._rim(side)
        for start, end, size in self.bones:
            np.minimum(bone, capsule(side, start, end, size), out=bone)
        painted[free & (bone < 0)] = ID["face bone"]

    def _rim(self, side: Points) -> Field:
        """Distance to the shell of the orbit, open to the front."""
        head = self.head
        centre = ((head.binocular_mm - head.orbit_mm) / 2, -0.37 * head.o, -0.285 * head.o)
        globe = sphere(side, centre, head.orbit_mm / 2)
        shell = np.abs(globe - np.float32(0.02 * head.o)) - np.float32(max(0.010 * head.o, 0.3))
        return np.maximum(shell, np.float32(-0.395 * head.o) - side[1])
