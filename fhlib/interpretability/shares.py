"""How much of each module's attention lies in a region of the image, against chance.

The regions are the inside of the head, its boundary, the part of that without a visible edge, and the outside. The weights
of Eq. 4 sum to 1 over the channels of every voxel. So their sum says nothing about a place. Three maps do (`MEASURES`):

- `passed features`: the factor, between 0 and 1, by which a module's features pass (Eq. 3 and 4). It is the sum over
  channels of |P| A, divided by that of |P|. The paper's words are about this:
  "enhance the semantic features of fetal head boundary in P with higher a".
- `strongest weight`: the largest weight of the channels; how decided a module is.
- `boundary channel`: the weight of the one channel most aligned with the boundary. It is chosen on other scans than those
  it is measured on.

The share of a region is a map's sum over the region divided by that over the image. Chance is the region's share of the
image. That is the mean over all permutations of the voxels, and also over all shifts of the mask.

The spread comes from the shifts. The mask is moved to every place of the image, leaving at one side, entering at the
other. Neighbouring voxels go together, and a permutation would call every smooth map a finding. A shifted mask cannot tell
a map that favours the middle of any scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.fft
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.figures.style import PALETTE, new_figure
from fhlib.files import progress, write_csv
from fhlib.images.volume import Volume
from fhlib.interpretability.cases import CaseReader, ExploredCase, cases_of
from fhlib.interpretability.summaries import boundary_channel, slabs
from fhlib.networks.features import Features, on_image_grid

PAPER_SENTENCES = {
    "boundary": "With the attention mechanism, H(theta) will learn to indicate and enhance the semantic features of "
    "fetal head boundary in P(X) with higher a, while suppress the non-head regions with lower attention values "
    "(section 2.4).",
    "shadowed boundary": "The maps produced by USegNet-DS-HAS are compact and high around the whole fetal head, even "
    "in the severely occluded spots (section 3, on Fig. 7).",
}
REGIONS = ("inside", "boundary", "shadowed boundary", "outside")
MEASURES = ("passed features", "strongest weight", "boundary channel")
BAND_MM = 3.0
VISIBLE_CONTRAST = 0.05
"""Grey step, as a share of the image's range, from which an edge counts as visible: 3 dB of a display of 60 dB."""
CHANNEL_CASES = 4
RESAMPLES = 2000
SHOWN_RATIOS = (0.05, 20.0)
FINE_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2)
COARSE_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
NUMBERS = ("share", "chance", "shift_low", "shift_high", "p_high")
COLUMNS = ("model", "module", "measure", "channel", "case", "subject", "region", *NUMBERS)
OF_A_MAP = ("model", "module", "measure", "region")
OVER_CASES = ("n", "share", "chance", "ratio", "ratio_low", "ratio_high", "above", "below")


def head_regions(image: Volume, reference: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Masks of `REGIONS` on the image's grid. Inside, boundary and outside make up the image.

    The boundary is a band of 3 mm, at least one voxel, on either side of the outline. Shadowed is the part of it that shows
    no edge. There the smoothed grey value changes by less than 5 % of the image's range. It is followed over the band's
    width, along the outline's normal. `image` is scaled to 0-1 as the network reads it.

    Raises ValueError where the reference is empty or fills the image.
    """
    if reference.all() or not reference.any():
        raise ValueError(
            "attention shares need a head and something around it: the reference is empty or fills the image"
        )
    spacing = image.spacing_mm
    half_mm = max(BAND_MM, *spacing)
    to_outside, to_inside = (ndimage.distance_transform_edt(mask, sampling=spacing) for mask in (reference, ~reference))
    band = np.where(reference, to_outside, to_inside) <= half_mm
    signed = ndimage.gaussian_filter(to_inside - to_outside, [half_mm / step for step in spacing])
    grey = ndimage.gaussian_filter(np.asarray(image.array, float), [0.5 * half_mm / step for step in spacing])
    normal, slope = np.gradient(signed, *spacing), np.gradient(grey, *spacing)
    length = np.sqrt(sum(part**2 for part in normal))
    across = np.abs(sum(n * s for n, s in zip(normal, slope, strict=True))) / np.maximum(length, 1e-9)
    contrast = 2 * half_mm * across
    return {
        "inside": reference & ~band,
        "boundary": band,
        "shadowed boundary": band & (contrast < VISIBLE_CONTRAST),
        "outside": ~reference & ~band,
    }


def measured_maps(features: Features, module: str, channel: int) -> dict[str, NDArray[np.float32]]:
    """The maps of `MEASURES` of one module on the image's grid.

    Args:
        features: of one scan by one model.
        module: such as `SAM-3`.
        channel: the boundary channel.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in MEASURES}
    for (_, weights), (_, shrunk) in zip(slabs(features, module, "A"), slabs(features, module, "P"), strict=True):
        sizes = np.abs(shrunk)
        parts["passed features"].append((sizes * weights).sum(axis=0) / np.maximum(sizes.sum(axis=0), 1e-12))
        parts["strongest weight"].append(weights.max(axis=0))
        parts["boundary channel"].append(weights[channel])
    return {name: on_image_grid(np.concatenate(found), features.image.shape) for name, found in parts.items()}


