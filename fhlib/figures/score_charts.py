"""Charts and tables of accuracy and speed. Frames in, matplotlib Figure out.

Columns are those of a run's tables: volumes are in mL, distances in mm. DSC and its relatives are fractions, shown in
percent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fhlib.figures.style import PALETTE, Look, new_figure
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

    Args:
        compared: rows of `compare_variants` for the measure.
        printed: the paper's table: variant, and `<measure>_percent` or `<measure>_mm`.
        measure: which one.
    """
    factor = percent(measure)
    column = f"{measure}_percent" if factor == 100 else measure
    paper = printed.drop_duplicates("variant").set_index("variant")[column]
    baseline = compared["baseline"].iloc[0]
    figure, axes = new_figure(1, 1, (7.0, 0.36 * len(compared) + 1.3))
    axis = axes[0, 0]
    axis.axvline(0, color="black", linewidth=0.8)

    middle = factor * compared["difference"]
    ends = [factor * (compared["difference"] - compared["low"]), factor * (compared["high"] - compared["difference"])]
    places = range(len(compared))
    label = "here, 95 % interval"
    axis.errorbar(middle, places, xerr=ends, fmt="o", color=PALETTE[0], capsize=3, label=label)
    gains = compared["variant"].map(paper - paper.get(baseline, np.nan))
    if gains.notna().any():
        axis.plot(gains, places, "x", color=PALETTE[3], markersize=8, label="paper (other data)")

    figure.legend(loc="outside lower center", ncols=2)
    _name_rows(axis, compared["variant"])
    axis.set(xlabel=f"{MEASURES[measure]}, difference from {baseline}")
    return figure


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
