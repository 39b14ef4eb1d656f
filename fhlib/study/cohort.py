"""01: the run's cohort, and what the simulator draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.manifest import MANIFEST, Cohort, load_cohort
from fhlib.cohorts.simulated import simulate_cohort
from fhlib.cohorts.splits import assign_splits
from fhlib.figures.charts.cohort import growth_curve, invisible_edges
from fhlib.figures.planes import gallery, planes
from fhlib.figures.tissues import tissues_beside_echo
from fhlib.files import DATA, write_csv
from fhlib.phantom.realism import edge_contrast, invisible_share
from fhlib.phantom.scan import SCAN_DIRECTIONS, set_up, simulate_scan, tissue_map
from fhlib.phantom.tissues import TISSUES
from fhlib.presets import load_preset, suggestion
from fhlib.study.run import (
    Study,
    StudyError,
    makes_scans,
    open_cohort,
    outlining,
    reopen_study,
    runs_in,
    test_cases,
)

SHOWN_SCANS = 12
SHOWN_WEEKS = (12, 16, 20, 24, 28, 32, 36, 40)


def make_cohort(study: Study) -> Cohort:
    """Simulate, import or open the run's cohort; writes its manifest with every split assigned to tables/cohort.csv."""
    preset = study.preset
    if not (study.folder / "run.json").exists():
        study.write_record()
    with makes_scans(study):
        if study.source is None:
            spec = preset.simulated_cohort
            cohort = simulate_cohort(study.cohort_folder, spec, val_fraction=preset.val_fraction)
        else:
            cohort = import_cohort(study.source, study.cohort_folder)
    cohort = outlining(cohort, preset.target)
    table = assign_splits(cohort.table, preset.split_seed, preset.test_fraction, preset.val_fraction)
    if not len(test_cases(table)):
        without = cohort.table.loc[
            (cohort.table["label"] == "") & (cohort.table["has_head"] != "false"), "case"
        ].tolist()
        lacking = f" ({', '.join(without[:5])} have none: is it named otherwise than X_Label?)" if without else ""
        raise StudyError(
            f"no test case has a reference: give a label to some{lacking}, or leave the column `split` empty"
        )
    if not (table["split"] == "train").any():
        raise StudyError("no case trains: give some the split train, or leave the column `split` empty")
    write_csv(table, study.tables / "cohort.csv")
    return cohort


def cohort_with_splits(name: str | Path) -> tuple[Cohort, pd.DataFrame]:
    """A cohort and its manifest with every split assigned.

    Args:
        name: a folder with a cohort.csv, whose empty splits are drawn as the preset quick draws them; else a run, whose
            splits and outline (head or skull) are taken; else a folder's name in data/cohorts/.

    Raises StudyError where there is neither, and CohortError for a manifest with errors.
    """
    preset, given = load_preset("quick"), Path(name).expanduser()
    is_run = len(given.parts) == 1 and (DATA / "runs" / given / "run.json").is_file()
    for folder in (given, DATA / "cohorts" / given):
        if (folder / MANIFEST).is_file():
            cohort = load_cohort(folder)
            return cohort, assign_splits(cohort.table, preset.split_seed, preset.test_fraction, preset.val_fraction)
        if is_run:
            return open_cohort(reopen_study(given.name))
    if given.is_dir():
        raise StudyError(f"{given.name}/ has no {MANIFEST}: start a run with it, which imports it, and name the run")
    known = [*runs_in(DATA / "runs"), *sorted(path.parent.name for path in (DATA / "cohorts").glob(f"*/{MANIFEST}"))]
    raise StudyError(
        f"{given.name!r} is neither a folder with a {MANIFEST}, nor a run, nor a cohort in data/cohorts/"
        f"{suggestion(given.name, known)}{'; there are: ' + ', '.join(known) if known else ''}"
    )


