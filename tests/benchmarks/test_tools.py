"""Measures beside those of other tools."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.benchmarks.tools import WHY, compare_tools, ellipsoids, installed


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
