"""Sizes of the simulator's heads without their volumes: what `draw_subject` draws, as a statistical model.

`fhlib.phantom.anatomy.draw_subject` takes a fifth of a second, most of it for the volume. A population takes thousands. So 1,200 of its
heads are kept (`data/reference/drawn_heads.csv`), and three equations say what follows from BPD, OFD and age:

- HC: the ellipse through BPD and OFD, times a factor and a subject's own form.
- volume of the whole head: OFD cubed, times a power of BPD / OFD, times a function of age (below 20 weeks the face is smaller), times
  a subject's own form (height, scalp and face), which is lognormal.

`python -m fhlib.population.drawn.heads` draws the table anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fhlib.files import REFERENCE_TABLES, progress, write_csv
from fhlib.images.volume import Floats
from fhlib.measures import growth
from fhlib.phantom.anatomy import CHART_FROM_WEEKS, DETAILED_BELOW_WEEKS, ZERO_SIZE_WEEKS, draw_subject

DRAWN_TABLE = REFERENCE_TABLES / "drawn_heads.csv"
DRAWN, FIRST_SEED, DRAWN_WEEKS = 1200, 8_000_000, (12.0, 40.0)
COLUMNS = ("seed", "ga_weeks", "bpd_mm", "ofd_mm", "hc_mm", "head_volume_ml")


@dataclass(frozen=True)
class HeadModel:
    """What follows from a head's diameters; fitted to heads that the simulator drew."""

    hc_factor: float
    """HC over the ellipse through BPD and OFD."""
    hc_sd: float
    """SD of its logarithm: skulls are no ellipses."""
    form: Floats
    """Coefficients of `_terms`."""
    form_sd: float
    """SD of ln(volume) about the equation: what is a subject's own."""

    @property
    def cross_power(self) -> float:
        """Power of BPD / OFD in the volume: less than 1, as neck and face go with OFD alone."""
        return float(self.form[1])

    def hc_mm(self, bpd_mm: ArrayLike, ofd_mm: ArrayLike, form: ArrayLike = 0.0) -> Floats:
        """Head circumference in mm; `form` is a subject's own, in SDs."""
        ellipse = _ellipse_mm(np.asarray(bpd_mm, float), np.asarray(ofd_mm, float))
        return self.hc_factor * ellipse * np.exp(self.hc_sd * np.asarray(form, float))

    def volume_ml(self, bpd_mm: ArrayLike, ofd_mm: ArrayLike, ga_weeks: ArrayLike, form: ArrayLike = 0.0) -> Floats:
        """Volume of the whole head in mL.

        Args:
            bpd_mm: biparietal diameter, outer to outer.
            ofd_mm: occipitofrontal diameter.
            ga_weeks: gestational age.
            form: a subject's own, in SDs.
        """
        bpd, ofd, weeks = (np.asarray(values, float) for values in (bpd_mm, ofd_mm, ga_weeks))
        log_ml = _terms(bpd, ofd, weeks) @ self.form + self.form_sd * np.asarray(form, float)
        return np.exp(log_ml) * ofd**3 / 1000


def diameter_mm(measure: str, ga_weeks: ArrayLike, z: ArrayLike) -> Floats:
    """BPD or OFD (`bpd`, `ofd`) at a z-score of INTERGROWTH-21st's chart; below 14 weeks it shrinks as in the simulator."""
    weeks = np.asarray(ga_weeks, float)
    mean, sd = growth.reference(measure, np.maximum(weeks, CHART_FROM_WEEKS))
    shrink = np.minimum(1.0, (weeks - ZERO_SIZE_WEEKS) / (CHART_FROM_WEEKS - ZERO_SIZE_WEEKS))
    return (mean + np.asarray(z, float) * sd) * shrink


@cache
def head_model() -> HeadModel:
    """The equations, fitted to the kept heads by least squares."""
    return fit_head_model(pd.read_csv(DRAWN_TABLE))


def fit_head_model(heads: pd.DataFrame) -> HeadModel:
    """Fit the equations to drawn heads; columns as in `drawn_heads.csv`."""
    bpd, ofd, weeks = (heads[name].to_numpy(float) for name in ("bpd_mm", "ofd_mm", "ga_weeks"))
    log_hc = np.log(heads["hc_mm"].to_numpy(float) / _ellipse_mm(bpd, ofd))
    design, target = _terms(bpd, ofd, weeks), np.log(1000 * heads["head_volume_ml"].to_numpy(float) / ofd**3)
    form, *_ = np.linalg.lstsq(design, target, rcond=None)
    residual = target - design @ form
    return HeadModel(
        float(np.exp(log_hc.mean())),
        float(log_hc.std(ddof=1)),
        form,
        float(np.sqrt(residual @ residual / (len(target) - design.shape[1]))),
    )


def draw_heads(count: int = DRAWN) -> pd.DataFrame:
    """Heads of evenly spaced ages as drawn machines scan them (`draw_subject`, detailed), a row a head."""
    rows = []
    for number, weeks in enumerate(progress(np.linspace(*DRAWN_WEEKS, count).round(2), "drawing heads")):
        subject = draw_subject(FIRST_SEED + number, float(weeks), detailed=True)
        rows.append([getattr(subject, name) for name in COLUMNS])
    return pd.DataFrame(rows, columns=list(COLUMNS)).round(4)


def _ellipse_mm(bpd: Floats, ofd: Floats) -> Floats:
    """Perimeter of an ellipse (Ramanujan 1914)."""
    a, b = bpd / 2, ofd / 2
    return np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b)))


def _terms(bpd: Floats, ofd: Floats, weeks: Floats) -> Floats:
    """Regressors of ln(volume / OFD cubed), (..., 4)."""
    younger = np.maximum(0.0, DETAILED_BELOW_WEEKS - weeks) / 10
    return np.stack(np.broadcast_arrays(1.0, np.log(bpd / ofd), younger, younger**2), axis=-1)


if __name__ == "__main__":
    write_csv(draw_heads(), DRAWN_TABLE)
