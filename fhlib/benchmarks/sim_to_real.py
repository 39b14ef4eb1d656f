"""12: how near simulated planes come to real images, and how a network that saw only simulated ones does on real ones.

The real images are those of HC18, in 2D. The images stand in a table: case, set (`real` or `simulated`) and looked_at. It
is empty where no real images were given.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.manifest import load_cohort
from fhlib.cohorts.simulated import add_planes
from fhlib.figures.charts.cohort import compare_distributions
from fhlib.figures.planes import gallery
from fhlib.files import DATA, progress, read_csv, write_csv
from fhlib.measures.comparison import by_head_size
from fhlib.phantom.plane import simulate_plane
from fhlib.phantom.realism import MEASURES, compare_planes, plane_measures
from fhlib.study.run import Study, sole_maker

FOLDER = DATA / "cohorts" / "sim-to-real"
SETS = ("real", "simulated")
LOOKED_AT_EVERY = 7
"""Every so many-th real image has set the ranges of the simulated planes."""
MEASURED = 150
"""At most so many images of each set are measured."""


def plane_gallery(count: int = 12) -> Figure:
    """Simulated planes with their contour, the outer skull."""
    planes = [simulate_plane(seed) for seed in range(count)]
    weeks = [f"{plane.subject.ga_weeks:.1f} weeks" for plane in planes]
    masks = [plane.label.array > 0 for plane in planes]
    return gallery([plane.image for plane in planes], weeks, masks, title="Simulated planes")


def real_and_simulated(hc18: Path | str, planes: int) -> pd.DataFrame:
    """Import HC18, whose images test, add simulated planes, which train and validate; a row a test or training image."""
    if not hc18:
        return pd.DataFrame(columns=["case", "set", "looked_at"])
    with sole_maker(FOLDER):
        table = add_planes(import_cohort(hc18, FOLDER), planes).table
    images = table[["case"]].assign(set=table["split"].map({"test": "real", "train": "simulated"}), looked_at=False)
    real = images.index[images["set"] == "real"]
    images.loc[real[::LOOKED_AT_EVERY], "looked_at"] = True
    return images.dropna(subset="set")


def mixed_gallery(images: pd.DataFrame) -> Figure | None:
    """Two real images and two simulated ones in turn, from all of each set; None without images."""
    if images.empty:
        return None
    parts = []
    for sixth in range(6):
        for name in SETS:
            part = images[images["set"] == name]
            parts.append(part.iloc[sixth * len(part) // 6 :].head(2))
    shown = pd.concat(parts)
    cohort = load_cohort(FOLDER)
    names = shown["set"] + ": " + shown["case"]
    scans = [cohort.read_image(case) for case in shown["case"]]
    return gallery(scans, names.tolist(), title="Real and simulated (real images: HC18, CC BY 4.0)")


def measure_images(study: Study, images: pd.DataFrame) -> pd.DataFrame:
    """`MEASURES` of images that did not set the simulator's ranges; writes tables/realism_images.csv."""
    rows = []
    for name in SETS if len(images) else ():
        cohort = load_cohort(FOLDER)
        cases = images.loc[(images["set"] == name) & ~images["looked_at"], "case"]
        chosen = cases.iloc[:: max(1, len(cases) // MEASURED)].head(MEASURED)
        for case in progress(chosen.tolist(), f"measure {name} images"):
            measures = plane_measures(cohort.read_image(case), cohort.read_label(case))
            rows.append({"case": case, "set": name, **measures})
    measured = pd.DataFrame(rows, columns=["case", "set", *MEASURES])
    if len(measured):
        write_csv(measured, study.tables / "realism_images.csv")
    return measured


def compare_sets(study: Study, measured: pd.DataFrame) -> pd.DataFrame:
    """The distributions of each measure over real and simulated images; writes tables/realism.csv."""
    if measured.empty:
        return pd.DataFrame(columns=["measure", "meaning", "ks"])
    real, simulated = (measured[measured["set"] == name] for name in SETS)
    comparison = compare_planes(real, simulated)
    write_csv(comparison, study.tables / "realism.csv")
    return comparison


def distributions(measured: pd.DataFrame) -> Figure | None:
    """Histograms of each measure over both sets; None without images."""
    return None if measured.empty else compare_distributions(measured, MEASURES, by="set")


def scores_on_real_images(study: Study, images: pd.DataFrame, trained_run: str) -> pd.DataFrame:
    """Scores by size of the head of a run that was trained on the planes; empty without images or scores.

    The last rows leave out the images that set the simulator's ranges. Writes tables/sim_to_real.csv.

    Args:
        study: where the table is written.
        images: of `real_and_simulated`.
        trained_run: name of the run.
    """
    path = DATA / "runs" / trained_run / "tables" / "scores.csv"
    if images.empty or not path.exists():
        return pd.DataFrame()
    scores = read_csv(path)
    left_out = by_head_size(scores[~scores["case"].isin(images.loc[images["looked_at"], "case"])])
    left_out = left_out[left_out["hc_band_mm"] == "all"].assign(hc_band_mm="all, without those looked at")
    by_size = pd.concat([by_head_size(scores), left_out], ignore_index=True)
    write_csv(by_size, study.tables / "sim_to_real.csv")
    return by_size


def realism_findings(comparison: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """What 12 found, in sentences.

    `comparison` is of `compare_sets`, `scores` of `scores_on_real_images`; both may be empty.
    """
    if comparison.empty:
        return ["Nothing was compared: no real images were given."]
    ranked = comparison.sort_values("ks")
    nearest, farthest = ranked.iloc[0], ranked.iloc[-1]
    said = [
        f"Of {len(MEASURES)} measures the distributions differ least in {nearest['meaning']} (ks {nearest['ks']:.2f}) "
        f"and most in {farthest['meaning']} (ks {farthest['ks']:.2f})."
    ]
    if len(scores):
        best = scores[scores["hc_band_mm"] == "all"].nlargest(1, "dsc_mean").iloc[0]
        said.append(
            f"Trained on simulated planes only, {best['variant']} reaches a mean DSC of {best['dsc_mean']:.3f} "
            f"on {best['n']:.0f} real images."
        )
    return said
