"""What the scans are: ages and sizes beside the growth charts, grey levels beside real ones."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fhlib.figures.style import PALETTE, new_figure
from fhlib.measures import growth

GROWTH = {"hc_mm": ("hc", "head circumference [mm]"), "bpd_mm": ("bpd", "biparietal diameter [mm]"),
          "ofd_mm": ("ofd", "occipitofrontal diameter [mm]"), "volume_ml": (None, "volume of the whole head [mL]")}  # fmt: skip
THIRD_CENTILE_Z = 1.881


def growth_curve(frame: pd.DataFrame, columns: Sequence[str] | None = None, hue: str | None = None) -> Figure:
    """Measures against gestational age, one panel each, over the INTERGROWTH-21st chart (mean, 3rd to 97th centile) of the skull.

    `frame` has `ga_weeks` and any of hc_mm, bpd_mm, ofd_mm (of the outer skull) and volume_ml (whole head: no chart exists).
    `hue` colours by another column. Rows without gestational age or measure are left out and counted.
    """
    columns = [name for name in (columns or GROWTH) if name in frame.columns]
    if not columns or "ga_weeks" not in frame.columns:
        raise ValueError(
            f"growth_curve needs ga_weeks and one of {', '.join(GROWTH)}; the frame has {', '.join(map(str, frame.columns))}"
        )
    figure, axes = new_figure(1, len(columns), (min(10.0, 3.6 * len(columns) + 0.4), 3.4))
    for axis, name in zip(axes[0], columns, strict=True):
        measure, label = GROWTH[name]
        known = frame[frame["ga_weeks"].notna() & frame[name].notna()]
        if measure:
            _chart_band(axis, measure, known["ga_weeks"])
        groups = known.groupby(hue, sort=True) if hue else [("measured", known)]
        for number, (group, rows) in enumerate(groups):
            axis.scatter(
                rows["ga_weeks"],
                rows[name],
                s=16,
                color=PALETTE[number % len(PALETTE)],
                alpha=0.8,
                linewidths=0,
                label=str(group),
            )
        axis.set(xlabel="gestational age [weeks]", ylabel=label, title=f"n = {len(known)} of {len(frame)}")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if measure or hue:
            axis.legend(fontsize=7, loc="upper left")
    return figure


def _chart_band(axis: Axes, measure: str, ga_weeks: pd.Series) -> None:
    first, last = growth.valid_weeks(measure)
    low, high = (ga_weeks.min() - 1, ga_weeks.max() + 1) if len(ga_weeks) else (20, 32)
    weeks = np.linspace(max(first, low), min(last, high), 60)
    if weeks[0] >= weeks[-1]:
        return
    mean, sd = growth.reference(measure, weeks)
    axis.fill_between(
        weeks,
        mean - THIRD_CENTILE_Z * sd,
        mean + THIRD_CENTILE_Z * sd,
        color="#D9D9D9",
        label="chart, 3rd to 97th centile",
        linewidth=0,
    )
    axis.plot(weeks, mean, color="#555555", linewidth=1, label="chart, mean")


def compare_distributions(frame: pd.DataFrame, measures: Mapping[str, str], by: str) -> Figure:
    """Histograms of each measure (column: axis label), one outline for each value of `by`, normalised to the same area."""
    columns, frame = 3, frame.reset_index(drop=True)  # seaborn needs unique rows where values are missing
    figure, axes = new_figure(-(-len(measures) // columns), columns, (10.5, 2.4 * -(-len(measures) // columns)))
    for axis, (name, meaning) in zip(axes.flat, measures.items(), strict=False):
        sns.histplot(
            frame, x=name, hue=by, stat="density", common_norm=False, element="step", alpha=0.25, bins=20, ax=axis,
            palette=PALETTE[: frame[by].nunique()], legend=axis is axes.flat[0],
        )  # fmt: skip
        axis.set(xlabel=textwrap.fill(meaning, 36), ylabel="", yticks=[])
    for axis in axes.flat[len(measures) :]:
        axis.remove()
    return figure


def invisible_edges(shares: pd.DataFrame) -> Figure:
    """Share of the head's surface without a visible edge, overall and by region (columns), one dot a scan (row) and a line at the mean."""
    figure, axes = new_figure(1, 1, (6.5, 3.0))
    axis = axes.flat[0]
    long = (100 * shares).melt(var_name="region", value_name="share")
    sns.stripplot(long, x="region", y="share", ax=axis, color=PALETTE[0], alpha=0.7, jitter=0.15)
    sns.boxplot(
        long, x="region", y="share", ax=axis, showmeans=True, meanline=True, showbox=False, showcaps=False, showfliers=False,
        whiskerprops={"visible": False}, medianprops={"visible": False}, meanprops={"color": "0.2", "ls": "-", "lw": 2},
    )  # fmt: skip
    axis.set(
        xlabel="",
        ylabel="without a visible edge (%)",
        ylim=(0, 100),
        title=f"{len(shares)} simulated scans; line: mean",
    )
    return figure
