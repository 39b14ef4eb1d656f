"""The command line: `python -m fhlib study`, `python -m fhlib report`, `python -m fhlib export`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a step failed, 2 the request cannot be met as it is written."""
    parser = argparse.ArgumentParser(
        prog="python -m fhlib", description="Whole fetal head segmentation in 3D ultrasound."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    study = commands.add_parser("study", help="run the whole study, or what of it is not up to date")
    study.add_argument(
        "--preset",
        default="quick",
        help="a file of data/presets/: smoke, quick, all-ages, sim-to-real, desk or paper (default quick)",
    )
    study.add_argument("--run", help="the run's folder in data/runs/ (default: named for the preset and the cohort)")
    study.add_argument("--cohort", type=Path, help="a folder of scans (default: a digital cohort is simulated)")
    study.add_argument("--cores", type=int, help="processor cores to use (default all)")
    study.add_argument("--dry-run", action="store_true", help="list what would be done and why, and do nothing")
    study.set_defaults(call=_study)

    report = commands.add_parser("report", help="write the report of a run from its executed notebooks and tables")
    report.add_argument("--run", required=True)
    report.add_argument(
        "notebooks", nargs="*", type=Path, help="executed notebooks, in order (default: all of the run)"
    )
    report.set_defaults(call=_report)

    export = commands.add_parser(
        "export", help="copy a trained variant to data/weights/, in half precision, to be shipped"
    )
    export.add_argument("--run", required=True)
    export.add_argument("--variant", required=True)
    export.add_argument("--name", required=True, help="its folder in data/weights/")
    export.set_defaults(call=_export)

    options = parser.parse_args(arguments)
    return options.call(options)


def _study(options: argparse.Namespace) -> int:
    from fhlib.files import ROOT
    from fhlib.presets import PresetError, load_preset
    from fhlib.run import RunBusyError, run_study, say
    from fhlib.study import open_study

    try:
        preset = load_preset(options.preset)
        study = open_study(options.run or run_name(preset.name, options.cohort), options.preset, options.cohort or "")
    except (PresetError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    say(f"run {study.name}: preset {preset.name}, cohort {study.cohort_name} ({study.cohort_kind})")
    try:
        code = run_study(study.folder, study.name, options.preset, options.cores, options.dry_run)
    except RunBusyError as error:
        print(error, file=sys.stderr)
        return 2
    page = study.folder / "report" / "index.html"
    if code == 0 and not options.dry_run:
        say(f"report: {page.relative_to(ROOT)}")
    return code


def run_name(preset: str, cohort: Path | None) -> str:
    """Name of a run that was given none: the preset, and the cohort's folder where there is one."""
    if cohort is None:
        return preset
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", cohort.resolve().name).strip("-._")
    return f"{preset}-{name}"


def _report(options: argparse.Namespace) -> int:
    from fhlib.report import write_report

    write_report(options.run, notebooks=options.notebooks)
    return 0


def _export(options: argparse.Namespace) -> int:
    from fhlib.files import DATA, ROOT, WEIGHTS, safe_name
    from fhlib.inference import export_segmentor

    try:
        destination = WEIGHTS / safe_name(options.name, "name")
        models = DATA / "runs" / safe_name(options.run, "run") / "models"
        export_segmentor(models / safe_name(options.variant, "variant"), destination)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"weights: {destination.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
