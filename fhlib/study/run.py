"""One run of the study: its parameters, its cohort and where its results lie.

Every notebook begins with `open_study(run, preset)`. What a run was started with is recorded in `data/runs/<run>/run.json`:
preset, cohort folder and changes. So a notebook needs no path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from fhlib.cohorts.importers import look_at
from fhlib.cohorts.manifest import Cohort, load_cohort
from fhlib.cohorts.simulated import largest_box_mm, require_room, require_sites
from fhlib.files import DATA, ROOT, read_json, safe_name, sole, write_json
from fhlib.fingerprints import digest
from fhlib.kernel import ready_notebook, running_shell
from fhlib.presets import Preset, load_preset, preset_path, suggestion
from fhlib.variants import VARIANTS

TENSORS_AT_LEAST = 8
"""Full-size tensors of `width` channels that a training step holds at once, and more: what they exceed cannot be trained."""


CHANGEABLE = ("seeds", "tracker", "growth_subjects")
"""Parameters of a preset that no result depends on."""


class StudyError(ValueError):
    """A run that cannot be opened as asked; the message names the remedy."""


@dataclass(frozen=True)
class Study:
    """A run's name, folder, preset and cohort.

    `source` is the folder that the user brought, None for the simulated cohort.
    `changes` are the preset's parameters that this run has otherwise.
    `mark` ends the names of what belongs to a further seed of the preset (`of_seed`); it is empty for the run's own.
    """

    name: str
    folder: Path
    preset: Preset
    source: Path | None
    changes: Mapping[str, Any] = field(default_factory=dict)
    mark: str = ""

    def of_seed(self, seed: int | None) -> Study:
        """The study with another of the preset's seeds, whose models, predictions, scores and figures lie beside the run's own.

        The same for None and for the run's own seed. Raises StudyError for a seed that the preset does not name.
        """
        if seed is None or seed == self.preset.training.seed:
            return self
        if seed not in self.preset.seeds:
            known = ", ".join(map(str, self.preset.seeds or [self.preset.training.seed]))
            raise StudyError(
                f"run {self.name!r} trains with the seed {known}, not with {seed}: name it in the preset's seeds"
            )
        return replace(self, preset=self.preset.with_seed(seed), mark=f"_seed{seed}")

    @property
    def of_each_seed(self) -> list[Study]:
        """The study with each of its seeds, the run's own first."""
        return [self, *map(self.of_seed, self.preset.further_seeds)]

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
        return self.folder / f"figures{self.mark}"

    @property
    def prepared(self) -> Path:
        """Folder of the network-resolution copies."""
        return self.folder / "prepared"

    @property
    def models(self) -> Path:
        """Folder of the trained variants."""
        return self.folder / f"models{self.mark}"

    def table(self, name: str) -> Path:
        """A table that each seed has: `tables/scores.csv`, `tables/scores_seed1.csv`."""
        return self.tables / f"{name}{self.mark}.csv"

    def model_folder(self, variant: str) -> Path:
        """Folder of a trained variant, all its context levels."""
        return self.models / variant

    def write_record(self, path: Path | None = None) -> None:
        """Write what the run was started with: preset, cohort, and changes where there are any."""
        path = path or self.folder / "run.json"
        place = self.source
        if place and place.is_relative_to(ROOT):
            place = place.relative_to(ROOT)
        record = {"preset": self.preset.name, "cohort": str(place or "")}
        write_json(record | ({"changes": dict(self.changes)} if self.changes else {}), path)

    def prediction_folder(self, variant: str) -> Path:
        """Folder of a variant's predictions on this cohort."""
        return self.folder / f"predictions{self.mark}" / variant / self.cohort_name


