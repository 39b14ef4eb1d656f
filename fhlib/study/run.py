"""One run of the study: its parameters, its cohort and where its results lie.

Every notebook begins with `open_study(run, preset)`. What a run was started with is recorded in `data/runs/<run>/run.json`:
preset, cohort folder and changes. So a notebook needs no path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib.cohorts.importers import look_at
from fhlib.cohorts.manifest import Cohort, load_cohort
from fhlib.files import DATA, ROOT, read_json, safe_name, write_json
from fhlib.fingerprints import digest
from fhlib.presets import Preset, load_preset, suggestion


class StudyError(ValueError):
    """A run that cannot be opened as asked; the message names the remedy."""


@dataclass(frozen=True)
class Study:
    """A run's name, folder, preset and cohort.

    `source` is the folder that the user brought, None for the simulated cohort.
    `changes` are the preset's parameters that this run has otherwise.
    """

    name: str
    folder: Path
    preset: Preset
    source: Path | None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cohort_kind(self) -> str:
        """`simulated`, `in place` (the user's folder has a cohort.csv) or `imported` (converted into data/cohorts)."""
        if self.source is None:
            return "simulated"
        return "in place" if (self.source / "cohort.csv").exists() else "imported"

    @property
    def cohort_name(self) -> str:
        """Name of the cohort: its folder's, or `simulated-<preset>`.

        A folder that is converted gets a mark of its place, since others may have its name.
        A simulated cohort gets a mark of what this run changes about it.
        """
        if self.source is None:
            about_scans = ("simulated_cohort", "val_fraction")
            changed = {key: value for key, value in self.changes.items() if key.split(".")[0] in about_scans}
            return f"simulated-{self.preset.name}" + (f"-{digest(changed)[:6]}" if changed else "")
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.source.name).strip("-.") or "cohort"
        return name if self.cohort_kind == "in place" else f"{name}-{digest(str(self.source))[:6]}"

    @property
    def cohort_folder(self) -> Path:
        """Folder that holds cohort.csv."""
        if self.source is not None and self.cohort_kind == "in place":
            return self.source
        return DATA / "cohorts" / self.cohort_name

    @property
    def tables(self) -> Path:
        """Folder of the run's tables."""
        return self.folder / "tables"

    @property
    def figures(self) -> Path:
        """Folder of the run's figures."""
        return self.folder / "figures"

    @property
    def prepared(self) -> Path:
        """Folder of the network-resolution copies."""
        return self.folder / "prepared"

    def model_folder(self, variant: str) -> Path:
        """Folder of a trained variant, all its context levels."""
        return self.folder / "models" / variant

    def prediction_folder(self, variant: str) -> Path:
        """Folder of a variant's predictions on this cohort."""
        return self.folder / "predictions" / variant / self.cohort_name


def open_study(run: str, preset: str = "", cohort: str | Path = "", changes: Mapping[str, Any] | None = None) -> Study:
    """Open a run, or start it.

    Args:
        run: its name.
        preset: default quick.
        cohort: a folder of scans; by default the simulated cohort.
        changes: to the preset's parameters by dotted name (`{"training.seed": 1}`).

    Raises:
        StudyError: the run was started with another preset, cohort or changes, or the cohort's folder is missing.
        ValueError: the folder of a new run is no cohort (`import_cohort`).
        PresetError: the preset or a change is not valid.
    """
    folder = DATA / "runs" / safe_name(run, "run")
    record_path = folder / "run.json"
    source, given = _source(cohort), dict(changes or {})

    if record_path.exists():
        record = read_json(record_path)
        if record["cohort"] and not _absolute(record["cohort"]).is_dir():
            gone = Path(record["cohort"]).name
            raise StudyError(
                f"run {run!r} was started with the folder {gone!r}, which is gone: bring it back, or choose another RUN name"
            )
        known = record.get("changes", {})
        if other := _differences(record, preset, source, given):
            started, asked = other
            remedy = f"choose another RUN name, or remove data/runs/{run}"
            raise StudyError(f"run {run!r} was started with {started}, not with {asked}: {remedy}")
        return Study(run, folder, load_preset(record["preset"], known), _source(record["cohort"]), known)

    study = Study(run, folder, load_preset(preset or "quick", given), source, given)
    if source:
        look_at(source)
    place = source.relative_to(ROOT) if source and source.is_relative_to(ROOT) else source
    record = {"preset": study.preset.name, "cohort": str(place or "")}
    write_json(record | ({"changes": given} if given else {}), record_path)
    return study


