"""Boundary measures beside other tools: the same values, or the reason why not, and the time and memory they take.

The peers are MONAI, MedPy and DeepMind's surface-distance; those that are not installed are left out and named.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fhlib.images.volume import Mask
from fhlib.measures.metrics import evaluate

try:
    import resource
except ModuleNotFoundError:  # Windows has no such module: memory is then not measured
    resource = None  # type: ignore[assignment]

Values = dict[str, float]
PACKAGES = {"fhlib": "fhlib", "MONAI": "monai", "surface-distance": "surface_distance", "MedPy": "medpy"}
WHY = {
    ("MONAI", "hdb_mm"): "the same definition",
    ("MONAI", "adb_mm"): "the same definition: the points of both surfaces are pooled",
    ("MONAI", "hd95_mm"): "the same definition: the larger of two directed percentiles",
    ("MedPy", "hdb_mm"): "the same definition",
    ("MedPy", "adb_mm"): "the same definition in current versions; older ones averaged two directed means",
    ("MedPy", "hd95_mm"): "the percentile of the pooled distances, so at or below the larger directed one",
    (
        "surface-distance",
        "hdb_mm",
    ): "between corners of voxels, not their centres: differs by a voxel's diagonal at most",
    (
        "surface-distance",
        "adb_mm",
    ): "the mean of two directed means, elements weighted by area and denser on stairs: shorter by a part of a voxel",
    ("surface-distance", "hd95_mm"): "the larger of two directed percentiles, over elements weighted by area",
}


def compare_tools(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> pd.DataFrame:
    """Hausdorff distance, average distance and HD95 (mm) of one pair by every installed tool: measure, tool, value, fhlib, difference,
    why. Masks must not be empty.
    """
    ours = _fhlib(prediction, reference, spacing_mm)
    rows = []
    for tool in installed()[1:]:
        for measure, value in TOOLS[tool](prediction, reference, spacing_mm).items():
            rows.append(
                {
                    "measure": measure,
                    "tool": tool,
                    "value": value,
                    "fhlib": ours[measure],
                    "difference": value - ours[measure],
                    "why": WHY[tool, measure],
                }
            )
    return pd.DataFrame(rows, columns=["measure", "tool", "value", "fhlib", "difference", "why"])


def time_tools(shape: Sequence[int] = (440, 258, 388), spacing_mm: float = 0.38, repeats: int = 3) -> pd.DataFrame:
    """Seconds (median and SD of `repeats`) and peak memory (GB, beyond the masks) of every installed tool on one pair of ellipsoids.

    Each tool runs in a process of its own. `ratio` is its time over fhlib's in this run, which travels between machines better than
    seconds. fhlib computes all its measures, the others Hausdorff and average distance.
    """
    rows = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for tool in installed():
            seconds, memory_gb, values = pool.submit(_time, tool, tuple(shape), spacing_mm, repeats).result()
            spread = float(np.std(seconds, ddof=1)) if repeats > 1 else float("nan")
            rows.append(
                {
                    "tool": tool,
                    "seconds": float(np.median(seconds)),
                    "seconds_sd": spread,
                    "memory_gb": memory_gb,
                    **values,
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["seconds"] / table["seconds"].iloc[0])


def installed() -> list[str]:
    """Names of the tools that can be imported, fhlib first."""
    return [tool for tool, package in PACKAGES.items() if importlib.util.find_spec(package)]


def ellipsoids(shape: Sequence[int]) -> tuple[Mask, Mask]:
    """Two overlapping ellipsoids that take most of the array: prediction and reference."""
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    pair = np.empty((2, *shape), bool)  # filled plane by plane, so that making it takes no more memory than it does
    for plane, height in enumerate(z):
        pair[0, plane] = ((height - 0.02) / 0.60) ** 2 + (y[:, None] / 0.72) ** 2 + ((x + 0.01) / 0.63) ** 2 < 1
        pair[1, plane] = (height / 0.62) ** 2 + ((y[:, None] - 0.02) / 0.70) ** 2 + (x / 0.64) ** 2 < 1
    return pair[0], pair[1]


def _time(tool: str, shape: tuple[int, ...], spacing_mm: float, repeats: int) -> tuple[list[float], float, Values]:
    small = ellipsoids((24, 24, 24))
    TOOLS[tool](*small, (spacing_mm,) * 3)  # imports are not timed
    pair, before, seconds = ellipsoids(shape), peak_memory_gb(), []
    values: Values = {}
    for _ in range(repeats):
        start = time.perf_counter()
        values = TOOLS[tool](*pair, (spacing_mm,) * 3, distances_only=True)
        seconds.append(time.perf_counter() - start)
    return seconds, peak_memory_gb() - before, values


def peak_memory_gb() -> float:
    """Peak memory of this process. Not `ru_maxrss` where there is /proc: on Linux that one begins at the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e6  # type: ignore[index]
    bytes_a_unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_a_unit / 1e9 if resource else float("nan")


def _fhlib(prediction: Mask, reference: Mask, spacing_mm: Sequence[float], distances_only: bool = False) -> Values:
    scores = evaluate(prediction, reference, spacing_mm).asdict()
    return {name: scores[name] for name in ("hdb_mm", "adb_mm", "hd95_mm")[: 2 if distances_only else 3]}


def _monai(prediction: Mask, reference: Mask, spacing_mm: Sequence[float], distances_only: bool = False) -> Values:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    first, second = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    options: dict[str, Any] = {"include_background": True, "spacing": [float(mm) for mm in spacing_mm]}
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    found = {
        "hdb_mm": float(compute_hausdorff_distance(first, second, **options)),
        "adb_mm": float(compute_average_surface_distance(first, second, symmetric=True, **options)),
    }
    if not distances_only:
        found["hd95_mm"] = float(compute_hausdorff_distance(first, second, percentile=95, **options))
    return found


def _medpy(prediction: Mask, reference: Mask, spacing_mm: Sequence[float], distances_only: bool = False) -> Values:
    from medpy.metric import binary

    found = {
        "hdb_mm": binary.hd(prediction, reference, spacing_mm),
        "adb_mm": binary.assd(prediction, reference, spacing_mm),
    }
    if not distances_only:
        found["hd95_mm"] = binary.hd95(prediction, reference, spacing_mm)
    return {name: float(value) for name, value in found.items()}


def _surface_distance(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float], distances_only: bool = False
) -> Values:
    import surface_distance

    found = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    values = {
        "hdb_mm": surface_distance.compute_robust_hausdorff(found, 100),
        "adb_mm": np.mean(surface_distance.compute_average_surface_distance(found)),
    }
    if not distances_only:
        values["hd95_mm"] = surface_distance.compute_robust_hausdorff(found, 95)
    return {name: float(value) for name, value in values.items()}


TOOLS: dict[str, Callable[..., Values]] = {
    "fhlib": _fhlib,
    "MONAI": _monai,
    "surface-distance": _surface_distance,
    "MedPy": _medpy,
}