def open_study(
    run: str,
    preset: str = "",
    cohort: str | Path = "",
    changes: Mapping[str, Any] | None = None,
    runs: Path | None = None,
    record: bool | None = None,
    start: bool | None = None,
    usual: str = "",
) -> Study:
    """Open a run, or start it.

    In a notebook a run that is started leaves no record before 01_cohort makes its scans.

    Args:
        run: its name.
        preset: default quick.
        cohort: a folder of scans; by default the simulated cohort.
        changes: to the preset's parameters by dotted name (`{"training.seed": 1}`). Those of a run that is there are as it was started;
            only those of CHANGEABLE may be others, since nothing that it has depends on them.
        runs: folder of all runs, by default data/runs.
        record: whether a run that is started leaves its record; without it nothing is written. By default outside of notebooks.
        start: whether a run that is not there is started. By default outside of notebooks; in a notebook only one that has the preset's
            name, as the first run has, or the `usual` one. Where it is True in a notebook, a name that is nearly that of a run is refused
            all the same: it is a slip of the keys.
        usual: the run that a notebook has by default, where that is not the preset's name.

    Raises:
        StudyError: there is no such run to open, it was started with another preset, cohort or changes, the cohort's folder is missing,
            or what is asked cannot be done (see `require_possible`).
        ValueError: the folder of a new run is no cohort (`import_cohort`).
        PresetError: the preset or a change is not valid.
        ValueError: the name is none for a folder, or the run's record is damaged.
    """
    ready_notebook()
    for what, value in (("run", run), ("preset", preset)):
        if not isinstance(value, str):
            raise StudyError(
                f"{what} must be text and is {value!r}: papermill takes what looks like a number for one; "
                f"give it with -r {what} NAME, in place of -p"
            )
    folder = (runs or DATA / "runs") / safe_name(run, "run")
    source, given = _source(cohort), dict(changes or {})
    if preset:
        preset_path(preset)  # a slip of the keys is no other preset
    if (folder / "run.json").exists():
        return _continued(folder, preset, source, given, record)

    in_notebook = running_shell() is not None
    if in_notebook and start is not False:
        slip = not start or suggestion(run, runs_in(folder.parent))
        start = run in (preset or "quick", usual) or not slip
    if start is False:
        raise no_such_run(run, folder.parent)
    study = Study(run, folder, load_preset(preset or "quick", given), source, given)
    if source:
        look_at(source)
    require_possible(study)
    if record or (record is None and not in_notebook):
        study.write_record(folder / "run.json")
    return study


def _continued(folder: Path, preset: str, source: Path | None, given: dict[str, Any], record: bool | None) -> Study:
    """A run that has a record, as it was started; of what is `given` only the CHANGEABLE is taken."""
    record_path = folder / "run.json"
    known = _recorded(record_path)
    if known["cohort"] and not _absolute(known["cohort"]).is_dir():
        gone = Path(known["cohort"]).name
        raise StudyError(
            f"run {folder.name!r} was started with the folder {gone!r}, which is gone: "
            "bring it back, or choose another RUN name"
        )
    as_started = known["changes"]
    known["changes"] = as_started | {name: given[name] for name in CHANGEABLE if name in given}
    if other := _differences(known, preset, source, given):
        started, asked = other
        remedy = "ask for what it was started with, or give another run name (RUN=name, --run name)"
        raise StudyError(f"run {folder.name!r} was started with {started}, not with {asked}: {remedy}")
    made = load_preset(known["preset"], known["changes"])
    study = Study(folder.name, folder, made, _source(known["cohort"]), known["changes"])
    if known["changes"] != as_started and record is not False:
        study.write_record(record_path)
    return study


def require_run(run: str, usual: str) -> None:
    """Raise StudyError for a run that is not there and is not the usual one, which may come later."""
    if safe_name(run, "run") != usual:
        reopen_study(run)


def runs_in(folder: Path) -> list[str]:
    """Names of the runs that have been started in a folder."""
    return sorted(path.parent.name for path in folder.glob("*/run.json"))


def no_such_run(run: str, folder: Path) -> StudyError:
    """What to say of a run that is not in a folder of runs: the nearest name, all of them, and how one is started."""
    known = runs_in(folder)
    others = f"there are: {', '.join(known)}" if known else "there is none yet"
    return StudyError(f"there is no run {run!r}{suggestion(run, known)}; {others}; `python -m fhlib study` starts one")


