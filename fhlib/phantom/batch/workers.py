"""Simulate in parallel: a process a processor, each with one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TypeVar

from fhlib.files import progress

MEMORY_A_VOXEL = 30  # measured at 0.38 mm: 25 at the peak

Task = TypeVar("Task")


def in_processes(work: Callable[[Task], object], tasks: Sequence[Task], workers: int, total: int) -> None:
    """Work through the tasks in this process or in `workers` fresh ones; the first error stops what has not begun.

    Args:
        work: done with each task; what it makes, it writes.
        tasks: what is left to do.
        workers: processes; with 1 it is this one.
        total: of the progress bar, with what was done before.
    """
    with progress(range(total), "simulating scans", total=total, initial=total - len(tasks)) as bar:
        if workers == 1:
            for task in tasks:
                work(task)
                bar.update()
            return
        with _single_threaded(), ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent) as pool:
            futures = [pool.submit(work, task) for task in tasks]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _end_with_parent() -> None:
    """A killed parent leaves its workers waiting for ever: each holds an end of the pipe that all wait at."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """One BLAS, OpenMP and ITK thread in processes started meanwhile: they share the processors already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def default_workers(voxels: float) -> int:
    """One a processor that this process may use, as far as the free memory goes for scans of so many voxels."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return processors
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(processors, int(free / (voxels * MEMORY_A_VOXEL + 5e8))))
