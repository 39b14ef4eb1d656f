"""What the networks cost on the machine at hand, beside peers: operations, the share of the processor's peak, seconds, memory, and what
half precision changes.

Seconds inform; ratios within one run travel between machines. Peak memory is that of a fresh process, or of the GPU where there is one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fhlib.benchmarks import tools as benchmark
from fhlib.images.formats import read_volume, write_volume
from fhlib.measures.metrics import dice
from fhlib.models.cascade import Cascade, reads_slices
from fhlib.models.device import Execution, fastest, inference
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network
from fhlib.phantom.scan import simulate_scan
from fhlib.presets import PAPER_NETWORK_SPACING_MM, Prediction, Preparation, Training
from fhlib.segmentation.segmentor import Segmentor
from fhlib.training.losses import composite_loss
from fhlib.variants import VARIANTS

PAPER_SPACING_MM = 0.38
MATMUL_SIZES = (1024, 2048, 4096)
TRAINING_OVER_FORWARD = 3.0
"""Operations of a training step over those of a forward pass: the gradients of inputs and of weights cost as much each."""
Result = TypeVar("Result")


def operations(variant: str, shape: Sequence[int], width: int = 32) -> float:
    """Floating-point operations of one forward pass (a multiplication and an addition are two), without computing anything."""
    net = build_network(variant, width, len(shape)).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 1, *shape, device="meta"))
    return float(counter.get_total_flops())


def in_fresh_process(work: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a module in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def efficiency(shape: Sequence[int], execution: Execution, width: int = 32, repeats: int = 3) -> pd.DataFrame:
    """Achieved operations a second of USegNet-DS-HAS over the machine's peak, all in one precision and one run.

    Rows `forward` and `training step`: what, gflop, seconds (the fastest of `repeats`), gflops, peak_gflops (the best of matrix products
    and of the network's own largest convolution), share.
    """
    peak = _peak_gflops(shape, execution, width, repeats)
    forward = operations("USegNet-DS-HAS", shape, width) / 1e9
    step, look = _training_step("USegNet-DS-HAS", shape, execution, width), _forward(shape, execution, width)
    rows = []
    for what, gflop, work in (("forward", forward, look), ("training step", TRAINING_OVER_FORWARD * forward, step)):
        seconds = fastest(work, repeats)
        rows.append(
            {
                "what": what,
                "gflop": gflop,
                "seconds": seconds,
                "gflops": gflop / seconds,
                "peak_gflops": peak,
                "share": gflop / seconds / peak,
            }
        )
    return pd.DataFrame(rows)


def costs(
    variants: Sequence[str], shape: Sequence[int], execution: Execution, width: int = 32, repeats: int = 2
) -> pd.DataFrame:
    """What each network costs at one size: variant, parameters, gflop and seconds of a forward pass, memory_gb (peak of the process),
    seconds_ratio (over the first variant's). Raises ValueError for a variant that reads patches or slices, and so passes many times.
    """
    pieces = [name for name in variants if VARIANTS[name].patch or reads_slices(name, len(shape))]
    if pieces:
        raise ValueError(
            f"{', '.join(pieces)} read a volume in pieces: one forward pass does not tell what they cost; leave them out"
        )
    rows = []
    for variant in variants:
        net = build_network(variant, width, len(shape))
        seconds, memory_gb = in_fresh_process(_forward_cost, variant, tuple(shape), execution, width, repeats)
        rows.append(
            {
                "variant": variant,
                "parameters": sum(p.numel() for p in net.parameters()),
                "gflop": operations(variant, shape, width) / 1e9,
                "seconds": seconds,
                "memory_gb": memory_gb,
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(seconds_ratio=table["seconds"] / table["seconds"].iloc[0])


def training_memory(shape: Sequence[int], execution: Execution, width: int = 32) -> pd.DataFrame:
    """Peak memory (GB) of one training step of USegNet-DS-HAS, without and with activation checkpointing, and its seconds."""
    rows = []
    for checkpointing in (False, True):
        seconds, memory_gb = in_fresh_process(_training_cost, tuple(shape), execution, width, checkpointing)
        rows.append({"activation_checkpointing": checkpointing, "memory_gb": memory_gb, "seconds": seconds})
    return pd.DataFrame(rows)


def segmentation_time(execution: Execution, width: int = 32, scale: float = 1.0) -> pd.DataFrame:
    """Seconds from a file to a written mask of a simulated scan of the paper's size (times `scale` along each axis), by step.

    A row for one level and one for the cascade: levels, read, network, other (resampling, thresholds, components, flags), write, total,
    network_share, memory_gb (peak of the process). Weights are random; what they find is exchanged for the true head, because noise would
    take longer than a head to clean and to write.
    """
    scan = simulate_scan(3, spacing_mm=PAPER_SPACING_MM / scale)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nrrd"
        write_volume(scan.image, path)
        write_volume(scan.label, path.with_name("head.nrrd"))
        rows = [
            in_fresh_process(_segmentation_cost, variant, path, execution, width, scale)
            for variant in ("USegNet-DS-HAS", "USegNet-DS-HAS-Ctx")
        ]
    return pd.DataFrame(rows)


def compare_precisions(cascade: Cascade, image: np.ndarray[Any, Any]) -> dict[str, float]:
    """The same weights in fp32 and bf16 on one prepared image: largest difference of the probability, DSC of the two masks."""
    found = []
    for precision in ("no", "bf16"):
        execution = Execution(precision, cascade.execution.channels_last, cascade.execution.threads)
        again = Cascade(cascade.levels, cascade.parameters, execution)
        found.append(again.probability(image))
    first, second = (probability >= Prediction().threshold for probability in found)
    return {"largest_difference": float(np.abs(found[0] - found[1]).max()), "dsc": dice(first, second)}


def _peak_gflops(shape: Sequence[int], execution: Execution, width: int, repeats: int) -> float:
    accelerator = execution.accelerator()
    rates = []
    for size in MATMUL_SIZES:
        a = torch.rand(size, size, device=accelerator.device)
        with execution.autocast(accelerator.device), torch.inference_mode():
            rates.append(2 * size**3 / fastest(partial(_multiply, a), repeats))
    layer = _largest_convolution(shape, width)
    x = torch.rand(1, layer.in_channels, *(-(-n // 8) * 4 for n in shape), device=accelerator.device)  # at half size
    net = nn.Sequential(layer)
    net.spatial_dims = len(shape)  # type: ignore[assignment]
    net, x = execution.place(net, accelerator.device), execution.place(x, accelerator.device)
    work = 2 * layer.weight.numel() * x[0, 0].numel()
    with execution.autocast(accelerator.device), torch.inference_mode():
        rates.append(work / fastest(lambda: _wait(net(x)), repeats))
    return max(rates) / 1e9


def _largest_convolution(shape: Sequence[int], width: int) -> Any:
    """The 5x5x5 convolution of twice the width on as many channels, which the path at half size ends with."""
    net = build_network("USegNet-DS-HAS", width, len(shape))
    return max((m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), key=lambda m: m.weight.numel())


def _forward(
    shape: Sequence[int], execution: Execution, width: int, variant: str = "USegNet-DS-HAS"
) -> Callable[[], None]:
    accelerator = execution.accelerator()
    net = execution.place(build_network(variant, width, len(shape)), accelerator.device)
    x = execution.place(torch.rand(1, 1, *shape), accelerator.device)

    def work() -> None:
        with inference(net), execution.autocast(accelerator.device):
            _wait(net(x, with_attention=False).logits)

    return work


def _training_step(
    variant: str, shape: Sequence[int], execution: Execution, width: int, checkpointing: bool = False
) -> Callable[[], None]:
    accelerator = execution.accelerator(keep_memory=not checkpointing)
    net = build_network(variant, width, len(shape), activation_checkpointing=checkpointing)
    net = execution.place(net, accelerator.device)
    optimiser = torch.optim.Adam(net.parameters(), 1e-5)
    x = execution.place(torch.rand(1, 1, *shape), accelerator.device)
    label = (x[:, 0] > 0.5).to(torch.uint8)

    def work() -> None:
        with execution.autocast(accelerator.device):
            output = net(x, with_attention=False)
        loss, _ = composite_loss(output, label)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _wait(loss.detach())

    return work


def _forward_cost(
    variant: str, shape: tuple[int, ...], execution: Execution, width: int, repeats: int
) -> tuple[float, float]:
    return fastest(_forward(shape, execution, width, variant), repeats), _peak_memory_gb()


def _training_cost(
    shape: tuple[int, ...], execution: Execution, width: int, checkpointing: bool
) -> tuple[float, float]:
    return fastest(_training_step("USegNet-DS-HAS", shape, execution, width, checkpointing), 2), _peak_memory_gb()


def _segmentation_cost(variant: str, path: Path, execution: Execution, width: int, scale: float) -> dict[str, Any]:
    preparation = Preparation(spacing_mm=PAPER_NETWORK_SPACING_MM / scale)
    training = Training(width=width, steps=1, learning_rate=1e-5)
    levels = VARIANTS[variant].levels
    parameters = SegmentorParameters(variant, levels, 3, preparation, training, execution)
    cascade = Cascade([build_network(variant, width) for _ in range(levels)], parameters)
    segmentor = Segmentor(cascade)
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Result], *arguments: Any) -> Result:
        start = time.perf_counter()
        result = work(*arguments)
        spent[name] = time.perf_counter() - start
        return result

    network = cascade.probability
    head = cascade.read(read_volume(path.with_name("head.nrrd"))).array

    def probability(image: Any) -> Any:
        timed("network", network, image)
        return head

    cascade.probability = probability  # type: ignore[assignment, method-assign]
    volume = timed("read", read_volume, path)
    result = timed("segment", segmentor.segment, volume)
    timed("write", write_volume, result.mask, path.with_name(f"{variant}.nii.gz"))
    total = spent["read"] + spent["segment"] + spent["write"]
    return {
        "levels": levels,
        "read": spent["read"],
        "network": spent["network"],
        "other": spent["segment"] - spent["network"],
        "write": spent["write"],
        "total": total,
        "network_share": spent["network"] / total,
        "memory_gb": _peak_memory_gb(),
    }


def _peak_memory_gb() -> float:
    """Of the GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else benchmark.peak_memory_gb()


def _multiply(a: Tensor) -> None:
    _wait(a @ a)


def _wait(result: Tensor) -> None:
    """Until a GPU has done what it was told."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
