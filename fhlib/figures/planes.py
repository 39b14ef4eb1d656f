"""Pictures of volumes: orthogonal planes, galleries, contours and maps. Volumes in, matplotlib Figure out.

Arrays are (d, h, w), or (h, w) for an image. Slices are drawn in millimetres from the array's corner, at true aspect
ratio, the first axis of a slice downwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from scipy import ndimage

from fhlib.figures.style import CONTOURS, PAGE, SMALL, AxesGrid, new_figure
from fhlib.images.grids import bounding_box
from fhlib.images.volume import Array, Floats, Mask, Volume

AXES = "dhw"
PROBABILITY_MAP = "magma"
HEAD_PROBABILITY = "probability of head"
KEPT_AXES = {None: (0, 1), 0: (1, 2), 1: (0, 2), 2: (0, 1)}
"""Array axes that run down and across a slice, by the axis that is cut; an image (None) is shown whole."""


@dataclass(frozen=True)
class Panel:
    """A volume, the voxel at which it is cut, and what is drawn on its slices. All arrays have the volume's shape.

    A method's `cut` is the array axis that is cut at the point; None shows an image whole.
    """

    volume: Volume
    point: Sequence[int] = ()
    masks: Sequence[Array] = ()
    """Booleans, or numbers that are outlined where they pass 0.5; the first has the reference's colour."""
    values: Array | None = None
    """A map from 0 to 1, laid over the grey levels."""
    title: str = ""

    @property
    def cuts(self) -> tuple[int | None, ...]:
        """The cuts of all orthogonal planes."""
        return (0, 1, 2) if self.volume.array.ndim == 3 else (None,)

    @property
    def sizes_mm(self) -> Floats:
        """Height and width of each orthogonal plane, (cuts, 2)."""
        return np.array([self.size_mm(cut) for cut in self.cuts])

    def size_mm(self, cut: int | None) -> tuple[float, float]:
        """Height and width of a slice."""
        down, across = KEPT_AXES[cut]
        shape, spacing_mm = self.volume.array.shape, self.volume.spacing_mm
        return shape[down] * spacing_mm[down], shape[across] * spacing_mm[across]

    def extent(self, cut: int | None) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of a slice in mm, as matplotlib wants them."""
        high_mm, wide_mm = self.size_mm(cut)
        return 0, wide_mm, high_mm, 0

    def place(self, cut: int | None) -> str:
        """Where a slice lies, in words."""
        shape = self.volume.array.shape
        if cut is None:
            return f"{shape[0]} x {shape[1]} pixels"
        down, across = KEPT_AXES[cut]
        return f"{AXES[down]}-{AXES[across]} plane, {AXES[cut]} = {self.point[cut]} of {shape[cut]}"

    def draw(
        self,
        axis: Axes,
        cut: int | None,
        window: tuple[float, float] | None = None,
        cmap: str = PROBABILITY_MAP,
        see_through: bool = False,
        crosshair: bool = False,
        linewidth: float = 1.4,
    ) -> None:
        """Draw a slice in grey, the map over it, the masks' outlines, and a crosshair.

        Args:
            axis: where to draw.
            cut: the array axis that is cut.
            window: grey levels of black and white; by default `grey_window`.
            cmap: colours of the map.
            see_through: the map covers where it is high and is clear where it is 0; else it covers all.
            crosshair: mark the point by thin lines.
            linewidth: of the outlines.
        """
        low, high = window or grey_window(self.volume.array)
        extent = self.extent(cut)
        grey = cut_array(self.volume.array, cut, self.point)
        axis.imshow(grey, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
        undress(axis)

        if self.values is not None:
            shown = cut_array(self.values, cut, self.point)
            alpha = 0.45 * np.clip(shown, 0, 1) if see_through else None
            axis.imshow(shown, cmap=cmap, vmin=0, vmax=1, alpha=alpha, extent=extent)

        for number, mask in enumerate(self.masks):
            self._outline(axis, cut, cut_array(mask, cut, self.point), number, linewidth)

        if crosshair:
            down, across = KEPT_AXES[cut]
            spacing_mm = self.volume.spacing_mm
            axis.axhline((self.point[down] + 0.5) * spacing_mm[down], color="white", linewidth=0.6, alpha=0.8)
            axis.axvline((self.point[across] + 0.5) * spacing_mm[across], color="white", linewidth=0.6, alpha=0.8)

    def _outline(self, axis: Axes, cut: int | None, mask: Array, number: int, linewidth: float) -> None:
        """Outline of a mask's slice; `number` chooses colour and line style."""
        if not mask.any() or mask.all() or min(mask.shape) < 2:
            return  # nothing to outline: matplotlib would warn, or refuse a single row
        colour, style = CONTOURS[number % len(CONTOURS)]
        high_mm, wide_mm = self.size_mm(cut)
        y = (np.arange(mask.shape[0]) + 0.5) * high_mm / mask.shape[0]
        x = (np.arange(mask.shape[1]) + 0.5) * wide_mm / mask.shape[1]
        axis.contour(x, y, mask.astype(float), levels=[0.5], colors=[colour], linestyles=[style], linewidths=linewidth)


