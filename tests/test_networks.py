"""The network against the authors' graph: shapes, parameter counts tensor by tensor, gradients, Eq. 3-4 by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fhlib import TABLE1, TABLE2
from fhlib.models.device import Execution
from fhlib.networks.attention import AttentionModule, softmax_of_channels
from fhlib.networks.blocks import Upsampling, VolumeNorm, convolution
from fhlib.networks.build import build_level, build_network, initialise
from fhlib.networks.competitors import Competitor
from fhlib.networks.usegnet import pad_to_multiple
from fhlib.presets import load_preset
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
    padded = (16, 32, 32)[:dims] if VARIANTS[variant].competitor else (16, 24, 24)[:dims]
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
    rounding = VARIANTS[
        variant
    ].competitor  # theirs have biases in front of a normalisation, whose gradient is 0 but for rounding
    without = [name for name, p in net.named_parameters() if p.grad is None or not (rounding or p.grad.abs().sum() > 0)]
    assert without == []


def test_modules_stand_where_the_paper_counts_them_from_the_deep_end():
    names = {v: set(build_network(v, 2, 2)(torch.rand(1, 1, 8, 8)).attention) for v in {*TABLE1, *TABLE2}}
    assert names["SAM-1"] == {"SAM-1"} and names["SAM-12"] == {"SAM-1", "SAM-2"}
    assert names["UAM-12"] == {"UAM-1", "UAM-2"} and names["USegNet-DS"] == set()
    assert names["USegNet-DS-HAS-Ctx"] == {f"{kind}-{n}" for kind in ("SAM", "UAM") for n in (1, 2, 3)}
    deepest = build_network("UAM-1", 2, 2)(torch.rand(1, 1, 16, 24)).attention["UAM-1"]
    assert deepest.shape[2:] == (4, 6)


def test_attention_module_by_its_equations():
    torch.manual_seed(0)
    module = AttentionModule(3, in_channels=5, width=4, kernel=3)
    features = torch.randn(1, 5, 6, 7, 8)
    out, attention = module(features)
    shrunk = F.conv3d(features, module.shrink.weight, module.shrink.bias)
    first, second = module.weigh
    weights = F.conv3d(F.conv3d(shrunk, first.weight, first.bias, padding=1), second.weight, second.bias, padding=1)
    expected = weights.exp() / weights.exp().sum(1, keepdim=True)
    joined = torch.cat([shrunk, shrunk * expected], 1)
    assert torch.allclose(attention, expected, atol=1e-6)
    assert torch.allclose(out, F.conv3d(joined, module.out.weight, module.out.bias, padding=1), atol=1e-5)


def test_attention_of_unit_mean_and_normalised_output():
    torch.manual_seed(0)
    printed = AttentionModule(3, in_channels=5, width=4, kernel=3)
    changed = AttentionModule(3, in_channels=5, width=4, kernel=3, unit_mean=True, normalise=True)
    assert changed.load_state_dict(printed.state_dict(), strict=False).missing_keys == ["norm.weight", "norm.bias"]
    features = torch.randn(1, 5, 6, 7, 8)
    with torch.no_grad():
        changed.out.weight[:, 4:] /= 4  # T is four times as large
        out, attention = printed(features)
        again, same = changed(features)
    assert torch.equal(attention, same) and torch.allclose(4 * attention.mean(), torch.tensor(1.0))
    deviation, mean = torch.std_mean(out, dim=(2, 3, 4), keepdim=True, correction=0)
    assert torch.allclose(again, (out - mean) / deviation, atol=1e-3)
    for name in ("attention_unit_mean", "attention_normalisation"):  # and every module of a training has it
        training = load_preset("smoke").training.model_copy(update={name: True})
        net = build_level("USegNet-DS-HAS", 1, 2, training)
        modules = [m for m in net.modules() if isinstance(m, AttentionModule)]
        assert len(modules) == 6
        assert all((m.gain == 4) if "mean" in name else m.norm is not None for m in modules)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_softmax_keeps_precision_and_memory_format_under_autocast(precision, layout):
    x = torch.randn(2, 5, 3, 4, 6).to(precision).to(memory_format=layout).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = softmax_of_channels(x)
    exact = torch.softmax(x.detach().double(), dim=1)
    assert found.dtype == precision and found.is_contiguous(memory_format=layout)
    assert torch.allclose(found.double(), exact, rtol=1e-2 if precision == torch.bfloat16 else 1e-6)
    found[:, 2].sum().backward()
    expected = exact[:, 2:3] * ((torch.arange(5) == 2).double().view(5, 1, 1, 1) - exact)
    assert torch.allclose(x.grad.double(), expected, atol=4e-3 if precision == torch.bfloat16 else 1e-6)


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


def test_padding_is_zeros_at_the_far_end():
    padded = pad_to_multiple(torch.ones(1, 1, 3, 8, 9))
    assert padded.shape == (1, 1, 8, 8, 16)
    assert padded.sum() == 3 * 8 * 9 and padded[..., :3, :8, :9].min() == 1


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


@pytest.mark.parametrize("kind", ["pseudo-3D", "separable"])
@pytest.mark.parametrize("dims", [2, 3])
def test_cheaper_convolutions_have_the_parameters_counted_by_hand(kind, dims):
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


def test_a_pseudo_3d_convolution_is_its_two_factors():
    layer = convolution(3, 2, 3, 5, "pseudo-3D")
    x = torch.randn(1, 2, 6, 7, 8)
    inside = torch.stack(
        [F.conv2d(x[:, :, k], layer[0].weight[:, :, 0], layer[0].bias, padding=2) for k in range(6)], 2
    )
    across = F.conv3d(inside, layer[1].weight, layer[1].bias, padding=(2, 0, 0))
    assert torch.allclose(layer(x), across, atol=1e-5)


def test_cheaper_convolutions_keep_the_variance_at_the_start():
    torch.manual_seed(3)
    for kind in ("pseudo-3D", "separable"):
        net = build_network("USegNet-DS", 32, 3, convolution_kind=kind)
        initialise(net, "variance-preserving")
        layer = net.encoder[2][1][0]
        spread = float(layer(torch.relu(torch.randn(1, 64, 16, 16, 16)))[..., 4:-4, 4:-4, 4:-4].std())
        assert spread == pytest.approx(1.0, abs=0.35), kind  # E relu(x)^2 = 1/2, gain 2


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


def test_unknown_variant_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'USegNet-DS-HAS'"):
        build_network("USegNet-DS-HAZ")
