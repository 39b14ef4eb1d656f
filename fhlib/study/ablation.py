"""13: several runs on the same cases together, their scores, and how these came about in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fhlib.figures.charts.scores import difference_forest
from fhlib.figures.charts.training import validation_course
from fhlib.files import DATA, SHIPPED, safe_name, write_csv
from fhlib.measures.comparison import compare_trainings
from fhlib.models.parameters import HISTORY_FILE, PARAMETERS_FILE, SegmentorParameters
from fhlib.networks.build import build_level, parameter_count
from fhlib.paper.claims import OWN_SEED, scores_of_trainings
from fhlib.paper.tables import printed_table
from fhlib.presets import Training, load_preset
from fhlib.study.accuracy import COMPARED_MEASURES, read_scores
from fhlib.study.run import CHANGEABLE, Study, StudyError, open_cohort, open_study, reopen_study
from fhlib.training.prepared import PreparedCases
from fhlib.variants import VARIANTS

BASELINE = "USegNet-DS"
CURVE_COLUMNS = ("run", "variant", "level", "seed", "learning_rate", "warm_up", "changed", "step", "val_dsc")
CHOSEN_BY_TUNING = {"learning_rate", "warm_up"}
HISTORIES = f"*/level*/{HISTORY_FILE}"
NOT_A_CHANGE = {"seed", "validate_every", "checkpoint_every"}


@dataclass(frozen=True)
class Ablation:
    """What 13 compares.

    `scores` are those of `pool_runs`, `curves` those of `validation_curves`, `tuned` what the tuning tried. `folder` is the run's,
    where tables and figures are kept; None for published tables, which are only read. `told` says in words what is compared.
    """

    training: Training
    dims: int
    scores: pd.DataFrame
    curves: pd.DataFrame
    tuned: pd.DataFrame
    folder: Path | None
    told: str

    @property
    def first(self) -> pd.DataFrame:
        """The scores of the first run's own seed."""
        return self.scores[self.scores["seed"] == self.training.seed]

    def keep(self, name: str) -> Path | None:
        """Where a figure is kept; nowhere for published tables."""
        return self.folder / "figures" / name if self.folder else None

    def write(self, table: pd.DataFrame, name: str) -> None:
        """Write a table of the run; nothing for published tables."""
        if self.folder:
            write_csv(table, self.folder / "tables" / name)


def open_ablation(run: str, preset: str = "", more_runs: Sequence[str] = (), trials: Sequence[str] = ()) -> Ablation:
    """Runs to compare; where there is no such run, and no other is named, its published tables in data/results.

    Args:
        run: the first one.
        preset: that it was started with.
        more_runs: of other seeds than those of its preset.
        trials: that changed something in the training, compared on validation cases only.

    Raises StudyError as `pool_runs` and `validation_curves`, and where there is neither run nor tables of it.
    """
    published = SHIPPED / "results" / safe_name(run, "run")
    alone = not (more_runs or trials)
    if alone and not (DATA / "runs" / run / "run.json").exists() and (published / "scores.csv").exists():
        return _published(published, preset or run)
    study = open_study(run, preset, start=False)
    training, dims = _training(study), open_cohort(study)[0].spatial_dims
    scores = pool_runs([run, *more_runs])
    told = _told(scores, training)
    return Ablation(
        training, dims, scores, validation_curves([run, *more_runs, *trials]), tuned(study), study.folder, told
    )


def _published(folder: Path, preset: str) -> Ablation:
    """What a published run has of its own seed and of others (`scores_seed1.csv`)."""
    pooled = scores_of_trainings(folder)
    dims = 2 if "area_mm2" in pooled and pooled["area_mm2"].notna().any() else 3
    training = load_preset(preset).training_for(dims)
    pooled["seed"] = pooled["seed"].replace(OWN_SEED, training.seed)
    tables = [folder / name for name in ("validation.csv", "tuning.csv")]
    curves, tried = (pd.read_csv(path) if path.exists() else pd.DataFrame() for path in tables)
    told = f"There is no run {folder.name!r} here: these are its published tables (data/results/{folder.name}). "
    return Ablation(training, dims, pooled, curves, tried, None, told + _told(pooled, training))


