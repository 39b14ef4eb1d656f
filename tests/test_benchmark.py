"""Measures beside other tools: values and reasons, and the notebook that times them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import copy_clone

from fhlib.benchmark import WHY, compare_tools, ellipsoids, installed


def test_boxes_two_voxels_apart_by_hand():
    prediction, reference = np.zeros((12, 14, 16), bool), np.zeros((12, 14, 16), bool)
    prediction[3:6, 4:8, 5:9] = True
    reference[3:6, 4:8, 7:11] = True  # moved by two voxels of 3 mm
    table = compare_tools(prediction, reference, (1.0, 2.0, 3.0)).set_index(["tool", "measure"])
    assert table.loc[("MONAI", "hdb_mm"), "value"] == pytest.approx(6)
    assert table.loc[("MedPy", "hdb_mm"), "value"] == pytest.approx(6)
    assert (table["fhlib"].xs("hdb_mm", level="measure") == 6).all()
    same = table[table["why"].str.startswith("the same definition")]
    assert set(same.index.get_level_values("tool")) == {"MONAI", "MedPy"} and (same["difference"].abs() < 1e-5).all()


def test_every_difference_has_a_reason_and_its_sign():
    table = compare_tools(*ellipsoids((40, 30, 36)), (1.0, 1.5, 1.2))
    assert set(zip(table["tool"], table["measure"], strict=True)) == {key for key in WHY if key[0] in installed()}
    table = table.set_index(["tool", "measure"])["difference"]
    assert table[("MedPy", "hd95_mm")] <= 1e-9 and table[("surface-distance", "adb_mm")] < 0
    assert abs(table[("surface-distance", "hdb_mm")]) <= np.linalg.norm([1.0, 1.5, 1.2])


def test_the_notebook_times_every_installed_tool(tmp_path):
    clone = copy_clone(tmp_path / "clone")
    command = [
        sys.executable,
        "-m",
        "fhlib.execute",
        clone / "notebooks" / "11_benchmark.ipynb",
        tmp_path / "out.ipynb",
    ]
    for name, value in {"run": "smoke", "preset": "smoke", "scale": 0.15, "repeats": 2}.items():
        command += ["-p", name, str(value)]
    environment = {**os.environ, "PYTHONPATH": str(clone), "FHLIB_ROOT": str(clone)}
    done = subprocess.run(command, env=environment, cwd=clone, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    times = pd.read_csv(clone / "data" / "runs" / "smoke" / "tables" / "benchmark_measures.csv")
    assert list(times["tool"]) == installed() and times["ratio"].iloc[0] == 1
    assert times["hdb_mm"].max() - times["hdb_mm"].min() < 0.38 * np.sqrt(3)
