"""Where and how the network runs: device, precision, memory format. The only place that knows about hardware.

Accelerate chooses the device (CPU, one or several GPUs). Precision and memory format are chosen by a short measurement. The choice is
recorded with the run and kept on resume, so that a resumed run gives the same numbers.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from fhlib.files import read_json, sole, write_json
from fhlib.networks.usegnet import SegmentorOutput

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY_FORMAT = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Execution:
    """`precision`: `no` (fp32), `bf16` or `fp16`. `channels_last`: memory format. `threads`: of the CPU, 0 for PyTorch's default."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    precision: Annotated[str, Field(pattern="^(no|bf16|fp16)$")] = "no"
    channels_last: bool = False
    threads: Annotated[int, Field(ge=0, le=4096)] = 0

    def here(self) -> Execution:
        """How weights that were trained so run here: a GPU's own way; on a processor bf16 only where it has it, fp32 for a GPU's fp16;
        with PyTorch's threads.
        """
        if torch.cuda.is_available():
            return _on_gpu()
        slow = self.precision == "fp16" or (self.precision == "bf16" and not has_bf16())
        return replace(self, precision="no" if slow else self.precision, threads=0)

    def accelerator(self, keep_memory: bool = True, **options: Any) -> Accelerator:
        """A fresh accelerator with this precision (one process may train and predict with different ones).

        Args:
            keep_memory: on a CPU, be faster with more memory at the peak (`_keep_freed_memory`).
            options: more of Accelerator's own.
        """
        if self.threads and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        AcceleratorState._reset_state()
        accelerator = Accelerator(mixed_precision=self.precision, **options)
        if keep_memory and accelerator.device.type == "cpu":
            _keep_freed_memory()
        return accelerator

    def autocast(self, device: torch.device) -> torch.autocast:
        """This precision's context. Not the accelerator's: that one follows whichever was made last in the process."""
        return torch.autocast(device.type, HALF.get(self.precision), enabled=self.precision in HALF)

    def place(self, x: Tensor | nn.Module, device: torch.device) -> Any:
        """Move a (b, c, ...) tensor or a network to the device in this memory format, without a copy where none is needed."""
        dims = x.dim() - 2 if isinstance(x, Tensor) else int(x.spatial_dims)  # type: ignore[arg-type]
        layout = MEMORY_FORMAT[dims] if self.channels_last else torch.contiguous_format
        return x.to(device, memory_format=layout, non_blocking=True)  # type: ignore[call-overload]


def process_group() -> PartialState:
    """The processes that `accelerate launch` started together, or this one alone.

    Made by itself, Accelerate's state does not look whether they were launched for the CPU, and takes each for alone.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


@cache
def _keep_freed_memory() -> None:
    """Have glibc keep what freed tensors held for the next ones.

    By default it takes each large tensor from the system anew. At the paper's size the zeroing of its pages costs a fifth of a forward pass
    and a third of a training step. Kept memory costs some peak memory instead.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, largest = -1, -3, 2**31 - 1  # from glibc's malloc.h
        mallopt(mmap_threshold, largest)
        mallopt(trim_threshold, largest)


def choose_execution(
    record: Path, build: Callable[[], nn.Module], shape: tuple[int, ...], batch_size: int = 1
) -> Execution:
    """The fastest way to train on this machine, by measurement.

    On a CPU both memory formats compete by the time of a training step, in fp32 and in bf16 where the processor has it.
    On a GPU nothing is measured: bf16 where it computes in it, else fp16.

    Args:
        record: a JSON file that keeps the choice; one that stands there already is taken.
        build: makes the network that is timed.
        shape: of a typical input, (d, h, w) or (h, w).
        batch_size: how many of them a step takes.
    """
    key = f"{len(shape)}D, batches of {batch_size}, on {_machine()}"
    busy = "another training measures this machine: waiting for it"
    with sole(record.with_name(f".{record.name}.lock"), busy, wait=True):  # on a cluster trainings begin side by side
        known = read_json(record) if record.exists() else {}
        if key not in known:
            known[key] = _measured(build, shape, batch_size)
            write_json(known, record)
    return Execution(**known[key]["chosen"])


def _measured(build: Callable[[], nn.Module], shape: tuple[int, ...], batch_size: int) -> dict[str, Any]:
    """The way to train here, and the seconds of a step by each that was tried."""
    seconds: dict[str, float] = {}
    if torch.cuda.is_available():
        chosen = _on_gpu()
    elif Execution().accelerator().device.type != "cpu":
        chosen = Execution()  # another accelerator: the format that all of them have
    else:
        threads = torch.get_num_threads()
        precisions = ("no", "bf16") if has_bf16() else ("no",)
        candidates = [Execution(p, layout, threads) for p in precisions for layout in (False, True)]
        timed = {}
        for candidate in candidates:
            net = candidate.place(build(), torch.device("cpu"))
            timed[candidate] = step_seconds(net, candidate, (batch_size, 1, *shape), _mean_square, repeats=4)
        seconds = {
            f"{c.precision}, {'channels last' if c.channels_last else 'contiguous'}": round(s, 4)
            for c, s in timed.items()
        }
        chosen = min(timed, key=lambda candidate: timed[candidate])
    return {"chosen": asdict(chosen), "seconds_a_step": seconds}


def _machine() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU ({torch.backends.cpu.get_cpu_capability()})"
    )


def _on_gpu() -> Execution:
    """bf16 where the GPU computes in it (older ones only emulate it), else fp16."""
    fast = torch.cuda.is_bf16_supported(including_emulation=False)
    return Execution("bf16" if fast else "fp16", channels_last=True)


def has_bf16() -> bool:
    """Whether the processor has instructions for bf16; emulated it is many times slower.

    No measurement: it must not depend on the load. Older versions of PyTorch do not tell, and then it is taken to have none.
    """
    tell = getattr(torch.cpu, "get_capabilities", dict)
    return any(found is True for name, found in tell().items() if "bf16" in name)


def _mean_square(output: SegmentorOutput, label: Tensor) -> Tensor:
    """A loss that costs next to nothing, so that the network alone is timed."""
    return output.logits.float().square().mean()


def step_seconds(
    net: nn.Module,
    execution: Execution,
    shape: Sequence[int],
    loss: Callable[[SegmentorOutput, Tensor], Tensor],
    repeats: int = 2,
) -> float:
    """Seconds of the fastest training step on random numbers: forward pass, loss, gradients, optimiser.

    Args:
        net: on its device, in the memory format of `execution`.
        execution: precision and memory format.
        shape: of the input, (b, 1, d, h, w) or (b, 1, h, w).
        loss: of the network's output and a label of 0 and 1, (b, d, h, w) or (b, h, w).
        repeats: how many steps; at least 2, since the first one also fills caches.
    """
    device = next(net.parameters()).device
    x = execution.place(torch.rand(*shape), device)
    label = (x[:, 0] > 0.5).to(torch.uint8)
    optimiser = torch.optim.Adam(net.parameters(), 1e-5)

    def step() -> None:
        with execution.autocast(device):
            output = net(x, with_attention=False)
        loss(output, label).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        wait_for(device)

    return fastest(step, repeats)


def wait_for(device: torch.device) -> None:
    """Return when a GPU has done what it was told; a processor has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fastest(work: Callable[[], Any], repeats: int = 3) -> float:
    """Seconds of the fastest of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@contextmanager
def inference(net: nn.Module) -> Iterator[None]:
    """No gradients, evaluation mode; the network's mode is restored."""
    was_training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        net.train(was_training)
