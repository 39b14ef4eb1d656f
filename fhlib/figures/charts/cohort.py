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

from fhlib.figures.style import PAGE, PALETTE, new_figure
from fhlib.measures import growth

LABELS = {
    "hc_mm": "head circumference [mm]",
    "bpd_mm": "biparietal diameter [mm]",
    "ofd_mm": "occipitofrontal diameter [mm]",
    "volume_ml": "volume of the whole head [mL]",
}
CHARTS = {"hc_mm": "hc", "bpd_mm": "bpd", "ofd_mm": "ofd"}
"""Measures that have a growth chart, by column."""
THIRD_CENTILE_Z = 1.881
ANY_WEEKS = (20, 32)
"""The chart's part that is shown where no age is known."""


def growth_curve(frame: pd.DataFrame, columns: Sequence[str] | None = None) -> Figure:
    """Measures against gestational age, one panel each, over the INTERGROWTH-21st chart of the skull.

    The chart shows the mean, and a band from the 3rd to the 97th centile. Rows without gestational age or measure are
    left out and counted.

    Args:
        frame: ga_weeks and any of hc_mm, bpd_mm, ofd_mm (of the outer skull) and volume_ml (whole head: no chart
            exists), a row a scan.
        columns: what is shown; by default all that the frame has.

    Raises:
        ValueError: the frame has no ages, or none of the measures.
    """
    columns = [name for name in (columns or LABELS) if name in frame.columns]
    if not columns or "ga_weeks" not in frame.columns:
        raise ValueError(
            f"growth_curve needs ga_weeks and one of {', '.join(LABELS)}; "
            f"the frame has {', '.join(map(str, frame.columns))}"
        )
    figure, axes = new_figure(1, len(columns), (min(10.0, 3.6 * len(columns) + 0.4), 3.4))
    for axis, name in zip(axes[0], columns, strict=True):
        known = frame.dropna(subset=["ga_weeks", name])
        if name in CHARTS:
            _chart_band(axis, CHARTS[name], known["ga_weeks"])
        dots = {"s": 16, "alpha": 0.8, "linewidths": 0, "label": "measured"}
        axis.scatter(known["ga_weeks"], known[name], color=PALETTE[0], **dots)
        axis.set(xlabel="gestational age [weeks]", ylabel=LABELS[name], title=f"n = {len(known)} of {len(frame)}")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name in CHARTS:
            axis.legend(fontsize=7, loc="upper left")
    return figure


def _chart_band(axis: Axes, measure: str, ga_weeks: pd.Series) -> None:
    first, last = growth.valid_weeks(measure)
    low, high = (ga_weeks.min() - 1, ga_weeks.max() + 1) if len(ga_weeks) else ANY_WEEKS
    weeks = np.linspace(max(first, low), min(last, high), 60)
    if weeks[0] >= weeks[-1]:
        return  # all ages lie outside the chart
    mean, sd = growth.reference(measure, weeks)
    reach = THIRD_CENTILE_Z * sd
    band = "chart, 3rd to 97th centile"
    axis.fill_between(weeks, mean - reach, mean + reach, color="#D9D9D9", linewidth=0, label=band)
    axis.plot(weeks, mean, color="#555555", linewidth=1, label="chart, mean")


def compare_distributions(frame: pd.DataFrame, measures: Mapping[str, str], by: str) -> Figure:
    """Histograms of measures, one outline for each group, normalised to the same area.

    Args:
        frame: a row a scan.
        measures: column -> axis label.
        by: the column that names the group.
    """
    columns = 3
    rows = -(-len(measures) // columns)
    figure, axes = new_figure(rows, columns, (PAGE, 2.4 * rows))
    counted = {group: f"{group} (n = {len(rows)})" for group, rows in frame.groupby(by, sort=False)}
    # seaborn needs unique rows where values are missing
    frame = frame.reset_index(drop=True).replace({by: counted})
    for axis, (name, meaning) in zip(axes.flat, measures.items(), strict=False):
        sns.histplot(
            frame,
            x=name,
            hue=by,
            stat="density",
            common_norm=False,
            element="step",
            alpha=0.25,
            bins=20,
            palette=PALETTE[: frame[by].nunique()],
            legend=axis is axes.flat[0],
            ax=axis,
        )
        axis.set(xlabel=textwrap.fill(meaning, 32), ylabel="", yticks=[])
    for axis in axes.flat[len(measures) :]:
        axis.remove()
    return figure


def invisible_edges(shares: pd.DataFrame) -> Figure:
    """Share of the head's surface without a visible edge, one dot a scan and a line at the mean.

    `shares` has a row a scan and a column a region, the first for the whole surface.
    """
    figure, axes = new_figure(1, 1, (6.5, 3.0))
    axis = axes[0, 0]
    long = (100 * shares).melt(var_name="region", value_name="share")
    np.random.seed(0)  # the jitter: the same table gives the same file
    sns.stripplot(long, x="region", y="share", ax=axis, color=PALETTE[0], alpha=0.7, jitter=0.15)
    # of the box only its mean is shown
    sns.boxplot(
        long,
        x="region",
        y="share",
        ax=axis,
        showmeans=True,
        meanline=True,
        meanprops={"color": "0.2", "ls": "-", "lw": 2},
        showbox=False,
        showcaps=False,
        showfliers=False,
        whiskerprops={"visible": False},
        medianprops={"visible": False},
    )
    title = f"{len(shares)} simulated scans; line: mean"
    axis.set(xlabel="", ylabel="without a visible edge (%)", ylim=(0, 100), title=title)
    return figure
