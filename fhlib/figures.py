"""Pictures of volumes: orthogonal planes, galleries, contours and probability maps. Arrays in, matplotlib Figure out.

One style for all figures of the study: seaborn's colour-blind safe palette, units on axes, sizes that stay legible on a printed page.
A volume is anything with `array` ((d, h, w) or (h, w)) and `spacing_mm` along the array's axes. Slices are drawn at true aspect ratio,
the first axis of a slice downwards. Figures are closed for pyplot, so that a notebook shows the one it returns once and memory is freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.files import atomic_path

PALETTE = seaborn.color_palette("colorblind").as_hex()
REFERENCE_COLOUR = "#56B4E9"
# Reference first, then models; hue, lightness and line style all differ, so the lines survive colour blindness and grey print.
CONTOURS: tuple[tuple[str, Any], ...] = (
    (REFERENCE_COLOUR, "solid"),
    ("#FF9F1C", (0, (4, 1.5))),
    ("#F6F05A", "solid"),
    ("#F78FC7", (0, (1, 1))),
)
AXES = "dhw"
PROBABILITY_MAP = "magma"

seaborn.set_theme(
    context="paper",
    style="ticks",
    palette="colorblind",
    font_scale=1.1,
    rc={"figure.dpi": 110, "savefig.dpi": 200, "axes.grid": True, "grid.color": "#E3E3E3", "grid.linewidth": 0.6, "svg.hashsalt": "fhlib",
        "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False},
)  # fmt: skip


def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 4.0), **kwargs: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure of `size` inches and its axes as a (rows, columns) array; keyword arguments go to `pyplot.subplots`."""
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **kwargs)
    pyplot.close(figure)
    return figure, axes


def save_figure(figure: Figure, folder: Path | str, name: str) -> tuple[Path, Path]:
    """Write `<name>.png` and `<name>.svg` into `folder`, each atomically and without a date; returns both paths."""
    paths = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    for path in paths:
        with atomic_path(path) as temporary:
            metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
    return paths


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


def sagittal_comparison(
    volume: Any, contours: Mapping[str, Any], right: Sequence[float] | None = None, title: str | None = None
) -> Figure:
    """Fig. 6: three planes parallel to the head's mid-sagittal plane, with the contours of all masks; an image gives one panel.

    The mid-sagittal plane is that of the first mask (`median_plane`). The planes lie at 1/4, 1/2 and 3/4 of the mask's extent across it
    and are cut obliquely, without a change of scale; depth (d) points down as far as the plane allows. `right`: a direction (d, h, w) that
    points to the fetus's right, where it is known; otherwise the outer two are named by their distance and as one and the other side, since
    a mask alone does not tell right from left. Raises ValueError where the first mask is empty.
    """
    array, masks = _array(volume), {name: _mask(mask) for name, mask in contours.items()}
    first = next(iter(masks.values()))
    for name, mask in masks.items():
        _require_shape(mask, array, f"contour {name!r}")
    if array.ndim == 2:
        return planes(volume, masks, title=title)
    spacing = np.asarray(volume.spacing_mm, float)
    centre, normal, symmetry = median_plane(first, volume.spacing_mm)
    if right is not None and np.dot(normal, right) > 0:
        normal = -normal  # from the fetus's right to its left, as the panels
    across = (np.argwhere(first) + 0.5) * spacing @ normal - centre @ normal
    offsets = [float(across.min() + part * np.ptp(across)) for part in (0.25, 0.5, 0.75)]
    offsets[1] = 0.0
    sides = ("one side", "middle", "other side") if right is None else ("right", "middle", "left")
    grid, step = _oblique_grid(volume, first, centre, normal)
    slabs = [_Slab(_sample(array, spacing, grid + offset * normal, 1), (step, step)) for offset in offsets]
    high_mm, wide_mm = _panel_mm(slabs[0], None)
    width = min(3.2, 4.4 * wide_mm / high_mm)
    figure, axes = new_figure(1, 3, (3 * width, width * high_mm / wide_mm + 0.8))
    window = grey_window(array)
    for axis, slab, offset, side in zip(axes[0], slabs, offsets, sides, strict=True):
        draw_slice(axis, slab, None, (), window)
        for number, mask in enumerate(masks.values()):
            cut = _sample(mask.astype(np.float32), spacing, grid + offset * normal, 1)
            draw_contour(axis, slab, cut, None, number)
        axis.set_title(side if offset == 0 else f"{side}, {abs(offset):.0f} mm", fontsize=8)
    scale_bar(axes[0, 0], slabs[0])
    contour_legend(figure, list(masks))
    found = f"sagittal planes; mirror symmetry of {next(iter(masks))}: {100 * symmetry:.0f} %"
    figure.suptitle(f"{title}: {found}" if title else found, fontsize=10)
    return figure


