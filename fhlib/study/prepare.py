"""02: write the network-resolution copies of the training and validation cases, and look at them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fhlib.figures.planes import augmentation_grid
from fhlib.models.inputs import flips_of, to_network_grid
from fhlib.study.run import Study, open_cohort
from fhlib.training.augment import augment
from fhlib.training.prepared import PreparedCases, prepare_cohort

HEAD_SHARE = "head share [%]"


def prepare(study: Study) -> PreparedCases:
    """Write the network-resolution copies of the training and validation cases."""
    cohort, table = open_cohort(study)
    preset = study.preset
    originals = cohort.spatial_dims == 3 and preset.reads_slices
    return prepare_cohort(cohort, table, preset.preparation, study.prepared, originals)


def splits_prepared(cases: PreparedCases) -> pd.DataFrame:
    """How many cases and subjects each split has, and at most three of its shapes."""
    splits = cases.index.groupby("split")
    counts = splits.agg(cases=("case", "size"), subjects=("subject", "nunique"))
    return counts.assign(shape=splits["shape"].unique().map(lambda shapes: ", ".join(sorted(shapes)[:3])))


def head_shares(cases: PreparedCases, most: int = 40) -> pd.DataFrame:
    """Share of the head and mean intensity of the first prepared images."""
    rows = []
    for case in cases.index["case"].head(most):
        label, image = cases.label(case), cases.image(case)
        rows.append({"case": case, HEAD_SHARE: 100 * np.mean(label), "mean intensity": float(np.mean(image))})
    return pd.DataFrame(rows)


def augmentation_figure(study: Study, cases: PreparedCases, draws: int = 3) -> Figure:
    """A training case as prepared, and as augmentation drew it, each time with a part erased.

    Args:
        study: the run.
        cases: of `prepare`.
        draws: how often it is augmented.
    """
    case = cases.cases("train")[0]
    image, label = np.asarray(cases.image(case)), np.asarray(cases.label(case))
    always_erasing = {"erasing_probability": 1.0}
    training = study.preset.training_for(cases.spatial_dims).model_copy(update=always_erasing)
    random = np.random.default_rng(0)
    drawn = [augment(image, label, None, random, training)[:2] for _ in range(draws)]
    titles = ["as prepared", *(f"drawn {number}" for number in range(1, draws + 1))]
    scan = open_cohort(study)[0].read_image(case)
    spacing_mm = to_network_grid(scan, study.preset.preparation).spacing_mm
    return augmentation_grid([(image, label), *drawn], spacing_mm, titles)


def preparation_findings(cases: PreparedCases, shares: pd.DataFrame) -> list[str]:
    """What 02 found, in sentences; `shares` is of `head_shares`."""
    largest = " x ".join(map(str, cases.typical_shape))
    return [
        f"{len(cases.cases('train'))} training and {len(cases.cases('val'))} validation cases, the largest {largest}; "
        f"{len(flips_of(cases.spatial_dims))} distinct flips.",
        f"On average {shares[HEAD_SHARE].mean():.0f} % of an image is head.",
    ]