def _told(scores: pd.DataFrame, training: Training) -> str:
    counts = f"{scores['case'].nunique()} test cases, {scores['variant'].nunique()} networks"
    return f"{counts}, {scores['seed'].nunique()} seeds, contexts {training.contexts}"


def pool_runs(names: Sequence[str]) -> pd.DataFrame:
    """Scores of several runs that differ in their trainings only: those of `score` with the column seed.

    Each run has the seeds of its preset. Raises StudyError where one has no scores, two runs have one seed, or test
    cases differ. So it does where the presets differ in more than seeds and variants.
    """
    frames: dict[int, pd.DataFrame] = {}
    first = _but_seeds_and_variants(reopen_study(names[0]))
    for name in names:
        run = reopen_study(name)
        _require_equal(name, names[0], _but_seeds_and_variants(run), first, "pool runs of other seeds only")
        for study in run.of_each_seed:
            table = study.table("scores")
            if not table.exists():
                raise StudyError(f"run {name!r} has no {table.name} yet: run 05_accuracy in it first")
            seed = _training(study).seed
            if seed in frames:
                raise StudyError(
                    f"run {name!r} has the seed {seed} of another one: start it with --set training.seed=N"
                )
            frames[seed] = read_scores(study).assign(seed=seed)
    cases = [set(frame["case"]) for frame in frames.values()]
    if any(other != cases[0] for other in cases):
        raise StudyError(f"runs {', '.join(names)} have other test cases each: pool runs of one cohort")
    return pd.concat(frames.values(), ignore_index=True)


def seeds_by_network(scores: pd.DataFrame) -> pd.Series:
    """How many trainings each network has in pooled scores."""
    return scores.groupby("variant", sort=False)["seed"].nunique()


def tuned(study: Study) -> pd.DataFrame:
    """What each network's tuning tried, the best first; empty where nothing was tuned."""
    paths = sorted(study.tables.glob("tuning-*.csv"))
    tables = {path.stem.removeprefix("tuning-"): pd.read_csv(path) for path in paths}
    return pd.concat(tables, names=["network", "rank"]).reset_index() if tables else pd.DataFrame()


def network_sizes(ablation: Ablation) -> pd.DataFrame:
    """How many numbers one level of each network learns."""
    variants = dict.fromkeys(ablation.scores["variant"])
    nets = {name: build_level(name, ablation.dims, ablation.training) for name in variants}
    counts = {name: parameter_count(net) for name, net in nets.items()}
    return pd.Series(counts, name="parameters of one level").to_frame()


def compare_networks(ablation: Ablation) -> pd.DataFrame:
    """`compare_trainings` with USegNet-DS, or the first network; writes tables/ablation.csv.

    A cascade is also set against its own first level.
    """
    scores = ablation.scores
    names = list(dict.fromkeys(scores["variant"]))
    comparisons = [(scores, baseline_of(scores))]
    for name in names:
        base = VARIANTS[name].base
        if base is not None and base in names:
            comparisons.append((scores[scores["variant"].isin([name, base])], base))
    tables = [compare_trainings(part, measure, base) for measure in COMPARED_MEASURES for part, base in comparisons]
    compared = pd.concat(tables)
    ablation.write(compared, "ablation.csv")
    return compared


def baseline_of(scores: pd.DataFrame) -> str:
    """What the networks are compared with: USegNet-DS where it was trained, else the first of them."""
    names = list(scores["variant"])
    return BASELINE if BASELINE in names else names[0]


def differences_figure(compared: pd.DataFrame, baseline: str) -> Figure | None:
    """Differences in DSC from the baseline beside those that the paper prints; None for a single network."""
    dsc = _dsc_differences(compared, baseline)
    printed = pd.concat([printed_table(1), printed_table(2)])
    return difference_forest(dsc, printed) if len(dsc) else None


