"""Who is seen and when: subjects, visits, sites, disorders. Every number about growth over time here is assumed, not measured."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from fhlib.images.volume import Floats
from fhlib.phantom.anatomy import OLDEST_WEEKS
from fhlib.phantom.probe import SITES
from fhlib.phantom.scan import ANY
from fhlib.population.drawn.heads import DRAWN_WEEKS

HEALTHY = "healthy"


@dataclass(frozen=True)
class Condition:
    """A disorder of growth: how BPD, OFD and the skull's height change, in shares.

    They do from `onset_weeks` on, in full at `full_weeks` and after.
    Each subject has a severity of its own, 0.6 to 1.4 times these changes.
    """

    name: str
    onset_weeks: float
    full_weeks: float
    bpd: float
    ofd: float
    height: float

    def progress(self, ga_weeks: ArrayLike) -> Floats:
        """0 before onset, 1 when in full."""
        weeks = np.asarray(ga_weeks, float)
        return np.clip((weeks - self.onset_weeks) / (self.full_weeks - self.onset_weeks), 0.0, 1.0)


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition(HEALTHY, 20, 40, 0.0, 0.0, 0.0),
        Condition("restriction", 28, 38, -0.07, -0.07, -0.07),
        Condition("restriction, head spared", 28, 38, -0.015, -0.015, -0.015),
        Condition("microcephaly", 18, 34, -0.12, -0.12, -0.12),
        Condition("macrocephaly", 18, 34, 0.09, 0.09, 0.09),
        Condition("fluid", 22, 36, 0.10, 0.04, 0.10),  # it widens the vault more than it lengthens it
    )
}
"""By name. Onset and size of all are assumed; 12 % is about 3 SD of HC."""
SEVERITY = 0.6, 1.4


@dataclass(frozen=True)
class Tracking:
    """How z-scores of one subject at two ages go together: `lasting + (1 - lasting) exp(-weeks between / fading_weeks)`.

    A Gaussian process, as Feng et al. (Stat Methods Med Res 2020, 29:2795) fit to INTERGROWTH-21st's visits. Its form and both
    numbers are assumed here: 0.83 over 4 weeks, 0.72 over 8, 0.60 over 16.
    """

    lasting: float = 0.5
    fading_weeks: float = 10.0

    def correlation(self, ga_weeks: Floats) -> Floats:
        """Correlation matrix of visits, (..., visits, visits), from their ages (..., visits)."""
        apart = np.abs(ga_weeks[..., :, None] - ga_weeks[..., None, :])
        return self.lasting + (1 - self.lasting) * np.exp(-apart / self.fading_weeks)


@dataclass(frozen=True)
class Protocol:
    """A study of growth.

    Raises ValueError for a protocol that cannot be carried out.
    """

    subjects: int = 1000
    visits: tuple[tuple[float, float], ...] = ((14.0, 22.0), (22.0, 31.0), (31.0, 40.0))
    """First and last week of each visit; the age is drawn evenly."""
    conditions: dict[str, float] = field(default_factory=dict)
    """Share of the subjects by disorder; all others are healthy."""
    sites: tuple[str, ...] = (ANY,)
    """Machines; subjects get them in turn."""
    tracking: Tracking = Tracking()
    seed: int = 1

    def __post_init__(self) -> None:
        first, last = DRAWN_WEEKS[0], OLDEST_WEEKS
        if self.subjects < 1 or not self.visits:
            raise ValueError(f"a protocol needs subjects and visits, got {self.subjects} and {len(self.visits)}")
        for low, high in self.visits:
            if not first <= low <= high <= last:
                raise ValueError(f"visit {low:g} to {high:g} weeks: expected {first:g} <= from <= to <= {last:g}")
        for name in self.conditions:
            if name not in CONDITIONS:
                raise ValueError(f"condition {name!r} is not known; choose from {', '.join(CONDITIONS)}")
        total = sum(self.conditions.values())
        if min(self.conditions.values(), default=0) < 0 or total > 1:
            raise ValueError(f"shares of conditions are 0 or more and sum to 1 at most; they sum to {total:g}")
        if unknown := [site for site in self.sites if site not in (*SITES, ANY)]:
            raise ValueError(f"site {unknown[0]!r} is not known; choose from {', '.join((*SITES, ANY))}")
