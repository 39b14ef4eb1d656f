"""What ultrasound shows in a brain beyond its large parts: bright specks, dark clefts, and early the brainstem.

Up to about 16 weeks two large choroid plexuses all but fill the ventricles inside a thin mantle. There is no cavum
septi pellucidi yet, and the fourth ventricle lies open between brainstem and a small cerebellum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fhlib.images.volume import Mask
from fhlib.phantom.shapes import Field, Points, capsule, cut, ellipsoid, stretch_near
from fhlib.phantom.tissues import ID, TEXTURE_DB, TISSUES, Tissues

if TYPE_CHECKING:
    from fhlib.phantom.anatomy import Head

PARENCHYMA = ("brain", "thalamus", "cerebellum")
SOFT = ("fetal soft tissue", "scalp", "tongue", "viscera")


class BrainDetail:
    """One brain's specks, clefts and echogenicity."""

    def __init__(self, head: Head) -> None:
        rng = np.random.default_rng([head.subject.seed, 105])
        self.head = head
        self.stretch = float(np.clip(95 / head.o, 0.9, 4.5)) * float(rng.uniform(0.8, 1.3))
        self.speck_above = float(rng.uniform(1.7, 2.5))
        self.cleft_wide = float(rng.uniform(0.03, 0.12))
        self.cleft_at = float(rng.uniform(-1.1, -0.5))

    def paint(self, p: Points, tissue: Tissues, skull: Field, field: Field) -> None:
        """Specks and clefts into the parenchyma.

        Args:
            p: points in head coordinates (mm).
            tissue: painted in place.
            skull: distance to the outer skull (mm).
            field: smooth noise of unit variance.
        """
        parenchyma = (tissue == ID["brain"]) & (skull < np.float32(-0.01 * self.head.o))
        tissue[parenchyma & (np.abs(field - np.float32(self.cleft_at)) < self.cleft_wide)] = ID["cerebrospinal fluid"]
        tissue[parenchyma & (field > self.speck_above)] = ID["vessel"]
        self._paint_stem(p, tissue, skull < 0)

    def _paint_stem(self, p: Points, tissue: Tissues, inside: Mask) -> None:
        """Brainstem, dark between bright ridges, and early the fourth ventricle behind it."""
        o = self.head.o
        part = stretch_near(p, (0, 0.10 * o, -0.2 * o), 0.25 * o)
        if part.start == part.stop:
            return
        q, painted, free = cut(p, part), tissue[..., part], inside[..., part]
        stem = capsule(q, self.head.mm(0, 0.06, -0.14), self.head.mm(0, 0.11, -0.36), 0.055 * o)
        painted[free & (stem < 0)] = ID["thalamus"]
        if self.head.early > 0.3:
            fourth = ellipsoid(q, self.head.mm(0, 0.20, -0.20), self.head.mm(0.07, 0.045, 0.06) * self.head.early)
            painted[free & (fourth < 0)] = ID["cerebrospinal fluid"]


def texture_shift(rng: np.random.Generator, early: float) -> Field:
    """How one scan's fetal tissues differ in echogenicity, in units of their texture's SD, for each of `TISSUES`.

    The brain is up to 12 dB brighter than usual, so that in some scans the skull hardly stands out.

    Args:
        rng: where they are drawn from.
        early: 1 in the first trimester, where the mantle is darker than the choroid plexus within, 0 from 21 weeks.
    """
    shift_db = np.zeros(len(TISSUES), np.float32)
    brain = float(np.clip(rng.normal(3 - 2.5 * early, 4.5), -5, 12))
    for name in PARENCHYMA:
        shift_db[ID[name]] = brain + rng.normal(0, 1)
    soft = float(rng.normal(1, 2.5))
    for name in SOFT:
        shift_db[ID[name]] = soft + rng.normal(0, 1)
    shift_db[ID["face bone"]] = rng.normal(1, 3)
    return np.divide(shift_db, TEXTURE_DB, out=np.zeros_like(shift_db), where=TEXTURE_DB > 0)
