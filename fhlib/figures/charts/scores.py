"""Charts and tables of accuracy and speed. Frames in, matplotlib Figure out.

Columns are those of a run's tables: volumes are in mL, distances in mm. DSC and its relatives are fractions, shown in
percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fhlib.figures.style import COLUMN, PALETTE, SMALL, Look, new_figure
from fhlib.images.volume import Floats

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

FAR = 4
"""An interval further from the middle one than so many times their spread is drawn behind a break of the axis."""


def percent(measure: str) -> int:
    """What a measure is multiplied by before it is shown: 100 for fractions."""
    return 100 if "[%]" in MEASURES.get(measure, "") else 1


def score_boxes(
    scores: pd.DataFrame, measures: Sequence[str] = ("dsc", "adb_mm", "hdb_mm"), order: Sequence[str] | None = None
) -> Figure:
    """Box (median, quartiles, whiskers to 1.5 IQR), mean (diamond) and every found case of each variant.

    Missed cases are counted beside the variant's name and not drawn; tables count them as DSC 0.

    Args:
        scores: variant, status (optional) and the measures, a row a case.
        measures: a panel each.
        order: of the variants; by default that of `scores`.
    """
    variants = list(order or dict.fromkeys(scores["variant"]))
    found = scores[~_missed(scores)]
    figure, axes = new_figure(1, len(measures), (1.9 + 2.7 * len(measures), 0.42 * len(variants) + 1.5), sharey=True)
    random = np.random.default_rng(0)
    for axis, measure in zip(axes[0], measures, strict=True):
        for place, (variant, colour) in enumerate(zip(variants, PALETTE * 3, strict=False)):
            values = percent(measure) * _finite(found.loc[found["variant"] == variant, measure])
            if len(values):
                aside = random.uniform(-0.2, 0.2, len(values))
                _box(axis, values, place, place + aside, colour)
        restricted = ", found cases" if len(found) < len(scores) else ""
        axis.set(xlabel=MEASURES.get(measure, measure) + restricted)
    names = [_counted(scores, variant) for variant in variants]
    _name_rows(axes[0, 0], names)
    return figure


def _box(axis: Axes, values: Floats, place: int, heights: Floats, colour: str) -> None:
    """A row: the box, each value at its height, and the mean."""
    axis.boxplot(
        values,
        positions=[place],
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.35},
        medianprops={"color": "black"},
    )
    axis.scatter(values, heights, s=7, color=colour, linewidths=0, zorder=3)
    diamond: Look = {"marker": "D", "s": 22, "facecolor": "white", "edgecolor": "black", "linewidths": 0.8}
    axis.scatter([values.mean()], [place], zorder=4, **diamond)


def difference_forest(compared: pd.DataFrame, printed: pd.DataFrame, measure: str = "dsc") -> Figure:
    """Mean difference of each variant from the baseline with its 95 % interval, and the paper's (a cross), a row a variant.

    Where few variants lie far from the others the axis is broken, so that the others can be told apart.

    Args:
        compared: rows of `compare_variants` for the measure.
        printed: the paper's table: variant, and `<measure>_percent` or `<measure>_mm`.
        measure: which one.
    """
    factor = percent(measure)
    column = f"{measure}_percent" if factor == 100 else measure
    paper = printed.drop_duplicates("variant").set_index("variant")[column]
    baseline = compared["baseline"].iloc[0]
    gains = compared["variant"].map(paper - paper.get(baseline, np.nan)).to_numpy(float)
    low, middle, high = (factor * compared[name].to_numpy(float) for name in ("low", "difference", "high"))
    parts = _axis_parts(low, middle, high, gains)

    widths = [2.2 if first <= 0 <= last else 1.0 for first, last in parts]
    size = (COLUMN, 0.3 * len(compared) + 1.7)
    figure, axes = new_figure(1, len(parts), size, sharey=True, gridspec_kw={"width_ratios": widths, "wspace": 0.03})
    places = range(len(compared))
    ends = [middle - low, high - middle]
    for axis, limits in zip(axes[0], parts, strict=True):
        axis.axvline(0, color="black", linewidth=0.8)
        axis.errorbar(middle, places, xerr=ends, fmt="o", color=PALETTE[0], capsize=3, label="here, 95 % interval")
        if np.isfinite(gains).any():
            axis.plot(gains, places, "x", color=PALETTE[3], markersize=7, label="paper (other data)")
        axis.set(xlim=limits)
        axis.xaxis.set_major_locator(MaxNLocator(5 if limits[0] <= 0 <= limits[1] else 2))
    for left, right in pairwise(axes[0]):
        _break(left, right)

    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.3)
    _name_rows(axes[0, 0], compared["variant"])
    words = [f"{MEASURES[measure]}, difference from {baseline}"]
    if "n" in compared:
        words.append(f"n = {_range(compared['n'])} cases, paired")
    if len(parts) > 1:
        words.append("axis broken: each part has a scale of its own")
    figure.supxlabel("\n".join(words), fontsize=SMALL)
    return figure


def _axis_parts(low: Floats, middle: Floats, high: Floats, gains: Floats) -> list[tuple[float, float]]:
    """Limits of the parts of a broken axis, from left to right: one part where no interval lies far from the others."""
    centre = np.median(middle)
    usual = max(2 * float(np.median(np.abs(middle - centre))), float(np.median(high - low)))
    far = np.abs(middle - centre) > FAR * usual
    near = np.concatenate([low[~far], high[~far], gains[np.isfinite(gains)], [0.0]])
    parts = [(near.min(), near.max())]
    for beyond in (far & (high < near.min()), far & (low > near.max())):
        if beyond.any():
            parts.append((low[beyond].min(), high[beyond].max()))
        else:
            far &= ~beyond
    if (reached := np.flatnonzero(far & (high >= near.min()) & (low <= near.max()))).size:
        parts[0] = (min(parts[0][0], low[reached].min()), max(parts[0][1], high[reached].max()))
    margins = [0.06 * (last - first) or 0.1 for first, last in parts]
    return sorted((first - margin, last + margin) for (first, last), margin in zip(parts, margins, strict=True))


def _break(left: Axes, right: Axes) -> None:
    """Mark that the axis is broken between two neighbours: two slanted strokes, and no frame between."""
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", length=0)
    stroke: Look = {
        "marker": [(-0.5, -1), (0.5, 1)],
        "markersize": 9,
        "linestyle": "none",
        "color": "0.15",
        "clip_on": False,
    }
    left.plot([1], [0], transform=left.transAxes, **stroke)
    right.plot([0], [0], transform=right.transAxes, **stroke)


def _range(counts: pd.Series) -> str:
    """A number, or the smallest and the largest of several."""
    return f"{counts.min():.0f}" if counts.nunique() == 1 else f"{counts.min():.0f} to {counts.max():.0f}"


def table_beside_paper(
    scores: pd.DataFrame, paper: pd.DataFrame, measures: Sequence[str] = ("dsc", "conf", "jacc", "adb_mm", "hdb_mm")
) -> pd.DataFrame:
    """Obtained mean and SD beside the printed mean, a row for each variant of the paper's table or of `scores`.

    Fractions are in percent. Conformity and distances are averaged over found cases: those with a finite value. n and
    missed stand beside them, and "(k of n)" where even some found cases have no finite value.

    Args:
        scores: variant, status and the measures, a row a case.
        paper: variant (or a first column of names) and a column a measure, in percent and mm as printed; suffixes
            such as `_percent` are understood.
        measures: two columns each.
    """
    printed = paper.set_index("variant" if "variant" in paper else paper.columns[0])
    rows = []
    for variant in dict.fromkeys([*printed.index, *scores["variant"]]):
        cases = scores[scores["variant"] == variant]
        missed = int(_missed(cases).sum())
        row: dict[str, str | int] = {"variant": variant, "n": "", "missed": ""}
        if len(cases):
            row |= {"n": len(cases), "missed": missed}
        for measure in measures:
            label = MEASURES[measure]
            digits = 2 if percent(measure) == 100 else 3
            row[f"{label}, here"] = _obtained(percent(measure) * cases[measure], len(cases) - missed, digits)
            row[f"{label}, paper"] = _printed(printed, variant, measure, digits)
        rows.append(row)
    return pd.DataFrame(rows)


def _obtained(scores: pd.Series, found: int, digits: int) -> str:
    """Mean and SD of the finite scores; of how many cases, where that is fewer than were found."""
    values = _finite(scores)
    if len(values) == 0:
        return ""
    mean = f"{values.mean():.{digits}f}"
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    partly = f" ({len(values)} of {len(scores)})" if len(values) < found else ""
    return mean + spread + partly


def _printed(table: pd.DataFrame, variant: str, measure: str, digits: int) -> str:
    """The paper's number; empty where it prints none."""
    stem = measure.split("_")[0]
    column = next((name for name in table.columns if str(name).lower().split("_")[0] == stem), None)
    if column is None or variant not in table.index or pd.isna(table.loc[variant, column]):
        return ""
    return f"{float(str(table.loc[variant, column])):.{digits}f}"