def reopen_study(run: str) -> Study:
    """Open a run that was started before; raises StudyError where there is none of that name, and starts nothing."""
    folder = DATA / "runs"
    if not (folder / safe_name(run, "run") / "run.json").exists():
        known = sorted(path.parent.name for path in folder.glob("*/run.json"))
        others = f"there are: {', '.join(known)}" if known else "there is none yet; `python -m fhlib study` makes one"
        raise StudyError(f"there is no run {run!r}{suggestion(run, known)}; {others}")
    return open_study(run)


def _differences(
    record: Mapping[str, Any], preset: str, source: Path | None, changes: Mapping[str, Any]
) -> tuple[str, str] | None:
    """What a run was started with and what is asked instead, in words; None where they fit. What is not given fits."""
    known = record.get("changes", {})
    if preset and preset != record["preset"]:
        return f"preset {record['preset']!r}", f"{preset!r}"
    if source and source != _source(record["cohort"]):
        return "another cohort", f"{source.name!r}"
    if changes and changes != known:
        return _words(known), _words(changes)
    return None


def _words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items()) or "no changes"


def _source(cohort: str | Path) -> Path | None:
    if not str(cohort):
        return None
    path = _absolute(cohort)
    if not path.is_dir():
        raise StudyError(f"there is no cohort folder {path.name!r}: give COHORT the path of an existing folder")
    return path


def _absolute(cohort: str | Path) -> Path:
    path = Path(cohort).expanduser()
    return (path if path.is_absolute() or path.exists() else ROOT / path).resolve()


def open_cohort(study: Study) -> tuple[Cohort, pd.DataFrame]:
    """The run's cohort and its manifest with splits. Raises StudyError where 01_cohort has not been run."""
    table = study.tables / "cohort.csv"
    if not table.exists() or not (study.cohort_folder / "cohort.csv").exists():
        raise StudyError(f"run {study.name!r} has no cohort yet: run 01_cohort first")
    cohort = outlining(load_cohort(study.cohort_folder), study.preset.target)
    return cohort, pd.read_csv(table, dtype=str, keep_default_na=False)


def outlining(cohort: Cohort, target: str) -> Cohort:
    """The cohort with the wanted outline, head or skull, as its label."""
    if target == "head":
        return cohort
    lacking = cohort.table[(cohort.table["label"] != "") & (cohort.table["label_skull"] == "")]
    if len(lacking):
        raise StudyError(
            f"the preset's target is the skull and {len(lacking)} cases have no label_skull, "
            f"such as {lacking['case'].iloc[0]}: add it to cohort.csv, or choose a preset whose target is the head"
        )
    return replace(cohort, table=cohort.table.assign(label=cohort.table["label_skull"]))


def test_cases(table: pd.DataFrame) -> pd.DataFrame:
    """Test rows that can be scored: with a label, or without a head (then the reference is the empty mask)."""
    return table[(table["split"] == "test") & ((table["label"] != "") | (table["has_head"] == "false"))]


test_cases.__test__ = False  # type: ignore[attr-defined]


def predictions(study: Study, variant: str) -> pd.DataFrame:
    """What `predict` wrote. Raises StudyError where it has not run."""
    path = study.prediction_folder(variant) / "predictions.csv"
    if not path.exists():
        raise StudyError(f"{variant} has no predictions in run {study.name!r}: run 04_predict with it first")
    return pd.read_csv(path, dtype={"case": str, "subject": str}, keep_default_na=False, na_values={"volume_ml": [""]})
