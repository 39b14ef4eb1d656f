"""The weights that ship: small, documented, and good for scans that no cohort holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.files import WEIGHTS_FOLDER
from fhlib.phantom.scan import simulate_scan
from fhlib.segmentation.segmentor import load_segmentor

SHIPPED = sorted(path.parent.parent for path in WEIGHTS_FOLDER.glob("*/level1/weights.safetensors"))
each = pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)


def test_weights_are_small_and_have_a_card():
    assert SHIPPED and sum(path.stat().st_size for path in WEIGHTS_FOLDER.rglob("*")) < 15e6
    card = (WEIGHTS_FOLDER / "README.md").read_text(encoding="utf-8")
    headings = ("Intended use", "Training", "Measured", "Limits", "Not a medical device")
    assert not [heading for heading in headings if heading not in card]
    assert not [folder.name for folder in SHIPPED if f"`{folder.name}`" not in card]


@each
def test_intervals_and_flags_were_measured_on_scans_of_their_own(folder):
    segmentor = load_segmentor(folder)
    assert segmentor.calibration and segmentor.calibration.cases >= 50 and segmentor.calibration.headless >= 5
    seen = pd.read_csv(folder / "coverage.csv")
    assert len(seen) >= 150 and 0.9 <= seen["covered"].mean() <= 0.98
    card = (WEIGHTS_FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{100 * seen['covered'].mean():.1f} %" in card, "the card tells the coverage of coverage.csv"


@each
def test_a_head_that_no_cohort_holds_is_found(folder):
    segmentor = load_segmentor(folder)
    scores = []
    for seed, site, weeks in ((990101, "paper-like", 24.0), (990102, "any", 33.0), (990103, "any", 19.0)):
        scan = simulate_scan(seed, ga_weeks=weeks, site=site, spacing_mm=2.0)
        label = scan.label if segmentor.parameters.outline == "skin" else scan.label_skull
        found, truth = segmentor.segment(scan.image).mask.array > 0, label.array > 0
        scores.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert np.mean(scores) > 0.75, scores


@each
def test_scans_without_a_head_are_empty_or_flagged(folder):
    segmentor = load_segmentor(folder)
    results = [
        segmentor.segment(simulate_scan(990110 + k, site="any", spacing_mm=2.5, has_head=False).image) for k in range(4)
    ]
    assert sum("no head" in result.flags for result in results) >= 3
