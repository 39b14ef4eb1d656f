"""Measures beside other tools, costs of the networks by hand, and the notebook that times them."""

from __future__ import annotations

import platform
import resource

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import copy_clone, execute_notebook

from fhlib.benchmarks.networks import (
    _largest_convolution,
    compare_precisions,
    costs,
    in_fresh_process,
    operations,
    training_memory,
)
from fhlib.benchmarks.tools import WHY, compare_tools, ellipsoids, installed
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network, initialise
from fhlib.presets import Preparation, Training
from fhlib.segmentation.segmentor import Segmentor


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or torch.cuda.is_available(), reason="glibc's allocator on a CPU")
def test_memory_of_a_freed_tensor_serves_the_next_without_new_pages():
    assert in_fresh_process(new_pages, False) > 10_000  # 80 MB in pages of 4 KB, or fewer larger ones
    assert in_fresh_process(new_pages, True) < 1_000


def new_pages(through_accelerator: bool) -> int:
    """Pages that the system gave for a large tensor after some of its size were freed."""
    if through_accelerator:
        Execution().accelerator()
    for _ in range(4):
        torch.ones(20_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_operations_are_those_counted_by_hand():
    # USegNet at width 4 on 16 x 8 x 24: kernel volume x channels in x out x voxels, twice; deconvolutions count their input's voxels
    full = 16 * 8 * 24
    encoder = [(27, 1, 4, 1), (27, 4, 4, 1), (27, 4, 8, 8), (27, 8, 8, 8)]
    encoder += [(125, 8, 8, 64), (125, 8, 8, 64), (125, 8, 8, 512), (125, 8, 8, 512)]
    decoder = [(125, 8, 8, 512), (125, 16, 8, 64), (27, 16, 4, 8), (1, 8, 2, 1)]
    by_hand = sum(2 * k * i * o * full / share for k, i, o, share in encoder + decoder)
    assert operations("USegNet", (16, 8, 24), 4) == by_hand
    # the text's figures for the paper's half-size volume
    found = [operations(name, (80, 56, 88)) / 1e9 for name in ("USegNet-DS", "SAM-1", "SAM-12", "USegNet-DS-HAS")]
    assert [round(gflop) for gflop in found] == [77, 87, 103, 442]


def test_the_largest_convolution_is_the_one_after_the_attention_at_half_size():
    layer = _largest_convolution((16, 8, 24), 32)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (64, 64, (5, 5, 5))


def test_costs_are_of_networks_that_pass_once():
    with pytest.raises(ValueError, match="p-USegNet, 2D-USegNet read a volume in pieces"):
        costs(["USegNet", "p-USegNet", "2D-USegNet"], (16, 8, 24), Execution(), 4)


def test_activation_checkpointing_saves_memory():
    table = training_memory((96, 72, 80), Execution(), 8)
    plain, checkpointed = table["memory_gb"]
    assert checkpointed < plain - 0.1  # of about 0.5 GB beyond what the program itself takes


def test_half_precision_is_compared_on_the_same_weights():
    torch.manual_seed(0)
    net = build_network("USegNet-DS", 4)
    initialise(net, "variance-preserving")
    training = Training(width=4, steps=1, learning_rate=1e-3)
    parameters = SegmentorParameters("USegNet-DS", 1, 3, Preparation(spacing_mm=4), training, Execution(), "")
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (17, 12, 22)), indexing="ij")
    found = compare_precisions(Segmentor([net], parameters), np.exp(-3 * (z**2 + y**2 + x**2)).astype(np.float32))
    assert 1e-5 < found["largest_difference"] < 0.2 and 0.9 < found["dsc"] <= 1
