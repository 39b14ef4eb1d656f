"""Charts of agreement: correlation and Bland-Altman (Fig. 8), repeated scans (Fig. 9), a volume chart, and definitions of Adb.

Volumes are in mL, distances in mm. Frames and arrays in, matplotlib Figure out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.figures.style import COLUMN, PAGE, PALETTE, SMALL, Look, new_figure
from fhlib.images.volume import Floats
from fhlib.measures.agreement import Agreement, bland_altman
from fhlib.measures.growth import VolumeChart
from fhlib.measures.intervals import Z

MARKERS = "osD^v"
DOTS: Look = {"s": 18, "color": PALETTE[0], "linewidths": 0, "alpha": 0.85, "zorder": 3}
GUIDE: Look = {"color": "#888888", "linestyle": "--"}
"""Lines of what would be perfect."""
MOST_NAMES = 26
"""With more subjects their names would run into each other."""
DEFINITIONS = {
    "symmetric": "symmetric surface distance",
    "filled": "to the filled mask (0 inside)",
    "eq7_mm3": "Eq. 7, volumes in mm3",
    "eq7_voxels": "Eq. 7, volumes in voxels",
}
"""Of Adb: columns of `fhlib.paper.audit.boundary_experiment` and their names."""


def correlation_and_agreement(
    measured: ArrayLike, reference: ArrayLike, unit: str = "mL", quantity: str = "head volume", title: str = ""
) -> Figure:
    """Fig. 8: measured against reference with a least-squares line, and the Bland-Altman plot with confidence intervals.

    Where the difference grows or falls with size (the slope's interval excludes 0), constant limits would be too wide for
    some sizes and off for others: there stand the regression line and parallel limits 1.96 residual SD away from it, and the
    constant ones thin. Numbers and intervals are those of `fhlib.measures.agreement.bland_altman`. Pairs with a missing
    value are left out and counted.

    Args:
        measured: a value a case.
        reference: the expert's, in the same order.
        unit: of both.
        quantity: what was measured.
        title: whose masks were measured.

    Raises:
        ValueError: fewer than 3 pairs of finite values.
    """
    pairs = np.column_stack([np.asarray(measured, float), np.asarray(reference, float)])
    found = pairs[np.isfinite(pairs).all(axis=1)]
    if len(found) < 3:
        raise ValueError(f"agreement needs at least 3 pairs of finite values, got {len(found)} of {len(pairs)}")
    figure, axes = new_figure(1, 2, (PAGE, 4.3), title, gridspec_kw={"width_ratios": [1, 1.25]})
    correlation, agreement = axes[0]

    counted = f"n = {len(found)}"
    if len(found) < len(pairs):
        counted += f", {len(pairs) - len(found)} without a measurement"
    _correlation(correlation, found, counted)
    correlation.set(xlabel=f"{quantity}, reference [{unit}]", ylabel=f"{quantity}, measured [{unit}]")

    _bland_altman(agreement, found, unit)
    agreement.set(xlabel=f"mean of measured and reference [{unit}]", ylabel=f"measured − reference [{unit}]")
    return figure


def _correlation(axis: Axes, pairs: Floats, counted: str) -> None:
    """Pairs (measured, reference) with the line of identity and, where the reference varies, the fitted one."""
    y, x = pairs.T
    low, high = pairs.min(), pairs.max()
    margin = 0.06 * (high - low or 1)
    line = np.array([low - margin, high + margin])
    axis.plot(line, line, linewidth=1, label="identity", **GUIDE)
    if np.ptp(x) > 0:
        fit = stats.linregress(x, y)
        sign = "+" if fit.intercept >= 0 else "−"
        label = f"y = {fit.slope:.2f} x {sign} {abs(fit.intercept):.1f}"
        axis.plot(line, fit.intercept + fit.slope * line, color=PALETTE[1], linewidth=1.4, label=label)
        counted += f", r = {fit.rvalue:.3f}"
    axis.scatter(x, y, **DOTS)
    axis.set(xlim=line, ylim=line, aspect="equal")
    axis.set_title(counted, fontsize=SMALL)
    axis.legend(fontsize=SMALL, loc="upper left")


def _bland_altman(axis: Axes, pairs: Floats, unit: str) -> None:
    """Differences of pairs (measured, reference) over their means, with bias and limits, along a slope where there is one."""
    measured, reference = pairs.T
    means, differences = pairs.mean(axis=1), measured - reference
    numbers = bland_altman(measured, reference)
    axis.axhline(0, linewidth=0.8, **GUIDE)
    axis.scatter(means, differences, **DOTS)
    if numbers.slope_low > 0 or numbers.slope_high < 0:
        _regression_limits(axis, means, differences, numbers, unit)
    else:
        _constant_limits(axis, numbers, unit)


def _constant_limits(axis: Axes, numbers: Agreement, unit: str) -> None:
    """Bias and limits as levels, each with the band of its exact 95 % interval."""
    levels = (
        (numbers.bias, numbers.bias_low, numbers.bias_high, "mean", PALETTE[0]),
        (numbers.loa_low, numbers.loa_low_low, numbers.loa_low_high, "−1.96 SD", PALETTE[3]),
        (numbers.loa_high, numbers.loa_high_low, numbers.loa_high_high, "+1.96 SD", PALETTE[3]),
    )
    for level, low, high, name, colour in levels:
        axis.axhspan(low, high, color=colour, alpha=0.13, linewidth=0)
        axis.axhline(level, color=colour, linewidth=1.3)
        _beside(axis, level, f"{name}\n{_signed(level)}", colour)
    inside = f"{round(numbers.within_limits * numbers.n)} of {numbers.n} inside"
    spread = f"{_signed(numbers.bias)} ± {Z * numbers.sd:.1f} {unit} (1.96 SD), {inside}"
    axis.set_title(f"{spread}\nbands: exact 95 % CI", fontsize=SMALL)


def _regression_limits(axis: Axes, means: Floats, differences: Floats, numbers: Agreement, unit: str) -> None:
    """The regression of differences on means, and limits parallel to it (Bland and Altman 1999, section 3.2)."""
    fit = stats.linregress(means, differences)
    residual_sd = np.sqrt(np.sum((differences - fit.intercept - fit.slope * means) ** 2) / (numbers.n - 2))
    reach = 0.04 * np.ptp(means)
    ends = np.array([means.min() - reach, means.max() + reach])
    for offset, name, colour in ((0, "fit", PALETTE[0]), (-Z, "−1.96 SD", PALETTE[3]), (Z, "+1.96 SD", PALETTE[3])):
        line = fit.intercept + fit.slope * ends + offset * residual_sd
        axis.plot(ends, line, color=colour, linewidth=1.5)
        _beside(axis, line[1], name, colour)
    for level in (numbers.bias, numbers.loa_low, numbers.loa_high):
        axis.axhline(level, color="#888888", linewidth=0.8, linestyle=":", zorder=1)
    axis.set(xlim=ends)
    slope = f"slope {fit.slope:.2f} ({numbers.slope_low:.2f} to {numbers.slope_high:.2f})".replace("-", "−")
    constant = f"{_signed(numbers.bias)} ± {Z * numbers.sd:.1f} {unit}"
    axis.set_title(
        f"{slope}: the error changes with size\nlimits ± {Z * residual_sd:.1f} {unit}; dotted, ignoring it: {constant}",
        fontsize=SMALL,
    )


def _beside(axis: Axes, level: float, words: str, colour: str) -> None:
    axis.annotate(
        words.replace("-", "−"),
        (1.01, level),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=SMALL,
        color=colour,
    )


def repeated_measurements(points: pd.DataFrame, value: str = "volume_ml", unit: str = "mL", title: str = "") -> Figure:
    """Fig. 9: repeated measurements of each subject as points and their range, subjects ordered by their mean.

    A box of three scans would show quartiles that nobody measured. Missing values are left out and counted above, with mean
    and largest of the subjects' standard deviations (ddof 1).

    Args:
        points: subject, scan_direction (optional) and the value, a row a scan.
        value: name of its column.
        unit: of the value.
        title: whose masks were measured.
    """
    found = points[points[value].notna()]
    by_subject = found.groupby("subject")[value]
    ranges = by_subject.agg(["mean", "min", "max"]).sort_values("mean")
    figure, axes = new_figure(1, 1, (np.clip(0.28 * len(ranges) + 2, COLUMN, PAGE), 4.6), title)
    axis = axes[0, 0]
    axis.vlines(
        range(len(ranges)), ranges["min"], ranges["max"], color="#999999", linewidth=2.5, label="range", zorder=2
    )
    axis.plot(ranges["mean"].to_numpy(), "_", color="black", markersize=11, markeredgewidth=1.2, label="mean", zorder=2)
    place = pd.Series(range(len(ranges)), ranges.index)
    directions = found.get("scan_direction", pd.Series("scan", found.index))
    for number, (direction, rows) in enumerate(found.groupby(directions)):
        marker, colour = MARKERS[number % len(MARKERS)], PALETTE[number % len(PALETTE)]
        dots = {"s": 26, "linewidths": 0.6, "edgecolors": "white", "zorder": 3}
        aside = 0.16 * (number - (directions.nunique() - 1) / 2)  # so that equal volumes do not hide each other
        axis.scatter(
            rows["subject"].map(place) + aside, rows[value], marker=marker, color=colour, label=str(direction), **dots
        )

    names = list(ranges.index) if len(ranges) <= MOST_NAMES else [""] * len(ranges)
    axis.set(xlabel="subject, ordered by mean", ylabel=f"head volume [{unit}]", xlim=(-0.7, len(ranges) - 0.3))
    axis.set_xticks(range(len(ranges)), names, rotation=90, fontsize=SMALL)
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL, handletextpad=0.2, columnspacing=1.0)
    axis.set_title(
        _spread_of_repeats(by_subject.std(ddof=1).dropna(), len(ranges), len(found), len(points), unit), fontsize=SMALL
    )
    return figure


def _spread_of_repeats(deviations: pd.Series, subjects: int, found: int, scans: int, unit: str) -> str:
    missed = f", {scans - found} missed" if found < scans else ""
    counted = f"n = {subjects} subjects, {found} scans{missed}"
    if deviations.empty:
        return counted
    spread = f"mean {deviations.mean():.1f}, min {deviations.min():.1f}, max {deviations.max():.1f} {unit}"
    return f"{counted}\nSD of a subject's scans: {spread}"


def volume_chart(chart: VolumeChart, points: pd.DataFrame | None = None) -> Figure:
    """Centiles of the whole head's volume against gestational age with their 95 % bands.

    `points` (columns ga_weeks, volume_ml) are drawn over it.
    """
    figure, axes = new_figure(1, 1, (6.2, 4.0))
    axis = axes[0, 0]
    for centile, rows in chart.table.groupby("centile"):
        colour, width = (PALETTE[0], 1.6) if centile == 50 else ("#777777", 0.9)
        axis.fill_between(rows["ga_weeks"], rows["ci_low"], rows["ci_high"], color=colour, alpha=0.15, linewidth=0)
        axis.plot(rows["ga_weeks"], rows["volume_ml"], color=colour, linewidth=width)
        last = rows.iloc[-1]
        axis.annotate(f" {centile:g}", (last["ga_weeks"], last["volume_ml"]), va="center", fontsize=8, color=colour)
    if points is not None:
        axis.scatter(points["ga_weeks"], points["volume_ml"], s=14, color=PALETTE[1], linewidths=0, zorder=3)
    axis.set(xlabel="gestational age [weeks]", ylabel="volume of the whole head [mL]")
    axis.set_title(f"n = {chart.n}; centiles with 95 % bands (bootstrap over subjects)", fontsize=9)
    return figure


def ratio_chart(experiment: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Each definition of Adb over the distance that DSC implies, on simulated masks, beside the printed ratios.

    `experiment` as `fhlib.paper.audit.boundary_experiment` gives it; `printed` with columns dsc and ratio, a row a
    variant.
    """
    figure, axes = new_figure(1, 1, (6.6, 4.0))
    axis = axes[0, 0]
    axis.axhspan(printed["ratio"].min(), printed["ratio"].max(), color="#888888", alpha=0.2, linewidth=0)
    long = experiment.melt(["dsc", "spacing_mm"], list(DEFINITIONS), "definition", "ratio")
    finest, *coarser = sorted(experiment["spacing_mm"].unique())
    for (definition, spacing), rows in long.groupby(["definition", "spacing_mm"], sort=False):
        number = list(DEFINITIONS).index(definition)
        dots = {"s": 34, "marker": MARKERS[number], "edgecolors": PALETTE[number], "facecolors": "none"}
        if spacing == finest:
            dots |= {"facecolors": PALETTE[number], "label": DEFINITIONS[definition]}
        axis.scatter(100 * rows["dsc"], rows["ratio"], **dots)
    axis.scatter(100 * printed["dsc"], printed["ratio"], s=30, marker="x", color="black", label="printed, Table 1")

    axis.set(xlabel="DSC [%]", ylabel="Adb / distance implied by DSC", yscale="log")
    axis.yaxis.set_major_formatter("{x:g}")
    fill = f"filled: voxels of {finest:g} mm, open: {', '.join(f'{step:g}' for step in coarser)} mm"
    counted = f"{len(experiment)} simulated pairs, {fill}; {len(printed)} printed rows (band: their range)"
    axis.set_title(counted, fontsize=8)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")
