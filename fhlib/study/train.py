"""03: train one variant at its context level."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from fhlib.figures.schematic import attention_schematic, network_schematic
from fhlib.files import write_csv
from fhlib.models.device import choose_execution, process_group
from fhlib.models.parameters import SegmentorParameters
from fhlib.models.weights import load_cascade, model_digest
from fhlib.networks.build import build_network
from fhlib.networks.usegnet import USegNet
from fhlib.presets import suggestion
from fhlib.study.run import Study, StudyError, open_cohort
from fhlib.training.boxes import prepare_boxes
from fhlib.training.contexts import copy_levels
from fhlib.training.looks import prepare_looks
from fhlib.training.prepared import PreparedCases
from fhlib.training.tracking import Tracking, require_tracker
from fhlib.training.trainer import Watch, fit
from fhlib.training.tuning import tune
from fhlib.variants import VARIANTS


def train(study: Study, variant: str, level: int, watch: Watch | None = None) -> pd.DataFrame:
    """Train one variant at its own context level, the last of them; returns its history. The levels before are its base's.

    Where the preset says so, learning rate and warm-up are tuned first (tables/tuning-<variant>-level<k>.csv).

    Args:
        study: the run.
        variant: one of `VARIANTS`.
        level: its last one, from 1.
        watch: is called with the history so far.
    """
    require_known(variant)
    require_tracker(study.preset.tracker)
    base = VARIANTS[variant].base
    if level != VARIANTS[variant].levels:
        remedy = f"the levels before are those of {base}: train that" if base else "it has no other"
        raise StudyError(f"{variant} is trained at level {VARIANTS[variant].levels}, not {level}; {remedy}")
    if not (study.prepared / "index.csv").exists():
        raise StudyError(f"run {study.name!r} has no prepared cases yet: run 02_prepare first")
    cases = PreparedCases(study.prepared)
    previous = study.model_folder(base) if base else None
    folder = study.model_folder(variant) / f"level{level}"
    cases = cases_of_level(study, variant, previous, cases, study.prepared / f"boxes{study.mark}-{base}")
    parameters = parameters_of(study, variant, level, cases)

    if study.preset.tuning:
        tuned = tune(cases, parameters, study.preset.tuning, folder / "tuning", previous)
        write_csv(tuned, _tuning_table(study, variant, level))
        chosen = tuned[["learning_rate", "warm_up"]].iloc[0].to_dict()
        parameters = replace(parameters, training=parameters.training.model_copy(update=chosen))

    # the contexts that tuning computed serve the training, too
    shared = folder / "tuning" / "contexts" if study.preset.tuning else None
    history = fit(cases, parameters, folder, previous, watch, shared, track=_tracking(study, variant, level))
    if shared:
        shutil.rmtree(shared, ignore_errors=True)
    if previous is not None and process_group().is_main_process:
        copy_levels(previous, folder.parent)
    return history


def cases_of_level(
    study: Study, variant: str, previous: Path | None, cases: PreparedCases, folder: Path
) -> PreparedCases:
    """What a variant's last level is trained on: the prepared cases, with closer looks where the preset has them, or each around its head
    where the level reads boxes.

    Args:
        study: the run.
        variant: its name.
        previous: folder of the level before.
        cases: the prepared ones.
        folder: for what is cut around heads.
    """
    training = study.preset.training_for(cases.spatial_dims)
    closer = previous is None and training.closer_look_probability > 0
    boxes = previous is not None and VARIANTS[variant].reads_box
    if not (closer or boxes):
        return cases
    if boxes and training.context_folds:
        raise StudyError(f"{variant} reads boxes, and its contexts are in sample: set training.context_folds to 0")
    cohort, table = open_cohort(study)
    table = table[table["case"].isin(cases.index["case"])]
    with process_group().main_process_first():  # of several processes one cuts, the others find it done
        if previous is None:
            return prepare_looks(cohort, table, study.preset.preparation, cases, study.prepared / "regions")
        return prepare_boxes(
            cohort, table, load_cascade(previous), model_digest(previous), study.preset.preparation, folder
        )


def require_known(variant: str) -> None:
    """Raises StudyError for a variant that there is not."""
    if variant not in VARIANTS:
        raise StudyError(f"{variant!r} cannot be trained{suggestion(variant, VARIANTS)}; known: {', '.join(VARIANTS)}")


def parameters_of(study: Study, variant: str, level: int, cases: PreparedCases) -> SegmentorParameters:
    """What the preset says for one segmentor on this machine.

    Args:
        study: the run.
        variant: of the network.
        level: its context level, from 1.
        cases: what it will be trained on.
    """
    dims = cases.spatial_dims
    training = study.preset.training_for(dims)
    with process_group().main_process_first():  # of several processes one measures, the others read its choice
        execution = choose_execution(
            study.folder / "execution.json",
            lambda: build_network("USegNet-DS-HAS", training.width, dims),
            cases.typical_shape,
            training.batch_size,
        )
    outline = open_cohort(study)[0].outline
    return SegmentorParameters(variant, level, dims, study.preset.preparation, training, execution, outline=outline)


def schematics(net: nn.Module, variant: str, level: int, shape: Sequence[int]) -> dict[str, Figure]:
    """The network and the inside of an attention module (Fig. 2a and 3), by name of the figure.

    Without modules the network alone; empty for another group's network.

    Args:
        net: of one level.
        variant: its name.
        level: from 1.
        shape: of a prepared volume.
    """
    if not isinstance(net, USegNet):
        return {}
    of_this = f"{variant}-level{level}"
    found = {f"03_network-{of_this}": network_schematic(net, shape, title=f"{variant}, level {level}")}
    if VARIANTS[variant].has_attention:
        found[f"03_attention-{of_this}"] = attention_schematic(net, shape)
    return found


def tuning_tried(study: Study, variant: str, level: int) -> pd.DataFrame:
    """The learning rates and warm-ups that `train` tried, the best first; empty where the preset tunes nothing.

    Args:
        study: the run.
        variant: that was trained.
        level: its last one, from 1.
    """
    path = _tuning_table(study, variant, level)
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def training_findings(history: pd.DataFrame, variant: str, level: int) -> list[str]:
    """What 03 found, in sentences.

    Args:
        history: of `train`.
        variant: that was trained.
        level: its last one, from 1.
    """
    tenth = max(1, len(history) // 10)
    first, last = history["loss"].head(tenth).mean(), history["loss"].tail(tenth).mean()
    validated = history["val_dsc"].dropna()
    reached = f"{validated.iloc[-1]:.3f}" if len(validated) else "not measured (no validation cases)"
    return [
        f"After {len(history)} steps of {variant} at level {level} the loss is {last:.3f} (mean of the last tenth; "
        f"{first:.3f} in the first) and the validation DSC **{reached}** at the network's resolution."
    ]


def _tracking(study: Study, variant: str, level: int) -> Tracking | None:
    name = study.preset.tracker
    return (
        Tracking(name, study.folder / "tracking", study.name, f"{variant}-level{level}{study.mark}") if name else None
    )


def _tuning_table(study: Study, variant: str, level: int) -> Path:
    return study.tables / f"tuning{study.mark}-{variant}-level{level}.csv"
