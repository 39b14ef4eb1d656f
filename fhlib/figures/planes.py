"""Pictures of volumes: orthogonal planes, galleries, contours and probability maps. Arrays in, matplotlib Figure out.

One style for all figures of the study: seaborn's colour-blind safe palette, units on axes, sizes that stay legible on a printed page.
A volume is anything with `array` ((d, h, w) or (h, w)) and `spacing_mm` along the array's axes. Slices are drawn at true aspect ratio,
the first axis of a slice downwards. Figures are closed for pyplot, so that a notebook shows the one it returns once and memory is freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.figures.style import CONTOURS, new_figure

AXES = "dhw"
PROBABILITY_MAP = "magma"


def planes(
    volume: Any,
    contours: Mapping[str, Any] | None = None,
    probability: Any = None,
    crosshair: Sequence[int] | None = None,
    title: str | None = None,
    window: tuple[float, float] | None = None,
) -> Figure:
    """Three orthogonal planes of a volume (an image: one panel), with contours of masks and an optional probability overlay.

    `contours`: name -> boolean array or Volume of the volume's shape. `probability` (0 to 1) is blended in, opaque where it is high.
    `crosshair`: voxel index at which the planes are taken, drawn as thin lines; by default the first mask's centre of mass
    (else the volume's centre), not drawn. `window`: grey levels of black and white.
    """
    array, masks = _array(volume), {name: _mask(mask) for name, mask in (contours or {}).items()}
    for name, mask in masks.items():
        _require_shape(mask, array, f"contour {name!r}")
    point = tuple(crosshair) if crosshair is not None else centre_of(next(iter(masks.values())) if masks else array)
    cuts = _cuts(array.ndim)
    widths = [_panel_mm(volume, cut)[1] for cut in cuts]
    height = max(_panel_mm(volume, cut)[0] for cut in cuts)
    scale = min(9.0 / sum(widths), 4.2 / height)
    size = (sum(widths) * scale + (0.9 if probability is not None else 0.2), height * scale + (0.9 if title else 0.6))
    figure, axes = new_figure(1, len(cuts), size, gridspec_kw={"width_ratios": widths})
    overlay = None
    for axis, cut in zip(axes[0], cuts, strict=True):
        draw_slice(axis, volume, cut, point, window)
        if probability is not None:
            overlay = _overlay(axis, volume, cut_array(_array(probability), cut, point), cut)
        for number, mask in enumerate(masks.values()):
            draw_contour(axis, volume, cut_array(mask, cut, point), cut, number)
        if crosshair is not None:
            draw_crosshair(axis, volume, cut, point)
        axis.set_title(_slice_name(volume, cut, point), fontsize=8)
    scale_bar(axes[0, 0], volume)
    if overlay is not None:
        figure.colorbar(overlay, ax=list(axes[0]), shrink=0.8, pad=0.01, label="probability of head")
    contour_legend(figure, list(masks))
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def gallery(
    volumes: Sequence[Any],
    labels: Sequence[str],
    masks: Sequence[Any] | None = None,
    columns: int = 4,
    cut: int | None = 1,
    title: str | None = None,
) -> Figure:
    """One slice of each volume, with its label above and, where given, its mask's contour.

    Volumes are shown at one common scale; images, whose zoom differs, each at its own and without a scale bar.

    `cut` is the array axis that is cut (1: the slice along d and w), through the mask's centre of mass or the middle.
    """
    if len(volumes) != len(labels):
        raise ValueError(
            f"a gallery needs one label for each volume, got {len(labels)} labels for {len(volumes)} volumes"
        )
    columns = max(1, min(columns, len(volumes)))
    rows = -(-len(volumes) // columns)
    cut = cut if volumes and _array(volumes[0]).ndim == 3 else None
    high, wide = np.max([_panel_mm(volume, cut) for volume in volumes], axis=0)
    cell = min(2.6, 9.5 / columns)
    figure, axes = new_figure(rows, columns, (cell * columns, (cell * high / wide + 0.35) * rows + 0.3))
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (axis, volume, label) in enumerate(zip(axes.flat, volumes, labels, strict=False)):
        mask = _mask(masks[number]) if masks is not None and masks[number] is not None else None
        point = centre_of(mask if mask is not None else _array(volume))
        draw_slice(axis, volume, cut, point)
        if cut is not None:
            tall, broad = _panel_mm(volume, cut)
            axis.set(xlim=(broad / 2 - wide / 2, broad / 2 + wide / 2), ylim=(tall / 2 + high / 2, tall / 2 - high / 2))
        if mask is not None:
            draw_contour(axis, volume, cut_array(mask, cut, point), cut, 0)
        axis.set_title(label, fontsize=8)
    if cut is not None:
        scale_bar(axes[0, 0], volumes[0])
    figure.suptitle(f"{title + ': ' if title else ''}n = {len(volumes)}", fontsize=9)
    return figure


def tissues_beside_echo(tissues: Any, image: Any, names: Sequence[str], mask: Any = None) -> Figure:
    """Three orthogonal planes through a mask's centre: the tissue of each voxel (an index into `names`) above, its echo below.

    Colours are given in the order of the tissues' share of what is shown, the largest first; the legend names them.
    """
    indices = _array(tissues)
    point = centre_of(_mask(mask) if mask is not None else np.ones(indices.shape, bool))
    cuts = _cuts(indices.ndim)
    seen = np.concatenate([cut_array(indices, cut, point).ravel() for cut in cuts])
    present = np.unique(seen)[np.argsort(-np.unique(seen, return_counts=True)[1])]
    colours = np.vstack([matplotlib.colormaps[name](np.linspace(0, 1, 20)) for name in ("tab20", "tab20b")])
    lookup = np.zeros((len(names), 4))
    for place, index in enumerate(present):
        lookup[index] = colours[place % len(colours)]
    widths = [_panel_mm(image, cut)[1] for cut in cuts]
    height = max(_panel_mm(image, cut)[0] for cut in cuts)
    scale = min(7.5 / sum(widths), 3.6 / height)
    size = (sum(widths) * scale + 2.2, 2 * height * scale + 0.6)
    figure, axes = new_figure(2, len(cuts), size, gridspec_kw={"width_ratios": widths})
    for (above, below), cut in zip(axes.T, cuts, strict=True):
        high_mm, wide_mm = _panel_mm(image, cut)
        above.imshow(lookup[cut_array(indices, cut, point)], extent=(0, wide_mm, high_mm, 0), interpolation="nearest")
        above.set(xticks=[], yticks=[], title=_slice_name(image, cut, point))
        above.title.set_fontsize(8)
        above.spines[:].set_visible(False)
        draw_slice(below, image, cut, point)
    scale_bar(axes[1, 0], image)
    handles = [matplotlib.patches.Patch(color=lookup[index], label=names[index]) for index in present]
    figure.legend(handles=handles, loc="outside right center", fontsize=7)
    return figure


def augmentation_grid(samples: Iterable[tuple[Any, Any]], spacing_mm: Sequence[float], titles: Sequence[str]) -> Figure:
    """Augmented training samples side by side: columns are (image, label) pairs of arrays, rows their planes (an image: one row)."""
    pairs = [(_squeeze(image, len(spacing_mm)), _squeeze(label, len(spacing_mm))) for image, label in samples]
    if len(pairs) != len(titles):
        raise ValueError(f"one title for each sample is needed, got {len(titles)} titles for {len(pairs)} samples")
    columns = [(_Slab(image, tuple(spacing_mm)), label > 0.5, centre_of(label > 0.5)) for image, label in pairs]
    return plane_grid([(title, *column, None) for title, column in zip(titles, columns, strict=True)], ["label"], None)


def probability_comparison(
    volume: Any,
    reference: Any,
    probabilities: Mapping[str, Any],
    crosshair: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """Fig. 7: rows are planes, columns the image with the reference's contour and each model's probability map, linked by crosshairs."""
    mask = _mask(reference)
    point = tuple(crosshair) if crosshair is not None else centre_of(mask)
    entries: list[tuple[str, Any, Any, Any, Any]] = [("image", volume, mask, point, None)]
    entries += [(name, volume, mask, point, _array(probability)) for name, probability in probabilities.items()]
    return plane_grid(entries, ["reference"], point, "probability of head", Normalize(0, 1), PROBABILITY_MAP, title)


def centre_of(mask: NDArray[Any]) -> tuple[int, ...]:
    """Voxel nearest to a mask's centre of mass; the array's centre if the mask is empty or not boolean."""
    if mask.dtype == bool and mask.any():
        return tuple(round(float(value)) for value in ndimage.center_of_mass(mask))
    return tuple(size // 2 for size in mask.shape)


def cut_array(array: NDArray[Any], cut: int | None, point: Sequence[int]) -> NDArray[Any]:
    """The slice of `array` at `point` across axis `cut`; None returns an image whole."""
    return array if cut is None else np.take(array, int(np.clip(point[cut], 0, array.shape[cut] - 1)), axis=cut)


def grey_window(array: NDArray[Any]) -> tuple[float, float]:
    """Grey levels shown black and white: the 1st and 99.7th percentile of a subsample."""
    sample = array[tuple(slice(None, None, max(1, size // 64)) for size in array.shape)]
    low, high = np.percentile(sample, (1, 99.7))
    return float(low), float(high if high > low else low + 1)


def draw_slice(
    axis: Axes, volume: Any, cut: int | None, point: Sequence[int], window: tuple[float, float] | None = None
) -> None:
    """Show a slice in grey, in millimetres from the array's corner, without ticks."""
    array = _array(volume)
    low, high = window or grey_window(array)
    high_mm, wide_mm = _panel_mm(volume, cut)
    axis.imshow(
        cut_array(array, cut, point),
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(0, wide_mm, high_mm, 0),
        interpolation="bilinear",
    )
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def draw_contour(
    axis: Axes, volume: Any, mask: NDArray[Any], cut: int | None, number: int, linewidth: float = 1.4
) -> None:
    """Draw a mask's outline on a slice shown by `draw_slice`; `number` chooses colour and line style (0: the reference)."""
    if not mask.any() or mask.all():
        return
    colour, style = CONTOURS[number % len(CONTOURS)]
    high_mm, wide_mm = _panel_mm(volume, cut)
    x, y = (
        (np.arange(size) + 0.5) * extent / size
        for size, extent in zip(mask.shape[::-1], (wide_mm, high_mm), strict=True)
    )
    axis.contour(x, y, mask.astype(float), levels=[0.5], colors=[colour], linestyles=[style], linewidths=linewidth)


def draw_crosshair(axis: Axes, volume: Any, cut: int | None, point: Sequence[int]) -> None:
    """Thin white lines through `point`."""
    row, column = _kept(cut)
    spacing = volume.spacing_mm
    axis.axhline((point[row] + 0.5) * spacing[row], color="white", linewidth=0.6, alpha=0.8)
    axis.axvline((point[column] + 0.5) * spacing[column], color="white", linewidth=0.6, alpha=0.8)


def scale_bar(axis: Axes, volume: Any) -> None:
    """A bar of 10 to 50 mm in the lower left corner."""
    high, wide = axis.get_ylim()[0], axis.get_xlim()[1]
    length = next((value for value in (50, 20, 10) if value < 0.45 * wide), 5)
    axis.plot(
        [0.05 * wide, 0.05 * wide + length], [0.95 * high] * 2, color="white", linewidth=2.2, solid_capstyle="butt"
    )
    axis.text(
        0.05 * wide + length / 2, 0.93 * high, f"{length} mm", color="white", fontsize=7, ha="center", va="bottom"
    )


def contour_legend(figure: Figure, names: Sequence[str]) -> None:
    """Name the contours below the panels, on a dark ground as they appear on the images."""
    if names:
        styles = [CONTOURS[number % len(CONTOURS)] for number in range(len(names))]
        handles = [Line2D([], [], color=colour, linestyle=style, linewidth=2) for colour, style in styles]
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=True, facecolor="#333333",
                      labelcolor="white", edgecolor="none", handlelength=2.6)  # fmt: skip


