"""The notebooks of the study in JupyterLab, driven by a real browser. Screenshots are kept in tests/artifacts/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.clones import copy_clone
from tests.whole.jupyterlab import EVERY_NOTEBOOK, runs_in_jupyterlab, set_parameters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copied clone whose notebooks are set to the preset `smoke`, with one variant."""
    clone = copy_clone(tmp_path_factory.mktemp("clone"))
    for path in (clone / "notebooks").glob("[0-9]*.ipynb"):
        set_parameters(path, run="smoke", preset="smoke", variant="USegNet-DS-HAS")
    run = clone / "data" / "runs" / "smoke"
    run.mkdir(parents=True)
    one_variant = {"preset": "smoke", "cohort": "", "changes": {"variants": ["USegNet-DS-HAS"]}}
    (run / "run.json").write_text(json.dumps(one_variant), encoding="utf-8")
    return clone


STUDY = ("00_start_here", "01_cohort", "02_prepare", "03_train", "04_predict", "05_accuracy", "06_agreement")
STUDY += ("07_reproducibility", "09_claims", "10_segment")
if not EVERY_NOTEBOOK:
    STUDY = STUDY[:4]


@pytest.mark.parametrize("name", STUDY)
def test_notebook_runs_in_jupyterlab_from_top_to_bottom(browser: Browser, lab: str, clone: Path, name: str) -> None:
    """In order: each reads what those before it wrote. 08 and those beside the study are in test_explorer_in_jupyterlab.py."""
    runs_in_jupyterlab(browser, lab, clone / "notebooks" / f"{name}.ipynb")
