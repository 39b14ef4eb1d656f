"""Is this machine ready, and how long will a preset take on it?"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import time

import numpy as np
import pandas as pd
import torch

from fhlib.models.device import Execution, has_bf16, step_seconds
from fhlib.models.inputs import network_spacing_mm
from fhlib.networks.build import build_network
from fhlib.phantom.scan import simulate_scan
from fhlib.presets import Preset
from fhlib.training.losses import composite_loss
from fhlib.variants import VARIANTS, trained_levels

NEEDED = (
    "torch",
    "SimpleITK",
    "monai",
    "accelerate",
    "safetensors",
    "pydantic",
    "pandera",
    "papermill",
    "nbconvert",
    "jupyterlab",
    "ipywidgets",
    "snakemake",
    "seaborn",
    "statsmodels",
)
PAPER_BOX_MM = (98.0, 147.4, 167.2)
LARGEST_TRIAL = (32, 48, 56)
"""Size of the timed volume (voxels); larger ones are scaled from it by their number of voxels."""
PREDICTED_SHARE = 0.35
"""A forward pass against a training step; about 1/3 by operations."""
TRIED_SCAN_MM = 2.0
"""Finest spacing at which a scan is simulated to time it; finer ones are scaled from it by their number of voxels."""
SIMPLE_STEPS = {
    "02_prepare": (3.0, 0.06),
    "04_predict": (8.0, 0.05),
    "05_accuracy": (10.0, 0.2),
    "06_agreement": (12.0, 0.0),
    "07_reproducibility": (10.0, 0.0),
    "08_attention": (28.0, 0.2),
    "09_claims": (16.0, 0.0),
    "10_segment": (9.0, 0.0),
    "report": (10.0, 0.0),
}
"""Seconds of a step on two quiet cores, and of each scan in it, beside those of the network. They are corrected as a run goes."""


GROWTH_SECONDS = {"15_growth": 20.0, "16_longitudinal": 14.0}
"""The same of those that a preset with `growth_subjects` has; of 1,000."""
ABLATION_SECONDS = 12.0
"""The same of 13_ablation, which a run of several seeds has."""


def check_environment() -> pd.DataFrame:
    """Versions of the packages that the study needs, and the device; a missing package is named with its remedy."""
    rows = [("python", platform.python_version(), "3.11 to 3.13 are tested")]
    for package in NEEDED:
        try:
            rows.append((package, importlib.metadata.version(package), ""))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, "missing", "install with: make install"))
    if torch.cuda.is_available():
        rows.append(("GPU", torch.cuda.get_device_name(), ""))
    else:
        rows.append(("GPU", "none", "the quick and desk presets need none"))
    rows.append(("CPU", f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}", ""))
    return pd.DataFrame(rows, columns=["what", "found", "remark"])


def measure_machine(preset: Preset) -> pd.DataFrame:
    """Seconds a volume in a training step of this preset's networks (3D), timed on random numbers, in batches as the preset's.

    A row for a network without and one for a network with attention: network, shape, seconds_a_volume.
    """
    shape = network_shape(preset)
    trial = tuple(np.minimum(shape, LARGEST_TRIAL).tolist())
    scale = math.prod(shape) / math.prod(trial)
    # small volumes share what a step costs anyway; of larger ones a single one is tried, for the memory's sake
    batch = preset.training.batch_size if trial == tuple(shape) else 1
    rows = []
    for name in ("USegNet-DS", "USegNet-DS-HAS"):
        seconds = _step_seconds(name, preset.training.width, (batch, 1, *trial)) / batch * scale
        rows.append({"network": name, "shape": "x".join(map(str, shape)), "seconds_a_volume": seconds})
    return pd.DataFrame(rows)


def expected_minutes(preset: Preset, machine: pd.DataFrame) -> pd.DataFrame:
    """Minutes of the networks alone, a row a trained level: variant, level, training, predicting, minutes (their sum).

    Competitors count as networks without attention. `expected_steps` adds reading, simulating, scoring and drawing.

    Args:
        preset: says what is trained.
        machine: of `measure_machine`.
    """
    seconds = machine.set_index("network")["seconds_a_volume"]
    cohort = preset.simulated_cohort
    scans = cohort.test_subjects + 3 * cohort.reproducibility_subjects
    rows = []
    for name, level in trained_levels(preset.variants):
        variant = VARIANTS[name]
        attention = variant.has_attention
        volume = seconds["USegNet-DS-HAS" if attention else "USegNet-DS"]
        # a second level trains on contexts that networks of the first give, one for each fold
        folds = preset.training.context_folds if level > 1 else 0
        steps: float = preset.training.steps * (1 + folds)
        if preset.tuning:
            steps += preset.tuning.total_steps
        # at half the resolution a volume has an eighth of the voxels
        steps *= 1 - preset.training.half_resolution_share * (1 - 1 / 8)
        training = steps * preset.training.batch_size * volume
        predicting = scans * level * PREDICTED_SHARE * volume
        minutes = {"training": training / 60, "predicting": predicting / 60, "minutes": (training + predicting) / 60}
        rows.append({"variant": name, "level": level, **minutes})
    return pd.DataFrame(rows)


def scan_seconds(preset: Preset) -> float:
    """Seconds to simulate one scan of the preset's cohort with one processor core, timed on one."""
    spec = preset.simulated_cohort
    tried = max(spec.spacing_mm, TRIED_SCAN_MM)
    start = time.perf_counter()
    simulate_scan(1, ga_weeks=25, scan_direction="from the side", spacing_mm=tried)
    return (time.perf_counter() - start) * (tried / spec.spacing_mm) ** 3


