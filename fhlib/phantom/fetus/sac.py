"""The gestational sac of the first trimester: the amnion within it and the yolk sac between the two.

Amnion and chorion lie apart until about 14 weeks. The yolk sac is a bright ring of 4 to 6 mm about fluid, outside the
amnion, and is gone soon after 12 weeks (general knowledge; sizes unconfirmed).
"""

from __future__ import annotations

import numpy as np

from fhlib.images.volume import Floats
from fhlib.phantom.shapes import Field, Points, cut, ellipsoid, sphere, stretch_near
from fhlib.phantom.tissues import ID, Tissues

AMNION_UNTIL_WEEKS, YOLK_SAC_UNTIL_WEEKS = 15.0, 14.0
YOLK_WALL_MM = 0.8


class Sac:
    """Membranes inside a cavity whose centre and radii (mm, probe coordinates) are given."""

    def __init__(self, ga_weeks: float, cavity: tuple[Floats, Floats], rng: np.random.Generator) -> None:
        centre, radii = cavity
        share = float(np.clip(np.interp(ga_weeks, (11, 14.5), (0.80, 0.97)) + rng.normal(0, 0.03), 0.7, 0.98))
        self.amnion: tuple[Floats, Floats] | None = None
        if rng.uniform() < np.clip(AMNION_UNTIL_WEEKS - ga_weeks, 0, 1):
            self.amnion = centre + rng.normal(0, 1, 3), radii * share
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        self.yolk_mm = float(rng.uniform(2.0, 3.0))
        at = centre + direction * (radii - self.yolk_mm - 0.5)
        self.yolk = at if rng.uniform() < np.clip(YOLK_SAC_UNTIL_WEEKS - ga_weeks, 0, 0.9) else None

    def paint(self, p: Points, tissue: Tissues) -> Field | None:
        """Yolk sac into `tissue`'s fluid; returns the distance to the amnion, None where there is none.

        Args:
            p: points in probe coordinates (mm).
            tissue: painted in place.
        """
        if self.yolk is not None:
            part = stretch_near(p, self.yolk, self.yolk_mm)
            if part.start < part.stop:
                ring = sphere(cut(p, part), self.yolk, self.yolk_mm)
                free = tissue[..., part] == ID["amniotic fluid"]
                tissue[..., part][free & (ring < 0) & (ring > -YOLK_WALL_MM)] = ID["yolk sac"]
        return None if self.amnion is None else ellipsoid(p, *self.amnion)
