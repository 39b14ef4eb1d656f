"""Weights as a user names them: a folder, a name, or a run that has trained some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib.files import DATA, own_and_shipped, own_or_shipped, read_csv, read_json, shown_folder
from fhlib.models.card import NEVER_REAL, Card, card_of
from fhlib.models.parameters import PARAMETERS_FILE, SegmentorParameters
from fhlib.models.weights import weights_files
from fhlib.presets import load_preset, suggestion

CALIBRATION_FILE = "calibration.json"
FEWEST_TO_CALIBRATE = 25
"""Validation scans."""
RECORD, MODELS, CURVE = "run.json", "models", "learning_curve.csv"
FEWER_FLAGS = "so there are no intervals, and `no head` and `unfamiliar intensities` are hardly ever flagged"
OF_OTHERS = "a calibration of other weights, as the shipped one is, would be wrong for these"


@dataclass(frozen=True)
class Chosen:
    """A variant's folder with what is known of it. `said`: what its user has to know before it starts."""

    folder: Path
    card: Card
    outline: str
    spatial_dims: int
    said: tuple[str, ...] = ()

    @property
    def of_heads(self) -> bool:
        """Whether it outlines the whole head in volumes: then a skull's and an image's weights serve beside it."""
        return self.outline == "skin" and self.spatial_dims == 3


def choose(given: Path | str) -> Chosen:
    """Weights by folder, by the name of one's own or shipped ones, or by a run: its name, or its folder.

    A run stands for the last variant of its preset that it has trained. Of a name that both weights and a run have, the weights are
    taken, and that is said.

    Raises FileNotFoundError with what there is, and the nearest name.
    """
    path = Path(given)
    if weights_files(path):
        return _of_folder(path)
    if (path / RECORD).is_file():
        return _of_run(path)
    if path != Path(path.name):
        return _of_folder(path)

    run = DATA / "runs" / path.name
    is_run = bool(path.name) and (run / RECORD).is_file()
    if path.name in own_and_shipped("weights", "*/"):
        chosen = _of_folder(own_or_shipped("weights", path.name))
        twice = (
            f"{path.name} is taken for {shown_folder(chosen.folder)}; for the run of that name give {shown_folder(run)}"
        )
        return replace(chosen, said=(*chosen.said, twice)) if is_run else chosen
    if is_run:
        return _of_run(run)
    weights = own_and_shipped("weights", "*/")
    runs = sorted(record.parent.name for record in (DATA / "runs").glob(f"*/{RECORD}"))
    or_run = f"; or a run: {', '.join(runs)}" if runs else ""
    raise FileNotFoundError(
        f"there are no weights and no run {path.name!r}{suggestion(path.name, [*weights, *runs])}; "
        f"give a folder, or one of {', '.join(weights)}{or_run}"
    )


def _of_folder(folder: Path) -> Chosen:
    """Raises what loading it would for a folder without weights, or with something else under their name."""
    files = weights_files(folder)
    if not files or not all(path.is_file() for path in files):
        from fhlib.models.weights import load_cascade

        load_cascade(folder)
    parameters = SegmentorParameters.load(files[-1].with_name(PARAMETERS_FILE))
    card = card_of(folder)
    if not (folder / CALIBRATION_FILE).exists():
        why = f"no {CALIBRATION_FILE} lies beside them (it takes {FEWEST_TO_CALIBRATE} validation scans), {FEWER_FLAGS}"
        card = replace(card, uncalibrated=why)
    return Chosen(folder, card, parameters.outline, parameters.spatial_dims)


def _of_run(run: Path) -> Chosen:
    """The last variant that a run has trained. Raises FileNotFoundError where it has trained none."""
    record: dict[str, Any] = {"preset": "", "changes": {}, **read_json(run / RECORD)}
    preset = load_preset(record["preset"], record["changes"])
    trained = [name for name in preset.variants if weights_files(run / MODELS / name)]
    if not trained:
        raise FileNotFoundError(
            f"run {run.name!r} has trained nothing yet: start it again, or give other weights (--weights head)"
        )
    chosen = _of_folder(run / MODELS / trained[-1])
    table = run / "tables" / "cohort.csv"
    splits = read_csv(table)["split"].value_counts() if table.exists() else pd.Series(dtype=int)
    start = preset.training_for(chosen.spatial_dims).start_from

    whose = f"scans of the cohort {Path(record['cohort']).name}" if record.get("cohort") else "simulated scans"
    began = f", from the weights {start} on" if start else ""
    measured, real = _measured(run, whose), NEVER_REAL
    if record.get("cohort"):
        real = f"Tried on {splits.get('test', 0)} held-out {whose} alone."
    card = replace(
        chosen.card,
        name=run.name,
        trained_on=f"{splits.get('train', 0)} {whose}{began}",
        measured_on=measured,
        real=real if chosen.spatial_dims == 3 else "",
        uncalibrated=_why_uncalibrated(run.name, trained[-1], int(splits.get("val", 0))),
    )
    return replace(chosen, card=card)


def _measured(run: Path, whose: str) -> str:
    """What a run that learns on from few cases has measured, in words."""
    table = run / "tables" / CURVE
    if not table.exists():
        return "what the run's own report shows"
    curve = read_csv(table)
    counts = sorted(curve["training_cases"].unique())
    means = 100 * curve.groupby("training_cases")["dsc"].mean()
    shipped = f"; the weights it began with: {means[0]:.1f} %" if counts[0] == 0 else ""
    return f"{curve['case'].nunique()} held-out {whose}: mean DSC {means[counts[-1]]:.1f} %{shipped}"


def _why_uncalibrated(run: str, variant: str, validation: int) -> str:
    needed = f"one of their own takes {FEWEST_TO_CALIBRATE} validation scans, and run {run} has {validation}"
    if validation >= FEWEST_TO_CALIBRATE:
        command = f"python -m fhlib export --run {run} --variant {variant} --name {run}"
        needed = f"a run is calibrated when it is exported (`{command}`)"
    return f"{OF_OTHERS}; {needed}, {FEWER_FLAGS}"