def spectra(regions: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.complexfloating]]:
    """Conjugate Fourier transforms of the masks: with them the shares under all shifts of a mask take one transform more."""
    return {name: np.conj(scipy.fft.rfftn(mask.astype(np.float64))) for name, mask in regions.items()}


def shares(
    values: NDArray[Any],
    regions: Mapping[str, NDArray[np.bool_]],
    transformed: Mapping[str, NDArray[np.complexfloating]] | None = None,
) -> list[dict[str, Any]]:
    """Share of a map in each region, beside chance: a row a region.

    - `share`, and `chance`, the region's share of the voxels;
    - `shift_low` and `shift_high`: 2.5th and 97.5th percentile of the share under all cyclic shifts of the region;
    - `p_high`: part of these shifts, its own place among them, whose share is at least as large.

    A region without voxels has none of these (nan).

    Args:
        values: the map, on the image's grid.
        regions: masks by name.
        transformed: the regions' `spectra`, where they are at hand.
    """
    transformed = transformed or spectra(regions)
    spectrum = scipy.fft.rfftn(np.asarray(values, np.float64))
    total = float(np.sum(values, dtype=float))
    rows = []
    for name, mask in regions.items():
        numbers = [np.nan] * len(NUMBERS)
        if mask.any() and total > 0:
            moved = scipy.fft.irfftn(spectrum * transformed[name], values.shape) / total
            share = float(values[mask].sum(dtype=float)) / total
            low, high = map(float, np.percentile(moved, (2.5, 97.5)))
            as_large = float((moved >= share - 1e-9).mean())
            numbers = [share, float(mask.mean()), low, high, as_large]
        rows.append({"region": name, **dict(zip(NUMBERS, numbers, strict=True))})
    return rows


