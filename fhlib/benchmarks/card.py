"""Is a GPU right, and how fast is it? Its masks and losses against the processor's, and its throughput."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fhlib.benchmarks.throughput import efficiency, peak_gflops
from fhlib.measures.metrics import dice
from fhlib.models.device import Execution
from fhlib.networks.build import build_network, initialise
from fhlib.training.losses import composite_loss

CHECKED = "USegNet-DS-HAS"
CHECK_WIDTH, CHECK_SHAPES = 8, {2: (72, 56), 3: (32, 16, 24)}
LARGEST_DIFFERENCE = {"no": 1e-4, "fp16": 0.02, "bf16": 0.05}
"""Of a loss from the processor's in single precision, as a share of it. Ours: rounding to 24, 11 and 8 bits, times some layers."""
LEAST_DSC = {"no": 0.999, "fp16": 0.99, "bf16": 0.98}


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name, memory and versions, for the tables of what was measured on it."""
    described: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    if device.type != "cuda":
        return {"device": f"CPU ({torch.backends.cpu.get_cpu_capability()})", **described}
    card = torch.cuda.get_device_properties(device)
    memory = {"device": card.name, "memory_gb": round(card.total_memory / 1e9, 1)}
    return {**memory, **described, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def check_device(device: torch.device, precisions: Sequence[str] = ("no", "bf16")) -> pd.DataFrame:
    """Loss, gradients and masks of USegNet-DS-HAS on a device beside the processor's in single precision.

    A small network learns a ball on the processor first, so that its mask is one. TF32 is off.

    Args:
        device: that is checked.
        precisions: of `Execution`.

    Returns:
        A row for 2D and 3D, each precision, without and with activation checkpointing: spatial_dims, precision,
        checkpointing, loss, reference_loss, loss_difference (a share of it), gradient_difference (of all gradients, as a
        share of their length), mask_dsc, right.
    """
    rows = []
    for dims, shape in CHECK_SHAPES.items():
        x, label = _ball(shape)
        learnt = _learnt(x, label)
        reference = _outcome(learnt, x, label, Execution())
        for precision, checkpointing in itertools.product(precisions, (False, True)):
            net = _network(dims, checkpointing)
            net.load_state_dict(learnt.state_dict())
            execution = Execution(precision, channels_last=True)
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                outcome = _outcome(
                    execution.place(net, device), execution.place(x, device), label.to(device), execution
                )
            rows.append({"spatial_dims": dims, "precision": precision, "checkpointing": checkpointing})
            rows[-1] |= _difference(outcome, reference, precision)
    return pd.DataFrame(rows)


def throughput(
    variants: Sequence[str],
    shape: Sequence[int],
    execution: Execution,
    width: int = 32,
    batches: Sequence[int] = (1,),
    compiled: Sequence[bool] = (False,),
    repeats: int = 5,
) -> pd.DataFrame:
    """`efficiency` of networks over batches, and compiled or not, against one measurement of the device's peak.

    Args:
        variants: of the networks.
        shape: of the input, (d, h, w) or (h, w).
        execution: precision and memory format.
        width: channels of the networks' first level.
        batches: volumes at once.
        compiled: whether by `torch.compile`.
        repeats: the fastest of so many counts; the first ones choose algorithms.

    Returns:
        The rows of `efficiency` with variant, batch, compiled, channels_last, precision, seconds_a_volume and memory_gb (peak of
        the device; NaN on a processor).
    """
    peak = peak_gflops(shape, execution, width, repeats)
    tables = []
    for variant, batch, by_compiler in itertools.product(variants, batches, compiled):
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            table = efficiency(shape, execution, width, repeats, variant, batch, peak, by_compiler)
        memory = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else np.nan
        how = {"variant": variant, "batch": batch, "compiled": by_compiler}
        how |= {"channels_last": execution.channels_last, "precision": execution.precision}
        tables.append(table.assign(**how, seconds_a_volume=table["seconds"] / batch, memory_gb=memory))
    found = pd.concat(tables, ignore_index=True)
    return found[[*how, *found.columns.difference(list(how), sort=False)]]


def survey(variants: Sequence[str], shape: Sequence[int], execution: Execution, width: int = 32) -> pd.DataFrame:
    """`throughput` in both memory formats, with batches of 1 and 2 and compiled: what the fastest way is."""
    other = replace(execution, channels_last=not execution.channels_last)
    return pd.concat(
        [
            throughput(variants, shape, execution, width, batches=(1, 2)),
            throughput(variants, shape, other, width),
            throughput(variants, shape, execution, width, compiled=(True,)),
        ],
        ignore_index=True,
    )


def _ball(shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A bright ball in noise, (1, 1, ...), and its label, (1, ...)."""
    random = np.random.default_rng(3)
    places = np.stack(np.meshgrid(*(np.arange(n) - n / 2.2 for n in shape), indexing="ij"))
    label = np.sqrt((places**2).sum(0)) < min(shape) / 3.3
    image = 0.35 * label + random.uniform(0, 0.6, shape)
    return torch.tensor(image[None, None], dtype=torch.float32), torch.tensor(label[None].astype(np.uint8))


def _network(dims: int, checkpointing: bool = False) -> nn.Module:
    return build_network(CHECKED, CHECK_WIDTH, dims, activation_checkpointing=checkpointing)


def _learnt(x: Tensor, label: Tensor, steps: int = 25) -> nn.Module:
    """A network that has learnt one image on the processor."""
    torch.manual_seed(0)
    net = _network(x.dim() - 2)
    initialise(net, "variance-preserving")
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        composite_loss(net(x), label)[0].backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return net


def _outcome(net: nn.Module, x: Tensor, label: Tensor, execution: Execution) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, all gradients in a row, mask."""
    with execution.autocast(x.device):
        output = net(x, with_attention=False)
    loss, _ = composite_loss(output, label)
    loss.backward()
    gradients = [
        parameter.grad.double().flatten().cpu() for parameter in net.parameters() if parameter.grad is not None
    ]
    return float(loss.detach()), torch.cat(gradients).numpy(), output.logits.detach().argmax(1).cpu().numpy() > 0


def _difference(outcome: tuple[Any, ...], reference: tuple[Any, ...], precision: str) -> dict[str, Any]:
    (loss, gradients, mask), (its_loss, its_gradients, its_mask) = outcome, reference
    difference, dsc = abs(loss - its_loss) / its_loss, dice(mask, its_mask)
    return {
        "loss": loss,
        "reference_loss": its_loss,
        "loss_difference": difference,
        "gradient_difference": float(np.linalg.norm(gradients - its_gradients) / np.linalg.norm(its_gradients)),
        "mask_dsc": dsc,
        "right": bool(difference <= LARGEST_DIFFERENCE[precision] and dsc >= LEAST_DSC[precision]),
    }
