"""The network against the authors' graph: shapes, parameter counts tensor by tensor, gradients."""

from __future__ import annotations

import pytest
import torch

from fhlib import TABLE1, TABLE2
from fhlib.networks.build import build_network
from fhlib.networks.usegnet import pad_input
from fhlib.training.losses import composite_loss
from fhlib.variants import VARIANTS, paper_number


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("variant", "scalars", "tensors"),
    [("USegNet", 3_890_946, 46), ("USegNet-DS", 3_891_462, 50), ("USegNet-DS-HAS", 6_142_918, 98)],
)
def test_full_width_has_the_authors_number_of_parameters(variant, scalars, tensors):
    net = build_network(variant)
    assert (count(net), len(list(net.parameters()))) == (scalars, tensors)


def test_attention_kernels_as_printed():
    assert count(build_network("USegNet-DS-HAS", attention_kernel=3)) == 4_336_582


def test_redundant_biases_are_those_counted_by_hand():
    # an encoder bias in front of a normalisation: 2 x (32 + 64 + 64 + 64); the deconvolutions': 64 + 64 + 32
    net = build_network("USegNet-DS-HAS")
    encoder = sum(p.numel() for name, p in net.encoder.named_parameters() if name.endswith("0.bias"))
    decoder = sum(stage.up[0].bias.numel() for stage in net.decoder)
    assert (encoder, decoder, count(net) - encoder, count(net) - encoder - decoder) == (448, 160, 6_142_470, 6_142_310)


def shapes_of_authors_graph():
    """Kernel tensors at width 32 in the order of the table: (out, in, k), deconvolutions (in, out, k)."""
    encoder = [(32, 1, 3), (32, 32, 3), (64, 32, 3), (64, 64, 3), (64, 64, 5), (64, 64, 5), (64, 64, 5), (64, 64, 5)]

    def module(channels, k):
        return [(32, channels, 1), (32, 32, k), (32, 32, k), (64, 64, k)]

    level3 = [(64, 64, 5), *module(64, 5), *module(128, 5), (2, 64, 1)]
    level2 = [(64, 64, 5), *module(64, 3), *module(128, 5), (2, 64, 1)]
    level1 = [(64, 32, 3), *module(32, 3), *module(96, 3)]
    return encoder + level3 + level2 + level1 + [(2, 64, 1)]


def test_kernels_tensor_by_tensor():
    kernels = [p for p in build_network("USegNet-DS-HAS").parameters() if p.dim() == 5]
    assert [(*p.shape[:2], p.shape[2]) for p in kernels] == shapes_of_authors_graph()


def test_without_attention_a_stage_is_deconvolution_and_concatenation_only():
    stage = build_network("USegNet-DS").decoder[1]
    assert [name for name, child in stage.named_children() if child is not None] == ["up", "side"]
    assert stage.out_channels == 128


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_any_size_in_the_same_size_out_and_every_parameter_learns(variant, dims):
    net = build_network(variant, width=4, spatial_dims=dims)
    dims = net.spatial_dims
    assert (dims == 2) >= variant.startswith("2D-")
    size = (13, 22, 17)[:dims]
    padded = (16, 32, 32)[:dims] if VARIANTS[variant].network else (16, 24, 24)[:dims]
    out = net(torch.randn(1, 1, *size))
    assert out.logits.shape == (1, 2, *size)
    sides = [(1, 2, *(n // f for n in padded)) for f in (2, 4)] if VARIANTS[variant].deep_supervision else []
    assert [tuple(s.shape) for s in out.side_logits] == sides
    for name, weights in out.attention.items():
        factor = 2 ** (paper_number(int(name[-1])) - 1)
        assert weights.shape == (1, 4, *(n // factor for n in padded))
        assert torch.allclose(weights.sum(1), torch.ones(()), atol=1e-5)
    # not the plain sum of the logits: a normalisation in front would make its gradient vanish
    sum((logits * torch.randn_like(logits)).sum() for logits in (out.logits, *out.side_logits)).backward()
    # networks of others have biases in front of a normalisation, whose gradient is 0 but for rounding
    rounding = VARIANTS[variant].network
    without = [name for name, p in net.named_parameters() if p.grad is None or not (rounding or p.grad.abs().sum() > 0)]
    assert without == []


def test_modules_stand_where_the_paper_counts_them_from_the_deep_end():
    names = {v: set(build_network(v, 2, 2)(torch.rand(1, 1, 8, 8)).attention) for v in {*TABLE1, *TABLE2}}
    assert names["SAM-1"] == {"SAM-1"} and names["SAM-12"] == {"SAM-1", "SAM-2"}
    assert names["UAM-12"] == {"UAM-1", "UAM-2"} and names["USegNet-DS"] == set()
    assert names["USegNet-DS-HAS-Ctx"] == {f"{kind}-{n}" for kind in ("SAM", "UAM") for n in (1, 2, 3)}
    deepest = build_network("UAM-1", 2, 2)(torch.rand(1, 1, 16, 24)).attention["UAM-1"]
    assert deepest.shape[2:] == (4, 6)


def test_padding_is_zeros_at_the_far_end():
    padded = pad_input(torch.ones(1, 1, 3, 8, 9))
    assert padded.shape == (1, 1, 8, 8, 16)
    assert padded.sum() == 3 * 8 * 9 and padded[..., :3, :8, :9].min() == 1


@pytest.mark.parametrize("kind", ["pseudo-3D", "separable"])
@pytest.mark.parametrize("dims", [2, 3])
def test_cheaper_convolutions_have_the_parameters_counted_by_hand(kind, dims):
    torch.manual_seed(0)  # of four channels one may be dead from the start, and then gets no gradient
    # width 4, encoder level 1: 1 -> 4 -> 4 channels, kernel 3
    net = build_network("USegNet-DS-HAS", 4, dims, convolution_kind=kind)
    if kind == "separable":  # by channel 3^dims + 1 each, then 1x1 across
        by_hand = (3**dims + 1) + (4 + 4) + 4 * (3**dims + 1) + (4 * 4 + 4)
    else:
        by_hand = (
            (4 * 9 + 4) + 4 * 9 * 4 + 4
            if dims == 2
            else (4 * 9 + 4) + (4 * 4 * 3 + 4) + (4 * 4 * 9 + 4) + (4 * 4 * 3 + 4)
        )
    assert count(net.encoder[0]) == by_hand + 2 * 8  # and the normalisations
    out = net(torch.randn(1, 1, *(13, 22, 17)[:dims]))
    sum((logits * torch.randn_like(logits)).sum() for logits in (out.logits, *out.side_logits)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_activation_checkpointing_changes_no_gradient():
    nets = []
    for checkpointing in (False, True):
        torch.manual_seed(5)
        net = build_network("USegNet-DS-HAS", 4, activation_checkpointing=checkpointing)
        out = net(torch.randn(1, 1, 13, 22, 17, generator=torch.Generator().manual_seed(1)))
        composite_loss(out, torch.ones(1, 13, 22, 17, dtype=torch.uint8))[0].backward()
        nets.append(net)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)
