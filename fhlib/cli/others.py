"""`hc18-submission` and `gpu-study`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fhlib.cli.arguments import fail, given_path, names, seeds


def add_submission(commands: Any) -> None:
    """`hc18-submission`."""
    submission = commands.add_parser(
        "hc18-submission",
        help="write the file that the HC18 challenge takes: an ellipse for each image of a folder, all of them or nothing",
    )
    submission.add_argument(
        "folder", metavar="DIR", type=given_path, help="the images, with their CSV of pixel sizes in it or beside it"
    )
    submission.add_argument("--out", metavar="FILE", type=Path, required=True, help="the CSV file to write")
    submission.add_argument("--weights", default="hc", help="a folder of weights, or a name (default hc)")
    submission.set_defaults(call=_submission)


def add_gpu_study(commands: Any) -> None:
    """`gpu-study`."""
    study = commands.add_parser(
        "gpu-study",
        help="for a GPU that is had for minutes: simulate, check the card, train named networks, score held-out scans",
        description="Simulate a cohort, check the GPU against the processor, measure it, train networks on the paper's grid and score "
        "held-out scans, as far as the minutes go. The same command continues. Exit code 0: complete; 3: the time was over before.",
    )
    study.add_argument("--minutes", type=float, default=10.0, help="when to stop (default 10)")
    study.add_argument("--variants", type=names, default=("USegNet-DS", "USegNet-DS-HAS"), help="networks, with commas")
    study.add_argument("--seeds", type=seeds, default=(0, 1, 2), help="of the trainings, with commas (default 0,1,2)")
    study.add_argument("--out", type=Path, required=True, help="folder for tables, histories and weights")
    study.add_argument("--preset", default="gpu", help="network grid, cohort and training (default gpu)")
    study.add_argument(
        "--set", dest="changes", metavar="NAME=VALUE", nargs="+", default=[], help="changes to the preset"
    )
    study.add_argument("--survey", action="store_true", help="measure batches, memory formats and torch.compile too")
    study.add_argument("--dry-run", action="store_true", help="say what would be made, and do nothing")
    study.set_defaults(call=_gpu_study)


def _submission(options: argparse.Namespace) -> int:
    from fhlib.benchmarks.hc18_submission import write_submission
    from fhlib.segmentation.outputs import reason_of
    from fhlib.segmentation.segmentor import load_segmentor

    try:
        table = write_submission(load_segmentor(options.weights), options.folder, options.out)
    except (ValueError, OSError) as error:
        return fail(reason_of(error))
    print(f"{len(table)} ellipses: {options.out}")
    return 0


def _gpu_study(options: argparse.Namespace) -> int:
    from fhlib.benchmarks.gpu_study import GpuStudy
    from fhlib.presets import PresetError, load_preset, parse_changes

    try:
        preset = load_preset(options.preset, parse_changes(options.changes))
        study = GpuStudy(options.out, preset, options.minutes, options.variants, options.seeds)
        if options.dry_run:
            print(study.dry_run())
            return 0
        complete = study.run(options.survey)
    except (PresetError, ValueError, OSError, RuntimeError) as error:
        return fail(error)
    return 0 if complete else 3