class _Slab:
    """The two attributes of a Volume that drawing needs, for bare arrays."""

    def __init__(self, array: NDArray[Any], spacing_mm: tuple[float, ...]) -> None:
        self.array, self.spacing_mm = array, spacing_mm


def plane_grid(
    entries: Sequence[tuple[str, Any, Any, Any, Any]],
    names: Sequence[str],
    crosshair: Sequence[int] | None,
    label: str = "",
    norm: Normalize | None = None,
    cmap: str = PROBABILITY_MAP,
    title: str | None = None,
) -> Figure:
    """Columns are (title, volume, mask or None, point, map or None), rows the orthogonal planes through each column's point.

    Maps are shown through `cmap` and `norm`, with one colour bar named `label`; `names` label the contours,
    `crosshair` is drawn where given.
    """
    cuts = _cuts(_array(entries[0][1]).ndim)
    heights = [max(_panel_mm(volume, cut)[0] for _, volume, *_ in entries) for cut in cuts]
    wide = max(_panel_mm(volume, cut)[1] for _, volume, *_ in entries for cut in cuts)
    cell = min(2.4, 10.5 / len(entries))
    size = (cell * len(entries) + (0.9 if norm is not None else 0.2), sum(heights) * cell / wide + 0.9)
    figure, axes = new_figure(len(cuts), len(entries), size, gridspec_kw={"height_ratios": heights})
    for column, (name, volume, mask, point, values) in enumerate(entries):
        for axis, cut in zip(axes[:, column], cuts, strict=True):
            draw_slice(axis, volume, cut, point)
            if values is not None:
                high_mm, wide_mm = _panel_mm(volume, cut)
                axis.imshow(cut_array(values, cut, point), cmap=cmap, norm=norm, extent=(0, wide_mm, high_mm, 0))
            if mask is not None:
                draw_contour(axis, volume, cut_array(mask, cut, point), cut, 0, linewidth=1.0)
            if crosshair is not None:
                draw_crosshair(axis, volume, cut, crosshair)
        axes[0, column].set_title(name, fontsize=8)
    scale_bar(axes[0, 0], entries[0][1])
    if norm is not None:
        mappable = matplotlib.cm.ScalarMappable(norm, cmap)
        figure.colorbar(mappable, ax=list(axes.flat), shrink=0.7, pad=0.01, aspect=35, label=label)
    contour_legend(figure, names)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _overlay(axis: Axes, volume: Any, values: NDArray[Any], cut: int | None) -> Any:
    high_mm, wide_mm = _panel_mm(volume, cut)
    axis.imshow(
        values,
        cmap=PROBABILITY_MAP,
        vmin=0,
        vmax=1,
        alpha=0.45 * np.clip(values, 0, 1),
        extent=(0, wide_mm, high_mm, 0),
    )
    return matplotlib.cm.ScalarMappable(Normalize(0, 1), PROBABILITY_MAP)


