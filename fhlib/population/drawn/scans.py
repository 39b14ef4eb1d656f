"""Scans of a population that was drawn: each visit simulated, later and for as long as it takes; a stopped run goes on.

The simulator draws a head from a seed and an age. A subject gets, of ten seeds, the one whose head is most like its own in size at the
last visit. A visit's head is drawn at the age at which this seed's head has the visit's volume (`anatomy_weeks`), near the visit's own.
So the volume is the visit's to a tenth of a percent, and the shape is the seed's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from fhlib.cohorts.manifest import Cohort, load_cohort
from fhlib.cohorts.simulated import COLUMNS, simulate_tasks
from fhlib.files import blank_gaps, progress, write_csv
from fhlib.phantom.anatomy import OLDEST_WEEKS, YOUNGEST_WEEKS, draw_subject
from fhlib.phantom.batch.plan import SHORT_DIRECTION, Task
from fhlib.phantom.scan import ANY, drawn_direction
from fhlib.population.drawn.visits import SUBJECTS

PLANNED = "planned.csv"
NEAR_WEEKS, SEEDS, RECORDED_EVERY = 0.005, 10, 20


def simulate_visits(
    folder: Path | str, spacing_mm: float = 1.0, workers: int | None = None, most: int | None = None
) -> Cohort:
    """Simulate the scans of a population's visits into its folder, which becomes a cohort; what is done already is kept.

    Writes images/, labels/, records/, planned.csv (how each visit is drawn, or why it cannot be) and cohort.csv, whose `ga_weeks` is the
    visit's age.

    Args:
        folder: with subjects.csv of `write_population`.
        spacing_mm: edge of a voxel.
        workers: processes; None: one a processor, as far as the memory goes.
        most: of subjects, the first ones; None: all.

    Raises:
        FileNotFoundError: the folder has no subjects.csv.
        ValueError: not one visit can be simulated.
    """
    folder = Path(folder)
    if not (folder / SUBJECTS).exists():
        raise FileNotFoundError(
            f"{folder.name}/ has no {SUBJECTS}: draw a population into it first (`python -m fhlib.population {folder.name}`)"
        )
    visits = pd.read_csv(folder / SUBJECTS)
    visits = visits[visits["subject"].isin(visits["subject"].unique()[:most])]
    planned = plan_visits(visits, folder / PLANNED)
    kept = planned[blank_gaps(planned["obstacle"]) == ""]
    if kept.empty:
        raise ValueError(f"none of {len(visits)} visits can be simulated: {planned['obstacle'].iloc[0]}")
    scans = simulate_tasks(folder, [_task(row, spacing_mm) for row in kept.to_dict("records")], workers)
    ages = {_case(row): row["ga_weeks"] for row in visits.to_dict("records")}
    write_csv(scans[list(COLUMNS)].assign(ga_weeks=scans["case"].map(ages)), folder / "cohort.csv")
    return load_cohort(folder)


def plan_visits(visits: pd.DataFrame, record: Path) -> pd.DataFrame:
    """How each visit's head is drawn: subject, visit, site, volume_ml, simulator_seed, anatomy_weeks, obstacle.

    Three seconds a subject. `record` is read, and written as it grows: subjects with the same volumes are not planned again.
    """
    known = pd.read_csv(record) if record.exists() else pd.DataFrame(columns=["subject", "volume_ml"])
    before = dict(list(known.groupby("subject")))
    parts: list[pd.DataFrame] = []
    for number, (subject, rows) in enumerate(progress(list(visits.groupby("subject", sort=False)), "planning scans")):
        part = before.get(subject)
        if part is None or not np.allclose(part["volume_ml"], rows["volume_ml"], rtol=1e-6):
            part = _plan_subject(rows)
        parts.append(part)
        if number % RECORDED_EVERY == 0:
            write_csv(pd.concat(parts), record)
    planned = pd.concat(parts, ignore_index=True)
    write_csv(planned, record)
    return planned


def _plan_subject(visits: pd.DataFrame) -> pd.DataFrame:
    last, detailed = visits.iloc[-1], visits["site"].iloc[0] == ANY
    seeds = range(int(last["seed"]) * SEEDS, (int(last["seed"]) + 1) * SEEDS)
    volumes = {seed: draw_subject(seed, last["ga_weeks"], detailed).head_volume_ml for seed in seeds}
    seed = min(volumes, key=lambda number: abs(np.log(volumes[number] / last["volume_ml"])))
    rows = []
    for visit in visits.to_dict("records"):
        weeks, obstacle = float("nan"), ""
        try:
            weeks = anatomy_weeks(seed, visit["volume_ml"], detailed)
        except ValueError as error:
            obstacle = str(error)
        of_visit = {key: visit[key] for key in ("subject", "visit", "site", "volume_ml")}
        rows.append({**of_visit, "simulator_seed": seed, "anatomy_weeks": weeks, "obstacle": obstacle})
    return pd.DataFrame(rows)


def anatomy_weeks(seed: int, volume_ml: float, detailed: bool) -> float:
    """Age at which the simulator's head of a seed has a volume. Raises ValueError where it has it at no age."""

    def off(weeks: float) -> float:
        return draw_subject(seed, weeks, detailed).head_volume_ml - volume_ml

    smallest, largest = off(YOUNGEST_WEEKS), off(OLDEST_WEEKS)
    if smallest > 0 or largest < 0:
        raise ValueError(
            f"{volume_ml:.0f} mL is outside what the simulator draws for this subject, "
            f"{smallest + volume_ml:.0f} to {largest + volume_ml:.0f} mL at {YOUNGEST_WEEKS:g} to {OLDEST_WEEKS:g} weeks"
        )
    return round(float(brentq(off, YOUNGEST_WEEKS, OLDEST_WEEKS, xtol=NEAR_WEEKS)), 4)


def _case(row: dict[str, object]) -> str:
    return f"{row['subject']}-visit{row['visit']}"


def _task(row: dict[str, object], spacing_mm: float) -> Task:
    seed = int(str(row["simulator_seed"]))
    directions = list(SHORT_DIRECTION)
    turn = directions.index(drawn_direction(seed)) + int(str(row["visit"]))
    return Task(
        case=_case(row),
        subject=str(row["subject"]),
        subject_seed=seed,
        scan_direction=directions[turn % len(directions)],
        site=str(row["site"]),
        split="test",
        spacing_mm=spacing_mm,
        ga_weeks=float(str(row["anatomy_weeks"])),
    )