def timing_bars(
    frame: pd.DataFrame,
    label: str = "name",
    value: str = "seconds",
    axis_label: str = "time [s]",
) -> Figure:
    """Horizontal bars of a time (or memory), each with its number, the fastest first.

    Args:
        frame: a row a bar; those without a value are left out.
        label: column of the names.
        value: column of the numbers.
        axis_label: what the numbers are.
    """
    rows = frame[frame[value].notna()].sort_values(value).reset_index(drop=True)
    figure, axes = new_figure(1, 1, (7.0, 0.34 * len(rows) + 0.9))
    axis = axes[0, 0]
    axis.barh(rows.index, rows[value], color=PALETTE[0], height=0.65)
    for place, number in enumerate(rows[value]):
        axis.text(number + 0.01 * rows[value].max(), place, f"{number:.3g}", va="center", fontsize=8)
    axis.set(yticks=rows.index, yticklabels=rows[label], ylim=(len(rows) - 0.4, -0.6))
    axis.set(xlabel=axis_label, xlim=(0, 1.12 * rows[value].max()))
    axis.grid(axis="y", visible=False)
    return figure


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    """Name the rows of a chart, the first on top."""
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))


def _counted(scores: pd.DataFrame, variant: str) -> str:
    """A variant's name, and below how many cases were found."""
    missed = _missed(scores[scores["variant"] == variant])
    counted = f"{variant}\nn = {(~missed).sum()}"
    return f"{counted}, {missed.sum()} missed" if missed.any() else counted


def _missed(scores: pd.DataFrame) -> pd.Series:
    """Which cases are missed; none where no status is known."""
    return scores["status"] == "missed" if "status" in scores else pd.Series(False, scores.index)


def _finite(values: pd.Series) -> Floats:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float)
    return numbers[np.isfinite(numbers)]
