"""What happens in training: loss and validation curves, live and afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fhlib.figures.score_charts import MEASURES
from fhlib.figures.style import PALETTE, new_figure


def learning_curves(histories: pd.DataFrame | Mapping[str, pd.DataFrame], title: str | None = None) -> Figure:
    """Loss (all steps faint, running mean over 25 bold), validation DSC and learning rate against the step, a colour for each history.

    Columns used: step, loss, and where present main_loss, val_dsc (fraction), learning_rate.
    Steps without validation have a missing val_dsc.
    """
    named = histories if isinstance(histories, Mapping) else {"loss": histories}
    with_dsc = [name for name, frame in named.items() if "val_dsc" in frame and frame["val_dsc"].notna().any()]
    panels = (
        ["loss"]
        + ["val_dsc"] * bool(with_dsc)
        + ["learning_rate"] * any("learning_rate" in frame for frame in named.values())
    )
    figure, axes = new_figure(1, len(panels), (3.5 * len(panels), 3.2))
    for (name, frame), colour in zip(named.items(), PALETTE * 3, strict=False):
        for panel, axis in zip(panels, axes[0], strict=True):
            if panel not in frame:
                continue
            rows = frame[frame[panel].notna()]
            if panel == "loss":
                axis.plot(rows["step"], rows["loss"], color=colour, alpha=0.25, linewidth=0.6)
                axis.plot(
                    rows["step"], rows["loss"].rolling(25, min_periods=1, center=True).mean(), color=colour, label=name
                )
                if len(named) == 1 and "main_loss" in rows:
                    main = rows["main_loss"].rolling(25, min_periods=1, center=True).mean()
                    axis.plot(rows["step"], main, color=PALETTE[1], linestyle="--", label="main branch alone")
            elif panel == "val_dsc":
                axis.plot(rows["step"], 100 * rows["val_dsc"], color=colour, marker="o", markersize=3.5, label=name)
            else:
                axis.plot(rows["step"], rows["learning_rate"], color=colour, label=name)
    labels = {
        "loss": "loss (cross-entropy, log scale)",
        "val_dsc": "validation DSC [%]",
        "learning_rate": "learning rate",
    }
    for panel, axis in zip(panels, axes[0], strict=True):
        axis.set(xlabel="step", ylabel=labels[panel])
    if all((frame["loss"].dropna() > 0).all() for frame in named.values()):
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
        axes[0, 0].yaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].legend(fontsize=7)
    if "learning_rate" in panels:
        axes[0, -1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


ENDS_WITHIN_POINTS = 1.0


def validation_course(curves: pd.DataFrame) -> Figure:
    """`fhlib.study.ablation.validation_curves` against the step (left), and where each training ends (right), a colour and marker a network
    (the right panel is the left's legend).

    `curves` has at least one row. Trainings that changed something are dashed on the left; on the right seeds of one training share a
    row, and an end more than `ENDS_WITHIN_POINTS` below the best stands at the edge with its number.
    """
    order = list(dict.fromkeys(curves["variant"]))
    colours = dict(zip(order, PALETTE * 3, strict=False))
    markers = {name: "osD"[place // len(PALETTE)] for place, name in enumerate(order)}
    named = curves.assign(dsc=100 * curves["val_dsc"], changed=curves["changed"].fillna(""))
    named["row"] = [
        " ".join(part).strip() for part in zip(named["variant"], named["changed"].str.replace(", ", "\n"), strict=True)
    ]
    ends = named.groupby(["variant", "level", "run"], sort=False).tail(1)
    rows = [row for name in order for row in dict.fromkeys(ends.loc[ends["variant"] == name, "row"])]
    figure, axes = new_figure(1, 2, (11.0, 0.34 * len(rows) + 2.0))
    for (variant, _, _), curve in named.groupby(["variant", "level", "run"], sort=False):
        style = "--" if curve["changed"].iloc[0] else "-"
        axes[0, 0].plot(
            curve["step"],
            curve["dsc"],
            style,
            color=colours[variant],
            marker=markers[variant],
            markersize=3,
        )
    axes[0, 0].set(xlabel="step", ylabel="validation DSC [%]", ylim=(named["dsc"].quantile(0.1) - 0.5, None))
    lowest = ends["dsc"].max() - ENDS_WITHIN_POINTS
    for row in ends.itertuples():
        place = rows.index(row.row)
        marker, at = (markers[row.variant], row.dsc) if row.dsc >= lowest else ("<", lowest)
        axes[0, 1].plot([at], [place], marker, color=colours[row.variant], markersize=5, alpha=0.8)
        if marker == "<":
            axes[0, 1].annotate(
                f"{row.dsc:.1f}", (at, place), (6, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes[0, 1].set(
        yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5), xlabel="validation DSC at the end [%]"
    )
    axes[0, 1].tick_params(axis="y", labelsize=7)
    return figure


class LiveCurves:
    """Redraws the learning curves in place while a training runs; call it with the history so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle = display(Figure(figsize=(0.1, 0.1)), display_id=True)

    def __call__(self, history: pd.DataFrame) -> None:
        self.handle.update(learning_curves({self.name: history}))


def few_cases(curve: pd.DataFrame, measures: Sequence[str] = ("dsc", "hdb_mm")) -> Figure:
    """Scores of the test cases (a thin line each) and their mean over the number of training cases, one panel a measure.

    `curve`: rows of `learn_from_few`. Cases without a finite value are left out of that panel.
    """
    figure, axes = new_figure(1, len(measures), (3.8 * len(measures), 3.2))
    counts = sorted(curve["training_cases"].unique())
    for axis, measure in zip(axes[0], measures, strict=True):
        factor = 100 if "[%]" in MEASURES[measure] else 1
        wide = factor * curve.pivot_table(index="case", columns="training_cases", values=measure)
        wide = wide.replace([np.inf, -np.inf], np.nan)
        axis.plot(counts, wide[counts].T, color="0.7", linewidth=0.7)
        axis.plot(counts, wide[counts].mean(), "o-", color=PALETTE[0], linewidth=2, label=f"mean of {len(wide)} cases")
        axis.set(xticks=counts, xlabel="training cases", ylabel=MEASURES[measure])
    axes[0, 0].legend(loc="lower right")
    return figure
