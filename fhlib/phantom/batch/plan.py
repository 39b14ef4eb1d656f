"""Which scans a simulated cohort has: subjects, directions, sites, splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fhlib.phantom.scan import SCAN_DIRECTIONS, drawn_direction

if TYPE_CHECKING:
    from fhlib.presets import SimulatedCohort

SHORT_DIRECTION = dict(zip(SCAN_DIRECTIONS, ("front", "side", "top"), strict=True))


@dataclass(frozen=True)
class Task:
    """One scan to simulate: everything its bytes depend on apart from the code, and its split."""

    case: str
    subject: str
    subject_seed: int
    scan_direction: str
    site: str
    split: str
    spacing_mm: float
    ga_weeks: float | None = None
    has_head: bool = True


def plan_cohort(spec: SimulatedCohort, val_fraction: float = 0.2) -> list[Task]:
    """The scans of a cohort, in order: training subjects (a seeded share of them `val`), test, reproducibility.

    Training and test subjects are scanned once, in a direction of their own. Reproducibility subjects are scanned in
    all three (the paper's section 3.2). Sites are given to subjects in turn. Subjects are numbered through, so no
    subject lies on two sides of a split.
    """
    counts = spec.train_subjects, spec.test_subjects, spec.reproducibility_subjects
    splits = np.repeat(["train", "test", "repro"], counts).astype(object)
    chosen = np.random.default_rng([spec.seed, 301]).permutation(spec.train_subjects)
    splits[chosen[: round(val_fraction * spec.train_subjects)]] = "val"

    random = np.random.default_rng([spec.seed, 303])
    ages: list[float | None] = [None] * len(splits)
    if spec.ga_weeks:
        ages = random.uniform(*spec.ga_weeks, len(splits)).round(2).tolist()
    headless = np.zeros(len(splits), bool)
    for split in dict.fromkeys(splits):
        of_split = random.permutation(np.flatnonzero(splits == split))
        headless[of_split[: round(spec.headless_share * len(of_split))]] = True

    tasks = []
    for number, split in enumerate(splits):
        seed, subject = spec.seed * 10_000 + number, f"s{number + 1:04d}"
        directions = SCAN_DIRECTIONS if split == "repro" else (drawn_direction(seed),)
        for direction in directions:
            task = Task(
                case=f"{subject}-{SHORT_DIRECTION[direction]}",
                subject=subject,
                subject_seed=seed,
                scan_direction=direction,
                site=spec.sites[number % len(spec.sites)],
                split=split,
                spacing_mm=spec.spacing_mm,
                ga_weeks=ages[number],
                has_head=not headless[number],
            )
            tasks.append(task)
    return tasks
