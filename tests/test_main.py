"""The command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fhlib.__main__ import run_name, spacing
from tests.clones import copy_clone, run_study


def test_runs_are_named_for_preset_and_cohort():
    assert run_name("quick", None) == "quick"
    assert run_name("desk", Path("/clinic/my scans (2)")) == "desk-my-scans-2"


def test_a_spacing_is_one_number_or_one_an_axis():
    assert spacing("0.5") == (0.5,) and spacing("0.5, 0.5,0.7") == (0.5, 0.5, 0.7)
    for wrong in ("", "0", "-1", "nan", "inf", "0.5/0.7", "1,2,3,4", "0,5mm", "1,5", "1,,2"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is no spacing: give mm as [01].5"):
            spacing(wrong)


def test_a_mistyped_preset_stops_at_once(tmp_path):
    process = run_study(copy_clone(tmp_path), "--preset", "quik")
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and "did you mean 'quick'?" in text
    assert not (tmp_path / "data" / "runs").exists()
