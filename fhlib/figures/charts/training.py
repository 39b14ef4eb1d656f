"""What happens in training: loss and validation curves, live and afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fhlib.figures.charts.scores import MEASURES, percent
from fhlib.figures.style import COLUMN, DARK, PAGE, PALETTE, SMALL, Look, new_figure
from fhlib.files import blank_gaps

PANELS = {
    "loss": "loss (cross-entropy, log scale)",
    "val_dsc": "validation DSC [%]",
    "learning_rate": "learning rate",
}
RUNNING_STEPS = 25
ENDS_WITHIN_POINTS = 1.0
"""A training that ends further below the best, in points of DSC, stands at the chart's edge."""
TRAINING = ["variant", "level", "run", "seed"]
EDGED: Look = {"markeredgecolor": DARK, "markeredgewidth": 0.5}
"""Markers of pale colours stand out from the paper."""


def learning_curves(histories: Mapping[str, pd.DataFrame], title: str | None = None) -> Figure:
    """Loss, validation DSC and learning rate against the step, a colour for each history.

    All steps' losses are faint, their running mean is bold. Columns used: step, loss, and where present main_loss,
    val_dsc (fraction; missing in steps without validation) and learning_rate.
    """
    everything = pd.concat(histories.values())
    panels = [name for name in PANELS if name in everything and (name == "loss" or everything[name].notna().any())]
    figure, axes = new_figure(1, len(panels), (min(3.5 * len(panels), PAGE), 3.6), title)
    by_panel = dict(zip(panels, axes[0], strict=True))
    for (name, history), colour in zip(histories.items(), PALETTE * 3, strict=False):
        for panel, axis in by_panel.items():
            if panel in history:
                _learning_curve(axis, history.dropna(subset=panel), panel, colour, name)
    if len(histories) == 1 and "main_loss" in everything:
        main = everything.dropna(subset="loss")
        label = {"linestyle": "--", "label": "main branch alone"}
        axes[0, 0].plot(main["step"], _running_mean(main["main_loss"]), color=PALETTE[1], **label)

    for panel, axis in by_panel.items():
        axis.set(xlabel="step", ylabel=PANELS[panel])
    if (everything["loss"].dropna() > 0).all():
        _log_scale(axes[0, 0])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    if "learning_rate" in by_panel:
        by_panel["learning_rate"].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return figure


def _learning_curve(axis: Axes, rows: pd.DataFrame, panel: str, colour: str, name: str) -> None:
    """One history in one panel; `rows` have a value there."""
    values = rows[panel]
    if panel == "loss":
        axis.plot(rows["step"], values, color=colour, alpha=0.25, linewidth=0.6)
        axis.plot(rows["step"], _running_mean(values), color=colour, label=name)
    elif panel == "val_dsc":
        axis.plot(rows["step"], 100 * values, color=colour, marker="o", markersize=3.5, label=name)
    else:
        axis.plot(rows["step"], values, color=colour, label=name)


def _running_mean(values: pd.Series) -> pd.Series:
    return values.rolling(RUNNING_STEPS, min_periods=1, center=True).mean()


def _log_scale(axis: Axes) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def validation_course(curves: pd.DataFrame) -> Figure:
    """Validation DSC against the step (left), and where each training ends (right), a colour and marker a network.

    The right panel is the left's legend. Trainings that changed something are dashed on the left. On the right, seeds
    of one training share a row. An end more than `ENDS_WITHIN_POINTS` below the best stands at the edge with its
    number. `curves` is that of `fhlib.study.ablation.validation_curves`, with at least one row.
    """
    changed = blank_gaps(curves["changed"])
    training = (curves["variant"] + "\n" + changed.str.replace(", ", "\n")).str.strip()
    named = curves.assign(dsc=100 * curves["val_dsc"], dashed=changed != "", training=training)
    networks = list(dict.fromkeys(named["variant"]))
    colours = dict(zip(networks, PALETTE * 3, strict=False))
    markers = {name: "osD"[place // len(PALETTE)] for place, name in enumerate(networks)}

    ends = named.groupby(TRAINING, sort=False).tail(1)
    by_network = ends.sort_values("variant", key=lambda variant: variant.map(networks.index), kind="stable")
    rows = list(by_network["training"].unique())
    lines = sum(1 + row.count("\n") for row in rows)
    figure, axes = new_figure(1, 2, (PAGE, 0.12 * len(rows) + 0.17 * lines + 1.6))
    course, last = axes[0]
    for (network, *_), curve in named.groupby(TRAINING, sort=False):
        style = "--" if curve["dashed"].iloc[0] else "-"
        marks = {"color": colours[network], "marker": markers[network], "markersize": 3.5} | EDGED
        course.plot(curve["step"], curve["dsc"], style, **marks)
    course.set(
        xlabel="step", ylabel="validation DSC [%]", ylim=(named["dsc"].quantile(0.1) - 0.5, named["dsc"].max() + 0.3)
    )
    course.set_title(f"n = {len(ends)} trainings of {len(networks)} networks", fontsize=SMALL)

    lowest = ends["dsc"].max() - ENDS_WITHIN_POINTS
    for end in ends.itertuples():
        place, colour = rows.index(end.training), colours[end.variant]
        if end.dsc >= lowest:
            last.plot([end.dsc], [place], markers[end.variant], color=colour, markersize=6, **EDGED)
        else:
            last.plot([lowest], [place], "<", color=colour, markersize=6, **EDGED)
            number, beside = f"{end.dsc:.1f}", {"xytext": (6, 0), "textcoords": "offset points"}
            last.annotate(number, (lowest, place), va="center", fontsize=SMALL, **beside)
    last.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
    last.set(xlabel="validation DSC at the end [%]")
    return figure


class LiveCurves:
    """Redraws the learning curves in place while a training runs; call it with the history so far."""

    def __init__(self, name: str) -> None:
        from IPython.display import display  # here, so that charts need no notebook

        self.name = name
        self.handle = display(Figure(figsize=(0.1, 0.1)), display_id=True)

    def __call__(self, history: pd.DataFrame) -> None:
        self.handle.update(learning_curves({self.name: history}))


def few_cases(curve: pd.DataFrame, measures: Sequence[str] = ("dsc", "hdb_mm")) -> Figure:
    """Scores of the test cases (a thin line each) and their mean over the number of training cases, one panel a measure.

    `curve`: rows of `learn_from_few`. Cases without a finite value are left out of that panel.
    """
    figure, axes = new_figure(1, len(measures), (min(COLUMN * len(measures), PAGE), 3.4))
    for axis, measure in zip(axes[0], measures, strict=True):
        wide = percent(measure) * curve.pivot_table(index="case", columns="training_cases", values=measure)
        wide = wide.replace([np.inf, -np.inf], np.nan)
        axis.plot(wide.T, color="0.7", linewidth=0.7)
        axis.plot(wide.mean(), "o-", color=PALETTE[0], linewidth=2.5)
        axis.set_title(f"n = {len(wide)} test cases, a line each; bold: their mean", fontsize=SMALL)
        axis.set(xticks=wide.columns, xlabel="training cases", ylabel=MEASURES[measure])
    return figure
