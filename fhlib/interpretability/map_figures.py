"""Figures of attention maps (Eq. 3 and 4): all modules of a model, and one module before and after.

Each map has its own resolution, its own scale and a colour bar of its own. It is drawn in blocks as large as its voxels, or
smooth, which its title then says. What lies in the network's padding is left out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from fhlib.figures.planes import KEPT_AXES, Panel, centre_of, contour_legend, cut_array, scale_bar
from fhlib.figures.style import PAGE, SMALL, new_figure
from fhlib.images.volume import Mask
from fhlib.interpretability.summaries import (
    ATTENTION_MAP,
    DECIDED,
    PARTS,
    SIGNED_MAP,
    SMALLEST,
    Reference,
    boundary_channel,
    colour_limits,
    log_limits,
    mask_of,
    percent_of,
    summary_map,
    summary_words,
    without_padding,
)
from fhlib.networks.features import Features, repeats

CELL_INCH, WIDEST_INCH, BAR_INCH = 2.4, PAGE - 0.2, 0.1
LETTER_INCH = 0.07
"""Width of a letter of the size SMALL, on average."""
NOTHING = 1e-4
"""A weight that is smaller everywhere is said, since its colours would look like a finding."""


@dataclass(frozen=True)
class Column:
    """A map at its own resolution, (d', h', w') or (h', w'), its colours, and the words above and below it."""

    title: str
    values: NDArray[np.float32]
    factors: tuple[int, ...]
    norm: Normalize
    cmap: str
    label: str


def attention_maps(
    features: Features,
    modules: Sequence[str] | None = None,
    summary: str = "rest",
    reference: Reference = None,
    smooth: bool = False,
) -> Figure:
    """Attention of each module (Eq. 4), reduced over its channels; rows are planes, columns modules.

    By default what the strongest channel leaves to the others, on a logarithmic scale. The softmax of trained modules is
    saturated: one channel has nearly all the weight, and the maximum is 1 almost everywhere. In how many voxels it is
    stands above each module.

    Args:
        features: of one scan by one model.
        modules: by default all.
        summary: as in `summarise`; or `boundary`, of each module the channel most aligned with the outline.
        reference: true mask; without it the outline is the one found.
        smooth: draw maps smooth, which is then said.
    """
    masks, outline = _masks(features, reference)
    columns = []
    for name in modules or sorted(features.attention):
        attention = features.attention[name]
        chosen = str(boundary_channel(attention, outline)) if summary == "boundary" else summary
        values = without_padding(summary_map(features, name, chosen), features.image.shape).astype(np.float32)
        logarithmic = chosen == "rest"
        factors = repeats(attention.shape[1:], features.image.shape)
        title = f"{name} ({_size(factors)})"
        if chosen.isdigit():
            title += f"\nchannel {chosen} > 0.5\nin {percent_of(values > 0.5)}"
        else:
            title += f"\na channel > {DECIDED:.0%}\nin {percent_of(_decided(values, features, name, chosen))}"
        limits = log_limits(values) if logarithmic else colour_limits(values)
        label = summary_words("rest") if logarithmic else "weight" if chosen.isdigit() else summary_words(chosen)
        if not logarithmic and values.max() < NOTHING:
            label = f"at most {max(float(values.max()), SMALLEST):.0g} anywhere"
        columns.append(Column(title, values, factors, _norm(limits, logarithmic), ATTENTION_MAP, label))
    return _map_grid(features, columns, masks, centre_of(outline), smooth)


def before_and_after(
    features: Features, module: str, channel: int | str, reference: Reference = None, smooth: bool = False
) -> Figure:
    """P, A and T of one module (Eq. 3 and 4): what comes in, how it is weighed, what goes on.

    P and T share one scale, so that T shows what the attention lets through.

    Args:
        features: of one scan by one model.
        module: such as `SAM-3`.
        channel: its number, or a summary as in `summarise`.
        reference: true mask.
        smooth: draw maps smooth, which is then said.
    """
    masks, outline = _masks(features, reference)
    chosen = str(channel)
    signed = chosen.isdigit()
    factors = repeats(features.attention[module].shape[1:], features.image.shape)
    maps = {part: without_padding(summary_map(features, module, chosen, part), features.image.shape) for part in PARTS}
    shared = Normalize(*colour_limits(maps["P"], signed))
    columns = []
    for part, title in PARTS.items():
        values = maps[part].astype(np.float32)
        if part == "A":
            share = f"\n> 0.5 in {percent_of(values > 0.5)}" if signed else ""
            norm, colours, label = Normalize(*colour_limits(values)), ATTENTION_MAP, "weight (0 to 1)"
        else:
            share = ""
            norm, colours, label = shared, SIGNED_MAP if signed else ATTENTION_MAP, "feature (no unit; P and T alike)"
        title = f"{module}, {title}\n{summary_words(chosen)}{share}"
        columns.append(Column(title, values, factors, norm, colours, label))
    return _map_grid(features, columns, masks, centre_of(outline), smooth)


def _map_grid(
    features: Features, columns: Sequence[Column], masks: Sequence[Mask], point: Sequence[int], smooth: bool
) -> Figure:
    """Planes of the image and of each map, the maps' colour bars below them."""
    panel = Panel(features.image, point, masks, title="image")
    heights_mm, wide_mm = panel.sizes_mm[:, 0], panel.sizes_mm[:, 1].max()
    cell = min(CELL_INCH, WIDEST_INCH / (len(columns) + 1))
    size = (cell * (len(columns) + 1) + 0.2, heights_mm.sum() * cell / wide_mm + 2.1)
    letters = int(cell / LETTER_INCH)
    ratios = [*heights_mm, BAR_INCH * wide_mm / cell]
    figure, grid = new_figure(len(ratios), len(columns) + 1, size, gridspec_kw={"height_ratios": ratios})
    axes, bars = grid[:-1], grid[-1]
    bars[0].remove()

    for axis, cut in zip(axes[:, 0], panel.cuts, strict=True):
        panel.draw(axis, cut, linewidth=1.0)
    axes[0, 0].set_title("image", fontsize=SMALL)
    scale_bar(axes[0, 0])

    for number, column in enumerate(columns, start=1):
        for axis, cut in zip(axes[:, number], panel.cuts, strict=True):
            _draw_map(axis, panel, column, cut, smooth)
        lines = [*column.title.split("\n"), *(["drawn smooth"] if smooth else [])]
        axes[0, number].set_title("\n".join(textwrap.fill(line, letters) for line in lines), fontsize=SMALL)
        bar = figure.colorbar(ScalarMappable(column.norm, column.cmap), cax=bars[number], orientation="horizontal")
        bar.set_label(textwrap.fill(column.label, letters - 2), fontsize=SMALL)
        bar.ax.minorticks_off()
        if isinstance(column.norm, LogNorm):
            bar.set_ticks(LogLocator(numticks=4))
        elif column.values.max() < NOTHING:
            bar.set_ticks([])
        else:
            bar.ax.locator_params(nbins=3)
    contour_legend(figure, ["reference"] * len(masks))
    return figure


def _draw_map(axis: Axes, panel: Panel, column: Column, cut: int | None, smooth: bool) -> None:
    """A map's plane where it lies on the image, and the image's outlines over it."""
    panel.draw(axis, cut, linewidth=1.0)
    axis.images[0].remove()  # the grey plane has set the frame
    point = [value // factor for value, factor in zip(panel.point, column.factors, strict=True)]
    down, across = KEPT_AXES[cut]
    spacing_mm = panel.volume.spacing_mm
    shown = cut_array(column.values, cut, point)
    reach = (
        shown.shape[1] * column.factors[across] * spacing_mm[across],
        shown.shape[0] * column.factors[down] * spacing_mm[down],
    )
    axis.imshow(
        shown, cmap=column.cmap, norm=column.norm, extent=(0, reach[0], reach[1], 0), zorder=0,
        interpolation="bilinear" if smooth else "nearest",
    )  # fmt: skip
    left, right, bottom, top = panel.extent(cut)
    axis.set(xlim=(left, right), ylim=(bottom, top))


def _decided(values: NDArray[np.float32], features: Features, module: str, summary: str) -> NDArray[np.bool_]:
    """Voxels in which one channel has at least `DECIDED` of the weight."""
    if summary == "rest":
        return values <= 1 - DECIDED
    return without_padding(summary_map(features, module, "rest"), features.image.shape) <= 1 - DECIDED


def _masks(features: Features, reference: Reference) -> tuple[list[Mask], Mask]:
    """The masks that are drawn; and the one that tells where the head is, which without a reference is the found one."""
    mask = mask_of(reference)
    if mask is None:
        return [], np.asarray(features.probability.array > 0.5)
    return [mask], mask


def _norm(limits: tuple[float, float], logarithmic: bool) -> Normalize:
    return LogNorm(*limits, clip=True) if logarithmic else Normalize(*limits, clip=True)


def _size(factors: Sequence[int]) -> str:
    return "full size" if max(factors) == 1 else f"1/{max(factors)} size"