def _cuts(ndim: int) -> tuple[int | None, ...]:
    return (0, 1, 2) if ndim == 3 else (None,)


def _kept(cut: int | None) -> tuple[int, int]:
    """Array axes that run down and across a slice."""
    return (0, 1) if cut is None else ((1, 2), (0, 2), (0, 1))[cut]  # type: ignore[return-value]


def _panel_mm(volume: Any, cut: int | None) -> tuple[float, float]:
    """Height and width of a slice in mm."""
    shape = _array(volume).shape
    down, across = _kept(cut)
    return shape[down] * volume.spacing_mm[down], shape[across] * volume.spacing_mm[across]


def _slice_name(volume: Any, cut: int | None, point: Sequence[int]) -> str:
    shape = _array(volume).shape
    if cut is None:
        return f"{shape[0]} x {shape[1]} pixels"
    down, across = _kept(cut)
    return f"{AXES[down]}-{AXES[across]} plane, {AXES[cut]} = {point[cut]} of {shape[cut]}"


def _array(volume: Any) -> NDArray[Any]:
    return np.asarray(getattr(volume, "array", volume))


def _mask(mask: Any) -> NDArray[np.bool_]:
    return _array(mask) > 0


def _squeeze(array: Any, ndim: int) -> NDArray[Any]:
    array = np.asarray(array)
    return array.reshape(array.shape[-ndim:]) if array.ndim > ndim else array


def _require_shape(mask: NDArray[Any], array: NDArray[Any], name: str) -> None:
    if mask.shape != array.shape:
        raise ValueError(
            f"{name} has shape {mask.shape}, the volume {array.shape}: resample one to the other's grid first"
        )
