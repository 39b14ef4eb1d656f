"""Slices composed to one picture with numpy alone: the still twin of what the explorer shows in a browser.

matplotlib needs most of a second for it. A plane shows the scan in grey, a map, crosshair and outlines. Beside it stands a
colour bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from fhlib.figures.planes import AXES, KEPT_AXES
from fhlib.interpretability.choices import View
from fhlib.interpretability.layers import Layer

RGB = NDArray[np.uint8]
Plane = NDArray[np.float32]
GAP, HEADER, BAR, TEXT = 6, 20, 76, 12
OUTLINE_PX = 2
INK = (20, 20, 20)


@dataclass(frozen=True)
class Overlay:
    """A map and its colours: values from `low` to `high` run through `colours`, on a logarithmic scale with `log`.

    `signed`: 0 lies in the middle, and what is far from it stands out.
    """

    layer: Layer
    name: str
    unit: str
    low: float
    high: float
    colours: str
    log: bool = False
    signed: bool = False
    note: str = ""
    """What a reader must know to read it."""

    def shade(self, values: Plane) -> Plane:
        """The values' place between the limits, 0 to 1; nan stays nan."""
        if self.log:
            with np.errstate(invalid="ignore"):
                above = np.log(np.maximum(values, self.low) / self.low)
            return np.clip(above / np.log(self.high / self.low), 0, 1)
        return np.clip((values - self.low) / max(self.high - self.low, 1e-12), 0, 1)

    def blend(self, grey: Plane, plane: Plane, view: View) -> NDArray[np.float32]:
        """Grey (rows, columns) from 0 to 1 and the map's plane of the same size to (rows, columns, 3).

        With `fading` the map is as opaque as its values are high (of a signed one, far from 0), up to `opacity`. It is
        clear where there is no value, and where the view's thresholds hide it.
        """
        with np.errstate(invalid="ignore"):
            shown = (plane >= (-np.inf if view.lower is None else view.lower)) & (
                plane <= (np.inf if view.upper is None else view.upper)
            )
        shade = np.nan_to_num(self.shade(plane))
        opacity = np.where(shown, view.opacity, 0.0).astype(np.float32)
        if view.fading:
            opacity = opacity * (np.abs(2 * shade - 1) if self.signed else shade)
        colours = _table(self.drawn_in(view))[np.minimum((256 * shade).astype(int), 255)]
        return (1 - opacity[..., None]) * grey[..., None] + opacity[..., None] * colours

    def drawn_in(self, view: View) -> str:
        """The chosen colours, or the map's own."""
        return self.colours if view.colours == "automatic" else view.colours

    def header(self) -> dict[str, Any]:
        """What the browser needs beside the numbers."""
        look = {"name": self.name, "unit": self.unit, "low": self.low, "high": self.high}
        return {**self.layer.header(), **look, "colours": self.colours, "log": self.log, "signed": self.signed}


@dataclass(frozen=True)
class Row:
    """One row of planes: a title, and a map or none."""

    title: str
    overlay: Overlay | None


@dataclass(frozen=True)
class Place:
    """Where a plane lies on the picture in pixels, and the axis it cuts."""

    top: int
    left: int
    height: int
    width: int
    cut: int


@dataclass(frozen=True)
class Picture:
    """RGB pixels (rows, columns, 3) and where the planes lie on them."""

    pixels: RGB
    places: tuple[Place, ...]


