"""Convolutions, deconvolutions and normalisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fhlib.models.device import Execution
from fhlib.networks.blocks import Upsampling, VolumeNorm, convolution
from fhlib.networks.competitors import Competitor


def poison() -> None:
    """Leave NaN in the memory that the next tensors get."""
    freed = [torch.full((int(n),), math.nan) for n in np.geomspace(64, 500_000, 40)]
    del freed


@pytest.mark.parametrize("planes", range(1, 8))
@pytest.mark.parametrize(("layer", "kernel"), [("conv", 3), ("conv", 5), ("up", 3), ("up", 5), ("competitor", 3)])
def test_gradients_in_bf16_hold_no_memory_that_nobody_wrote(layer, kernel, planes):
    Execution("bf16").accelerator()  # keeps freed memory
    torch.manual_seed(0)
    if layer == "competitor":
        net = Competitor(nn.Conv3d(32, 2, kernel, padding=1), 3, multiple=1).net
    else:
        net = convolution(3, 32, 32, kernel) if layer == "conv" else Upsampling(3, 32, 32, kernel)[0]
    x = torch.randn(1, 32, planes, 6, 6, requires_grad=True)
    found = []
    for precision in ("no", "bf16", "bf16", "bf16"):
        poison()
        with Execution(precision).autocast(x.device):
            y = net(x).float()
        poison()
        found.append(torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum(), net.weight)[0])
    exact = found[0]
    assert all((gradient - exact).abs().max() < 0.02 * exact.abs().max() for gradient in found[1:])


@pytest.mark.parametrize("kernel", [3, 5])
def test_upsampling_doubles_exactly(kernel):
    assert Upsampling(3, 2, 3, kernel)(torch.rand(1, 2, 3, 4, 5)).shape == (1, 3, 6, 8, 10)


def test_a_volume_is_normalised_alike_alone_and_in_a_batch():
    norm = VolumeNorm(3)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 4, 5, 6) * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1, 1)
    together = norm(x)
    assert torch.allclose(together, torch.cat([norm(x[:1]), norm(x[1:])]), atol=1e-4)
    by_hand = (x[0, 0] - x[0, 0].mean()) / math.sqrt(float(x[0, 0].var(unbiased=False)) + 1e-5) * norm.weight[0]
    assert torch.allclose(together[0, 0], by_hand, atol=1e-4)


def test_a_pseudo_3d_convolution_is_its_two_factors():
    layer = convolution(3, 2, 3, 5, "pseudo-3D")
    x = torch.randn(1, 2, 6, 7, 8)
    inside = torch.stack(
        [F.conv2d(x[:, :, k], layer[0].weight[:, :, 0], layer[0].bias, padding=2) for k in range(6)], 2
    )
    across = F.conv3d(inside, layer[1].weight, layer[1].bias, padding=(2, 0, 0))
    assert torch.allclose(layer(x), across, atol=1e-5)
