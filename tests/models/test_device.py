"""Where and how a network runs: measured once, adapted to the machine at hand."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from fhlib.benchmarks.networks import (
    in_fresh_process,
)
from fhlib.models import device
from fhlib.models.device import Execution, choose_execution
from fhlib.networks.build import build_network


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or torch.cuda.is_available(), reason="glibc's allocator on a CPU")
def test_memory_of_a_freed_tensor_serves_the_next_without_new_pages():
    assert in_fresh_process(new_pages, False) > 10_000  # 80 MB in pages of 4 KB, or fewer larger ones
    assert in_fresh_process(new_pages, True) < 1_000


def new_pages(through_accelerator: bool) -> int:
    """Pages that the system gave for a large tensor after some of its size were freed."""
    if through_accelerator:
        Execution().accelerator()
    for _ in range(4):
        torch.ones(20_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_execution_is_measured_once_and_kept(tmp_path):
    built = []

    def build():
        built.append(1)
        return build_network("USegNet-DS", 4)

    first = choose_execution(tmp_path / "execution.json", build, (16, 8, 8))
    assert built and first.precision in ("no", "bf16", "fp16")
    built.clear()
    assert choose_execution(tmp_path / "execution.json", build, (16, 8, 8)) == first and not built


def test_weights_run_as_the_machine_at_hand_wants(monkeypatch):
    trained = Execution("no", False, 2)
    assert trained.here() == Execution("no", False, 0)
    monkeypatch.setattr(device, "has_bf16", lambda: False)
    assert Execution("bf16", True, 8).here() == Execution("no", True, 0)
    assert Execution("fp16", True, 0).here() == Execution("no", True, 0)  # a GPU's
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for computes, precision in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, it=computes: it)
        assert trained.here() == Execution(precision, True, 0)