def scan_gallery(cohort: Cohort, table: pd.DataFrame) -> Figure:
    """One slice with its contour of scans from the whole manifest."""
    shown = table.iloc[:: max(1, len(table) // SHOWN_SCANS)].head(SHOWN_SCANS)
    images = [cohort.read_image(case) for case in shown["case"]]
    masks = [_mask_of(cohort, row) for _, row in shown.iterrows()]
    names = [_named(row) for _, row in shown.iterrows()]
    return gallery(images, names, masks, title="Scans of the cohort")


def first_scan(cohort: Cohort, table: pd.DataFrame) -> Figure:
    """The first scan in three planes through the middle of its label."""
    row = table.iloc[0]
    mask = _mask_of(cohort, row)
    contours = {} if mask is None else {"label": mask}
    return planes(cohort.read_image(row["case"]), contours, title=_named(row))


def simulated_ages(study: Study) -> Figure | None:
    """One simulated fetus at eight ages, seen from the side; None for a cohort that was brought."""
    if study.cohort_kind != "simulated":
        return None
    scans = [simulate_scan(1, ga, "from the side", spacing_mm=_coarse_mm(study)) for ga in SHOWN_WEEKS]
    names = [f"{ga} weeks" for ga in SHOWN_WEEKS]
    for number, scan in enumerate(scans):
        if scan.box_grown > 1:
            names[number] += ", larger box"
    masks = [scan.label.array > 0 for scan in scans]
    return gallery([scan.image for scan in scans], names, masks, title="12 to 40 weeks")


def simulated_anatomy(study: Study) -> Figure | None:
    """A simulated fetus's tissues and the echo they give; None for a cohort that was brought."""
    if study.cohort_kind != "simulated":
        return None
    spacing_mm = _coarse_mm(study) / 2
    tissues = tissue_map(set_up(1, 26, "from the side", spacing_mm=spacing_mm))
    scan = simulate_scan(1, 26, "from the side", spacing_mm=spacing_mm)
    return tissues_beside_echo(tissues, scan.image, [tissue.name for tissue in TISSUES], scan.label)


def edges_without_contrast(study: Study) -> Figure | None:
    """How much of the outline of simulated heads cannot be seen; writes tables/edges.csv.

    None for a cohort that was brought.
    """
    if study.cohort_kind != "simulated":
        return None
    spacing_mm = _coarse_mm(study)
    scans = [(seed, direction) for seed in (1, 2) for direction in SCAN_DIRECTIONS]
    rows = [invisible_share(edge_contrast(seed, 26, way, spacing_mm=spacing_mm)) for seed, way in scans]
    shares = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(scans, names=["seed", "scan_direction"]))
    write_csv(shares.reset_index(), study.tables / "edges.csv")
    return invisible_edges(shares)


def subject_sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Age, head circumference and head volume as numbers, a row a subject; missing where they are not known."""
    sources = {"ga_weeks": "ga_weeks", "hc_mm": "reference_hc_mm", "volume_ml": "reference_volume_ml"}
    numbers = {name: pd.to_numeric(table.get(column, ""), errors="coerce") for name, column in sources.items()}
    sizes = table.assign(**numbers).drop_duplicates("subject")
    # scans without a head have no volume
    return sizes.assign(volume_ml=sizes["volume_ml"].where(sizes["volume_ml"] > 0))


def growth_figure(table: pd.DataFrame) -> Figure | None:
    """Sizes over gestational age; None where no age, or no size, is known."""
    sizes = subject_sizes(table)
    known = [name for name in ("hc_mm", "volume_ml") if sizes[name].notna().any()]
    if not known or not sizes["ga_weeks"].notna().any():
        return None
    return growth_curve(sizes, known)


def findings_table(findings: pd.DataFrame) -> Styler:
    """Findings of `check_cohort` for a notebook: with every message in full, which has the slices and the remedy."""
    table = findings.style.set_uuid("findings").format(escape="html").hide(axis="index")
    return table.set_properties(**{"text-align": "left", "white-space": "normal"})


def cohort_findings(cohort: Cohort, table: pd.DataFrame, findings: pd.DataFrame) -> list[str]:
    """What 01 found, in sentences.

    Args:
        cohort: the run's.
        table: its manifest with splits.
        findings: of `check_cohort`.
    """
    count = table["split"].value_counts()
    checks = findings.loc[findings["severity"] == "warning", "check"].value_counts()
    kinds = ", ".join(f"{number} {check}" for check, number in checks.items())
    warned = f"{checks.sum()} warnings" + (f" ({kinds})" if kinds else "")
    volumes = subject_sizes(table)["volume_ml"].dropna()
    said = [
        f"{len(table)} scans of {table['subject'].nunique()} subjects, {cohort.spatial_dims}D, "
        f"{count.get('train', 0)} for training and {count.get('test', 0)} for test; {warned}."
    ]
    if len(volumes) > 1:
        spread = f"SD {volumes.std():.0f} mL over {len(volumes)} subjects"
        said.append(f"Mean whole-head volume {volumes.mean():.0f} mL, {spread}.")
    return said


def _named(row: pd.Series) -> str:
    weeks = row.get("ga_weeks")
    return f"{row['case']}  {float(weeks):.1f} weeks" if weeks else row["case"]


def _mask_of(cohort: Cohort, row: pd.Series) -> np.ndarray | None:
    return cohort.read_label(row["case"]).array > 0 if row["label"] else None


def _coarse_mm(study: Study) -> float:
    """Coarse enough that a picture takes a second."""
    return max(1.5, study.preset.simulated_cohort.spacing_mm)