def planes(
    volume: Volume,
    contours: Mapping[str, Volume | Array] | None = None,
    probability: Volume | Array | None = None,
    crosshair: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """Three orthogonal planes of a volume (an image: one panel), with contours of masks and a probability map.

    Args:
        volume: what is shown.
        contours: name -> mask of the volume's shape; the first is the reference.
        probability: 0 to 1, blended in, opaque where it is high.
        crosshair: voxel index at which the planes are taken, drawn as thin lines. By default they go through the first
            mask's centre of mass, else the volume's centre, and no lines are drawn.
        title: above the figure.

    Raises:
        ValueError: a contour has another shape than the volume.
    """
    masks = masks_like(volume, contours or {})
    point = crosshair if crosshair is not None else centre_of(next(iter(masks.values()), volume.array))
    values = None if probability is None else _array(probability)
    panel = Panel(volume, point, list(masks.values()), values)

    bar_inch = 0.2 if values is None else 0.9
    title_inch = 0.9 if title else 0.6
    figure, axes = plane_axes(panel, 1, (PAGE - 0.9, 4.2), (bar_inch, title_inch), title)
    for axis, cut in zip(axes[0], panel.cuts, strict=True):
        panel.draw(axis, cut, see_through=True, crosshair=crosshair is not None)
        axis.set_title(panel.place(cut), fontsize=SMALL)

    scale_bar(axes[0, 0])
    if values is not None:
        _colour_bar(figure, axes, HEAD_PROBABILITY, shrink=0.8)
    contour_legend(figure, list(masks))
    return figure


def gallery(
    volumes: Sequence[Volume],
    labels: Sequence[str],
    masks: Sequence[Volume | Array | None] | None = None,
    columns: int = 4,
    cut: int = 1,
    title: str | None = None,
) -> Figure:
    """One slice of each volume, with its label above and, where given, its mask's contour.

    Volumes are shown at one common scale; images, whose zoom differs, each at its own and without a scale bar.

    Args:
        volumes: what is shown, of one number of dimensions.
        labels: one for each volume.
        masks: one for each volume; None where there is none.
        columns: at most so many slices a row.
        cut: the array axis that is cut (1: the slice along d and w), at the mask's centre of mass or the middle.
        title: above the figure, with the number of volumes.

    Raises:
        ValueError: labels and volumes differ in number.
    """
    if len(volumes) != len(labels):
        raise ValueError(
            f"a gallery needs one label for each volume, got {len(labels)} labels for {len(volumes)} volumes"
        )
    drawn = masks if masks is not None else [None] * len(volumes)
    panels = [_centred(*given) for given in zip(volumes, drawn, labels, strict=False)]
    shown_cut = cut if None not in panels[0].cuts else None
    high_mm, wide_mm = np.max([panel.size_mm(shown_cut) for panel in panels], axis=0)

    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns)
    cell = min(2.6, 9.5 / columns)
    figure, axes = new_figure(rows, columns, (cell * columns, (cell * high_mm / wide_mm + 0.35) * rows + 0.3))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel.draw(axis, shown_cut)
        axis.set_title(panel.title, fontsize=SMALL)
        if shown_cut is not None:
            if axis is axes[0, 0]:
                scale_bar(axis)  # on the slice: around it the paper is as white as the bar
            _frame(axis, panel.size_mm(shown_cut), (high_mm, wide_mm))

    figure.suptitle(f"{title + ': ' if title else ''}n = {len(panels)}", fontsize=10)
    return figure


