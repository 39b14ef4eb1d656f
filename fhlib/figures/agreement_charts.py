"""Charts of agreement: correlation and Bland-Altman (Fig. 8), repeated scans (Fig. 9), a volume chart, and definitions of Adb.

Volumes are in mL, distances in mm. Frames and arrays in, matplotlib Figure out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from fhlib.figures.style import PALETTE, new_figure
from fhlib.measures.agreement import bland_altman
from fhlib.measures.growth import VolumeChart
from fhlib.measures.intervals import Z


def correlation_and_agreement(measured: Any, reference: Any, unit: str = "mL", quantity: str = "head volume") -> Figure:
    """Fig. 8: measured against reference with identity and least-squares line, and Bland-Altman plot with confidence intervals.

    Numbers and intervals are those of `fhlib.measures.agreement.bland_altman`. Pairs with a missing value are left out and counted.
    """
    pairs = np.column_stack([np.asarray(measured, float), np.asarray(reference, float)])
    found = pairs[np.isfinite(pairs).all(axis=1)]
    if len(found) < 3:
        raise ValueError(f"agreement needs at least 3 pairs of finite values, got {len(found)} of {len(pairs)}")
    x, y = found[:, 1], found[:, 0]
    left_out = f", {len(pairs) - len(found)} without a measurement" if len(found) < len(pairs) else ""
    figure, axes = new_figure(1, 2, (9.2, 3.9), gridspec_kw={"width_ratios": [1, 1.35]})
    correlation, agreement = axes[0]

    low, high = found.min(), found.max()
    margin = 0.06 * (high - low or 1)
    line = np.array([low - margin, high + margin])
    fit = stats.linregress(x, y) if np.ptp(x) > 0 else None
    correlation.plot(line, line, color="#888888", linewidth=1, linestyle="--", label="identity")
    if fit is not None:
        label = f"y = {fit.slope:.3f} x {'+' if fit.intercept >= 0 else '−'} {abs(fit.intercept):.1f}"
        correlation.plot(line, fit.intercept + fit.slope * line, color=PALETTE[1], linewidth=1.4, label=label)
    correlation.scatter(x, y, s=18, color=PALETTE[0], linewidths=0, alpha=0.85, zorder=3)
    correlation.set(
        xlabel=f"{quantity}, reference [{unit}]",
        ylabel=f"{quantity}, measured [{unit}]",
        xlim=line,
        ylim=line,
        aspect="equal",
    )
    correlation.set_title(
        f"n = {len(found)}{left_out}" + (f",  r = {fit.rvalue:.3f}" if fit is not None else ""), fontsize=9
    )
    correlation.legend(fontsize=8, loc="upper left")

    difference, middle, numbers = y - x, found.mean(axis=1), bland_altman(y, x)
    agreement.axhline(0, color="#888888", linewidth=0.8, linestyle="--")
    levels = (
        (numbers.bias, numbers.bias_low, numbers.bias_high, "mean", PALETTE[0]),
        (numbers.loa_low, numbers.loa_low_low, numbers.loa_low_high, "−1.96 SD", PALETTE[3]),
        (numbers.loa_high, numbers.loa_high_low, numbers.loa_high_high, "+1.96 SD", PALETTE[3]),
    )
    for level, lower, upper, name, colour in levels:
        agreement.axhspan(lower, upper, color=colour, alpha=0.13, linewidth=0)
        agreement.axhline(level, color=colour, linewidth=1.3)
        agreement.annotate(
            f"{name}\n{_signed(level)}",
            (1.01, level),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour,
        )
    agreement.scatter(middle, difference, s=18, color=PALETTE[0], linewidths=0, alpha=0.85, zorder=3)
    agreement.set(xlabel=f"mean of measured and reference [{unit}]", ylabel=f"measured − reference [{unit}]")
    inside = round(numbers.within_limits * numbers.n)
    agreement.set_title(
        f"{_signed(numbers.bias)} ± {Z * numbers.sd:.1f} {unit} (1.96 SD), {inside} of {numbers.n} inside; bands: exact 95 % CI",
        fontsize=9,
    )
    return figure


def reproducibility_boxes(points: pd.DataFrame, value: str = "volume_ml", unit: str = "mL") -> Figure:
    """Fig. 9: repeated measurements of each subject (box and points by scan direction), subjects ordered by their mean.

    Columns: subject, scan_direction (optional) and `value`. Missing values are left out and counted in the title, which gives mean,
    minimum and maximum of the groups' standard deviations (ddof 1).
    """
    found = points[points[value].notna()]
    means = found.groupby("subject")[value].mean().sort_values()
    deviations = found.groupby("subject")[value].std(ddof=1).dropna()
    place = {subject: number for number, subject in enumerate(means.index)}
    figure, axes = new_figure(1, 1, (max(5.0, min(10.5, 0.28 * len(means) + 2)), 3.8))
    axis = axes[0, 0]
    groups = [found.loc[found["subject"] == subject, value].to_numpy() for subject in means.index]
    axis.boxplot(groups, positions=range(len(groups)), widths=0.6, whis=(0, 100), patch_artist=True,
                 boxprops={"facecolor": "#D9D9D9", "linewidth": 0.7}, medianprops={"color": "black"})  # fmt: skip
    directions = found.groupby("scan_direction", sort=True) if "scan_direction" in found else [("scan", found)]
    for number, (direction, rows) in enumerate(directions):
        marker, colour = "osD^v"[number % 5], PALETTE[number % len(PALETTE)]
        axis.scatter(
            rows["subject"].map(place),
            rows[value],
            s=16,
            marker=marker,
            color=colour,
            linewidths=0,
            zorder=3,
            label=str(direction),
        )
    names = list(means.index) if len(means) <= 26 else [""] * len(means)
    axis.set(xlabel="subject, ordered by mean", ylabel=f"head volume [{unit}]", xlim=(-0.7, len(groups) - 0.3))
    axis.set_xticks(range(len(groups)), names, rotation=90, fontsize=7)
    axis.grid(axis="x", visible=False)
    missing = f", {len(points) - len(found)} scans missed" if len(found) < len(points) else ""
    if len(deviations):
        spread = f"SD of a subject's scans: mean {deviations.mean():.1f}, min {deviations.min():.1f}, max {deviations.max():.1f} {unit}"
        axis.set_title(f"{len(means)} subjects, {len(found)} scans{missing}. {spread}", fontsize=9)
    axis.legend(fontsize=8, loc="upper left")
    return figure


def volume_chart(chart: VolumeChart, points: pd.DataFrame | None = None) -> Figure:
    """Centiles of the whole head's volume against gestational age with their 95 % bands; `points` (ga_weeks, volume_ml) are drawn over."""
    figure, axes = new_figure(1, 1, (6.2, 4.0))
    axis = axes[0, 0]
    for centile, rows in chart.table.groupby("centile"):
        colour = PALETTE[0] if centile == 50 else "#777777"
        axis.fill_between(rows["ga_weeks"], rows["ci_low"], rows["ci_high"], color=colour, alpha=0.15, linewidth=0)
        axis.plot(rows["ga_weeks"], rows["volume_ml"], color=colour, linewidth=1.6 if centile == 50 else 0.9)
        last = rows.iloc[-1]
        axis.annotate(f" {centile:g}", (last["ga_weeks"], last["volume_ml"]), va="center", fontsize=8, color=colour)
    if points is not None:
        axis.scatter(points["ga_weeks"], points["volume_ml"], s=14, color=PALETTE[1], linewidths=0, zorder=3)
    axis.set(xlabel="gestational age [weeks]", ylabel="volume of the whole head [mL]")
    axis.set_title(f"n = {chart.n}; centiles with 95 % bands (bootstrap over subjects)", fontsize=9)
    return figure


