"""The probability maps that a context level reads in training (section 2.5), in sample or out of fold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fhlib.files import atomic_path, progress
from fhlib.models.device import Execution
from fhlib.models.parameters import HISTORY_FILE, PARAMETERS_FILE, WEIGHTS_FILE, SegmentorParameters
from fhlib.models.weights import load_cascade, model_digest
from fhlib.training.prepared import PreparedCases

Fit = Callable[[PreparedCases, SegmentorParameters, Path], Any]


def contexts_of(
    cases: PreparedCases, parameters: SegmentorParameters, previous: Path, folder: Path, fit: Fit
) -> dict[str, NDArray[np.float32]]:
    """Probability of the level before for each training and validation case, kept in `folder`.

    Out of fold, training cases are predicted by models that are trained as the level before was, on the subjects of the other folds.
    Validation cases are predicted by the level before itself, which has not seen them.

    Args:
        cases: prepared, with their splits.
        parameters: of the level that reads the contexts.
        previous: folder of the variant whose levels come before.
        folder: where the maps are kept.
        fit: trains a fold's model.

    Raises ValueError where there are fewer training subjects than folds.
    """
    folds, level, execution = parameters.training.context_folds, parameters.level - 1, parameters.execution
    train, val = cases.cases("train"), cases.cases("val")
    if not folds:
        return _predict_contexts(cases, [*train, *val], previous, level, execution, folder)
    subjects = cases.index.set_index("case")["subject"][train]
    if subjects.nunique() < folds:
        raise ValueError(
            f"context_folds is {folds} and there are {subjects.nunique()} training subjects: use fewer folds"
        )

    drawn = np.random.default_rng([parameters.training.seed, 2]).permutation(sorted(subjects.unique()))
    before = SegmentorParameters.load(previous / "level1" / PARAMETERS_FILE)
    found = _predict_contexts(cases, val, previous, level, execution, folder)
    for fold in range(folds):
        held_out = subjects.index[subjects.isin(drawn[fold::folds])].tolist()
        model = folder / "folds" / str(fold + 1)
        fit(cases.without(held_out), before, model / "level1")
        found |= _predict_contexts(cases, held_out, model, 1, execution, folder)
    return found


def _predict_contexts(
    cases: PreparedCases, names: list[str], previous: Path, level: int, execution: Execution, folder: Path
) -> dict[str, NDArray[np.float32]]:
    cascade, source = load_cascade(previous, execution, upto=level), model_digest(previous, level)
    contexts = {}
    for name in progress(names, "contexts"):
        path = folder / f"{name}-{source}.npy"
        if not path.exists():
            image = np.asarray(cases.image(name, original=cascade.slices))
            with atomic_path(path) as temporary:
                np.save(temporary, cascade.probability(image))
        contexts[name] = np.load(path, mmap_mode="r")
    return contexts


def copy_levels(source: Path, destination: Path) -> None:
    """Copy the context levels of a variant's folder beside another's, so that a cascade's folder is whole by itself."""
    for weights in source.glob(f"level*/{WEIGHTS_FILE}"):
        for name in (PARAMETERS_FILE, HISTORY_FILE, WEIGHTS_FILE):
            with atomic_path(destination / weights.parent.name / name) as temporary:
                shutil.copyfile(weights.with_name(name), temporary)
