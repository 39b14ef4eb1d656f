"""Charts of results: growth, learning, accuracy, speed. Frames in, matplotlib Figure out.

Columns are those of a run's tables; volumes are in mL, distances in mm, DSC and its relatives fractions that are shown in percent.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fhlib import growth
from fhlib.figures import PALETTE, new_figure

MEASURES = {
    "dsc": "DSC [%]",
    "conf": "Conformity [%]",
    "jacc": "Jaccard [%]",
    "adb_mm": "Adb [mm]",
    "hdb_mm": "Hdb [mm]",
    "hd95_mm": "HD95 [mm]",
    "surface_dice_1mm": "surface Dice at 1 mm [%]",
    "relative_volume_error": "volume error [%]",
}
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
    """`fhlib.pooling.validation_curves` against the step (left), and where each training ends (right), a colour and marker a network
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


def score_boxes(
    scores: pd.DataFrame, measures: Sequence[str] = ("dsc", "adb_mm", "hdb_mm"), order: Sequence[str] | None = None
) -> Figure:
    """Box (median, quartiles, whiskers to 1.5 IQR), mean (diamond) and every found case of each variant, a panel for each measure.

    Missed cases are counted beside the variant's name and not drawn; tables count them as DSC 0.
    """
    variants = list(order or dict.fromkeys(scores["variant"]))
    found = scores[scores["status"] != "missed"] if "status" in scores else scores
    figure, axes = new_figure(1, len(measures), (1.9 + 2.7 * len(measures), 0.42 * len(variants) + 1.5), sharey=True)
    random = np.random.default_rng(0)
    for axis, measure in zip(axes[0], measures, strict=True):
        factor = 100 if "[%]" in MEASURES.get(measure, "") else 1
        values = [factor * _finite(found.loc[found["variant"] == name, measure]) for name in variants]
        for place, (points, colour) in enumerate(zip(values, PALETTE * 3, strict=False)):
            if len(points) == 0:
                continue
            axis.boxplot(points, positions=[place], orientation="horizontal", widths=0.6, showfliers=False, patch_artist=True,
                         boxprops={"facecolor": colour, "alpha": 0.35}, medianprops={"color": "black"})  # fmt: skip
            axis.scatter(
                points, place + random.uniform(-0.2, 0.2, len(points)), s=7, color=colour, linewidths=0, zorder=3
            )
            axis.scatter(
                [points.mean()],
                [place],
                marker="D",
                s=22,
                facecolor="white",
                edgecolor="black",
                linewidths=0.8,
                zorder=4,
            )
        axis.set(xlabel=MEASURES.get(measure, measure) + (", found cases" if len(found) < len(scores) else ""))
    axes[0, 0].set(
        yticks=range(len(variants)),
        yticklabels=[_counted(scores, name) for name in variants],
        ylim=(len(variants) - 0.5, -0.5),
    )
    return figure


def difference_forest(compared: pd.DataFrame, printed: pd.DataFrame, measure: str = "dsc") -> Figure:
    """Mean difference of each variant from the baseline with its 95 % interval, and the paper's (a cross), one row a variant.

    `compared`: rows of `compare_variants` for `measure`; `printed`: the paper's table with `variant` and `<measure>_percent` or `_mm`.
    """
    label = MEASURES[measure]
    factor = 100 if "[%]" in label else 1
    column = f"{measure}_percent" if factor == 100 else measure
    paper, baseline = printed.drop_duplicates("variant").set_index("variant")[column], compared["baseline"].iloc[0]
    figure, axes = new_figure(1, 1, (7.0, 0.36 * len(compared) + 1.3))
    axis = axes[0, 0]
    axis.axvline(0, color="black", linewidth=0.8)
    for place, row in enumerate(compared.itertuples()):
        bar = [[factor * (row.difference - row.low)], [factor * (row.high - row.difference)]]
        axis.errorbar(
            [factor * row.difference],
            [place],
            xerr=bar,
            fmt="o",
            color=PALETTE[0],
            capsize=3,
            label="here, 95 % interval",
        )
        if {row.variant, baseline} <= set(paper.index):
            axis.plot(
                [paper[row.variant] - paper[baseline]],
                [place],
                "x",
                color=PALETTE[3],
                markersize=8,
                label="paper (other data)",
            )
    handles = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    axis.set(
        yticks=range(len(compared)),
        yticklabels=compared["variant"],
        ylim=(len(compared) - 0.5, -0.5),
        xlabel=f"{label}, difference from {baseline}",
    )
    return figure


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