def attention_shares(reader: CaseReader, cases: Sequence[str] | None = None) -> pd.DataFrame:
    """Shares of every module of every model that has attention, over all test cases with a head (or `cases`).

    A row for each model, module, measure, case and region: the columns of `shares`, and `ratio` = share / chance. The
    boundary channel of a module is the one chosen most often on up to four validation scans. Where none validate, these
    are training scans.
    """
    chosen = _boundary_channels(reader)
    tests = list(cases) if cases is not None else reader.test_cases
    subjects = reader.table.set_index("case")["subject"]
    rows = []
    for case in progress(tests, "attention", total=len(tests)):
        explored = reader.read(case)
        assert explored.reference is not None
        reference = explored.reference.array > 0
        if reference.any() and not reference.all():
            subject = subjects[case]
            rows += [{**row, "case": case, "subject": subject} for row in _shares_of_case(explored, reference, chosen)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.assign(ratio=frame["share"] / frame["chance"])


def _shares_of_case(
    explored: ExploredCase, reference: NDArray[np.bool_], chosen: Mapping[tuple[str, str], int]
) -> Iterator[dict[str, Any]]:
    regions = head_regions(next(iter(explored.models.values())).image, reference)
    transformed = spectra(regions)
    for name, features in explored.models.items():
        for module in sorted(features.attention):
            channel = chosen[name, module]
            for measure, values in measured_maps(features, module, channel).items():
                shown = channel if measure == "boundary channel" else -1
                of_all = {"model": name, "module": module, "measure": measure, "channel": shown}
                for row in shares(values, regions, transformed):
                    yield of_all | row


def _boundary_channels(reader: CaseReader) -> dict[tuple[str, str], int]:
    votes: dict[tuple[str, str], list[int]] = {}
    for case in cases_of(reader.table, ("val", "train"), CHANNEL_CASES):
        explored = reader.read(case)
        assert explored.reference is not None
        for name, features in explored.models.items():
            for module, weights in features.attention.items():
                votes.setdefault((name, module), []).append(boundary_channel(weights, explored.reference.array > 0))
    return {key: int(np.bincount(found).argmax()) for key, found in votes.items()}


def summarise_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the cases, a row for each model, module, measure and region.

    - `n` cases, mean `share` and `chance`, and their `ratio`;
    - `ratio_low` and `ratio_high`: its 95 % interval, percentiles of 2000 bootstrap samples of the cases, seeded;
    - `above` and `below`: the part of the cases whose share lies above or below 97.5 % of the shifted masks.
    """
    rows = []
    for key, group in table.dropna(subset=["share"]).groupby(list(OF_A_MAP), sort=False):
        drawn = np.random.default_rng(0).integers(len(group), size=(RESAMPLES, len(group)))
        share, chance = group["share"].to_numpy(), group["chance"].to_numpy()
        low, high = np.percentile(share[drawn].sum(axis=1) / chance[drawn].sum(axis=1), (2.5, 97.5))
        above, below = (share > group["shift_high"]).mean(), (share < group["shift_low"]).mean()
        ratio = share.mean() / chance.mean()
        rows.append((*key, len(group), share.mean(), chance.mean(), ratio, low, high, above, below))
    return pd.DataFrame(rows, columns=[*OF_A_MAP, *OVER_CASES])


def shares_of_run(reader: CaseReader) -> pd.DataFrame:
    """`summarise_shares` of all test cases; empty where no model has attention modules.

    Writes tables/attention_shares.csv and attention_summary.csv.
    """
    if not reader.has_attention:
        return summarise_shares(pd.DataFrame(columns=list(COLUMNS)))
    table = attention_shares(reader)
    summary = summarise_shares(table)
    write_csv(table, reader.study.tables / "attention_shares.csv")
    write_csv(summary, reader.study.tables / "attention_summary.csv")
    return summary


def ratios(summary: pd.DataFrame, measure: str = MEASURES[0]) -> pd.DataFrame:
    """The ratios of a measure: a row a module, a column a region."""
    rows = summary[summary["measure"] == measure]
    return rows.pivot(index=["model", "module"], columns="region", values="ratio")


def beside_paper(summary: pd.DataFrame, measure: str = MEASURES[0]) -> pd.DataFrame:
    """The paper's sentences beside what a measure shows: a row for each model and sentence.

    A module agrees where the 95 % interval of its ratio lies above 1 (boundary, shadowed boundary), below 1 (outside).
    Those that do so beyond the shifted masks in at least half of the cases are named after them.
    """
    rows = []
    for model, group in summary[summary["measure"] == measure].groupby("model", sort=False):
        for region, sentence in PAPER_SENTENCES.items():
            at, outside = (group[group["region"] == name] for name in (region, "outside"))
            higher, lower = at[at["ratio_low"] > 1], outside[outside["ratio_high"] < 1]
            above = f"above chance in {len(higher)} of {len(at)} modules{_named(higher, 'above')}"
            below = f"below chance in {len(lower)} of {len(outside)}{_named(lower, 'below')}"
            obtained = f"{region}: ratio {_span(at['ratio'])}, {above}"
            if region == "boundary":
                obtained += f"; outside: ratio {_span(outside['ratio'])}, {below}"
            rows.append({"model": model, "the paper": sentence, "here": obtained})
    return pd.DataFrame(rows, columns=["model", "the paper", "here"])


def _span(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "none"


def _named(rows: pd.DataFrame, side: str) -> str:
    """Modules that agree; after a semicolon those whose share exceeds the shifted masks in at least half of the cases."""
    if not len(rows):
        return ""
    beyond = rows.loc[rows[side] >= 0.5, "module"]
    return f" ({', '.join(rows['module'])}; beyond shifted masks: {', '.join(beyond) or 'none'})"


def shares_figure(summary: pd.DataFrame) -> Figure | None:
    """Ratio of share to chance and its 95 % interval over the cases, logarithmic, cut to 0.05-20.

    Rows are models, columns measures. A module without a mark has no weight in the channel that was chosen. None for an
    empty summary.
    """
    if summary.empty:
        return None
    models = list(dict.fromkeys(summary["model"]))
    figure, axes = new_figure(len(models), len(MEASURES), (11.0, 2.7 * len(models) + 0.6), sharex=True)
    modules = sorted(summary["module"].unique())
    for row, model in zip(axes, models, strict=True):
        for axis, measure in zip(row, MEASURES, strict=True):
            _draw_ratios(axis, summary[(summary["model"] == model) & (summary["measure"] == measure)], modules)
            if axis.get_subplotspec().is_first_row():
                axis.set_title(measure, fontsize=9)
        row[0].set_ylabel(f"{model}\nshare / chance", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(REGIONS) + 1, fontsize=8)
    return figure


def _draw_ratios(axis: Axes, found: pd.DataFrame, modules: Sequence[str]) -> None:
    axis.axhline(1, color="#444444", linewidth=1, linestyle="dashed", label="chance")
    place = {name: number for number, name in enumerate(modules)}
    for number, (region, marker) in enumerate(zip(REGIONS, "osDv", strict=True)):
        rows = found[found["region"] == region]
        x = rows["module"].map(place).to_numpy(float) + 0.16 * (number - 1.5)
        ratio = rows["ratio"].clip(*SHOWN_RATIOS)
        reach = [ratio - rows["ratio_low"].clip(*SHOWN_RATIOS), rows["ratio_high"].clip(*SHOWN_RATIOS) - ratio]
        error = np.array(reach, float).clip(0)
        axis.errorbar(x, ratio, error, fmt=marker, color=PALETTE[number], markersize=4.5, linewidth=1.2, label=region)
    axis.set_yscale("log")
    low, high = min(axis.get_ylim()[0], 0.9), max(axis.get_ylim()[1], 1.1)
    ticks = FINE_TICKS if high / low < 4 else COARSE_TICKS
    shown = [tick for tick in ticks if low <= tick <= high]
    axis.set_ylim(low, high)
    axis.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axis.minorticks_off()
    axis.set_xticks(range(len(modules)), list(modules), fontsize=8)