def ratio_chart(experiment: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Each definition of Adb over the distance that DSC implies, on simulated masks, beside the printed ratios.

    `experiment` as `audit.boundary_experiment` gives it, `printed` with columns dsc and ratio, a row a variant.
    """
    names = {
        "symmetric": "symmetric surface distance",
        "filled": "to the filled mask (0 inside)",
        "eq7_mm3": "Eq. 7, volumes in mm3",
        "eq7_voxels": "Eq. 7, volumes in voxels",
    }
    figure, axes = new_figure(1, 1, (6.6, 4.0))
    axis = axes[0, 0]
    axis.axhspan(printed["ratio"].min(), printed["ratio"].max(), color="#888888", alpha=0.2, linewidth=0)
    finest = experiment["spacing_mm"].min()
    for number, (column, name) in enumerate(names.items()):
        for spacing, rows in experiment.groupby("spacing_mm"):
            colour = PALETTE[number] if spacing == finest else "none"
            axis.scatter(
                100 * rows["dsc"],
                rows[column],
                s=34,
                marker="osD^"[number],
                facecolors=colour,
                edgecolors=PALETTE[number],
                label=name if spacing == finest else None,
            )
    axis.scatter(100 * printed["dsc"], printed["ratio"], s=30, marker="x", color="black", label="printed, Table 1")
    axis.set(xlabel="DSC [%]", ylabel="Adb / distance implied by DSC", yscale="log")
    axis.yaxis.set_major_formatter("{x:g}")
    spacings = sorted(experiment["spacing_mm"].unique())
    fill = f"filled: voxels of {spacings[0]:g} mm, open: {', '.join(f'{s:g}' for s in spacings[1:])} mm"
    axis.set_title(
        f"{len(experiment)} simulated pairs, {fill}; {len(printed)} printed rows (band: their range)", fontsize=8
    )
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")
