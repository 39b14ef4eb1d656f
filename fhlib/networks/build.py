"""From a variant's name to its network, and initial weights."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from torch import nn

from fhlib.networks.attention import AttentionModule
from fhlib.networks.blocks import FactoredConvolution
from fhlib.networks.usegnet import CLASSES, USegNet
from fhlib.presets import Training, suggestion
from fhlib.variants import VARIANTS


def build_network(variant: str, width: int = 32, spatial_dims: int = 3, **options: Any) -> nn.Module:
    """The network of a row of `fhlib.variants` (for `...-Ctx`, one context level's segmentor), with PyTorch's default weights.

    Args:
        variant: its name; one that begins with `2D-` is always 2D.
        width: channels of the first level (32 in the paper); every channel count scales with it.
        spatial_dims: 3, or 2 for single images.
        options: USegNet's beyond that.

    Raises ValueError for an unknown name, and for options that a network of others does not have.

    >>> import torch
    >>> net = build_network("USegNet-DS-HAS", width=4)
    >>> output = net(torch.zeros(1, 1, 12, 20, 28))
    >>> tuple(output.logits.shape), [tuple(side.shape[2:]) for side in output.side_logits]
    ((1, 2, 12, 20, 28), [(8, 12, 16), (4, 6, 8)])
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"variant {variant!r} is not known{suggestion(variant, VARIANTS)}; known: {', '.join(VARIANTS)}"
        )
    row = VARIANTS[variant]
    dims = row.spatial_dims or spatial_dims
    if row.network:
        if chosen := [name for name, value in options.items() if value not in (None, False, "full")]:
            raise ValueError(f"{variant} is not built of fhlib's blocks: it has no {', '.join(chosen)} to choose")
        module, _, function = row.network.partition(":")
        return getattr(import_module(module), function)(width, dims)
    return USegNet(
        width=width,
        spatial_dims=dims,
        deep_supervision=row.deep_supervision,
        skip_attention=row.skip_attention,
        path_attention=row.path_attention,
        skips=row.skips,
        **options,
    )


def build_level(variant: str, spatial_dims: int, training: Training) -> nn.Module:
    """The segmentor of one context level with a preset's options; those that a network of others does not have pass it by.

    Args:
        variant: its name.
        spatial_dims: of the cases.
        training: width and options.
    """
    if VARIANTS[variant].network:
        return build_network(variant, training.width, spatial_dims)
    return build_network(
        variant,
        training.width,
        spatial_dims,
        attention_kernel=training.attention_kernel,
        convolution_kind=training.convolution,
        activation_checkpointing=training.activation_checkpointing,
    )


def initialise(net: nn.Module, scheme: str) -> None:
    """Draw initial weights from torch's global generator.

    `truncated-normal`: sigma 0.001 and bias 0.01 as in the authors' code (section 3.1 names the distribution only), cut at two
    sigma as TensorFlow does. With a learning rate of 1e-5 this is slow to start. `variance-preserving`: Kaiming normal, with gain 1
    where no ReLU follows (attention modules, heads), and zero biases; a deviation, for trainings shorter than the paper's.
    Networks of others keep their own.
    """
    if not isinstance(net, USegNet):
        return
    linear = set()
    for module in net.modules():
        if isinstance(module, AttentionModule):
            linear |= {id(layer) for layer in module.modules()}
        if isinstance(module, FactoredConvolution):
            linear.add(id(module[0]))
    for layer in net.modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            continue
        assert layer.bias is not None
        if scheme == "truncated-normal":
            nn.init.trunc_normal_(layer.weight, std=0.001, a=-0.002, b=0.002)
            nn.init.constant_(layer.bias, 0.01)
            continue
        fan_in = layer.in_channels / layer.groups * math.prod(layer.kernel_size)
        if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
            fan_in /= math.prod(layer.stride)
        gain = 1.0 if id(layer) in linear or layer.out_channels == CLASSES else 2.0
        nn.init.normal_(layer.weight, std=math.sqrt(gain / fan_in))
        nn.init.zeros_(layer.bias)


def parameter_count(net: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in net.parameters())