def trained_everywhere(scores: pd.DataFrame) -> pd.DataFrame:
    """Pooled scores of the networks that most runs have trained."""
    seeds = seeds_by_network(scores)
    return scores[scores["variant"].isin(seeds.index[seeds == seeds.max()])]


def means_by_seed(ablation: Ablation, scores: pd.DataFrame) -> pd.DataFrame:
    """Mean DSC by network and seed, the mean over seeds and the SD between trainings; writes tables/ablation_seeds.csv.

    `scores` is of `trained_everywhere`.
    """
    by_seed = scores.pivot_table(index="variant", columns="seed", values="dsc", sort=False)
    by_seed = by_seed.assign(mean=by_seed.mean(axis=1), sd_between_trainings=by_seed.std(axis=1))
    ablation.write(by_seed.reset_index(), "ablation_seeds.csv")
    return by_seed


def validation_curves(names: Sequence[str]) -> pd.DataFrame:
    """Mean DSC of the validation cases during each training of several runs; test cases are not looked at.

    A row a validation: CURVE_COLUMNS, the DSC from 0 to 1. No row where nothing validates, and none for the candidates of
    a tuning. `changed` says what differs from the first run's training of this variant, or from its preset's where it has
    none. Seed and what a tuning chose are no changes.

    Raises StudyError where a run has trained nothing yet, or on other cases, resolution or outlines than the first.
    """
    first = reopen_study(names[0])
    grounds = _grounds(first)
    curves = []
    for name in names:
        run = reopen_study(name)
        finished = [(study, path) for study in run.of_each_seed for path in sorted(study.models.glob(HISTORIES))]
        if not finished:
            raise StudyError(f"run {name!r} has trained nothing yet: run 03_train in it first")
        _require_equal(name, names[0], _grounds(run), grounds, "compare trainings on one and the same")
        for study, path in finished:
            variant, level = path.parts[-3], int(path.parts[-2].removeprefix("level"))
            if level == VARIANTS[variant].levels:  # the levels before are copies of its base's
                curves.append(_curve(study, first, variant, path))
    return pd.concat(curves, ignore_index=True)[list(CURVE_COLUMNS)]


def last_validations(curves: pd.DataFrame) -> pd.DataFrame:
    """Where each training ended, the best first."""
    if curves.empty:
        return curves
    trainings = curves.groupby(["variant", "changed", "run", "seed"], sort=False, dropna=False)
    return trainings.tail(1).drop(columns="level").sort_values("val_dsc", ascending=False)


def validation_figure(ablation: Ablation) -> Figure | None:
    """The courses of validation; writes tables/validation.csv. None where nothing validates."""
    ablation.write(ablation.curves, "validation.csv")
    return validation_course(ablation.curves) if len(ablation.curves) else None


