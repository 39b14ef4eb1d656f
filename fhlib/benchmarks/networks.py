"""What the networks cost on the machine at hand, beside peers: operations, seconds, memory, and what half precision changes.

Seconds inform; ratios within one run travel between machines. Peak memory is that of a fresh process, or of the GPU
where there is one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from fhlib.benchmarks.throughput import LARGEST, forward_seconds, loss_of, operations, placed
from fhlib.benchmarks.tools import peak_memory_gb
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Array
from fhlib.measures.metrics import dice
from fhlib.models.cascade import Cascade, Reading, reads_slices
from fhlib.models.device import Execution, step_seconds
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network, parameter_count
from fhlib.phantom.scan import simulate_scan
from fhlib.presets import PAPER_NETWORK_SPACING_MM, Prediction, Preparation, Training
from fhlib.segmentation.segmentor import Segmentor
from fhlib.variants import VARIANTS

PAPER_SPACING_MM = 0.38
Result = TypeVar("Result")


def in_fresh_process(work: Callable[..., Result], *arguments: object) -> Result:
    """Call a function of a module in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


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


def compare_precisions(cascade: Cascade, reading: Reading) -> dict[str, float]:
    """The same weights in fp32 and bf16 on what is read of one scan: largest difference of the probability, DSC of the two masks."""
    context = None if reading.context is None else reading.context.array
    found = []
    for precision in ("no", "bf16"):
        execution = Execution(precision, cascade.execution.channels_last, cascade.execution.threads)
        again = Cascade(cascade.levels, cascade.parameters, execution)
        found.append(again.probability(reading.image.array, context=context))
    first, second = (probability >= Prediction().threshold for probability in found)
    return {"largest_difference": float(np.abs(found[0] - found[1]).max()), "dsc": dice(first, second)}


def _forward_cost(
    variant: str, shape: tuple[int, ...], execution: Execution, width: int, repeats: int
) -> tuple[float, float]:
    net = placed(variant, shape, execution, width)
    return forward_seconds(net, (1, 1, *shape), execution, repeats), _peak_memory_gb()


def _training_cost(
    shape: tuple[int, ...], execution: Execution, width: int, checkpointing: bool
) -> tuple[float, float]:
    net = placed(LARGEST, shape, execution, width, checkpointing)
    return step_seconds(net, execution, (1, 1, *shape), loss_of), _peak_memory_gb()


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

    def probability(prepared: Array, context: None = None) -> Array:
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
