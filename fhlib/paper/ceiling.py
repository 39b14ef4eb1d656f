"""How good a mask a grid allows: true labels brought to the grid of each preset, and back.

    python -m fhlib.paper.ceiling

writes `ceiling.csv` into `data/results/desk`. A mask on that grid is no better than this, whatever a network learns. A probability
is interpolated before it is cut, and may be a little better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from fhlib.files import DATA, progress, write_csv
from fhlib.images.grids import resample
from fhlib.images.volume import Volume
from fhlib.measures.metrics import evaluate
from fhlib.models.inputs import label_to_spacing
from fhlib.phantom.scan import simulate_scan

OUT = DATA / "results" / "desk" / "ceiling.csv"
GRIDS_MM = {6.2: "quick", 3.5: "desk", 1.9: "half the paper's", 0.95: "gpu, paper"}
"""Voxels of the networks' grids, and which preset has them."""
HEADS, FIRST_SEED, SPACING_MM = 8, 9_000_000, 0.5
"""Heads of the paper's ages and machine; no cohort has their seeds."""


def ceilings(labels: Iterable[Volume], grids_mm: Sequence[float]) -> pd.DataFrame:
    """What is left of labels that went to a grid and back.

    A label goes there as in training (`fhlib.models.inputs.label_to_spacing`) and comes back as a prediction does: interpolated, and cut at
    one half.

    Args:
        labels: in their own geometry.
        grids_mm: isotropic voxels of the grids.

    Returns:
        A row a grid: spacing_mm, n, and over the labels dsc_mean and dsc_sd (0 to 1), adb_mm_mean and hdb_mm_mean.
    """
    rows = []
    for label in labels:
        for spacing_mm in grids_mm:
            coarse = label_to_spacing(label, (spacing_mm,) * label.ndim)
            back = resample(coarse.with_array(coarse.array.astype("float32")), like=label)
            scores = evaluate(back.array >= 0.5, label.array > 0, label.spacing_mm)
            rows.append({"spacing_mm": spacing_mm, "dsc": scores.dsc, "adb_mm": scores.adb_mm, "hdb_mm": scores.hdb_mm})
    return (
        pd.DataFrame(rows)
        .groupby("spacing_mm", sort=False)
        .agg(
            n=("dsc", "size"),
            dsc_mean=("dsc", "mean"),
            dsc_sd=("dsc", "std"),
            adb_mm_mean=("adb_mm", "mean"),
            hdb_mm_mean=("hdb_mm", "mean"),
        )
        .reset_index()
    )


def main() -> None:
    """Write the table."""
    seeds = progress(range(FIRST_SEED, FIRST_SEED + HEADS), "heads")
    table = ceilings((simulate_scan(seed, spacing_mm=SPACING_MM).label for seed in seeds), list(GRIDS_MM))
    write_csv(table.assign(preset=table["spacing_mm"].map(GRIDS_MM)), OUT)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