def compose(
    scan: Layer,
    spacing_mm: Sequence[float],
    view: View,
    rows: Sequence[Row],
    outlines: Sequence[tuple[Layer, str]] = (),
    longest_px: int = 300,
    scale: int = 1,
) -> Picture:
    """Rows of planes through the view's point, all at one scale and true aspect ratio.

    Args:
        scan: of one plane (an image) gives one plane a row, else three.
        spacing_mm: of its voxels, three numbers.
        view: the point, grey levels, and how maps look.
        rows: what is compared.
        outlines: layers that are outlined where they pass 0.5, and the colours.
        longest_px: what the longest side of the scan spans.
        scale: enlarges texts, gaps and lines.
    """
    shape = scan.values.shape
    px_per_mm = longest_px / max(size * step for size, step in zip(shape, spacing_mm, strict=True))
    cuts = (0,) if shape[0] == 1 else (0, 1, 2)
    sizes = [_size(shape, spacing_mm, cut, px_per_mm) for cut in cuts]
    planes = [_grey(scan, cut, view, size) for cut, size in zip(cuts, sizes, strict=True)]
    rims = [_rims(shape, cut, view, size, outlines, OUTLINE_PX * scale) for cut, size in zip(cuts, sizes, strict=True)]
    gap, header = GAP * scale, HEADER * scale
    high = max(height for height, _ in sizes)
    wide = sum(width + gap for _, width in sizes)
    bar = BAR * scale if any(row.overlay is not None for row in rows) else 0
    canvas = Image.new("RGB", (wide + bar, len(rows) * (header + high + gap)), "white")

    places: list[Place] = []
    for number, row in enumerate(rows):
        top, left = number * (header + high + gap) + header, 0
        for cut, grey, rim in zip(cuts, planes, rims, strict=True):
            rgb = _coloured(grey, row.overlay, shape, cut, view)
            if shape[0] > 1:
                _draw_crosshair(rgb, shape, cut, view.point, scale)
            for edge, colour in rim:
                rgb[edge] = colour
            height, width = grey.shape
            place = Place(top + high - height, left, height, width, cut)
            canvas.paste(Image.fromarray((255 * rgb + 0.5).astype(np.uint8)), (place.left, place.top))
            places.append(place)
            left += width + gap
        _write_titles(canvas, row, places[-len(cuts) :], top, view, shape, scale)
        if row.overlay is not None:
            _colour_bar(canvas, row.overlay, view, (wide, top), high, scale)
    _scale_bar(canvas, places[0], px_per_mm, scale)
    return Picture(np.asarray(canvas), tuple(places))


def colour_table(name: str) -> NDArray[np.uint8]:
    """256 colours of a map, (256, 3)."""
    return (255 * _table(name) + 0.5).astype(np.uint8)


def _size(shape: Sequence[int], spacing_mm: Sequence[float], cut: int, px_per_mm: float) -> tuple[int, int]:
    down, across = KEPT_AXES[cut]
    height, width = (max(1, round(shape[axis] * spacing_mm[axis] * px_per_mm)) for axis in (down, across))
    return height, width


def _grey(scan: Layer, cut: int, view: View, size: tuple[int, int]) -> Plane:
    """The scan's plane from 0 (black) to 1 (white)."""
    plane = np.take(scan.values, view.point[cut], axis=cut)
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    values = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    black, white = view.window
    return np.clip((values - black) / max(white - black, 1e-9), 0, 1)


def _indices(shape: Sequence[int], cut: int, size: tuple[int, int]) -> list[NDArray[np.float64]]:
    """The scan's indices down and across under the middles of a picture's pixels."""
    counts = [shape[axis] for axis in KEPT_AXES[cut]]
    return [(np.arange(px) + 0.5) / px * count - 0.5 for px, count in zip(size, counts, strict=True)]


def _coloured(grey: Plane, overlay: Overlay | None, shape: Sequence[int], cut: int, view: View) -> NDArray[np.float32]:
    """The plane with its map, (rows, columns, 3)."""
    if overlay is None:
        return np.repeat(grey[..., None], 3, axis=2)
    size = (grey.shape[0], grey.shape[1])
    return overlay.blend(grey, _map_plane(overlay.layer, shape, cut, view, size), view)


def _map_plane(layer: Layer, shape: Sequence[int], cut: int, view: View, size: tuple[int, int]) -> Plane:
    """A layer under each pixel, in blocks as large as its voxels or, where the view says so, smooth; nan outside."""
    down, across = KEPT_AXES[cut]
    own = int(layer.own(cut, view.point[cut]))
    if own < 0:
        return np.full(size, np.nan, np.float32)
    plane = np.take(layer.values, own, axis=cut).astype(np.float32)
    index = _indices(shape, cut, size)
    rows, columns = layer.own(down, index[0]), layer.own(across, index[1])
    values = _smooth(plane, layer, (down, across), index) if view.smooth else plane[np.ix_(rows, columns)]
    inside = (rows >= 0)[:, None] & (columns >= 0)[None]
    return np.where(inside, values, np.float32(np.nan))


def _smooth(plane: Plane, layer: Layer, axes: tuple[int, int], index: list[NDArray[np.float64]]) -> Plane:
    """A layer's plane between its voxels, linear."""
    own = [layer.scale[axis] * at + layer.offset[axis] for axis, at in zip(axes, index, strict=True)]
    return ndimage.map_coordinates(plane, np.meshgrid(*own, indexing="ij"), order=1, mode="nearest", output=np.float32)