def expected_steps(preset: Preset, machine: pd.DataFrame, seconds_a_scan: float) -> pd.DataFrame:
    """Seconds that each step of a study will take, a row a step: step (`03_train USegNet-DS 1`), seconds.

    Args:
        preset: says what is done. Scans of a user's own are counted as if they were as many as the preset simulates.
        machine: of `measure_machine`.
        seconds_a_scan: of `scan_seconds`; 0 where no scan is simulated.
    """
    cohort = preset.simulated_cohort
    tested = cohort.test_subjects + 3 * cohort.reproducibility_subjects
    scans = cohort.train_subjects + tested
    seconds = {"01_cohort": 20 + scans * (seconds_a_scan / (os.cpu_count() or 1) + 0.2)}
    levels = expected_minutes(preset, machine)
    predicting = levels.groupby("variant", sort=False)["predicting"].sum()
    for seed in ["", *(f" seed {seed}" for seed in preset.further_seeds)]:
        for row in levels.itertuples():
            seconds[f"03_train {row.variant} {row.level}{seed}"] = 10 + 60 * row.training
        for variant in preset.variants:
            fixed, each = SIMPLE_STEPS["04_predict"]
            seconds[f"04_predict {variant}{seed}"] = fixed + each * tested + 60 * predicting.get(variant, 0.0)
    counts = {"02_prepare": cohort.train_subjects, "05_accuracy": tested * len(preset.variants), "08_attention": tested}
    for step, (fixed, each) in SIMPLE_STEPS.items():
        if step != "04_predict":
            seconds[step] = fixed + each * counts.get(step, 0)
    for further in preset.further_seeds:
        seconds[f"05_accuracy seed {further}"] = seconds["05_accuracy"]
        seconds["13_ablation"] = ABLATION_SECONDS
    if preset.growth_subjects:
        seconds |= GROWTH_SECONDS
    return pd.DataFrame({"step": seconds.keys(), "seconds": seconds.values()})


def network_shape(preset: Preset) -> tuple[int, ...]:
    """Size (d, h, w) that the network reads of the paper's box in this preset, padded to multiples of 8."""
    spacing = network_spacing_mm(preset.preparation, PAPER_BOX_MM)
    return tuple(-(-round(size / spacing) // 8) * 8 for size in PAPER_BOX_MM)


def _step_seconds(variant: str, width: int, shape: tuple[int, ...]) -> float:
    on_cpu = not torch.cuda.is_available()
    execution = Execution("bf16" if on_cpu and has_bf16() else "no", channels_last=True)
    net = execution.place(build_network(variant, width), execution.accelerator().device)
    return step_seconds(net, execution, shape, lambda output, label: composite_loss(output, label)[0])
