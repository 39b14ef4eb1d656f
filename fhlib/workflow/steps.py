"""The steps of the study: each rule of the run map and its notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fhlib.presets import Preset

TITLES = {
    "start_here": "00_start_here",
    "cohort": "01_cohort",
    "prepare": "02_prepare",
    "train": "03_train",
    "predict": "04_predict",
    "accuracy": "05_accuracy",
    "agreement": "06_agreement",
    "reproducibility": "07_reproducibility",
    "attention": "08_attention",
    "claims": "09_claims",
    "segment": "10_segment",
    "ablation": "13_ablation",
    "few_cases": "14_few_cases",
    "growth": "15_growth",
    "longitudinal": "16_longitudinal",
}


def steps_of(preset: Preset) -> list[str]:
    """The notebooks that a run of this preset goes through, in order.

    A few cases bear no comparison with the paper: a preset that learns on from them has the shipped weights beside them instead.
    """
    compared = ["05_accuracy", "06_agreement", "07_reproducibility", "08_attention", "09_claims"]
    last = ["14_few_cases", "10_segment"] if preset.learns_from_few else [*compared, "10_segment"]
    ablation = ["13_ablation"] if preset.further_seeds else []
    growth = ["15_growth", "16_longitudinal"] if preset.growth_subjects else []
    return ["00_start_here", "01_cohort", "02_prepare", "03_train", "04_predict", *last, *ablation, *growth]
