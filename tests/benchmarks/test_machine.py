"""What a study is expected to take, from seconds that were measured."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from fhlib.benchmarks.machine import SIMPLE_STEPS, expected_steps
from fhlib.presets import load_preset


def test_each_step_is_expected_to_take_what_its_networks_and_scans_take():
    """The preset smoke: 3 scans to train on, 3 to test, 2 subjects in 3 directions; 6 steps, and 2 candidates of 2."""
    networks = ["USegNet-DS", "USegNet-DS-HAS"]
    machine = pd.DataFrame({"network": networks, "seconds_a_volume": [1.0, 3.0]})
    steps = expected_steps(load_preset("smoke"), machine, seconds_a_scan=6.0).set_index("step")["seconds"]
    assert steps["03_train USegNet-DS 1"] == pytest.approx(10 + (6 + 2 * 2) * 1)
    assert steps["03_train USegNet-DS-HAS-Ctx 2"] == pytest.approx(10 + (6 + 2 * 2) * 3)
    fixed, each = SIMPLE_STEPS["04_predict"]
    assert steps["04_predict USegNet-DS"] == pytest.approx(fixed + 9 * each + 9 * 0.35)
    assert steps["04_predict USegNet-DS-HAS-Ctx"] == pytest.approx(fixed + 9 * each + 9 * 2 * 0.35 * 3)
    assert steps["01_cohort"] == pytest.approx(20 + 12 * (6 / os.cpu_count() + 0.2))
    assert "report" in steps and "00_start_here" not in steps


def test_each_seed_is_expected_to_take_as_long_again():
    machine = pd.DataFrame({"network": ["USegNet-DS", "USegNet-DS-HAS"], "seconds_a_volume": [1.0, 3.0]})
    steps = expected_steps(load_preset("smoke", {"seeds": [0, 4]}), machine, seconds_a_scan=6.0)
    seconds = steps.set_index("step")["seconds"]
    for step in ("03_train USegNet-DS 1", "03_train USegNet-DS-HAS-Ctx 2", "04_predict USegNet-DS", "05_accuracy"):
        assert seconds[f"{step} seed 4"] == seconds[step]
    single = expected_steps(load_preset("smoke"), machine, seconds_a_scan=6.0)["step"].tolist()
    assert [step for step in steps["step"] if "seed" not in step and step != "13_ablation"] == single
    assert len(steps) == len(single) + 3 + 3 + 1 + 1  # trainings, predictions, scoring, 13_ablation


def test_steps_at_half_the_resolution_take_an_eighth():
    """Ten steps, half of them on an eighth of the voxels: 5 + 5 / 8."""
    machine = pd.DataFrame({"network": ["USegNet-DS", "USegNet-DS-HAS"], "seconds_a_volume": [1.0, 3.0]})
    preset = load_preset("smoke", {"training.half_resolution_share": 0.5})
    steps = expected_steps(preset, machine, seconds_a_scan=6.0).set_index("step")["seconds"]
    assert steps["03_train USegNet-DS 1"] == pytest.approx(10 + 5 + 5 / 8)
