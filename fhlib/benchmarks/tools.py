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
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import pandas as pd

from fhlib.images.volume import Mask
from fhlib.measures.metrics import evaluate

Values = dict[str, float]
Measures = dict[str, Callable[[], SupportsFloat]]
"""A tool's measures of one pair, each computed when it is called."""
MEASURES = ("hdb_mm", "adb_mm", "hd95_mm")
DISTANCES = ("hdb_mm", "adb_mm")
"""Measured by everyone when time counts."""
PACKAGES = {"fhlib": "fhlib", "MONAI": "monai", "surface-distance": "surface_distance", "MedPy": "medpy"}
WHY = {
    ("MONAI", "hdb_mm"): "the same definition",
    ("MONAI", "adb_mm"): "the same definition: the points of both surfaces are pooled",
    ("MONAI", "hd95_mm"): "the same definition: the larger of two directed percentiles",
    ("MedPy", "hdb_mm"): "the same definition",
    ("MedPy", "adb_mm"): "the same definition in current versions; older ones averaged two directed means",
    ("MedPy", "hd95_mm"): "the percentile of the pooled distances, so at or below the larger directed one",
    ("surface-distance", "hdb_mm"): (
        "between corners of voxels, not their centres: differs by a voxel's diagonal at most"
    ),
    ("surface-distance", "adb_mm"): (
        "the mean of two directed means, elements weighted by area and denser on stairs: shorter by a part of a voxel"
    ),
    ("surface-distance", "hd95_mm"): "the larger of two directed percentiles, over elements weighted by area",
}


def compare_tools(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> pd.DataFrame:
    """Hausdorff distance, average distance and HD95 (mm) of one pair by every installed tool.

    Args:
        prediction: a mask that is not empty.
        reference: another one of its shape.
        spacing_mm: one number an array axis.

    Returns:
        A row a tool and measure: measure, tool, value, fhlib, difference, why.
    """
    pair = prediction, reference
    ours = _values("fhlib", pair, spacing_mm, MEASURES)
    rows = []
    for tool in installed()[1:]:
        for measure, value in _values(tool, pair, spacing_mm, MEASURES).items():
            rows.append((measure, tool, value, ours[measure], value - ours[measure], WHY[tool, measure]))
    return pd.DataFrame(rows, columns=["measure", "tool", "value", "fhlib", "difference", "why"])


def time_tools(shape: Sequence[int] = (440, 258, 388), spacing_mm: float = 0.38, repeats: int = 3) -> pd.DataFrame:
    """Time and memory of every installed tool on one pair of ellipsoids, each in a process of its own.

    fhlib computes all its measures, the others Hausdorff and average distance.

    Args:
        shape: of the masks.
        spacing_mm: of the voxels, along all axes.
        repeats: how often each tool is timed.

    Returns:
        A row a tool: tool, seconds (median), seconds_sd, memory_gb (peak, beyond the masks), the distances, and ratio:
        its time over fhlib's, which travels between machines better than seconds.
    """
    rows = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for tool in installed():
            seconds, memory_gb, values = pool.submit(_time, tool, tuple(shape), spacing_mm, repeats).result()
            times = pd.Series(seconds)
            row = {"tool": tool, "seconds": times.median(), "seconds_sd": times.std(), "memory_gb": memory_gb}
            rows.append(row | values)
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
    """Seconds of each of `repeats` calls, the peak memory in GB beyond the masks, and the distances."""
    spacing = (spacing_mm,) * 3
    _values(tool, ellipsoids((24, 24, 24)), spacing, MEASURES)  # imports are not timed
    pair = ellipsoids(shape)
    before = peak_memory_gb()
    seconds: list[float] = []
    values: Values = {}
    for _ in range(repeats):
        start = time.perf_counter()
        values = _values(tool, pair, spacing, DISTANCES)
        seconds.append(time.perf_counter() - start)
    return seconds, peak_memory_gb() - before, values


def peak_memory_gb() -> float:
    """Peak memory of this process; NaN on Windows, which does not tell it so.

    Not `ru_maxrss` where there is /proc: on Linux that one begins at the parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e6  # type: ignore[index]
    try:
        import resource
    except ModuleNotFoundError:
        return float("nan")
    bytes_a_unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_a_unit / 1e9


def _values(tool: str, pair: tuple[Mask, Mask], spacing_mm: Sequence[float], names: Sequence[str]) -> Values:
    measures = TOOLS[tool](*pair, spacing_mm)
    return {name: float(measures[name]()) for name in names}


def _fhlib(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> Measures:
    scores = evaluate(prediction, reference, spacing_mm).asdict()
    return {name: partial(scores.__getitem__, name) for name in MEASURES}


def _monai(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> Measures:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    pair = torch.from_numpy(prediction)[None, None], torch.from_numpy(reference)[None, None]
    options: dict[str, Any] = {"include_background": True, "spacing": [float(mm) for mm in spacing_mm]}
    hausdorff = partial(compute_hausdorff_distance, *pair, **options)
    average = partial(compute_average_surface_distance, *pair, symmetric=True, **options)
    return {"hdb_mm": hausdorff, "adb_mm": average, "hd95_mm": partial(hausdorff, percentile=95)}


def _medpy(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> Measures:
    from medpy.metric import binary

    functions = {"hdb_mm": binary.hd, "adb_mm": binary.assd, "hd95_mm": binary.hd95}
    return {name: partial(function, prediction, reference, spacing_mm) for name, function in functions.items()}


def _surface_distance(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> Measures:
    import surface_distance

    found = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    hausdorff = partial(surface_distance.compute_robust_hausdorff, found)
    return {
        "hdb_mm": partial(hausdorff, 100),
        "adb_mm": lambda: np.mean(surface_distance.compute_average_surface_distance(found)),
        "hd95_mm": partial(hausdorff, 95),
    }


TOOLS: dict[str, Callable[[Mask, Mask, Sequence[float]], Measures]] = {
    "fhlib": _fhlib,
    "MONAI": _monai,
    "surface-distance": _surface_distance,
    "MedPy": _medpy,
}
