"""How fast a network runs on the device at hand, against what the device can do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fhlib.models.device import HALF, Execution, fastest, inference, step_seconds, wait_for
from fhlib.networks.build import build_network
from fhlib.networks.usegnet import SegmentorOutput
from fhlib.training.losses import composite_loss

LARGEST = "USegNet-DS-HAS"
"""The paper's largest network of one level."""
MATMUL_SIZES = (1024, 2048, 4096)
MATMUL_SIZE_OF_A_GPU = 8192
TRAINING_OVER_FORWARD = 3.0
"""Operations of a training step over those of a forward pass: the gradients of inputs and of weights cost as much each."""


def operations(variant: str, shape: Sequence[int], width: int = 32) -> float:
    """Floating-point operations of one forward pass, without computing anything.

    A multiplication and an addition are two operations.

    Args:
        variant: of the network.
        shape: of the input, (d, h, w) or (h, w).
        width: channels of the network's first level.
    """
    net = build_network(variant, width, len(shape)).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 1, *shape, device="meta"))
    return float(counter.get_total_flops())


def efficiency(
    shape: Sequence[int],
    execution: Execution,
    width: int = 32,
    repeats: int = 3,
    variant: str = LARGEST,
    batch: int = 1,
    peak: float | None = None,
    compiled: bool = False,
) -> pd.DataFrame:
    """Achieved operations a second of a network over the device's peak, all in one precision and one run.

    Args:
        shape: of the input, (d, h, w) or (h, w).
        execution: precision and memory format.
        width: channels of the network's first level.
        repeats: the fastest of so many counts.
        variant: of the network.
        batch: volumes at once.
        peak: of `peak_gflops`, where it was measured before.
        compiled: by `torch.compile`.

    Returns:
        Rows `forward` and `training step`: what, gflop, seconds, gflops, peak_gflops, share. All are of the whole batch.
    """
    peak = peak_gflops(shape, execution, width, repeats) if peak is None else peak
    forward = batch * operations(variant, shape, width) / 1e9
    net = placed(variant, shape, execution, width)
    run: Any = torch.compile(net) if compiled else net
    input_shape = (batch, 1, *shape)
    table = pd.DataFrame(
        {
            "what": ["forward", "training step"],
            "gflop": [forward, TRAINING_OVER_FORWARD * forward],
            "seconds": [
                forward_seconds(run, input_shape, execution, repeats),
                step_seconds(run, execution, input_shape, loss_of, repeats),
            ],
        }
    )
    rate = table["gflop"] / table["seconds"]
    return table.assign(gflops=rate, peak_gflops=peak, share=rate / peak)


def peak_gflops(shape: Sequence[int], execution: Execution, width: int, repeats: int) -> float:
    """The most operations a second, in 1e9, that matrix products or the network's largest convolution reach.

    Args:
        shape: of the input, (d, h, w) or (h, w).
        execution: precision and memory format.
        width: channels of the network's first level.
        repeats: the fastest of so many counts.
    """
    device = execution.accelerator().device
    sizes = (*MATMUL_SIZES, MATMUL_SIZE_OF_A_GPU) if device.type == "cuda" else MATMUL_SIZES
    kind = HALF.get(execution.precision, torch.float32)
    rates = []
    with execution.autocast(device), torch.inference_mode():
        for size in sizes:
            a = torch.rand(size, size, device=device).to(kind)
            rates.append(2 * size**3 / fastest(partial(_multiply, a), repeats))

        layer = largest_convolution(shape, width)
        net = nn.Sequential(layer)
        net.spatial_dims = len(shape)  # type: ignore[assignment]
        net = execution.place(net, device)
        half_size = [-(-length // 8) * 4 for length in shape]
        x = execution.place(torch.rand(1, layer.in_channels, *half_size), device)
        work = 2 * layer.weight.numel() * x[0, 0].numel()
        rates.append(work / fastest(partial(_pass, net, x), repeats))
    return max(rates) / 1e9


def largest_convolution(shape: Sequence[int], width: int) -> nn.Conv2d | nn.Conv3d:
    """The 5x5x5 convolution of twice the width on as many channels, which the path at half size ends with."""
    net = build_network(LARGEST, width, len(shape))
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    return max(convolutions, key=lambda layer: layer.weight.numel())


def placed(
    variant: str, shape: Sequence[int], execution: Execution, width: int, checkpointing: bool = False
) -> nn.Module:
    """A network with random weights, on the machine's device."""
    # what is kept to be faster would count as memory of a step that saves it
    device = execution.accelerator(keep_memory=not checkpointing).device
    net = build_network(variant, width, len(shape), activation_checkpointing=checkpointing)
    return execution.place(net, device)


def forward_seconds(net: nn.Module, input_shape: Sequence[int], execution: Execution, repeats: int) -> float:
    """Seconds of the fastest forward pass on random numbers of shape (b, 1, ...), without gradients."""
    device = next(net.parameters()).device
    x = execution.place(torch.rand(*input_shape), device)
    with inference(net), execution.autocast(device):
        return fastest(partial(_pass, net, x, with_attention=False), repeats)


def loss_of(output: SegmentorOutput, label: Tensor) -> Tensor:
    """The paper's loss, for `step_seconds`."""
    return composite_loss(output, label)[0]


def _pass(net: nn.Module, x: Tensor, **options: bool) -> None:
    net(x, **options)
    wait_for(x.device)


def _multiply(a: Tensor) -> None:
    _ = a @ a
    wait_for(a.device)
