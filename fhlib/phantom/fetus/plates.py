"""How far the skull's plates have grown, and how thin and full of holes they are.

Frontal and parietal bones ossify outwards from a centre each from about 11 weeks. At 11 to 16 weeks they are islands
with wide sutures and an open vertex between them. Only the order is what anatomists describe; sizes are unconfirmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fhlib.phantom.shapes import Field, Points, Waves, divided, dot, length, sum_of_waves, wave_vectors

if TYPE_CHECKING:
    from fhlib.phantom.anatomy import Head

# Directions from the skull's centre, left side: frontal, parietal, squamous temporal, upper and lower occipital
CENTRES = np.array(
    [(0.42, -0.80, 0.30), (0.86, 0.20, 0.42), (0.96, -0.10, -0.28), (0.0, 0.92, 0.34), (0.0, 0.96, -0.20)]
)
CENTRES /= np.linalg.norm(CENTRES, axis=1, keepdims=True)
LATE_WEEKS = (0.0, 0.0, 1.5, 0.8, -0.5)  # behind the frontal centre
GROWN_WEEKS, GROWN_RADIANS = (
    (10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0),
    (0.15, 0.36, 0.52, 0.68, 0.82, 1.02, 1.25, 2.0),
)
ISLANDS_UNTIL_WEEKS = 20.0


class Ossification:
    """One skull's plates: how far they reach from their centres, and their mottling."""

    def __init__(self, head: Head) -> None:
        rng = np.random.default_rng([head.subject.seed, 103])
        weeks = head.subject.ga_weeks
        self.head, self.islands = head, weeks < ISLANDS_UNTIL_WEEKS
        ahead = float(rng.normal(0, 0.4))
        self.radians = [float(np.interp(weeks + ahead - late, GROWN_WEEKS, GROWN_RADIANS)) for late in LATE_WEEKS]
        self.waves: Waves = wave_vectors(rng, float(rng.uniform(0.07, 0.13)) * head.o, 3)
        young = float(np.clip((22 - weeks) / 11, 0, 1))
        self.unevenness = float(rng.uniform(0.15, 0.35))
        self.hole_above = float(rng.uniform(2.2, 2.8) - rng.uniform(0.4, 1.2) * young)

    def apply(self, p: Points, thick: Field, closed: Field) -> tuple[Field, Field]:
        """Thickness (mm) and closure (0 to 1) of the plates at points in head coordinates.

        Args:
            p: points (mm).
            thick: thickness of an even plate (mm).
            closed: closure by sutures and fontanelles alone.
        """
        mottle = sum_of_waves(p, self.waves)
        thick = thick * np.clip(1 + np.float32(self.unevenness) * mottle, 0.25, 2)
        closed = closed * np.clip((np.float32(self.hole_above) - mottle) * 3, 0, 1)
        metopic = (p[1] < np.float32(-0.1 * self.head.o)) & (p[2] > np.float32(-0.12 * self.head.o))
        closed = closed * np.where(
            metopic, np.clip(np.abs(p[0]) * 2 - np.float32(self.head.subject.suture_mm), 0, 1), 1
        )
        return thick, closed * self._reached(p, mottle) if self.islands else closed

    def _reached(self, p: Points, mottle: Field) -> Field:
        """1 within a plate that grows from its centre, 0 beyond; edges are ragged."""
        q = divided((np.abs(p[0]), p[1], p[2]), self.head.subject.axes_mm)
        scale = 1 / (length(q) + np.float32(1e-6))
        inside = np.full(scale.shape, np.float32(-9))
        for centre, radians in zip(CENTRES, self.radians, strict=True):
            angle = np.arccos(np.clip(dot(q, centre) * scale, -1, 1))
            np.maximum(inside, np.float32(radians) - angle, out=inside)
        ragged = (inside + mottle * np.float32(0.06)) * np.float32(0.5 * self.head.o)
        return np.clip(ragged + np.float32(0.5), 0, 1)