def augmentation_grid(
    samples: Iterable[tuple[ArrayLike, ArrayLike]], spacing_mm: Sequence[float], titles: Sequence[str]
) -> Figure:
    """Augmented training samples side by side: columns are samples, rows their planes (an image: one row).

    Args:
        samples: (image, label) pairs of arrays, with or without axes of batch and channel in front.
        spacing_mm: one number an array axis.
        titles: one for each sample.

    Raises:
        ValueError: titles and samples differ in number.
    """
    pairs = [(_spatial(image, spacing_mm), _spatial(label, spacing_mm) > 0.5) for image, label in samples]
    if len(pairs) != len(titles):
        raise ValueError(f"one title for each sample is needed, got {len(titles)} titles for {len(pairs)} samples")
    panels = []
    for (image, label), title in zip(pairs, titles, strict=True):
        panels.append(_centred(Volume(image, tuple(spacing_mm)), label, title))
    return plane_grid(panels, ["label"])


def probability_comparison(
    volume: Volume,
    reference: Volume | Array,
    probabilities: Mapping[str, Volume | Array],
    title: str | None = None,
) -> Figure:
    """Fig. 7: the image and each model's probability map in columns, planes in rows, linked by crosshairs.

    Args:
        volume: the image.
        reference: the true mask, whose contour is drawn everywhere.
        probabilities: model -> map of the volume's shape, 0 to 1.
        title: above the figure.
    """
    masks = [_mask(reference)]
    point = centre_of(masks[0])
    panels = [Panel(volume, point, masks, title="image")]
    for name, probability in probabilities.items():
        panels.append(Panel(volume, point, masks, _array(probability), name))
    return plane_grid(panels, ["reference"], HEAD_PROBABILITY, crosshair=True, title=title)


def plane_grid(
    panels: Sequence[Panel],
    names: Sequence[str],
    label: str = "",
    cmap: str = PROBABILITY_MAP,
    crosshair: bool = False,
    title: str | None = None,
) -> Figure:
    """The orthogonal planes of each panel: columns are panels, rows planes.

    Args:
        panels: what is shown, of one number of dimensions.
        names: of the contours.
        label: of the maps' colour bar; without one there is no bar.
        cmap: colours of the maps.
        crosshair: mark each panel's point.
        title: above the figure.
    """
    sizes_mm = np.max([panel.sizes_mm for panel in panels], axis=0)
    heights_mm, wide_mm = sizes_mm[:, 0], sizes_mm[:, 1].max()
    cell = min(2.4, (PAGE - 0.9) / len(panels))
    size = (cell * len(panels) + (0.9 if label else 0.2), heights_mm.sum() * cell / wide_mm + 0.9)
    figure, axes = new_figure(len(heights_mm), len(panels), size, title, gridspec_kw={"height_ratios": heights_mm})
    for column, panel in zip(axes.T, panels, strict=True):
        for axis, cut in zip(column, panel.cuts, strict=True):
            panel.draw(axis, cut, cmap=cmap, crosshair=crosshair, linewidth=1.0)
        column[0].set_title(panel.title, fontsize=SMALL)

    scale_bar(axes[0, 0])
    if label:
        _colour_bar(figure, axes, label, cmap, shrink=0.7, aspect=35)
    contour_legend(figure, names)
    return figure


