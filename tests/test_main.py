"""The command line."""

from __future__ import annotations

from pathlib import Path

from fhlib.__main__ import run_name
from tests.clones import copy_clone, run_study


def test_runs_are_named_for_preset_and_cohort():
    assert run_name("quick", None) == "quick"
    assert run_name("desk", Path("/clinic/my scans (2)")) == "desk-my-scans-2"


def test_a_mistyped_preset_stops_at_once(tmp_path):
    process = run_study(copy_clone(tmp_path), "--preset", "quik")
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and "did you mean 'quick'?" in text
    assert not (tmp_path / "data" / "runs").exists()
