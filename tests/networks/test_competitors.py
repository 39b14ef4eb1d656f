"""Networks of others: size, options, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fhlib.networks.build import build_network
from fhlib.networks.competitors import Competitor


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_strided_convolution_of_kernel_1_skips_voxels_before_it(dims):
    layer = (nn.Conv2d, nn.Conv3d)[dims - 2](8, 16, 1, stride=2)
    x = torch.randn(2, 8, *(7, 10, 9)[:dims])
    expected = layer(x)
    assert torch.allclose(Competitor(layer, dims, multiple=1).net(x), expected, atol=1e-6) and set(layer.stride) == {1}
    strides = [
        m.stride
        for m in build_network("Residual-U-Net", 8, dims).modules()
        if getattr(m, "kernel_size", 0) == (1,) * dims
    ]
    assert strides and all(set(stride) == {1} for stride in strides)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("Attention-U-Net", 23_600_000), ("Residual-U-Net", 16_670_598), ("Swin-UNETR", 15_700_000)],
)
def test_competitors_have_their_own_size_and_refuse_our_options(variant, parameters):
    # 23.6 M and 15.7 M are the published sizes; the residual U-Net's is added up from its channels 32, 64, 128, 256, 320
    assert count(build_network(variant)) == pytest.approx(parameters, rel=0.005)
    with pytest.raises(ValueError, match="not built of fhlib's blocks"):
        build_network(variant, 4, 2, convolution_kind="separable")
    build_network(variant, 4, 2, convolution_kind="full", activation_checkpointing=False)


def test_the_attention_u_net_does_not_depend_on_its_neighbours_in_the_batch():
    net = build_network("Attention-U-Net", 4, 2)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
    x = torch.randn(2, 1, 32, 48)
    assert torch.allclose(net(x).logits, torch.cat([net(x[:1]).logits, net(x[1:]).logits]), atol=1e-4)
