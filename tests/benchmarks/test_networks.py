"""Costs of the networks: operations by hand, memory, precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fhlib.benchmarks.networks import (
    compare_precisions,
    costs,
    training_memory,
)
from fhlib.benchmarks.throughput import largest_convolution, operations
from fhlib.images.volume import Volume
from fhlib.models.cascade import Cascade, Reading
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network, initialise
from fhlib.presets import Preparation, Training


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
    layer = largest_convolution((16, 8, 24), 32)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (64, 64, (5, 5, 5))


def test_costs_are_of_networks_that_pass_once():
    with pytest.raises(ValueError, match="p-USegNet, 2D-USegNet read a volume in pieces"):
        costs(["USegNet", "p-USegNet", "2D-USegNet"], (16, 8, 24), Execution(), 4)


@pytest.mark.slow
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
    image = Volume(np.exp(-3 * (z**2 + y**2 + x**2)).astype(np.float32), (1.0, 1.0, 1.0))
    found = compare_precisions(Cascade([net], parameters), Reading(image))
    assert 1e-5 < found["largest_difference"] < 0.2 and 0.9 < found["dsc"] <= 1