def _recorded(path: Path) -> dict[str, Any]:
    """What a run was started with. Raises StudyError for a record that says something else."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("preset"), str):
        raise StudyError(
            f"data/runs/{path.parent.name}/run.json names no preset: write one into it, or choose another RUN name"
        )
    return {"cohort": "", "changes": {}} | content


def require_possible(study: Study) -> None:
    """Raise before anything starts where a study of simulated scans cannot be done.

    Raises StudyError for a cohort without test or training scans, more folds than training scans, and sizes above this machine's memory;
    ValueError for an unknown site; OSError for a disk that is too small.
    """
    if study.source is not None:
        return  # its scans are looked at in 01_cohort
    preset, spec = study.preset, study.preset.simulated_cohort
    require_sites(spec)
    if not spec.test_subjects:
        raise StudyError(
            f"preset {preset.name!r} simulates no test subjects: give it a folder of scans (COHORT=folder, --cohort folder), "
            "or set simulated_cohort.test_subjects"
        )
    training = spec.train_subjects - round(preset.val_fraction * spec.train_subjects)
    if not training:
        raise StudyError(
            f"val_fraction {preset.val_fraction:g} of {spec.train_subjects} training subjects leaves none to train on: "
            "take a smaller share, or more subjects"
        )
    folds = preset.training.context_folds
    if folds > training and any(VARIANTS[name].levels > 1 for name in preset.variants):
        raise StudyError(f"training.context_folds is {folds} and {training} subjects train: take at most {training}")
    require_room(study.cohort_folder, spec)
    _require_memory(preset)


def _require_memory(preset: Preset) -> None:
    """Raise StudyError where one training step alone exceeds the memory."""
    preparation, training = preset.preparation, preset.training
    edges = [edge / preparation.spacing_mm for edge in largest_box_mm(preset.simulated_cohort)]
    if preparation.longest_voxels:
        edges = [edge * preparation.longest_voxels / max(edges) for edge in edges]
    needed = math.prod(edges) * training.width * training.batch_size * 4 * TENSORS_AT_LEAST
    there = psutil.virtual_memory().total
    if needed > there:
        shape = " x ".join(f"{edge:.0f}" for edge in edges)
        raise StudyError(
            f"one training step on {shape} voxels with width {training.width} and batches of {training.batch_size} needs more "
            f"than {needed / 1e9:.0f} GB of memory, and this machine has {there / 1e9:.0f} GB: take a larger "
            "preparation.spacing_mm, or a smaller width or batch_size"
        )


def reopen_study(run: str) -> Study:
    """Open a run that was started before; raises StudyError where there is none of that name, and starts nothing."""
    safe_name(run, "run")
    return open_study(run, start=False)


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
        known = runs_in(study.folder.parent)
        others = "" if study.name in known or not known else f"; runs that have been started: {', '.join(known)}"
        raise StudyError(f"run {study.name!r} has no cohort yet: run 01_cohort first{others}")
    cohort = outlining(load_cohort(study.cohort_folder), study.preset.target)
    return cohort, pd.read_csv(table, dtype=str, keep_default_na=False)


@contextmanager
def makes_scans(study: Study) -> Iterator[None]:
    """Hold the folder of scans that this run writes to and others may share; where another run holds it, say so and wait."""
    if study.cohort_kind == "in place":
        yield  # a user's own folder is only read
        return
    with sole_maker(study.cohort_folder):
        yield


@contextmanager
def sole_maker(cohort: Path) -> Iterator[None]:
    """Hold a folder of scans in data/cohorts while they are made; where another process holds it, say so and wait."""
    busy = f"another run is making the scans of cohort {cohort.name!r}: waiting for it"
    with sole(cohort.with_name(f".{cohort.name}.lock"), busy, wait=True):
        yield


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
