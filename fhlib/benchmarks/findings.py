"""11: sizes of the benchmark, what a run's networks cost beside their accuracy, and what was found in words."""

from __future__ import annotations

import pandas as pd

from fhlib.benchmarks.networks import compare_precisions, costs
from fhlib.files import write_csv
from fhlib.models.cascade import Cascade
from fhlib.models.device import Execution, choose_execution
from fhlib.models.weights import load_cascade
from fhlib.networks.build import build_network
from fhlib.phantom.scan import simulate_scan
from fhlib.study.run import Study
from fhlib.study.segment import UNSEEN_SEED
from fhlib.training.prepared import PreparedCases
from fhlib.variants import VARIANTS

PAPER_SHAPE = (440, 258, 388)
PAPER_NETWORK_SHAPE = (176, 104, 160)
LARGEST_COMPARED = 0.3
"""Share of the paper's size at which the tools' values are compared."""


def volume_shape(scale: float) -> tuple[int, ...]:
    """A share of the paper's volume along each axis."""
    return tuple(round(size * scale) for size in PAPER_SHAPE)


def scaled_network_shape(scale: float) -> tuple[int, ...]:
    """A share of what the paper's network reads along each axis, in multiples of 8."""
    return tuple(8 * max(2, round(size * scale / 8)) for size in PAPER_NETWORK_SHAPE)


def benchmark_execution(study: Study) -> Execution:
    """Precision and memory format, measured once and kept with the run."""
    record = study.folder / "benchmark_execution.json"
    return choose_execution(record, lambda: build_network("USegNet-DS-HAS", 16), (64, 48, 72))


def cost_beside_accuracy(study: Study, execution: Execution, repeats: int) -> pd.DataFrame:
    """`costs` of the networks that a run has trained, with the mean DSC of its test cases; empty without scores.

    Networks that read a volume in pieces and cascades are left out. Writes tables/benchmark_accuracy.csv.

    Args:
        study: the run.
        execution: precision and memory format.
        repeats: how often each is timed.
    """
    path = study.tables / "summary.csv"
    if not path.exists():
        return pd.DataFrame()
    mean_dsc = pd.read_csv(path).set_index("variant")["dsc_mean"]
    cases = PreparedCases(study.prepared)
    width = study.preset.training_for(cases.spatial_dims).width
    single = [name for name in mean_dsc.index if _passes_once(name)]
    own = costs(single, cases.typical_shape, execution, width, repeats)
    own["dsc"] = own["variant"].map(mean_dsc)
    write_csv(own, study.tables / "benchmark_accuracy.csv")
    return own


def precision_of_trained(study: Study) -> pd.DataFrame:
    """`compare_precisions` of the last variant that is trained; empty where none is.

    Writes tables/benchmark_precision.csv.
    """
    trained = _last_trained(study)
    if trained is None:
        return pd.DataFrame()
    spacing_mm = max(1.0, study.preset.simulated_cohort.spacing_mm)
    reading = trained.reading(simulate_scan(UNSEEN_SEED, spacing_mm=spacing_mm).image)
    compared = {"variant": trained.parameters.variant, **compare_precisions(trained, reading)}
    precision = pd.DataFrame([compared])
    write_csv(precision, study.tables / "benchmark_precision.csv")
    return precision


def tool_findings(times: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """What measuring costs, and whether tools agree, in sentences.

    `times` is of `time_tools`, fhlib in the first row; `compared` of `compare_tools`.
    """
    own, others = times.iloc[0], times.iloc[1:]
    ratios = ", ".join(f"{row.ratio:.1f} times ({row.tool})" for row in others.itertuples())
    same = compared[compared["why"].str.startswith("the same definition")]
    return [
        f"Measuring a pair takes the other tools {ratios} as long as fhlib's {own['seconds']:.2f} s "
        f"and {own['memory_gb']:.2f} GB.",
        f"Where the definition is the same, values differ by at most {same['difference'].abs().max():.2g} mm.",
    ]


def network_findings(
    used: pd.DataFrame, spent: pd.DataFrame, segmenting: pd.DataFrame, memory: pd.DataFrame
) -> list[str]:
    """What the networks cost, in sentences.

    Args:
        used: of `efficiency`.
        spent: of `costs`.
        segmenting: of `segmentation_time`.
        memory: of `training_memory`.
    """
    forward, step = used["share"]
    first, last = spent.iloc[0], spent.iloc[-1]
    level, cascade = segmenting.to_dict("records")
    plain, checkpointed = memory["memory_gb"]
    return [
        f"The full network reaches {forward:.2f} of the peak in a forward pass and {step:.2f} in a training step; "
        f"{last['variant']} takes {last['seconds_ratio']:.1f} times as long as {first['variant']}.",
        f"From file to mask the network takes {100 * level['network_share']:.0f} % of {level['total']:.1f} s "
        f"(cascade: {cascade['total']:.1f} s, {cascade['memory_gb']:.1f} GB); "
        f"a training step takes {plain:.1f} GB, {checkpointed:.1f} GB with checkpointing.",
    ]


def _passes_once(variant: str) -> bool:
    """Whether one forward pass tells what a variant costs."""
    row = VARIANTS[variant]
    return row.levels == 1 and not row.patch and not row.spatial_dims


def _last_trained(study: Study) -> Cascade | None:
    for variant in reversed(study.preset.variants):
        folder = study.model_folder(variant)
        if any(folder.glob("level*/weights.*")):
            return load_cascade(folder)
    return None
