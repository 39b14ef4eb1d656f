"""Choose learning rate and warm-up on validation cases, with one budget for every network."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd

from fhlib.files import read_json, write_json
from fhlib.models.device import process_group
from fhlib.models.parameters import SegmentorParameters
from fhlib.presets import Tuning
from fhlib.training.prepared import PreparedCases
from fhlib.training.trainer import MISSING, TrainingDiverged, fingerprint_of, fit

DIVERGED = "diverged.json"


def tune(
    cases: PreparedCases, parameters: SegmentorParameters, tuning: Tuning, folder: Path, previous: Path | None = None
) -> pd.DataFrame:
    """Try every learning rate with every warm-up for `tuning.steps` steps.

    Each is a training of its own with its whole schedule, so an interrupted tuning continues. One that diverges has no DSC, and is not
    tried again with the same data, parameters and code (by any number of processes).

    Args:
        cases: prepared, with validation cases.
        parameters: of the training that is tuned for.
        tuning: what to try.
        folder: where the candidates are trained.
        previous: folder of the variant whose levels come before.

    Returns learning_rate, warm_up, val_dsc, best one first. Raises ValueError without validation cases, TrainingDiverged where every
    candidate diverges.
    """
    if not cases.cases("val"):
        raise ValueError("tuning needs validation cases: set val_fraction above 0, or leave tuning out of the preset")
    rows: list[dict[str, float]] = []
    diverged: TrainingDiverged | None = None
    for rate, warm_up in itertools.product(tuning.learning_rates, tuning.warm_ups):
        changes = {"learning_rate": rate, "warm_up": warm_up, "steps": tuning.steps, "validate_every": tuning.steps}
        candidate = replace(parameters, training=parameters.training.model_copy(update=changes))
        place = folder / f"{rate:g}-{warm_up:g}"
        reason = _known_divergence(candidate, cases, place, previous)
        try:
            if reason:
                raise TrainingDiverged(reason)
            dsc = fit(cases, candidate, place, previous, contexts=folder / "contexts")["val_dsc"].iloc[-1]
        except TrainingDiverged as error:
            dsc, diverged = MISSING, error
            if not reason:
                _remember(error, candidate, cases, place, previous)
        rows.append({"learning_rate": rate, "warm_up": warm_up, "val_dsc": dsc})
    if diverged and all(math.isnan(row["val_dsc"]) for row in rows):
        raise diverged
    return pd.DataFrame(rows).sort_values("val_dsc", ascending=False, kind="stable", ignore_index=True)


def _known_divergence(candidate: SegmentorParameters, cases: PreparedCases, place: Path, previous: Path | None) -> str:
    """Why this very candidate diverged before, whatever the number of processes then; empty where it did not."""
    known = read_json(place / DIVERGED) if (place / DIVERGED).exists() else None
    if known is None:
        return ""
    tried = replace(candidate, processes=known["processes"])
    return known["reason"] if known["fingerprint"] == fingerprint_of(tried, cases, previous) else ""


def _remember(
    error: TrainingDiverged, candidate: SegmentorParameters, cases: PreparedCases, place: Path, previous: Path | None
) -> None:
    tried = replace(candidate, processes=process_group().num_processes)
    fingerprint = fingerprint_of(tried, cases, previous)
    write_json({"fingerprint": fingerprint, "processes": tried.processes, "reason": str(error)}, place / DIVERGED)