def median_plane(mask: Any, spacing_mm: Sequence[float]) -> tuple[NDArray[Any], NDArray[Any], float]:
    """The plane in which a head's mask is its own mirror image best: a point and the unit normal (mm, array order), and how well.

    The last is the Dice coefficient of the mask and its mirror image. The plane goes through the centre of mass; its normal is the best of
    directions over the half sphere, refined to about a degree. Face and neck break the symmetry of all planes but the mid-sagittal;
    where a mask has neither, as a plain ellipsoid, the plane is one of its several. Raises ValueError for an empty or 2D mask.
    """
    mask = _mask(mask)
    if mask.ndim != 3 or not mask.any():
        raise ValueError(
            f"a median plane needs a 3D mask that is not empty, got shape {mask.shape}, {mask.sum()} voxels"
        )
    spacing = np.asarray(spacing_mm, float)
    points = (np.argwhere(mask) + 0.5) * spacing
    centre = points.mean(axis=0)
    points = points[:: max(1, len(points) // 3000)]
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.5 * spacing.max() / spacing)

    def mirrored(normal: NDArray[Any]) -> float:
        image = points - 2 * ((points - centre) @ normal)[:, None] * normal
        return float(np.mean(_sample(soft, spacing, image, 1) >= 0.5))

    turn = np.pi * (3 - np.sqrt(5)) * np.arange(400)
    height = (np.arange(400) + 0.5) / 400
    candidates = np.column_stack([height, np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn)])
    best = max(candidates, key=mirrored)
    for reach in (0.1, 0.05, 0.025, 0.0125):
        around = best + reach * np.array(
            [*np.eye(3), *-np.eye(3), *(np.indices((2, 2, 2)).reshape(3, -1).T - 0.5), np.zeros(3)]
        )
        best = max(around / np.linalg.norm(around, axis=1, keepdims=True), key=mirrored)
    return centre, best, mirrored(best)


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


# --- building blocks -------------------------------------------------------------------------------------------------------------


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


def _oblique_grid(
    volume: Any, mask: NDArray[np.bool_], centre: NDArray[Any], normal: NDArray[Any]
) -> tuple[NDArray[Any], float]:
    """Points (rows, columns, 3) in mm of the plane through `centre`, around the mask with a margin, and their distance."""
    down = np.array([1.0, 0, 0]) - normal[0] * normal
    if np.linalg.norm(down) < 0.5:  # the beam runs across the plane
        down = np.array([0, 1.0, 0]) - normal[1] * normal
    down /= np.linalg.norm(down)
    side = np.cross(normal, down)
    step = float(min(volume.spacing_mm))
    points = (np.argwhere(mask) + 0.5) * np.asarray(volume.spacing_mm, float) - centre
    ranges = []
    for direction in (down, side):
        along = points @ direction
        margin = 0.15 * np.ptp(along) + 2 * step
        ranges.append(np.arange(along.min() - margin, along.max() + margin, step))
    return centre + ranges[0][:, None, None] * down + ranges[1][None, :, None] * side, step


def _sample(array: NDArray[Any], spacing: NDArray[Any], points_mm: NDArray[Any], order: int) -> NDArray[Any]:
    """Values at points (..., 3) in mm from the array's corner; 0 outside."""
    indices = np.moveaxis(points_mm / spacing - 0.5, -1, 0)
    return ndimage.map_coordinates(array.astype(np.float32, copy=False), indices, order=order, cval=0.0)


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
