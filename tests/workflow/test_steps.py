"""The steps that a run goes through."""

from __future__ import annotations

from fhlib.presets import load_preset
from fhlib.workflow.steps import TITLES, steps_of


def test_a_preset_that_learns_on_from_a_few_cases_has_no_tables_of_the_paper():
    usual, few = steps_of(load_preset("smoke")), steps_of(load_preset("fine-tune"))
    assert usual[-2:] == ["09_claims", "10_segment"] and "14_few_cases" not in usual
    assert few[5:] == ["14_few_cases", "10_segment"] and few[:5] == usual[:5]


def test_further_seeds_bring_the_ablation():
    seeds = load_preset("smoke", {"seeds": [0, 1]})
    assert steps_of(seeds)[-1] == "13_ablation" and set(steps_of(seeds)) <= set(TITLES.values())


def test_a_drawn_population_brings_the_growth_chapters_last():
    assert steps_of(load_preset("quick"))[-3:] == ["10_segment", "15_growth", "16_longitudinal"]
    assert steps_of(load_preset("quick", {"growth_subjects": None}))[-1] == "10_segment"
