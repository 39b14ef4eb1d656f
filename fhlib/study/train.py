"""03: train one variant at its context level."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pandas as pd

from fhlib.files import write_csv
from fhlib.models.device import choose_execution, process_group
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network
from fhlib.presets import suggestion
from fhlib.study.run import Study, StudyError, open_cohort
from fhlib.training.contexts import copy_levels
from fhlib.training.prepared import PreparedCases
from fhlib.training.trainer import Watch, fit
from fhlib.training.tuning import tune
from fhlib.variants import VARIANTS


def train(study: Study, variant: str, level: int, watch: Watch | None = None) -> pd.DataFrame:
    """Train one variant at its own context level, the last of them; returns its history. The levels before are its base's.

    Where the preset says so, learning rate and warm-up are tuned first (tables/tuning-<variant>-level<k>.csv).
    """
    require_known(variant)
    base = VARIANTS[variant].base
    if level != VARIANTS[variant].levels:
        remedy = f"the levels before are those of {base}: train that" if base else "it has no other"
        raise StudyError(f"{variant} is trained at level {VARIANTS[variant].levels}, not {level}; {remedy}")
    cases = PreparedCases(study.prepared)
    previous = study.model_folder(base) if base else None
    folder = study.model_folder(variant) / f"level{level}"
    parameters = parameters_of(study, variant, level, cases)
    if study.preset.tuning:
        tuned = tune(cases, parameters, study.preset.tuning, folder / "tuning", previous)
        write_csv(tuned, study.tables / f"tuning-{variant}-level{level}.csv")
        chosen = tuned[["learning_rate", "warm_up"]].iloc[0].to_dict()
        parameters = replace(parameters, training=parameters.training.model_copy(update=chosen))
    shared = folder / "tuning" / "contexts" if study.preset.tuning else None
    history = fit(cases, parameters, folder, previous, watch, shared)
    if shared:
        shutil.rmtree(shared, ignore_errors=True)
    if previous is not None and process_group().is_main_process:
        copy_levels(previous, folder.parent)
    return history


def require_known(variant: str) -> None:
    if variant not in VARIANTS:
        raise StudyError(f"{variant!r} cannot be trained{suggestion(variant, VARIANTS)}; known: {', '.join(VARIANTS)}")


def parameters_of(study: Study, variant: str, level: int, cases: PreparedCases) -> SegmentorParameters:
    """What the preset says for one segmentor on this machine."""
    dims = cases.spatial_dims
    training = study.preset.training_for(dims)
    with process_group().main_process_first():  # of several processes one measures, the others read its choice
        execution = choose_execution(
            study.folder / "execution.json",
            lambda: build_network("USegNet-DS-HAS", training.width, dims),
            cases.typical_shape,
            training.batch_size,
        )
    outline = "skull" if open_cohort(study)[0].outlines_skull else "skin"
    return SegmentorParameters(variant, level, dims, study.preset.preparation, training, execution, outline=outline)
