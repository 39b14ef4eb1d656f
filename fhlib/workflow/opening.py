"""The box that a report opens with: whose scans, how many, what was trained, what may be compared, how to cite."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from nbformat import NotebookNode

from fhlib import __version__
from fhlib.files import read_csv, read_json
from fhlib.presets import Preset, load_preset
from fhlib.workflow.progress import duration
from fhlib.workflow.provenance import is_hc18

SPLITS = {"train": "train", "val": "validate", "test": "test", "repro": "repeat"}

PAPER_STEPS = "63 360"
"""Training steps of the paper (section 3.1): 30 epochs of 2112 augmented volumes."""

CITED = (
    "Yang X, Wang X, Wang Y, Dou H, Li S, Wen H, Lin Y, Heng PA, Ni D. Hybrid attention for automatic segmentation of whole fetal "
    "head in prenatal ultrasound volumes. Computer Methods and Programs in Biomedicine 2020; 194: 105519."
)
DOI = "10.1016/j.cmpb.2020.105519"
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Opening:
    """What stands first: facts by heading, in plain words, and a line about when."""

    facts: dict[str, Markup] = field(default_factory=dict)
    when: str = ""


def opening_of(folder: Path, notebooks: Sequence[NotebookNode]) -> Opening:
    """The opening of a run's report.

    Args:
        folder: of the run; what it does not tell is left out.
        notebooks: executed ones, whose times papermill has noted.
    """
    record, preset = recorded(folder)
    facts: dict[str, str | Markup] = {}
    if record:
        facts["The scans"] = _whose(folder, record)
    facts |= {"How many": _how_many(folder), "Voxels": _voxels(folder, record, preset)}
    if preset is not None:
        facts["Training"] = _training(preset)
        facts["What may be compared"] = (
            "The networks of this report with one another, on its test scans. Each was trained once: another training of the same network "
            "gives other numbers, and differences of that size say nothing."
        )
        facts["What may not"] = (
            "These numbers with the paper's: those are from 50 clinical volumes of 0.38 mm, which are not public, "
            f"and from {PAPER_STEPS} training steps."
        )
    link = Markup('<a href="https://doi.org/{}">doi:{}</a>').format(DOI, DOI)
    facts["Cite"] = Markup("The paper whose study this repeats: {} {} And the package: fhlib {}. Licence: {}.").format(
        CITED, link, __version__, LICENCE
    )
    return Opening({name: Markup.escape(text) for name, text in facts.items() if text}, _when(notebooks))


def recorded(folder: Path) -> tuple[dict[str, Any], Preset | None]:
    """What a run was started with, and its parameters where the preset is still there."""
    path = folder / "run.json"
    record = read_json(path) if path.is_file() else {}
    preset = None
    with suppress(ValueError):
        preset = load_preset(record["preset"], record.get("changes")) if record.get("preset") else None
    return record, preset


def _whose(folder: Path, record: dict[str, Any]) -> str:
    if not record.get("cohort"):
        return "Simulated by a computer, with known truth. No patient was scanned."
    if is_hc18(folder):
        return "Clinical 2D images of the public data set HC18."
    return "Brought by the user, from a folder of scans."


def _how_many(folder: Path) -> str:
    path = folder / "tables" / "cohort.csv"
    if not path.is_file():
        return ""
    table = read_csv(path)
    counts = table["split"].value_counts() if "split" in table else pd.Series(dtype=int)
    parts = [f"{counts[split]} to {word}" for split, word in SPLITS.items() if split in counts]
    subjects = f" of {table['subject'].nunique()} subjects" if "subject" in table else ""
    return f"{len(table)} scans{subjects}" + (f": {', '.join(parts)}." if parts else ".")


def _voxels(folder: Path, record: dict[str, Any], preset: Preset | None) -> str:
    if preset is None:
        return ""
    own = ""
    if not record.get("cohort"):
        own = f"The scans have voxels of {preset.simulated_cohort.spacing_mm:g} mm. "
    elif is_hc18(folder):
        return ""
    if preset.preparation.longest_voxels:
        return f"{own}The network reads {preset.preparation.longest_voxels} voxels along a scan's longest side."
    return f"{own}The network reads them at {preset.preparation.spacing_mm:g} mm (in the paper 0.95 mm)."


def _training(preset: Preset) -> str:
    training = preset.training
    steps = f"{training.steps:,}".replace(",", " ")
    count = f"{len(preset.variants)} networks" if len(preset.variants) > 1 else "One network"
    named = ", ".join(preset.variants)
    return f"{count} ({named}), trained once for {steps} steps of {training.batch_size} scans (in the paper {PAPER_STEPS} of 1)."


def _when(notebooks: Sequence[NotebookNode]) -> str:
    """When the last notebook ended, and how long all of them took."""
    notes = [notebook.metadata.get("papermill", {}) for notebook in notebooks]
    ends = [str(note["end_time"]) for note in notes if note.get("end_time")]
    seconds = sum(float(note.get("duration") or 0) for note in notes)
    if not ends:
        return ""
    day = datetime.fromisoformat(max(ends)).strftime("%d %B %Y").lstrip("0")
    return f"{day}. The notebooks took {duration(seconds)} in all."
