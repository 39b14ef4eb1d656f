"""What the networks cost on the machine at hand, beside peers: operations, seconds, memory, and what half precision changes.

Seconds inform; ratios within one run travel between machines. Peak memory is that of a fresh process, or of the GPU
where there is one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fhlib.benchmarks.tools import peak_memory_gb
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Array
from fhlib.measures.metrics import dice
from fhlib.models.cascade import Cascade, reads_slices
from fhlib.models.device import Execution, fastest, inference, step_seconds, wait_for
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network, parameter_count
from fhlib.networks.usegnet import SegmentorOutput
from fhlib.phantom.scan import simulate_scan
from fhlib.presets import PAPER_NETWORK_SPACING_MM, Prediction, Preparation, Training
from fhlib.segmentation.segmentor import Segmentor
from fhlib.training.losses import composite_loss
from fhlib.variants import VARIANTS

LARGEST = "USegNet-DS-HAS"
"""The paper's largest network of one level."""
PAPER_SPACING_MM = 0.38
MATMUL_SIZES = (1024, 2048, 4096)
TRAINING_OVER_FORWARD = 3.0
"""Operations of a training step over those of a forward pass: the gradients of inputs and of weights cost as much each."""
Result = TypeVar("Result")


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


def in_fresh_process(work: Callable[..., Result], *arguments: object) -> Result:
    """Call a function of a module in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def efficiency(shape: Sequence[int], execution: Execution, width: int = 32, repeats: int = 3) -> pd.DataFrame:
    """Achieved operations a second of USegNet-DS-HAS over the machine's peak, all in one precision and one run.

    Args:
        shape: of the input, (d, h, w) or (h, w).
        execution: precision and memory format.
        width: channels of the network's first level.
        repeats: the fastest of so many counts.

    Returns:
        Rows `forward` and `training step`: what, gflop, seconds, gflops, peak_gflops (the best of matrix products and
        of the network's own largest convolution), share.
    """
    peak = _peak_gflops(shape, execution, width, repeats)
    forward = operations(LARGEST, shape, width) / 1e9
    net = _placed(LARGEST, shape, execution, width)
    table = pd.DataFrame(
        {
            "what": ["forward", "training step"],
            "gflop": [forward, TRAINING_OVER_FORWARD * forward],
            "seconds": [
                _forward_seconds(net, shape, execution, repeats),
                step_seconds(net, execution, (1, 1, *shape), _loss, repeats),
            ],
        }
    )
    rate = table["gflop"] / table["seconds"]
    return table.assign(gflops=rate, peak_gflops=peak, share=rate / peak)


def costs(
    variants: Sequence[str], shape: Sequence[int], execution: Execution, width: int = 32, repeats: int = 2
) -> pd.DataFrame:
    """What each network costs at one size, in one precision and one run.

    Args:
        variants: of the networks.
        shape: of the input, (d, h, w) or (h, w).
        execution: precision and memory format.
        width: channels of the networks' first level.
        repeats: the fastest of so many passes counts.

    Returns:
        A row a network: variant, parameters, gflop and seconds of a forward pass, memory_gb (peak of the process),
        seconds_ratio (over the first variant's).

    Raises:
        ValueError: a variant reads patches or slices, and so passes many times.
    """
    pieces = [name for name in variants if VARIANTS[name].patch or reads_slices(name, len(shape))]
    if pieces:
        raise ValueError(
            f"{', '.join(pieces)} read a volume in pieces: "
            "one forward pass does not tell what they cost; leave them out"
        )
    rows = []
    for variant in variants:
        net = build_network(variant, width, len(shape))
        parameters = parameter_count(net)
        gflop = operations(variant, shape, width) / 1e9
        seconds, memory_gb = in_fresh_process(_forward_cost, variant, tuple(shape), execution, width, repeats)
        rows.append((variant, parameters, gflop, seconds, memory_gb))
    table = pd.DataFrame(rows, columns=["variant", "parameters", "gflop", "seconds", "memory_gb"])
    return table.assign(seconds_ratio=table["seconds"] / table["seconds"].iloc[0])


def training_memory(shape: Sequence[int], execution: Execution, width: int = 32) -> pd.DataFrame:
    """What activation checkpointing saves and costs in a training step of USegNet-DS-HAS.

    Args:
        shape: of the input, (d, h, w) or (h, w).
        execution: precision and memory format.
        width: channels of the network's first level.

    Returns:
        A row without and one with it: activation_checkpointing, memory_gb (peak of the process), seconds.
    """
    rows = []
    for checkpointing in (False, True):
        seconds, memory_gb = in_fresh_process(_training_cost, tuple(shape), execution, width, checkpointing)
        rows.append({"activation_checkpointing": checkpointing, "memory_gb": memory_gb, "seconds": seconds})
    return pd.DataFrame(rows)


def segmentation_time(execution: Execution, width: int = 32, scale: float = 1.0) -> pd.DataFrame:
    """Seconds from a file to a written mask of a simulated scan of the paper's size, by step.

    Weights are random. What they find is exchanged for the true head, because noise would take longer than a head to
    clean and to write.

    Args:
        execution: precision and memory format.
        width: channels of the network's first level.
        scale: the scan has this times the paper's voxels along each axis.

    Returns:
        A row for one level and one for the cascade: levels, read, network, other (resampling, thresholds, components,
        flags), write, total, network_share, memory_gb (peak of the process).
    """
    scan = simulate_scan(3, spacing_mm=PAPER_SPACING_MM / scale)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        image, head = Path(folder) / "scan.nrrd", Path(folder) / "head.nrrd"
        write_volume(scan.image, image)
        write_volume(scan.label, head)
        for variant in (LARGEST, f"{LARGEST}-Ctx"):
            rows.append(in_fresh_process(_segmentation_cost, variant, image, head, execution, width, scale))
    return pd.DataFrame(rows)


def compare_precisions(cascade: Cascade, image: Array) -> dict[str, float]:
    """The same weights in fp32 and bf16 on one prepared image: largest difference of the probability, DSC of the two masks."""
    found = []
    for precision in ("no", "bf16"):
        execution = Execution(precision, cascade.execution.channels_last, cascade.execution.threads)
        again = Cascade(cascade.levels, cascade.parameters, execution)
        found.append(again.probability(image))
    first, second = (probability >= Prediction().threshold for probability in found)
    return {"largest_difference": float(np.abs(found[0] - found[1]).max()), "dsc": dice(first, second)}


def _peak_gflops(shape: Sequence[int], execution: Execution, width: int, repeats: int) -> float:
    """The most operations a second, in 1e9, that matrix products or the network's largest convolution reach."""
    device = execution.accelerator().device
    rates = []
    with execution.autocast(device), torch.inference_mode():
        for size in MATMUL_SIZES:
            a = torch.rand(size, size, device=device)
            rates.append(2 * size**3 / fastest(partial(_multiply, a), repeats))

        layer = _largest_convolution(shape, width)
        net = nn.Sequential(layer)
        net.spatial_dims = len(shape)  # type: ignore[assignment]
        net = execution.place(net, device)
        half_size = [-(-length // 8) * 4 for length in shape]
        x = execution.place(torch.rand(1, layer.in_channels, *half_size), device)
        work = 2 * layer.weight.numel() * x[0, 0].numel()
        rates.append(work / fastest(partial(_pass, net, x), repeats))
    return max(rates) / 1e9


def _largest_convolution(shape: Sequence[int], width: int) -> nn.Conv2d | nn.Conv3d:
    """The 5x5x5 convolution of twice the width on as many channels, which the path at half size ends with."""
    net = build_network(LARGEST, width, len(shape))
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    return max(convolutions, key=lambda layer: layer.weight.numel())


def _placed(
    variant: str, shape: Sequence[int], execution: Execution, width: int, checkpointing: bool = False
) -> nn.Module:
    """A network with random weights, on the machine's device."""
    # what is kept to be faster would count as memory of a step that saves it
    device = execution.accelerator(keep_memory=not checkpointing).device
    net = build_network(variant, width, len(shape), activation_checkpointing=checkpointing)
    return execution.place(net, device)


def _forward_seconds(net: nn.Module, shape: Sequence[int], execution: Execution, repeats: int) -> float:
    device = next(net.parameters()).device
    x = execution.place(torch.rand(1, 1, *shape), device)
    with inference(net), execution.autocast(device):
        return fastest(partial(_pass, net, x, with_attention=False), repeats)


def _loss(output: SegmentorOutput, label: Tensor) -> Tensor:
    return composite_loss(output, label)[0]


def _pass(net: nn.Module, x: Tensor, **options: bool) -> None:
    net(x, **options)
    wait_for(x.device)


def _multiply(a: Tensor) -> None:
    _ = a @ a
    wait_for(a.device)


def _forward_cost(
    variant: str, shape: tuple[int, ...], execution: Execution, width: int, repeats: int
) -> tuple[float, float]:
    net = _placed(variant, shape, execution, width)
    return _forward_seconds(net, shape, execution, repeats), _peak_memory_gb()


def _training_cost(
    shape: tuple[int, ...], execution: Execution, width: int, checkpointing: bool
) -> tuple[float, float]:
    net = _placed(LARGEST, shape, execution, width, checkpointing)
    return step_seconds(net, execution, (1, 1, *shape), _loss), _peak_memory_gb()


def _segmentation_cost(
    variant: str, image: Path, head: Path, execution: Execution, width: int, scale: float
) -> dict[str, float]:
    """A row of `segmentation_time`."""
    segmentor = _untrained(variant, execution, width, scale)
    cascade = segmentor.cascade
    network, true_head = cascade.probability, cascade.read(read_volume(head)).array
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Result], *arguments: object) -> Result:
        start = time.perf_counter()
        result = work(*arguments)
        spent[name] = time.perf_counter() - start
        return result

    def probability(prepared: Array) -> Array:
        timed("network", network, prepared)
        return true_head

    cascade.probability = probability  # type: ignore[assignment, method-assign]
    volume = timed("read", read_volume, image)
    result = timed("segment", segmentor.segment, volume)
    timed("write", write_volume, result.mask, image.with_name(f"{variant}.nii.gz"))

    total = spent["read"] + spent["segment"] + spent["write"]
    return {
        "levels": len(cascade.levels),
        "read": spent["read"],
        "network": spent["network"],
        "other": spent["segment"] - spent["network"],
        "write": spent["write"],
        "total": total,
        "network_share": spent["network"] / total,
        "memory_gb": _peak_memory_gb(),
    }


def _untrained(variant: str, execution: Execution, width: int, scale: float) -> Segmentor:
    """A segmentor with random weights that reads scans of `scale` times the paper's voxels as the paper's reads its own."""
    preparation = Preparation(spacing_mm=PAPER_NETWORK_SPACING_MM / scale)
    training = Training(width=width, steps=1, learning_rate=1e-5)
    levels = VARIANTS[variant].levels
    parameters = SegmentorParameters(variant, levels, 3, preparation, training, execution)
    return Segmentor(Cascade([build_network(variant, width) for _ in range(levels)], parameters))


def _peak_memory_gb() -> float:
    """Of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return peak_memory_gb()
