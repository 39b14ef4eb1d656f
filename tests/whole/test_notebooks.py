"""Notebooks beside the study run from top to bottom."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.benchmarks.throughput import operations
from fhlib.benchmarks.tools import installed
from fhlib.cohorts.manifest import load_cohort
from fhlib.phantom.realism import (
    MEASURES,
)
from tests.clones import copy_clone, execute_notebook
from tests.cohorts.made_hc18 import make_hc18

pytestmark = pytest.mark.slow


def test_the_notebook_times_every_installed_tool(tmp_path):
    clone = copy_clone(tmp_path / "clone")
    given = {"scale": 0.15, "repeats": 2, "width": 4, "networks": '["Residual-U-Net"]'}
    execute_notebook(clone, "11_benchmark", tmp_path / "out.ipynb", **given)
    times = pd.read_csv(clone / "data" / "runs" / "smoke" / "tables" / "benchmark_measures.csv")
    assert list(times["tool"]) == installed() and times["ratio"].iloc[0] == 1
    assert times["hdb_mm"].max() - times["hdb_mm"].min() < 0.38 * np.sqrt(3)
    tables = {path.stem: pd.read_csv(path) for path in (clone / "data" / "runs" / "smoke" / "tables").glob("*.csv")}
    used = tables["benchmark_efficiency"]
    assert used["gflop"].iloc[0] == pytest.approx(operations("USegNet-DS-HAS", (24, 16, 24), 4) / 1e9)
    spent = tables["benchmark_segmentation"].set_index("levels")
    parts = spent[["read", "network", "other", "write"]]
    assert list(spent.index) == [1, 2] and (parts > 0).all().all()
    assert parts.sum(axis=1).tolist() == pytest.approx(spent["total"].tolist())
    assert tables["benchmark_memory"]["activation_checkpointing"].tolist() == [False, True]
    assert (tables["benchmark_networks"]["memory_gb"] > 0.1).all()


def test_the_notebook_compares_real_and_simulated_planes(tmp_path):
    clone = copy_clone(tmp_path / "clone")
    source = make_hc18(tmp_path / "hc18", "subfolders")
    out = tmp_path / "12_realism.ipynb"
    execute_notebook(clone, "12_realism", out, hc18=source, planes=3)
    table = pd.read_csv(clone / "data" / "runs" / "smoke" / "tables" / "realism.csv")
    assert list(table["measure"]) == list(MEASURES) and table["ks"].between(0, 1).all()
    split = load_cohort(clone / "data" / "cohorts" / "sim-to-real").table["split"]
    assert (split == "train").sum() == 2 and (split == "test").sum() >= 3
    assert "has no scores yet" in out.read_text(encoding="utf-8")


def test_the_notebooks_of_growth_run_on_a_drawn_population(tmp_path):
    clone = copy_clone(tmp_path / "clone")
    small = {"subjects": 150, "repetitions": 2}
    execute_notebook(clone, "15_growth", tmp_path / "drawn.ipynb", **small)
    chart = pd.read_csv(clone / "data" / "runs" / "smoke" / "tables" / "growth_chart.csv")
    assert (chart["low"] < chart["value"]).all() and chart.groupby("centile")["value"].apply(
        lambda v: v.iloc[-1] > v.iloc[0]
    ).all()
    assert "As measured, its 3rd centile is off" in (tmp_path / "drawn.ipynb").read_text(encoding="utf-8")

    execute_notebook(clone, "16_longitudinal", tmp_path / "16.ipynb", subjects=150)
    found = pd.read_csv(clone / "data" / "runs" / "smoke" / "tables" / "detection.csv")
    assert len(found) == 3 * 5 * 3 * 3 and (found["low"] <= found["sensitivity"]).all()
