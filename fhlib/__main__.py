"""The command line: `python -m fhlib study`, `segment`, `notebook`, `report` and so on; `fhlib` is the same.

`segment` stands here, the other commands in `fhlib.cli`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhlib import __version__
from fhlib.cli.arguments import fail, given_path, missing_input, pixel_size, spacing, weeks
from fhlib.cli.execution import add_notebook, add_notebooks
from fhlib.cli.others import add_gpu_study, add_submission
from fhlib.cli.results import add_cohort, add_export, add_publish, add_report
from fhlib.cli.stopped import told
from fhlib.cli.study import add_study, add_train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a step failed, 2 the request cannot be met as it is written."""
    parser = argparse.ArgumentParser(
        prog="python -m fhlib", description="Whole fetal head segmentation in 3D ultrasound."
    )
    parser.add_argument("--version", action="version", version=f"fhlib {__version__}")
    commands = parser.add_subparsers(dest="command")
    for add_command in (
        add_study,
        add_train,
        add_report,
        _add_segment,
        add_cohort,
        add_export,
        add_publish,
        add_notebook,
        add_notebooks,
        add_gpu_study,
        add_submission,
    ):
        add_command(commands)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (names that hold blanks need quotation marks)")
    if options.command is None:
        parser.print_help()
        return 2
    if lacking := missing_input(options):
        return fail(lacking)
    return told(options)


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
        help="gestational age of all these scans, 26.5 or 26+3, to compare sizes with the charts; a CSV file beside them with the "
        "columns filename and ga_weeks gives each its own",
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
        given = centile_in_words(row.hc_centile)
        if row.hc_centile_note:
            print(
                f"{row.case}: HC's centile is {given}, {row.hc_centile_note}"
                if given
                else f"{row.case}: no centile: {row.hc_centile_note}"
            )
    if (rows["status"] == "uncertain").any():
        print("uncertain: what is outlined may be no head, so no BPD, OFD and HC are given")
    if failed := int((rows["status"] == "failed").sum()):
        print(f"{len(rows) - failed} of {len(rows)} segmented, {failed} failed: see the notes above")
    print(f"pages, masks and segment.csv: {results}")


def _say_some(what: str, names: Sequence[str]) -> None:
    """Names on standard error, the first of many."""
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        print(f"{what}: {', '.join(names[:5])}{more}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