def ablation_findings(scores: pd.DataFrame, compared: pd.DataFrame, by_seed: pd.DataFrame) -> list[str]:
    """What 13 found, in sentences.

    Args:
        scores: of `pool_runs`.
        compared: of `compare_networks`.
        by_seed: of `means_by_seed`.
    """
    baseline = baseline_of(scores)
    dsc = _dsc_differences(compared, baseline)
    cases = scores["case"].nunique()
    several_seeds = by_seed["sd_between_trainings"].notna().any()
    spread = by_seed["sd_between_trainings"].max() if several_seeds else 0.0
    # two trainings of one network differ by no more in 95 of 100 pairs
    luck = 1.96 * math.sqrt(2) * spread

    beyond_cases = (dsc["low"] > 0) | (dsc["high"] < 0)
    beyond_seeds = (dsc["trainings_low"] > 0) | (dsc["trainings_high"] < 0)
    beyond_luck = dsc["difference"].abs() > luck
    clear = dsc[beyond_cases & beyond_seeds.where(dsc["seeds"] > 1, beyond_luck)]

    differ = f"{beyond_cases.sum()} differ in DSC by more than their interval"
    if several_seeds:
        differ += f", {len(clear)} of them also by more than trainings of one network do"
    if len(clear):
        differ += ": " + ", ".join(f"{row.variant} {100 * row.difference:+.2f} points" for row in clear.itertuples())
    least, most = 100 * dsc["detectable"].min(), 100 * dsc["detectable"].max()
    between = "One training each: the spread between trainings is not known."
    if several_seeds:
        between = (
            f"Between trainings of one network the mean DSC varies by {100 * spread:.2f} points (SD, largest), "
            f"single trainings of two networks by up to {100 * luck:.2f} points by luck."
        )
    if not len(dsc):
        return [f"{baseline} alone was trained: there is nothing to compare it with.", between]
    remarks = [f"{row.variant}: {row.note}" for row in dsc.itertuples() if row.note]
    return [
        f"Of {len(dsc)} networks compared with {baseline}, {differ}.",
        f"The smallest difference that the {cases} cases can detect is {least:.2f} to {most:.2f} points.",
        between,
        *([f"Note: {'. '.join(remarks)}."] if remarks else []),
    ]


def _dsc_differences(compared: pd.DataFrame, baseline: str) -> pd.DataFrame:
    return compared[(compared["measure"] == "dsc") & (compared["baseline"] == baseline)]


def _curve(study: Study, first: Study, variant: str, history: Path) -> pd.DataFrame:
    """Rows of `validation_curves` for one training."""
    training = SegmentorParameters.load(history.with_name(PARAMETERS_FILE)).training.model_dump()
    usual = _usual_training(first, variant).model_dump()
    ignored = NOT_A_CHANGE | (CHOSEN_BY_TUNING if study.preset.tuning else set())
    if not VARIANTS[variant].has_attention:
        ignored |= {name for name in training if name.startswith("attention_")}
    changed = [f"{k}={v}" for k, v in training.items() if v != usual[k] and k not in ignored]
    curve = pd.read_csv(history, usecols=["step", "val_dsc"]).dropna()
    return curve.assign(
        run=study.name,
        variant=variant,
        level=VARIANTS[variant].levels,
        seed=training["seed"],
        learning_rate=training["learning_rate"],
        warm_up=training["warm_up"],
        changed=", ".join(changed),
    )


def _usual_training(first: Study, variant: str) -> Training:
    """How the first run has trained a variant, or would have."""
    path = first.model_folder(variant) / f"level{VARIANTS[variant].levels}" / PARAMETERS_FILE
    return SegmentorParameters.load(path).training if path.exists() else _training(first)


def _training(study: Study) -> Training:
    return study.preset.training_for(open_cohort(study)[0].spatial_dims)


def _require_equal(
    name: str, first: str, settings: Mapping[str, Any], expected: Mapping[str, Any], remedy: str
) -> None:
    different = [key for key, value in settings.items() if expected[key] != value]
    if different:
        raise StudyError(f"run {name!r} differs from {first!r} in {', '.join(different)}: {remedy}")


def _grounds(study: Study) -> dict[str, Any]:
    """What trainings must share to be compared on validation cases."""
    if not (study.prepared / "index.csv").exists():
        raise StudyError(f"run {study.name!r} has nothing prepared yet: run 02_prepare in it first")
    index = PreparedCases(study.prepared).index
    return {
        "cohort": study.cohort_folder,
        "cases and splits": dict(zip(index["case"], index["split"], strict=True)),
        "preparation": study.preset.preparation,
        "target": study.preset.target,
    }


def _but_seeds_and_variants(study: Study) -> dict[str, Any]:
    settings = study.preset.model_dump(exclude={"name", "purpose", "variants", *CHANGEABLE})
    for section in ("training", "training_2d"):
        del settings[section]["seed"]
    return {"cohort": study.cohort_folder, **settings}
