"""The command line: `python -m fhlib study`, `segment`, `train`, `report`, `cohort`, `export`, `hc18-submission` and so on.

`fhlib` is the same.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from fhlib import __version__

LONGEST_NAME = 80
"""Characters of a run's name that nobody gave."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a step failed, 2 the request cannot be met as it is written."""
    parser = argparse.ArgumentParser(
        prog="python -m fhlib", description="Whole fetal head segmentation in 3D ultrasound."
    )
    parser.add_argument("--version", action="version", version=f"fhlib {__version__}")
    commands = parser.add_subparsers(dest="command")
    for add_command in (
        _add_study,
        _add_train,
        _add_report,
        _add_segment,
        _add_cohort,
        _add_export,
        _add_publish,
        _add_notebooks,
        _add_gpu_study,
        _add_submission,
    ):
        add_command(commands)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (names that hold blanks need quotation marks)")
    if options.command is None:
        parser.print_help()
        return 2
    return _told(options)


class _Stopped(KeyboardInterrupt):
    """Ctrl-C, SIGTERM, or a terminal that was closed."""


def _told(options: argparse.Namespace) -> int:
    """Run a command; what stops it from outside, a signal or a full disk, is told in one line. Returns the exit code."""

    def stop(number: int, frame: FrameType | None) -> None:
        if _imports(frame):  # libraries take what is raised here for a fault of theirs; nothing has begun
            os._exit(_say_stopped(number, options))
        raise _Stopped(number)

    heard = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        usual = (signal.SIG_DFL, signal.default_int_handler)
        heard = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) in usual}
    try:
        code: int = options.call(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        return _say_stopped(error.args[0] if isinstance(error, _Stopped) else signal.SIGINT, options)
    except (OSError, RuntimeError) as error:
        return _told_error(error)
    finally:
        for number, before in heard.items():
            signal.signal(number, before)


def _imports(frame: FrameType | None) -> bool:
    """Whether a signal came while a module was being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _say_stopped(number: int, options: argparse.Namespace) -> int:
    again = getattr(options, "again", "") or "type the same command again"
    print(f"\nstopped ({signal.Signals(number).name}); to continue: {again}", file=sys.stderr, flush=True)
    return 128 + number


def _told_error(error: Exception) -> int:
    """Say that another process is at work, or that a disk is full; raises any other error. Returns the exit code."""
    from fhlib.files import DATA, BusyError, disk_full

    if isinstance(error, BusyError):
        print(error, file=sys.stderr)
        return 2
    full = disk_full(error, DATA) if isinstance(error, OSError) else None
    if full is None:
        raise error
    print(full, file=sys.stderr)
    return 1


def _add_study(commands: Any) -> None:
    study = commands.add_parser("study", help="run the whole study, or what of it is not up to date")
    study.add_argument(
        "--preset",
        default="quick",
        help="a preset of fhlib's (smoke, quick, all-ages, fine-tune, sim-to-real, desk, desk-2d, gpu, paper) "
        "or a file of your own in data/presets/ (default quick)",
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
    study.add_argument("--cores", type=_count, help="processor cores to use (default all)")
    study.add_argument("--until", metavar="STEP", help="stop after this step, such as 02_prepare (default: the report)")
    study.add_argument("--dry-run", action="store_true", help="list what would be done and why, and do nothing")
    study.set_defaults(call=_study)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train", help="train one variant of a run; with several GPUs: accelerate launch --multi_gpu -m fhlib train ..."
    )
    train.add_argument("--run", required=True, help="a run whose cohort is prepared (02_prepare)")
    train.add_argument("--variant", required=True)
    train.set_defaults(call=_train)


def _add_report(commands: Any) -> None:
    report = commands.add_parser("report", help="write the report of a run from its executed notebooks and tables")
    report.add_argument("--run", required=True)
    report.add_argument(
        "notebooks", nargs="*", type=Path, help="executed notebooks, in order (default: all of the run)"
    )
    report.set_defaults(call=_report)


def _add_segment(commands: Any) -> None:
    segment = commands.add_parser(
        "segment",
        help="segment a volume, or a folder of them, with shipped weights; for research only, not a medical device",
        description="Segment a volume, or a folder of them; for research only, not a medical device. A second start continues where "
        "the first stopped. Exit code 0: all is written; 1: a volume failed, or its skull or page; 2: the request cannot be met.",
    )
    segment.add_argument("volumes", type=given_path, help="a volume or image, a folder of them, or a DICOM export")
    segment.add_argument("results", type=given_path, help="folder for masks, pages and segment.csv")
    segment.add_argument(
        "--weights",
        default="head",
        help="what outlines the head: fhlib's weights or one's own in data/weights/ by name, a folder of weights, or a run that has "
        "trained some (default head)",
    )
    segment.add_argument(
        "--skull-weights",
        help="another one that outlines the skull, for BPD, OFD and HC (default skull beside what outlines the head; '' for none)",
    )
    segment.add_argument(
        "--ga-weeks",
        type=weeks,
        help="gestational age of all these scans, 26.5 or 26+3, to compare sizes with the charts",
    )
    segment.add_argument(
        "--image-weights",
        help="those that outline single (2D) images, for HC and its ellipse (default hc beside what outlines the head; '' for none)",
    )
    segment.add_argument(
        "--pixel-mm",
        type=pixel_size,
        help="size of a pixel in mm, for PNG, JPEG, BMP and TIFF that no table beside them gives one "
        "(CSV with the columns `filename` and `pixel size(mm)`)",
    )
    segment.add_argument("--json", action="store_true", help="print the rows of segment.csv as JSON")
    segment.add_argument(
        "--spacing-mm",
        type=spacing,
        help="size of a voxel in mm, for files that do not state it: 0.5, or one number an axis (d,h,w) as 0.5,0.5,0.7; "
        "it replaces what files state",
    )
    segment.set_defaults(call=_segment)


def _add_export(commands: Any) -> None:
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


def _add_cohort(commands: Any) -> None:
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


def _add_publish(commands: Any) -> None:
    publish = commands.add_parser(
        "publish",
        help="copy a run's small tables and figures to data/results/ and write the numbers on the pages from them",
    )
    publish.add_argument("--run", help="a finished run (default: copy nothing, only write the pages anew)")
    publish.set_defaults(call=_publish)


def _add_notebooks(commands: Any) -> None:
    notebooks = commands.add_parser(
        "notebooks", help="copy the notebooks that come with fhlib into a folder of your own"
    )
    notebooks.add_argument("folder", type=given_path, nargs="?", default=Path(), help="default: the working folder")
    notebooks.set_defaults(call=_notebooks)


def _add_submission(commands: Any) -> None:
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


def _add_gpu_study(commands: Any) -> None:
    study = commands.add_parser(
        "gpu-study",
        help="for a GPU that is had for minutes: simulate, check the card, train named networks, score held-out scans",
        description="Simulate a cohort, check the GPU against the processor, measure it, train networks on the paper's grid and score "
        "held-out scans, as far as the minutes go. The same command continues. Exit code 0: complete; 3: the time was over before.",
    )
    study.add_argument("--minutes", type=float, default=10.0, help="when to stop (default 10)")
    study.add_argument(
        "--variants", type=_names, default=("USegNet-DS", "USegNet-DS-HAS"), help="networks, with commas"
    )
    study.add_argument("--seeds", type=_seeds, default=(0, 1, 2), help="of the trainings, with commas (default 0,1,2)")
    study.add_argument("--out", type=Path, required=True, help="folder for tables, histories and weights")
    study.add_argument("--preset", default="gpu", help="network grid, cohort and training (default gpu)")
    study.add_argument(
        "--set", dest="changes", metavar="NAME=VALUE", nargs="+", default=[], help="changes to the preset"
    )
    study.add_argument("--survey", action="store_true", help="measure batches, memory formats and torch.compile too")
    study.add_argument("--dry-run", action="store_true", help="say what would be made, and do nothing")
    study.set_defaults(call=_gpu_study)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers with commas, such as 0,1,2") from None


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
        print(error, file=sys.stderr)
        return 2
    return 0 if complete else 3


def _study(options: argparse.Namespace) -> int:
    from fhlib.files import ROOT
    from fhlib.presets import load_preset, parse_changes, suggestion
    from fhlib.study.run import open_study
    from fhlib.workflow.progress import TITLES, say
    from fhlib.workflow.run import closing_words, run_study

    steps = list(TITLES.values())
    try:
        if options.until and options.until not in steps:
            raise ValueError(
                f"there is no step {options.until!r}{suggestion(options.until, steps)}; steps: {', '.join(steps)}"
            )
        changes = parse_changes(options.changes)
        preset = load_preset(options.preset, changes)
        run = options.run or run_name(preset.name, options.cohort, changes)
        study = open_study(run, options.preset, options.cohort or "", changes, record=not options.dry_run)
    except (ValueError, OSError) as error:
        print(_reason(error), file=sys.stderr)
        return 2
    say(f"run {study.name}: preset {preset.name}, cohort {study.cohort_name} ({study.cohort_kind})")
    options.again = f"python -m fhlib study --preset {preset.name} --run {study.name}"
    code = run_study(study, options.cores, options.dry_run, options.until)
    page = study.folder / "report" / "index.html"
    if code == 0 and not options.dry_run and not options.until:
        say(f"report: {page.relative_to(ROOT)}")
        for sentence in closing_words(study):
            say(sentence)
    return code


def _reason(error: Exception) -> str:
    """Why nothing could be started; of the system's errors, which have no remedy, with one."""
    from fhlib.files import DATA, disk_full, shown_folder

    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    full = disk_full(error, DATA)
    remedy = "set FHLIB_ROOT to a folder that can be written to"
    return str(full or f"cannot write to {shown_folder(DATA)}/ ({error.strerror}): {remedy}")


def _count(text: str) -> int:
    """What --cores says; argparse tells the user what is wrong."""
    if not (text.isdecimal() and 0 < len(text) < 7 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cores: give 1 or more, or leave it out for all")
    return int(text)


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


def spacing(text: str) -> tuple[float, ...]:
    """What --spacing-mm says: one number, or two or three with commas; argparse tells the user what is wrong."""
    from fhlib.images.volume import parse_spacing

    try:
        numbers = parse_spacing(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if numbers is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no spacing: give mm as 0.5, or one number an axis as 0.5,0.5,0.7"
        )
    return numbers


def pixel_size(text: str) -> float:
    """What --pixel-mm says; argparse tells the user what is wrong."""
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of a pixel: give mm as 0.12")
    return size


def weeks(text: str) -> float:
    """Gestational age as 26.5, or as 26+3 (weeks and days); argparse tells the user what is wrong."""
    if parts := re.fullmatch(r"(\d+)\+([0-6])", text.strip()):
        return int(parts[1]) + int(parts[2]) / 7
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: give weeks as 26.5, or weeks and days as 26+3") from None


def given_path(text: str) -> Path:
    """A path that must be given, `~` and all; argparse tells the user what is wrong."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty: give one")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such user's home folder") from error


def _train(options: argparse.Namespace) -> int:
    from fhlib.study.run import reopen_study
    from fhlib.study.train import require_known, train
    from fhlib.variants import levels_of

    try:
        require_known(options.variant)
        study = reopen_study(options.run)
        for variant, level in levels_of(options.variant):
            train(study, variant, level)
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _report(options: argparse.Namespace) -> int:
    from fhlib.study.run import reopen_study
    from fhlib.workflow.report import write_report

    try:
        folder = reopen_study(options.run).folder
        for path in options.notebooks:
            if path.suffix != ".ipynb" or not path.is_file():
                raise ValueError(f"{path.name!r} is no executed notebook: give files named .ipynb, or none for all")
        write_report(folder, notebooks=options.notebooks)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _segment(options: argparse.Namespace) -> int:
    # before torch is loaded: threads that wait in a loop make a network many times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from fhlib.segmentation.outputs import reason_of, require_usable, unfinished
    from fhlib.segmentation.own_volumes import segment_files, volumes_in, weights_digest
    from fhlib.segmentation.segmentor import load_segmentor
    from fhlib.segmentation.sources import not_searched, passed_over

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    try:
        sources = volumes_in(options.volumes)
        _say_some("no scans but results or labels", passed_over(options.volumes))
        below = "not read, since only DICOM and GE Kretz are looked for in folders below (give such a folder by itself)"
        _say_some(below, not_searched(options.volumes))
        require_usable(options.results)  # a folder that cannot be written to is told before weights are loaded
        chosen = _chosen_weights(options)
        loaded = {role: load_segmentor(one.folder) for role, one in chosen.items() if role != "image"}
        if loaded["head"].calibration is None:
            why = chosen["head"].card.uncalibrated or "there are no intervals, and fewer flags"
            print(f"the weights {chosen['head'].card.name} are not calibrated: {why}", file=sys.stderr)
        rows, _ = segment_files(
            loaded["head"],
            sources,
            options.results,
            loaded.get("skull"),
            options.ga_weeks,
            keep=0,
            weights=weights_digest(*(one.folder for one in chosen.values())),
            spacing_mm=options.spacing_mm,
            image_weights=chosen["image"].folder if "image" in chosen else "",
            pixel_mm=options.pixel_mm,
            cards={role: one.card for role, one in chosen.items()},
        )
    except (ValueError, OSError) as error:
        print(reason_of(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command continues where it was", file=sys.stderr)
        return 130
    if options.json:
        from fhlib.segmentation.rows import rounded

        print(rounded(rows).to_json(orient="records", indent=2))
    else:
        _print_rows(rows, options.results)
    failed = rows.loc[rows["status"] == "failed", "case"]
    return 1 if len(failed) or unfinished(options.results, rows["case"]) else 0


def _chosen_weights(options: argparse.Namespace) -> dict[str, Any]:
    """What outlines head, skull and single images, by these names; fhlib's own skull and images beside any that outlines heads."""
    from fhlib.models.chosen import choose

    chosen = {"head": choose(options.weights)}
    beside = {"skull": options.skull_weights, "image": options.image_weights}
    usual = {"skull": "skull", "image": "hc"} if chosen["head"].of_heads else {}
    for role, given in beside.items():
        if name := usual.get(role, "") if given is None else given:
            chosen[role] = choose(name)
    if chosen["head"].spatial_dims == 2:
        chosen.setdefault("image", chosen["head"])
    for sentence in dict.fromkeys(said for one in chosen.values() for said in one.said):
        print(sentence, file=sys.stderr)
    return chosen


def _submission(options: argparse.Namespace) -> int:
    from fhlib.benchmarks.hc18_submission import write_submission
    from fhlib.segmentation.outputs import reason_of
    from fhlib.segmentation.segmentor import load_segmentor

    try:
        table = write_submission(load_segmentor(options.weights), options.folder, options.out)
    except (ValueError, OSError) as error:
        print(reason_of(error), file=sys.stderr)
        return 2
    print(f"{len(table)} ellipses: {options.out}")
    return 0


def _print_rows(rows: Any, results: Path) -> None:
    """The table of `segment` for a screen; notes, which are long, below it."""
    from fhlib.segmentation.head_circumference import SUBMISSION
    from fhlib.segmentation.rows import centile_in_words

    aside = [
        "note",
        "hc_centile_note",
        "spacing_mm",
        "weights",
        *SUBMISSION,
    ]  # in the table on the disk, and too long here
    table = rows.drop(columns=aside, errors="ignore").dropna(axis=1, how="all")
    words = {"hc_centile": centile_in_words} if "hc_centile" in table else {}
    print(table.to_string(index=False, float_format="{:.1f}".format, na_rep="", formatters=words))
    for row in rows[rows["note"] != ""].itertuples():
        print(f"{row.case}: {row.note}")
    for row in rows[rows["hc_centile_note"].notna() & rows["ga_weeks"].notna()].itertuples():
        if row.hc_centile_note:
            print(f"{row.case}: no centile: {row.hc_centile_note}")
    if (rows["status"] == "uncertain").any():
        print("uncertain: what is outlined may be no head, so no BPD, OFD and HC are given")
    print(f"pages, masks and segment.csv: {results}")


def _say_some(what: str, names: Sequence[str]) -> None:
    """Names on standard error, the first of many."""
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        print(f"{what}: {', '.join(names[:5])}{more}", file=sys.stderr)


def _export(options: argparse.Namespace) -> int:
    from fhlib.models.weights import weights_folder

    if (options.run is None) != (options.variant is None):
        print("a run and a variant belong together: give both --run and --variant, or none", file=sys.stderr)
        return 2
    if options.run is None and not (options.onnx or options.bundle):
        print("nothing to export: give --run and --variant, --onnx or --bundle DIR", file=sys.stderr)
        return 2
    try:
        folder = weights_folder(options.name) if options.run is None else _export_run(options)
        _export_for_others(folder, options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
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
        print(error, file=sys.stderr)
        return 2
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
        print(error, file=sys.stderr)
        return 2
    for path in written:
        print(path.relative_to(ROOT))
    return 0


def _notebooks(options: argparse.Namespace) -> int:
    from fhlib.files import CLONE, DATA, NOTEBOOKS

    sources = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    try:
        taken = [path.name for path in sources if (options.folder / path.name).exists()]
        if taken:
            raise ValueError(f"{options.folder} holds {taken[0]} already: name another folder, or move yours away")
        options.folder.mkdir(parents=True, exist_ok=True)
        for path in sources:
            shutil.copyfile(path, options.folder / path.name)
    except OSError as error:
        said = f"cannot write notebooks to {str(options.folder)!r} ({error.strerror}): name another folder"
        print(said, file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    place = options.folder.resolve()
    written = DATA if CLONE or os.environ.get("FHLIB_ROOT") else place / "data"
    print(f"{len(sources)} notebooks are in {place}: open them with `jupyter lab`. What they write goes to {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
