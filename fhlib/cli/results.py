"""`report`, `export`, `publish` and `cohort`: what a run gives to readers and other programs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from fhlib.cli.arguments import fail, given_path


def add_report(commands: Any) -> None:
    """`report`."""
    report = commands.add_parser("report", help="write the report of a run from its executed notebooks and tables")
    report.add_argument("--run", required=True)
    report.add_argument(
        "notebooks", nargs="*", type=Path, help="executed notebooks, in order (default: all of the run)"
    )
    report.set_defaults(call=_report)


def add_export(commands: Any) -> None:
    """`export`."""
    export = commands.add_parser(
        "export",
        help="copy a trained variant to data/weights/, in half precision, calibrated on validation scans "
        "and measured on test scans; or write weights for other programs",
    )
    export.add_argument("--run", help="without it --name means weights that are there, for --onnx or --bundle")
    export.add_argument("--variant", help="that the run has trained")
    export.add_argument("--name", required=True, help="its folder in data/weights/")
    export.add_argument("--onnx", action="store_true", help="write level<k>/network.onnx beside the weights")
    export.add_argument("--bundle", type=given_path, metavar="DIR", help="write a MONAI bundle into this folder")
    export.set_defaults(call=_export)


def add_cohort(commands: Any) -> None:
    """`cohort export`."""
    cohort = commands.add_parser("cohort", help="hand a cohort on to other programs")
    actions = cohort.add_subparsers(dest="action", required=True)
    export = actions.add_parser(
        "export",
        help="write a cohort with its splits in another program's format",
        description="Write a cohort as nnU-Net's raw dataset: train and val as fold 0 of splits_final.json, test cases apart.",
    )
    export.add_argument(
        "cohort", metavar="COHORT_OR_RUN", help="a folder with cohort.csv, or the name of a run or cohort"
    )
    export.add_argument(
        "folder", metavar="DIR", type=Path, help="where the dataset comes, such as nnU-Net's nnUNet_raw"
    )
    export.add_argument("--to", choices=["nnunet"], required=True, help="the format")
    export.add_argument("--number", type=int, default=501, help="of nnU-Net's dataset, 1 to 999 (default 501)")
    export.add_argument("--name", help="of nnU-Net's dataset: letters, digits and _ (default: the cohort's)")
    export.set_defaults(call=_export_cohort)


def add_publish(commands: Any) -> None:
    """`publish`."""
    publish = commands.add_parser(
        "publish",
        help="copy a run's small tables and figures to data/results/ and write the numbers on the pages from them",
    )
    publish.add_argument("--run", help="a finished run (default: copy nothing, only write the pages anew)")
    publish.set_defaults(call=_publish)


def _report(options: argparse.Namespace) -> int:
    from fhlib.study.run import reopen_study

    try:
        folder = reopen_study(options.run).folder
        for path in options.notebooks:
            if path.suffix != ".ipynb" or not path.is_file():
                raise ValueError(f"{path.name!r} is no executed notebook: give files named .ipynb, or none for all")

        from fhlib.workflow.report import write_report

        write_report(folder, notebooks=options.notebooks)
    except (ValueError, OSError) as error:
        return fail(error)
    return 0


def _export(options: argparse.Namespace) -> int:
    from fhlib.models.weights import weights_folder

    if (options.run is None) != (options.variant is None):
        return fail("a run and a variant belong together: give both --run and --variant, or none")
    if options.run is None and not (options.onnx or options.bundle):
        return fail("nothing to export: give --run and --variant, --onnx or --bundle DIR")
    try:
        folder = weights_folder(options.name) if options.run is None else _export_run(options)
        _export_for_others(folder, options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return fail(error)
    return 0


def _export_run(options: argparse.Namespace) -> Path:
    """Copy a run's variant to `data/weights`; returns its folder there."""
    from fhlib.files import DATA, ROOT, safe_name
    from fhlib.segmentation.quality import CALIBRATION
    from fhlib.study.run import reopen_study
    from fhlib.study.ship_weights import FEWEST_TO_CALIBRATE, export_weights
    from fhlib.study.train import require_known

    destination = DATA / "weights" / safe_name(options.name, "name")
    require_known(options.variant)
    export_weights(reopen_study(options.run), options.variant, destination)
    print(f"weights: {destination.relative_to(ROOT)}")
    if not (destination / CALIBRATION).exists():
        print(f"not calibrated, which takes {FEWEST_TO_CALIBRATE} validation volumes: no intervals, and fewer flags")
    return destination


def _export_for_others(folder: Path, options: argparse.Namespace) -> None:
    if options.onnx:
        from fhlib.models.onnx import write_onnx

        for path in write_onnx(folder):
            print(f"ONNX: {path.parent.name}/{path.name} in {folder.name}/")
    if options.bundle:
        from fhlib.segmentation.bundle import write_bundle

        print(f"MONAI bundle: {write_bundle(folder, options.bundle)}")


def _export_cohort(options: argparse.Namespace) -> int:
    from fhlib.cohorts.nnunet import export_nnunet
    from fhlib.study.cohort import cohort_with_splits

    try:
        cohort, table = cohort_with_splits(options.cohort)
        name = options.name or re.sub(r"\W+", "_", cohort.name, flags=re.ASCII)
        folder = export_nnunet(cohort, table, options.folder, f"Dataset{options.number:03d}_{name}")
    except (ValueError, OSError) as error:
        return fail(error)
    counts = table["split"].value_counts()
    print(f"{folder}: " + ", ".join(f"{counts[split]} {split}" for split in counts.index))
    if "val" not in counts:
        print("no case is val: train nnU-Net's fold `all`")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from fhlib.files import ROOT
    from fhlib.workflow.publish import publish, refresh_pages

    try:
        written = refresh_pages() if options.run is None else publish(options.run)
    except (ValueError, OSError) as error:
        return fail(error)
    for path in written:
        print(path.relative_to(ROOT))
    return 0
