"""Initial weights, and names that are not known."""

from __future__ import annotations

import math

import pytest
import torch

from fhlib.networks.build import build_network, initialise


def test_truncated_normal_weights_are_the_authors():
    net = build_network("USegNet-DS-HAS", 16)
    initialise(net, "truncated-normal")
    kernels = torch.cat([p.flatten() for p in net.parameters() if p.dim() == 5])
    # a normal cut at two sigma keeps 0.8796 of its SD
    assert float(kernels.abs().max()) < 0.0020001 and float(kernels.std()) == pytest.approx(0.000880, rel=0.01)
    assert net.head.bias.tolist() == pytest.approx([0.01, 0.01])


def test_variance_preserving_weights_keep_the_variance():
    torch.manual_seed(1)
    net = build_network("USegNet-DS-HAS", 32, spatial_dims=2)
    initialise(net, "variance-preserving")
    module = net.decoder[0].path_attention
    x = torch.randn(1, 128, 64, 64)
    assert float(module.shrink(x).std()) == pytest.approx(1.0, abs=0.15)
    up = net.decoder[0].up[0]
    assert float(up(torch.randn(1, 64, 64, 64))[..., 8:-8, 8:-8].std()) == pytest.approx(math.sqrt(2), abs=0.25)


def test_cheaper_convolutions_keep_the_variance_at_the_start():
    torch.manual_seed(3)
    for kind in ("pseudo-3D", "separable"):
        net = build_network("USegNet-DS", 32, 3, convolution_kind=kind)
        initialise(net, "variance-preserving")
        layer = net.encoder[2][1][0]
        spread = float(layer(torch.relu(torch.randn(1, 64, 16, 16, 16)))[..., 4:-4, 4:-4, 4:-4].std())
        assert spread == pytest.approx(1.0, abs=0.35), kind  # E relu(x)^2 = 1/2, gain 2


def test_unknown_variant_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'USegNet-DS-HAS'"):
        build_network("USegNet-DS-HAZ")