def _rims(
    shape: Sequence[int],
    cut: int,
    view: View,
    size: tuple[int, int],
    outlines: Sequence[tuple[Layer, str]],
    thickness: int,
) -> list[tuple[NDArray[np.bool_], tuple[float, float, float]]]:
    """Rim of each layer where it passes 0.5, `thickness` pixels thick and just inside it, and its colour."""
    index = _indices(shape, cut, size)
    found = []
    for layer, colour in outlines:
        plane = _between(layer, cut, view.point[cut])
        inside = _smooth(plane, layer, KEPT_AXES[cut], index) >= 0.5
        core = inside.copy()
        for _ in range(thickness):
            grown = np.pad(core, 1, mode="edge")
            core = core & grown[:-2, 1:-1] & grown[2:, 1:-1] & grown[1:-1, :-2] & grown[1:-1, 2:]
        found.append((inside & ~core, to_rgb(colour)))
    return found


def _between(layer: Layer, cut: int, index: int) -> Plane:
    """A layer's plane at the scan's index, linear between two of its own."""
    count = layer.values.shape[cut]
    own = float(np.clip(layer.scale[cut] * index + layer.offset[cut], 0, count - 1))
    first = int(own)
    low = np.take(layer.values, first, axis=cut).astype(np.float32)
    high = np.take(layer.values, min(first + 1, count - 1), axis=cut).astype(np.float32)
    return low + np.float32(own - first) * (high - low)


def _draw_crosshair(rgb: NDArray[np.float32], shape: Sequence[int], cut: int, point: Sequence[int], scale: int) -> None:
    for position, axis in enumerate(KEPT_AXES[cut]):
        line = min(rgb.shape[position] - 1, int((point[axis] + 0.5) / shape[axis] * rgb.shape[position]))
        index = (slice(None),) * position + (slice(line, line + scale),)
        rgb[index] = 0.55 * rgb[index] + 0.45


def _write_titles(
    canvas: Image.Image, row: Row, places: Sequence[Place], top: int, view: View, shape: Sequence[int], scale: int
) -> None:
    """Title of a row and slice numbers of its planes."""
    draw, font = ImageDraw.Draw(canvas), _font(TEXT * scale)
    draw.text((2, top - (HEADER - 3) * scale), row.title, fill=INK, font=font)
    if shape[0] == 1:
        return
    for place in places:
        label = f"{AXES[place.cut]} {view.point[place.cut] + 1} of {shape[place.cut]}"
        left = place.left + place.width - draw.textlength(label, font=font) - 6 * scale
        _write_white(draw, (left, place.top + place.height - (TEXT + 8) * scale), label, scale)


def _colour_bar(
    canvas: Image.Image, overlay: Overlay, view: View, corner: tuple[int, int], high: int, scale: int
) -> None:
    """A bar in the middle of a row's height, with its limits; a logarithmic one says so."""
    left, top = corner
    length = min(high, 220 * scale)
    start = top + (high - length) // 2
    colours = colour_table(overlay.drawn_in(view))[np.linspace(255, 0, length).astype(int)]
    canvas.paste(Image.fromarray(np.repeat(colours[:, None], 14 * scale, axis=1)), (left + 4 * scale, start))
    draw, font = ImageDraw.Draw(canvas), _font(TEXT * scale)
    marks = [(f"{overlay.high:.3g}", start), (f"{overlay.low:.3g}", start + length - (TEXT + 2) * scale)]
    if overlay.log:
        marks.append(("log", start + length // 2))
    for text, at in marks:
        draw.text((left + 22 * scale, at), text, fill=INK, font=font)


def _scale_bar(canvas: Image.Image, place: Place, px_per_mm: float, scale: int) -> None:
    length = next((mm for mm in (50, 20, 10, 5) if mm * px_per_mm < 0.45 * place.width), 2)  # mm
    draw, left, row = ImageDraw.Draw(canvas), place.left + 8 * scale, place.top + place.height - 8 * scale
    draw.line([(left, row), (left + length * px_per_mm, row)], fill=(255, 255, 255), width=2 * scale)
    _write_white(draw, (left, row - (TEXT + 4) * scale), f"{length} mm", scale)


def _write_white(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, scale: int) -> None:
    """White with a thin dark rim, legible on any image."""
    draw.text(at, text, fill=(255, 255, 255), font=_font(TEXT * scale), stroke_width=scale, stroke_fill=(0, 0, 0))


@cache
def _table(cmap: str) -> NDArray[np.float32]:
    return colormaps[cmap](np.arange(256))[:, :3].astype(np.float32)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
