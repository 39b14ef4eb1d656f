"""`study` and `train`: run a study, or one training of it."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhlib.cli.arguments import count, fail

if TYPE_CHECKING:
    from fhlib.study.run import Study

LONGEST_NAME = 80
"""Characters of a run's name that nobody gave."""


def add_study(commands: Any) -> None:
    """`study`."""
    study = commands.add_parser("study", help="run the whole study, or what of it is not up to date")
    study.add_argument(
        "--preset",
        help="a preset of fhlib's (smoke, quick, all-ages, fine-tune, sim-to-real, desk, desk-2d, gpu, paper) "
        "or a file of your own in data/presets/ (default: that of the run, else quick)",
    )
    study.add_argument("--run", help="the run's folder in data/runs/ (default: named for the preset and the cohort)")
    study.add_argument("--cohort", type=Path, help="a folder of scans (default: a digital cohort is simulated)")
    study.add_argument(
        "--set",
        dest="changes",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="parameters of the preset to change for this run: training.seed=1 variants=[USegNet-DS]",
    )
    study.add_argument("--cores", type=count, help="processor cores to use (default all)")
    study.add_argument(
        "--profile",
        metavar="NAME",
        help="hand the steps to a cluster: `slurm`, or a folder of your own in data/profiles/ (see data/profiles/slurm/config.yaml)",
    )
    study.add_argument("--until", metavar="STEP", help="stop after this step, such as 02_prepare (default: the report)")
    study.add_argument(
        "--dry-run", action="store_true", help="check the cohort, list what would be done and why, and do nothing"
    )
    study.set_defaults(call=_study)


def add_train(commands: Any) -> None:
    """`train`."""
    train = commands.add_parser(
        "train", help="train one variant of a run; with several GPUs: accelerate launch --multi_gpu -m fhlib train ..."
    )
    train.add_argument("--run", required=True, help="a run whose cohort is prepared (02_prepare)")
    train.add_argument("--variant", required=True)
    train.add_argument("--seed", type=int, help="one of the preset's seeds (default: the run's own)")
    train.set_defaults(call=_train)


def run_name(preset: str, cohort: Path | None, changes: Mapping[str, Any] | None = None) -> str:
    """Name of a run that was given none, such as `quick-seed-1`.

    Args:
        preset: its name comes first.
        cohort: the user's folder, whose name comes next.
        changes: to the preset, by dotted name.
    """
    parts = [f"{name.split('.')[-1]}-{value}" for name, value in (changes or {}).items()]
    words = [preset, *([cohort.resolve().name] if cohort else []), *parts]
    name = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(words)).strip("-._")
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _study(options: argparse.Namespace) -> int:
    from fhlib.cluster import open_profile
    from fhlib.training.tracking import require_tracker

    try:
        profile = open_profile(options.profile) if options.profile is not None else None
        study = _opened(options)
        require_tracker(study.preset.tracker)
        if options.dry_run:
            _check_cohort(study)
    except (ValueError, OSError) as error:
        return fail(_reason(error))
    from fhlib.files import ROOT
    from fhlib.workflow.progress import say
    from fhlib.workflow.run import closing_words, run_study

    say(f"run {study.name}: preset {study.preset.name}, cohort {study.cohort_name} ({study.cohort_kind})")
    options.again = f"python -m fhlib study --preset {study.preset.name} --run {study.name}"
    options.again += f" --profile {profile.name}" if profile else ""
    code = run_study(study, options.cores, options.dry_run, options.until, profile)
    page = study.folder / "report" / "index.html"
    if code == 0 and not options.dry_run and not options.until:
        say(f"report: {page.relative_to(ROOT)}")
        for sentence in closing_words(study):
            say(sentence)
    return code


def _opened(options: argparse.Namespace) -> Study:
    """The run that is asked for. What can be refused without torch is refused before it is imported."""
    from fhlib.files import ROOT
    from fhlib.presets import load_preset, parse_changes
    from fhlib.workflow.steps import TITLES, steps_of

    changes = parse_changes(options.changes)
    if options.cohort and not any(path.expanduser().is_dir() for path in (options.cohort, ROOT / options.cohort)):
        raise ValueError(
            f"there is no cohort folder {options.cohort.name!r}: give COHORT the path of an existing folder"
        )
    named = options.preset
    if named is None:
        named = _recorded_preset(options.run) or "quick"
        if options.run and not (options.cohort or changes):
            _require_no_slip(options.run)
    preset = load_preset(named, changes)
    _require_step(options.until, list(TITLES.values()))

    from fhlib.study.run import open_study

    run = options.run or run_name(preset.name, options.cohort, changes)
    asked = run, named, options.cohort or "", changes
    study = open_study(*asked, record=False)
    _require_step(options.until, steps_of(study.preset))  # with what the run was started with, too
    return study if options.dry_run else open_study(*asked, record=True)


def _require_step(step: str | None, steps: list[str]) -> None:
    """Raise ValueError for a step that is none of these."""
    from fhlib.presets import suggestion

    if step and step not in steps:
        raise ValueError(f"there is no step {step!r}{suggestion(step, steps)}; steps: {', '.join(steps)}")


def _recorded_preset(run: str | None) -> str:
    """The preset that a run was started with; empty where there is no such run."""
    from fhlib.files import DATA, read_json, safe_name

    record = DATA / "runs" / safe_name(run, "run") / "run.json" if run else None
    if record is None or not record.is_file():
        return ""
    recorded = read_json(record)
    return str(recorded.get("preset") or "") if isinstance(recorded, dict) else ""


def _require_no_slip(run: str) -> None:
    """Raise ValueError for a name that is nearly that of a run, where nothing says that a new one is meant."""
    from fhlib.files import DATA
    from fhlib.presets import suggestion

    known = sorted(path.parent.name for path in (DATA / "runs").glob("*/run.json"))
    if run not in known and (near := suggestion(run, known)):
        raise ValueError(
            f"there is no run {run!r}{near}; there are: {', '.join(known)}; for a new one of that name say its --preset"
        )


def _check_cohort(study: Study) -> None:
    """Read every file of a cohort that lies where it is used. Raises CohortError; warnings are printed."""
    if study.cohort_kind != "in place":
        return
    from fhlib.cohorts.checks import check_cohort
    from fhlib.cohorts.manifest import describe_findings

    findings = check_cohort(study.cohort_folder, raise_errors=True)
    print(describe_findings(findings) if len(findings) else f"cohort {study.cohort_name}: no finding")


def _reason(error: Exception) -> str:
    """Why nothing could be started; of the system's errors, which have no remedy, with one."""
    from fhlib.files import DATA, disk_full, shown_folder

    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    full = disk_full(error, DATA)
    remedy = "set FHLIB_ROOT to a folder that can be written to"
    return str(full or f"cannot write to {shown_folder(DATA)}/ ({error.strerror}): {remedy}")


def _train(options: argparse.Namespace) -> int:
    from fhlib.study.run import reopen_study
    from fhlib.study.train import require_known, train
    from fhlib.variants import levels_of

    try:
        require_known(options.variant)
        study = reopen_study(options.run).of_seed(options.seed)
        for variant, level in levels_of(options.variant):
            train(study, variant, level)
    except (ValueError, OSError, RuntimeError) as error:
        return fail(error)
    return 0