def centre_of(mask: Array) -> tuple[int, ...]:
    """Voxel nearest to a mask's centre of mass; the array's centre if the mask is empty or not boolean."""
    if mask.dtype == bool and mask.any():
        box = bounding_box(mask)
        centre = ndimage.center_of_mass(mask[box])
        return tuple(round(side.start + float(value)) for side, value in zip(box, centre, strict=True))
    return tuple(size // 2 for size in mask.shape)


def cut_array(array: Array, cut: int | None, point: Sequence[int]) -> Array:
    """The slice of an array at a point.

    Args:
        array: (d, h, w), or (h, w).
        cut: the axis that is cut; None returns an image whole.
        point: voxel index; beyond the array its last slice is taken.
    """
    if cut is None:
        return array
    return np.take(array, int(np.clip(point[cut], 0, array.shape[cut] - 1)), axis=cut)


def grey_window(array: Array) -> tuple[float, float]:
    """Grey levels shown black and white: the 1st and 99.7th percentile of a subsample."""
    sample = array[tuple(slice(None, None, max(1, size // 64)) for size in array.shape)]
    low, high = np.percentile(sample, (1, 99.7))
    return float(low), float(high if high > low else low + 1)


def masks_like(volume: Volume, contours: Mapping[str, Volume | Array]) -> dict[str, Mask]:
    """Masks by name as boolean arrays. Raises ValueError where one has another shape than the volume."""
    masks = {name: _mask(mask) for name, mask in contours.items()}
    for name, mask in masks.items():
        if mask.shape != volume.array.shape:
            raise ValueError(
                f"contour {name!r} has shape {mask.shape}, the volume {volume.array.shape}: "
                "resample one to the other's grid first"
            )
    return masks


def scale_bar(axis: Axes) -> None:
    """A bar of 5 to 50 mm in the lower left corner."""
    high_mm, wide_mm = axis.get_ylim()[0], axis.get_xlim()[1]
    length = next((value for value in (50, 20, 10) if value < 0.45 * wide_mm), 5)
    left, right = 0.05 * wide_mm, 0.05 * wide_mm + length
    axis.plot([left, right], [0.95 * high_mm] * 2, color="white", linewidth=2.2, solid_capstyle="butt")
    middle = left + length / 2
    axis.text(middle, 0.93 * high_mm, f"{length} mm", color="white", fontsize=SMALL, ha="center", va="bottom")


def contour_legend(figure: Figure, names: Sequence[str]) -> None:
    """Name the contours below the panels, on a dark ground as they appear on the images."""
    if not names:
        return
    styles = [CONTOURS[number % len(CONTOURS)] for number in range(len(names))]
    handles = [Line2D([], [], color=colour, linestyle=style, linewidth=2) for colour, style in styles]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=SMALL, frameon=True,
                  facecolor="#333333", labelcolor="white", edgecolor="none", handlelength=2.6)  # fmt: skip


def plane_axes(
    panel: Panel, rows: int, largest: tuple[float, float], margin: tuple[float, float], title: str | None = None
) -> tuple[Figure, AxesGrid]:
    """Axes for rows of a panel's planes, at one scale that keeps a row within `largest` (width, height) in inches."""
    heights_mm, widths_mm = panel.sizes_mm.T
    high_mm, wide_mm = heights_mm.max(), widths_mm.sum()
    scale = min(largest[0] / wide_mm, largest[1] / high_mm)
    size = (wide_mm * scale + margin[0], rows * high_mm * scale + margin[1])
    return new_figure(rows, len(widths_mm), size, title, gridspec_kw={"width_ratios": widths_mm})


def undress(axis: Axes) -> None:
    """A picture has no ticks and no frame, and its millimetres are as long down as across."""
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _frame(axis: Axes, size_mm: tuple[float, float], around_mm: tuple[float, float]) -> None:
    """Centre a slice in a larger frame, so that slices of several sizes have one scale."""
    middle_y, middle_x = size_mm[0] / 2, size_mm[1] / 2
    half_y, half_x = around_mm[0] / 2, around_mm[1] / 2
    axis.set(xlim=(middle_x - half_x, middle_x + half_x), ylim=(middle_y + half_y, middle_y - half_y))


def _colour_bar(
    figure: Figure, axes: AxesGrid, label: str, cmap: str = PROBABILITY_MAP, shrink: float = 0.8, aspect: float = 20
) -> None:
    mappable = ScalarMappable(Normalize(0, 1), cmap)
    figure.colorbar(mappable, ax=list(axes.flat), shrink=shrink, pad=0.01, aspect=aspect, label=label)


def _centred(volume: Volume, mask: Volume | Array | None, title: str = "") -> Panel:
    """A panel through the middle of what it shows."""
    masks = [] if mask is None else [_mask(mask)]
    return Panel(volume, centre_of(masks[0] if masks else volume.array), masks, title=title)


def _array(volume: Volume | Array) -> Array:
    return volume.array if isinstance(volume, Volume) else np.asarray(volume)


def _mask(mask: Volume | Array) -> Mask:
    return _array(mask) > 0


def _spatial(array: ArrayLike, spacing_mm: Sequence[float]) -> Array:
    """The array without its axes of batch and channel."""
    values = np.asarray(array)
    return values.reshape(values.shape[-len(spacing_mm) :])
