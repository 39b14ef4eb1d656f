"""Charts of results: growth, learning, accuracy, speed. Frames in, matplotlib Figure out.

Columns are those of a run's tables; volumes are in mL, distances in mm, DSC and its relatives fractions that are shown in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fhlib.figures.style import PALETTE, new_figure

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


def _finite(values: pd.Series) -> np.ndarray:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float)
    return numbers[np.isfinite(numbers)]
