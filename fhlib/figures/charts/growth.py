"""Growth of a population: charts with bands, worms, dating, and what is detected."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fhlib.figures.style import PALETTE, new_figure

AGE, VOLUME = "gestational age [weeks]", "volume of the whole head [mL]"
GREY = "#555555"
LINES = ("solid", "dashed", "dotted", "dashdot")


def reference_chart(
    table: pd.DataFrame, measured: pd.DataFrame | None = None, quantiles: pd.DataFrame | None = None
) -> Figure:
    """Centiles with their bands, over the measurements.

    Args:
        table: ga_weeks, centile, value, low, high (`Chart.table`).
        measured: ga_weeks and volume_ml.
        quantiles: ga_weeks, centile, value by quantile regression, dotted.
    """
    figure, axes = new_figure(1, 1, (7.0, 4.6))
    axis = axes[0, 0]
    if measured is not None:
        dots = {"s": 5, "alpha": 0.25, "linewidths": 0, "label": f"{len(measured)} measurements", "rasterized": True}
        axis.scatter(measured["ga_weeks"], measured["volume_ml"], color=GREY, **dots)
    _centiles(axis, table, PALETTE[0])
    if quantiles is not None:
        for k, (_, line) in enumerate(quantiles.groupby("centile")):
            label = "quantile regression" if k == 0 else None
            axis.plot(line["ga_weeks"], line["value"], ":", color=PALETTE[3], label=label)
    axis.set(xlabel=AGE, ylabel=VOLUME, ylim=(0, None))
    axis.legend(loc="upper left")
    return figure


def _centiles(axis: Axes, table: pd.DataFrame, colour: str) -> None:
    """One line and band a centile, its number at the right end."""
    for k, (centile, line) in enumerate(table.groupby("centile")):
        width = 2.0 if centile == 50 else 1.1
        label = "centiles with 95 % bands" if k == 0 else None
        axis.fill_between(line["ga_weeks"], line["low"], line["high"], color=colour, alpha=0.22, linewidth=0)
        axis.plot(line["ga_weeks"], line["value"], color=colour, linewidth=width, label=label)
        last = line.iloc[-1]
        axis.annotate(
            f"{centile:g}", (last["ga_weeks"], last["value"]), (4, 0), textcoords="offset points", va="center"
        )


def truth_raw_corrected(tables: Mapping[str, pd.DataFrame], truth: pd.DataFrame) -> Figure:
    """Each chart's centiles in percent of the true median, with their bands, beside the true centiles: a panel a chart.

    Args:
        tables: name -> ga_weeks, centile, value, low, high.
        truth: ga_weeks, centile, value at the same ages and centiles, with the 50th among them.
    """
    figure, axes = new_figure(1, len(tables), (3.6 * len(tables) + 0.4, 3.8), sharey=True)
    median = truth[truth["centile"] == 50].set_index("ga_weeks")["value"]
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        for centile, line in table.groupby("centile"):
            of = median.loc[line["ga_weeks"]].to_numpy() / 100
            true = truth[truth["centile"] == centile]["value"].to_numpy()
            colour = PALETTE[0] if centile == 50 else PALETTE[1]
            axis.fill_between(
                line["ga_weeks"], line["low"] / of, line["high"] / of, color=colour, alpha=0.25, linewidth=0
            )
            axis.plot(line["ga_weeks"], line["value"] / of, color=colour)
            axis.plot(line["ga_weeks"], true / of, "--", color="black", linewidth=1)
            axis.annotate(
                f"{centile:g}",
                (line["ga_weeks"].iloc[-1], (line["value"] / of).iloc[-1]),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axis.set(title=name, xlabel=AGE)
    axes[0, 0].set_ylabel("percent of the true median")
    axes[0, 0].plot([], [], "--", color="black", label="truth")
    axes[0, 0].plot([], [], color=PALETTE[1], label="chart, 95 % band")
    axes[0, 0].legend(loc="upper right", fontsize=8)
    return figure


def worm_plot(worms: pd.DataFrame) -> Figure:
    """A panel an age group: deviation of the ordered z-scores from what is expected, with the band for single points.

    `worms`: ages, expected, deviation, band.
    """
    groups = list(worms.groupby("ages", observed=True))
    figure, axes = new_figure(1, len(groups), (2.7 * len(groups), 3.0), sharey=True, sharex=True)
    for axis, (ages, group) in zip(axes[0], groups, strict=True):
        inside = group[group["expected"].abs() < 3]
        axis.fill_between(inside["expected"], -inside["band"], inside["band"], color="#D9D9D9", linewidth=0)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.plot(inside["expected"], inside["deviation"], ".", color=PALETTE[0], markersize=3)
        axis.set(title=f"{ages}, n = {len(group)}", xlabel="expected z", ylim=(-0.6, 0.6))
        axis.title.set_fontsize(8.5)
    axes[0, 0].set_ylabel("observed less expected z")
    return figure


def standard_errors(sizes: pd.DataFrame) -> Figure:
    """Standard error of the outer centiles against the number of subjects; `sizes`: subjects, centile, se_true, se_corrected, royston."""
    figure, axes = new_figure(1, 1, (6.0, 3.8))
    axis = axes[0, 0]
    names = {3: "3rd centile", 97: "97th centile"}
    kinds = {"se_corrected": ("measured by the segmentor, corrected", 0), "se_true": ("measured without error", 2)}
    for column, (name, colour) in kinds.items():
        for centile, marker in ((3, "o-"), (97, "s--")):
            of_it = sizes[sizes["centile"] == centile]
            axis.plot(
                of_it["subjects"], of_it[column], marker, color=PALETTE[colour], label=f"{name}, {names[centile]}"
            )
    one = sizes[sizes["centile"] == 3]
    axis.plot(one["subjects"], one["royston"], ":", color="black", label="Royston's formula")
    axis.set(xscale="log", yscale="log", xlabel="subjects, one visit each", ylabel="SE of the centile [%]")
    axis.set_xticks(one["subjects"], [str(count) for count in one["subjects"]])
    ticks = [0.5, 1, 2, 5]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=8)
    return figure


def dating_bars(table: pd.DataFrame) -> Figure:
    """Spread of the age found, by trimester and measure; `table`: trimester, measure, sd_days."""
    figure, axes = new_figure(1, 1, (7.0, 3.4))
    axis = axes[0, 0]
    measures = list(dict.fromkeys(table["measure"]))
    trimesters = list(dict.fromkeys(table["trimester"]))
    width = 0.8 / len(measures)
    for k, measure in enumerate(measures):
        days = table[table["measure"] == measure].set_index("trimester")["sd_days"].reindex(trimesters)
        axis.bar(
            np.arange(len(trimesters)) + (k - (len(measures) - 1) / 2) * width,
            days,
            width,
            color=PALETTE[k],
            label=measure,
        )
    axis.set_xticks(range(len(trimesters)), trimesters)
    axis.set_ylabel("SD of the error of age [days]")
    axis.legend(fontsize=8)
    return figure


def trajectories(visits: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Single subjects over a chart's centiles, a panel a condition; `visits`: condition, subject, ga_weeks, volume_ml."""
    conditions = list(dict.fromkeys(visits["condition"]))
    figure, axes = new_figure(
        2, -(-len(conditions) // 2), (3.3 * -(-len(conditions) // 2), 5.6), sharex=True, sharey=True
    )
    for axis, condition in zip(axes.flat, conditions, strict=False):
        for _, line in table.groupby("centile"):
            axis.plot(line["ga_weeks"], line["value"], color="0.75", linewidth=0.9)
        for _, subject in visits[visits["condition"] == condition].groupby("subject"):
            axis.plot(
                subject["ga_weeks"],
                subject["volume_ml"],
                "o-",
                color=PALETTE[0],
                markersize=3,
                linewidth=0.8,
                alpha=0.8,
            )
        axis.set_title(condition)
    for axis in axes.flat[len(conditions) :]:
        axis.remove()
    for axis in axes[-1]:
        axis.set_xlabel(AGE)
    for axis in axes[:, 0]:
        axis.set_ylabel("volume [mL]")
    return figure


def roc_curves(curves: pd.DataFrame, level: str) -> Figure:
    """ROC curves with 95 % intervals, a panel a condition, for one error of the volume.

    `curves`: condition, error, measure, rate, sensitivity, low, high.
    """
    shown = curves[curves["error"] == level]
    conditions = list(dict.fromkeys(shown["condition"]))
    figure, axes = new_figure(1, len(conditions), (2.6 * len(conditions), 3.1), sharey=True)
    for axis, condition in zip(axes[0], conditions, strict=True):
        for k, (measure, line) in enumerate(shown[shown["condition"] == condition].groupby("measure", sort=False)):
            axis.fill_between(line["rate"], line["low"], line["high"], color=PALETTE[k], alpha=0.2, linewidth=0)
            axis.plot(line["rate"], line["sensitivity"], linestyle=LINES[k], color=PALETTE[k], label=measure)
        axis.axvline(0.05, color="0.6", linewidth=0.8)
        axis.set(title=condition, xscale="log", xlabel="false alarms", ylim=(0, 1))
        axis.set_xticks([0.01, 0.05, 0.2, 1], ["1 %", "5 %", "20 %", "100 %"])
        axis.minorticks_off()
        axis.title.set_fontsize(9)
    axes[0, 0].set_ylabel("sensitivity")
    axes[0, 0].legend(fontsize=7, loc="lower right")
    return figure


def useful_error(tables: Mapping[str, pd.DataFrame], segmentor_sd: float) -> Figure:
    """Sensitivity of volume against the error of its measurement, beside HC's; condition -> error_sd, volume, hc."""
    figure, axes = new_figure(1, 1, (6.2, 3.8))
    axis = axes[0, 0]
    for k, (condition, table) in enumerate(tables.items()):
        axis.plot(
            100 * table["error_sd"],
            100 * table["volume"],
            "o-",
            markersize=3,
            color=PALETTE[k],
            label=f"{condition}: volume",
        )
        axis.plot(100 * table["error_sd"], 100 * table["hc"], "--", color=PALETTE[k])
    axis.axvline(100 * segmentor_sd, color="0.4", linewidth=1)
    axis.annotate("the segmentor", (100 * segmentor_sd, 4), (-4, 0), textcoords="offset points", ha="right", fontsize=8)
    axis.plot([], [], "--", color="0.4", label="HC in 2D")
    axis.set(xlabel="error of the volume, SD [%]", ylabel="found at 5 % false alarms [%]", ylim=(0, 100))
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
