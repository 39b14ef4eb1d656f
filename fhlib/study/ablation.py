"""Several runs on the same cases together: their scores, and how they came about in training (13_ablation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fhlib.models.parameters import HISTORY_FILE, PARAMETERS_FILE, SegmentorParameters
from fhlib.study.run import Study, StudyError, open_cohort, reopen_study
from fhlib.training.prepared import PreparedCases
from fhlib.variants import VARIANTS


def pool_runs(names: Sequence[str]) -> pd.DataFrame:
    """Scores of several runs on the same test cases that differ in their trainings: those of `score` with the column seed.

    Raises StudyError where a run has no scores, two have one seed, or the runs differ in more than seed and variants.
    """
    frames: dict[int, pd.DataFrame] = {}
    first = _but_seed_and_variants(reopen_study(names[0]))
    for name in names:
        study = reopen_study(name)
        if different := [key for key, value in _but_seed_and_variants(study).items() if first[key] != value]:
            raise StudyError(
                f"run {name!r} differs from {names[0]!r} in {', '.join(different)}: pool runs of other seeds only"
            )
        path = study.tables / "scores.csv"
        if not path.exists():
            raise StudyError(f"run {name!r} has no scores yet: run 05_accuracy in it first")
        seed = study.preset.training_for(open_cohort(study)[0].spatial_dims).seed
        if seed in frames:
            raise StudyError(f"run {name!r} has the seed {seed} of another one: start it with --set training.seed=N")
        frames[seed] = pd.read_csv(path, dtype={"case": str, "subject": str}).assign(seed=seed)
    cases = [set(frame["case"]) for frame in frames.values()]
    if any(other != cases[0] for other in cases):
        raise StudyError(f"runs {', '.join(names)} have other test cases each: pool runs of one cohort")
    return pd.concat(frames.values(), ignore_index=True)


def validation_curves(names: Sequence[str]) -> pd.DataFrame:
    """Mean DSC of the validation cases during each training of several runs on the same cases; test cases are not looked at.

    A row a validation: run, variant, level, seed, learning_rate, warm_up, changed, step, val_dsc (0 to 1); no row where nothing validates,
    and none for the candidates of a tuning. `changed`: what differs from the first run's training of this variant (its preset's where it
    has none) but seed and what a tuning chose. Raises StudyError where a run has trained nothing yet, or on other cases, resolution or
    outlines than the first.
    """
    first = reopen_study(names[0])
    preset = first.preset.training_for(open_cohort(first)[0].spatial_dims)
    grounds = _grounds(first)
    frames = []
    for name in names:
        study = reopen_study(name)
        finished = sorted(study.folder.glob(f"models/*/level*/{HISTORY_FILE}"))
        if not finished:
            raise StudyError(f"run {name!r} has trained nothing yet: run 03_train in it first")
        if different := [key for key, value in _grounds(study).items() if grounds[key] != value]:
            raise StudyError(
                f"run {name!r} differs from {names[0]!r} in {', '.join(different)}: compare trainings on one and the same"
            )
        for path in finished:
            variant, level = path.parts[-3], int(path.parts[-2].removeprefix("level"))
            if level != VARIANTS[variant].levels:
                continue  # a copy of its base's
            training = SegmentorParameters.load(path.with_name(PARAMETERS_FILE)).training.model_dump()
            told = {key: training[key] for key in ("seed", "learning_rate", "warm_up")}
            same = first.model_folder(variant) / f"level{level}" / PARAMETERS_FILE
            usual = (SegmentorParameters.load(same).training if same.exists() else preset).model_dump()
            ignored = {"seed", "validate_every", "checkpoint_every"}
            ignored |= {"learning_rate", "warm_up"} if study.preset.tuning else set()
            row = VARIANTS[variant]
            if not (row.skip_attention or row.path_attention):
                ignored |= {key for key in training if key.startswith("attention_")}
            changed = ", ".join(f"{k}={v}" for k, v in training.items() if v != usual[k] and k not in ignored)
            curve = pd.read_csv(path, usecols=["step", "val_dsc"]).dropna()
            frames.append(curve.assign(run=name, variant=variant, level=level, **told, changed=changed))
    columns = ["run", "variant", "level", "seed", "learning_rate", "warm_up", "changed", "step", "val_dsc"]
    return pd.concat(frames, ignore_index=True)[columns]


def _grounds(study: Study) -> dict[str, Any]:
    if not (study.prepared / "index.csv").exists():
        raise StudyError(f"run {study.name!r} has nothing prepared yet: run 02_prepare in it first")
    index = PreparedCases(study.prepared).index
    return {
        "cohort": study.cohort_folder,
        "cases and splits": dict(zip(index["case"], index["split"], strict=True)),
        "preparation": study.preset.preparation,
        "target": study.preset.target,
    }


def _but_seed_and_variants(study: Study) -> dict[str, Any]:
    settings = study.preset.model_dump(exclude={"name", "purpose", "variants"})
    for section in ("training", "training_2d"):
        settings[section] = {key: value for key, value in settings[section].items() if key != "seed"}
    return {"cohort": study.cohort_folder, **settings}