def _counted(scores: pd.DataFrame, variant: str) -> str:
    rows = scores[scores["variant"] == variant]
    missed = int((rows["status"] == "missed").sum()) if "status" in rows else 0
    return f"{variant}\nn = {len(rows) - missed}" + (f", {missed} missed" if missed else "")


def table_beside_paper(
    scores: pd.DataFrame, paper: pd.DataFrame, measures: Sequence[str] = ("dsc", "conf", "jacc", "adb_mm", "hdb_mm")
) -> pd.DataFrame:
    """A row for each variant of the paper's table or of `scores`: obtained mean and SD beside the printed mean; fractions in percent.

    `scores` has a row a case; Conformity and distances are averaged over found cases (finite values), n and missed stand beside them,
    and "(k of n)" where even some found cases have no finite value.
    `paper` has `variant` and a column for each measure, in percent and mm as printed (suffixes such as `_percent` are understood).
    """
    printed = paper.set_index("variant" if "variant" in paper else paper.columns[0])
    obtained = list(dict.fromkeys(scores["variant"]))
    rows = []
    for variant in [*printed.index, *(name for name in obtained if name not in printed.index)]:
        cases = scores[scores["variant"] == variant]
        missed = int((cases["status"] == "missed").sum()) if len(cases) else 0
        row: dict[str, Any] = {
            "variant": variant,
            "n": len(cases) or "",
            "missed": missed if len(cases) else "",
        }
        for measure in measures:
            label = MEASURES[measure]
            values = (100 if "[%]" in label else 1) * _finite(cases[measure]) if len(cases) else np.array([])
            digits = 2 if "[%]" in label else 3
            partly = 0 < len(values) < len(cases) - missed
            row[f"{label}, here"] = _mean_sd(values, digits) + (f" ({len(values)} of {len(cases)})" if partly else "")
            column = next(
                (name for name in printed.columns if str(name).lower().split("_")[0] == measure.split("_")[0]), None
            )
            known = column is not None and variant in printed.index and pd.notna(printed.loc[variant, column])
            row[f"{label}, paper"] = f"{float(str(printed.loc[variant, column])):.{digits}f}" if known else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _mean_sd(values: np.ndarray, digits: int) -> str:
    if len(values) == 0:
        return ""
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def timing_bars(
    frame: pd.DataFrame,
    label: str = "name",
    value: str = "seconds",
    error: str | None = None,
    axis_label: str = "time [s]",
) -> Figure:
    """Horizontal bars of a time (or memory) for each row, each with its number, fastest first; `error` names a column of spreads."""
    rows = frame[frame[value].notna()].sort_values(value).reset_index(drop=True)
    figure, axes = new_figure(1, 1, (7.0, 0.34 * len(rows) + 0.9))
    axis = axes[0, 0]
    axis.barh(
        rows.index,
        rows[value],
        xerr=rows[error] if error else None,
        color=PALETTE[0],
        height=0.65,
        error_kw={"linewidth": 1},
    )
    right = rows[value] + (rows[error].fillna(0) if error else 0)
    for place, number in enumerate(rows[value]):
        axis.text(right.iloc[place] + 0.01 * right.max(), place, f"{number:.3g}", va="center", fontsize=8)
    axis.set(
        yticks=rows.index,
        yticklabels=rows[label],
        xlabel=axis_label,
        xlim=(0, 1.12 * right.max()),
        ylim=(len(rows) - 0.4, -0.6),
    )
    axis.grid(axis="y", visible=False)
    return figure


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


def _finite(values: pd.Series) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float)
    return numbers[np.isfinite(numbers)]
