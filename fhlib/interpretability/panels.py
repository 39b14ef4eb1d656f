"""Slices composed to one picture with numpy alone, fast enough to follow a slider.

matplotlib needs most of a second for it. A plane shows the grey image, an overlay, crosshair and outlines. Beside it stands
a colour bar. `Picture.locate` leads from a place on the picture back to the voxel.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fhlib.figures.planes import AXES, cut_array
from fhlib.networks.features import repeats

RGB = NDArray[np.uint8]
GAP, HEADER, BAR, TEXT = 6, 20, 76, 12
OUTLINE_PX = 2
INK = (20, 20, 20)


@dataclass(frozen=True)
class Overlay:
    """A map at its own resolution ((d', h', w') or (h', w')), its colours, and how it is blended in.

    Values from `low` to `high` run through `cmap`. With `fading` the overlay is as opaque as its values are high (of a
    signed map, far from 0), up to `opacity`. Otherwise it is equally opaque everywhere.
    """

    values: NDArray[Any]
    low: float
    high: float
    cmap: str
    opacity: float = 0.5
    fading: bool = False

    def blend(self, grey: NDArray[np.float32], plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Grey (rows, columns) from 0 to 1 and the overlay's plane of the same size to (rows, columns, 3)."""
        scaled = np.clip((plane - self.low) / max(self.high - self.low, 1e-12), 0, 1)
        opacity = np.full_like(scaled, self.opacity)
        if self.fading:
            opacity = opacity * (np.abs(2 * scaled - 1) if self.low < 0 else scaled)
        colours = _table(self.cmap)[(scaled * 255).astype(np.uint8)]
        return (1 - opacity[..., None]) * grey[..., None] + opacity[..., None] * colours


@dataclass(frozen=True)
class Row:
    """One row of planes: a title, and an overlay or none."""

    title: str
    overlay: Overlay | None


@dataclass(frozen=True)
class Place:
    """Where a plane lies on the picture in pixels, and the axis it cuts (None: an image)."""

    top: int
    left: int
    height: int
    width: int
    cut: int | None


@dataclass(frozen=True)
class Picture:
    """RGB pixels (rows, columns, 3) and where the planes lie on them."""

    pixels: RGB
    places: tuple[Place, ...]
    shape: tuple[int, ...]

    def png(self) -> bytes:
        """The pixels as PNG, lightly compressed."""
        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, "png", compress_level=1)
        return stream.getvalue()

    def locate(self, x: float, y: float) -> tuple[dict[int, int], int | None] | None:
        """Voxel indices by axis under a place, and the axis which that plane cuts; None between the planes.

        `x` and `y` are fractions of width and height from the upper left.
        """
        row, column = y * self.pixels.shape[0], x * self.pixels.shape[1]
        for place in self.places:
            down, across = (row - place.top) / place.height, (column - place.left) / place.width
            if 0 <= down < 1 and 0 <= across < 1:
                axes = kept_axes(len(self.shape), place.cut)
                return {a: int(f * self.shape[a]) for a, f in zip(axes, (down, across), strict=True)}, place.cut
        return None


def compose(
    grey: NDArray[Any],
    spacing_mm: Sequence[float],
    point: Sequence[int],
    rows: Sequence[Row],
    outlines: Sequence[tuple[NDArray[np.bool_], str]] = (),
    window: tuple[float, float] = (0.0, 1.0),
    longest_px: int = 300,
    scale: int = 1,
) -> Picture:
    """Rows of planes through a point of one image, all at one scale and true aspect ratio.

    A colour bar stands right of each row with an overlay.

    Args:
        grey: (d, h, w) gives three planes, (h, w) one.
        spacing_mm: of its voxels.
        point: the voxel through which the planes are taken.
        rows: what is compared.
        outlines: masks on the image's grid and their colours.
        window: grey levels of black and white.
        longest_px: what the longest side of the volume spans.
        scale: enlarges texts, gaps and lines.
    """
    px_per_mm = longest_px / max(size * step for size, step in zip(grey.shape, spacing_mm, strict=True))
    cuts: tuple[int | None, ...] = (0, 1, 2) if grey.ndim == 3 else (None,)
    planes = [_plane(grey, spacing_mm, px_per_mm, cut, point, window) for cut in cuts]
    rims = [_rims(plane, outlines, point, OUTLINE_PX * scale) for plane in planes]
    gap, header = GAP * scale, HEADER * scale
    high = max(plane.shade.shape[0] for plane in planes)
    wide = sum(plane.shade.shape[1] + gap for plane in planes)
    bar = BAR * scale if any(row.overlay is not None for row in rows) else 0
    canvas = Image.new("RGB", (wide + bar, len(rows) * (header + high + gap)), "white")

    places: list[Place] = []
    for number, row in enumerate(rows):
        top, left = number * (header + high + gap) + header, 0
        for plane, rim in zip(planes, rims, strict=True):
            rgb = _coloured(plane, row.overlay, grey.shape, point, scale)
            for edge, colour in rim:
                rgb[edge] = colour
            height, width = plane.shade.shape
            place = Place(top + high - height, left, height, width, plane.cut)
            canvas.paste(Image.fromarray((255 * rgb + 0.5).astype(np.uint8)), (place.left, place.top))
            places.append(place)
            left += width + gap
        _write_titles(canvas, row, places[-len(planes) :], top, point, scale)
        if row.overlay is not None:
            _colour_bar(canvas, row.overlay, (wide, top), high, scale)
    _scale_bar(canvas, places[0], px_per_mm, scale)
    return Picture(np.asarray(canvas), tuple(places), grey.shape)


def kept_axes(ndim: int, cut: int | None) -> tuple[int, ...]:
    """Array axes that run down and across a plane."""
    return tuple(axis for axis in range(ndim) if axis != cut)


@dataclass(frozen=True)
class _Plane:
    """A plane of the image at its size on the picture, from 0 (black) to 1 (white)."""

    cut: int | None
    shade: NDArray[np.float32]


def _plane(
    grey: NDArray[Any],
    spacing_mm: Sequence[float],
    px_per_mm: float,
    cut: int | None,
    point: Sequence[int],
    window: tuple[float, float],
) -> _Plane:
    down, across = kept_axes(grey.ndim, cut)
    height = max(1, round(grey.shape[down] * spacing_mm[down] * px_per_mm))
    width = max(1, round(grey.shape[across] * spacing_mm[across] * px_per_mm))
    values = _resized(cut_array(grey, cut, point), (height, width))
    black, white = window
    return _Plane(cut, np.clip((values - black) / max(white - black, 1e-9), 0, 1))


def _coloured(
    plane: _Plane, overlay: Overlay | None, shape: Sequence[int], point: Sequence[int], scale: int
) -> NDArray[np.float32]:
    """The plane with overlay and crosshair, (rows, columns, 3)."""
    shade = plane.shade
    rgb = np.repeat(shade[..., None], 3, axis=2)
    if overlay is not None:
        rgb = overlay.blend(shade, _overlay_plane(overlay.values, shape, plane.cut, point, shade.shape))
    if plane.cut is not None:
        _draw_crosshair(rgb, shape, plane.cut, point, scale)
    return rgb


def _resized(plane: NDArray[Any], size: tuple[int, int], smooth: bool = True) -> NDArray[np.float32]:
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((size[1], size[0]), method))


def _overlay_plane(
    values: NDArray[Any], shape: Sequence[int], cut: int | None, point: Sequence[int], size: tuple[int, ...]
) -> NDArray[np.float32]:
    """The plane of a map of a module's own size at the image's voxel `point`, without interpolation, padding cut off."""
    factors = (1,) * len(shape) if values.shape == tuple(shape) else repeats(values.shape, shape)
    plane = cut_array(values, cut, [p // f for p, f in zip(point, factors, strict=True)])
    axes = kept_axes(len(shape), cut)
    for position, axis in enumerate(axes):
        plane = np.repeat(plane, factors[axis], axis=position)
    return _resized(plane[: shape[axes[0]], : shape[axes[1]]], (size[0], size[1]), smooth=False)


def _rims(
    plane: _Plane, outlines: Sequence[tuple[NDArray[np.bool_], str]], point: Sequence[int], thickness: int
) -> list[tuple[NDArray[np.bool_], tuple[float, float, float]]]:
    """Rim of each mask on a plane, `thickness` pixels thick and just inside it, and its colour."""
    height, width = plane.shade.shape
    found = []
    for mask, colour in outlines:
        inside = _resized(cut_array(mask, plane.cut, point), (height, width)) > 0.5
        core = inside.copy()
        for _ in range(thickness):
            grown = np.pad(core, 1, mode="edge")
            core = core & grown[:-2, 1:-1] & grown[2:, 1:-1] & grown[1:-1, :-2] & grown[1:-1, 2:]
        found.append((inside & ~core, to_rgb(colour)))
    return found


def _draw_crosshair(rgb: NDArray[np.float32], shape: Sequence[int], cut: int, point: Sequence[int], scale: int) -> None:
    for position, axis in enumerate(kept_axes(len(shape), cut)):
        line = min(rgb.shape[position] - 1, int((point[axis] + 0.5) / shape[axis] * rgb.shape[position]))
        index = (slice(None),) * position + (slice(line, line + scale),)
        rgb[index] = 0.55 * rgb[index] + 0.45


def _write_titles(
    canvas: Image.Image, row: Row, places: Sequence[Place], top: int, point: Sequence[int], scale: int
) -> None:
    """Title of a row and slice numbers of its planes."""
    draw, font = ImageDraw.Draw(canvas), _font(TEXT * scale)
    draw.text((2, top - (HEADER - 3) * scale), row.title, fill=INK, font=font)
    for place in places:
        if place.cut is not None:
            label = f"{AXES[place.cut]} = {point[place.cut]}"
            left = place.left + place.width - draw.textlength(label, font=font) - 6 * scale
            _write_white(draw, (left, place.top + place.height - (TEXT + 8) * scale), label, scale)


def _colour_bar(canvas: Image.Image, overlay: Overlay, corner: tuple[int, int], high: int, scale: int) -> None:
    """A bar in the middle of a row's height, with its two limits."""
    left, top = corner
    length = min(high, 220 * scale)
    start = top + (high - length) // 2
    colours = (255 * _table(overlay.cmap)[np.linspace(255, 0, length).astype(int)] + 0.5).astype(np.uint8)
    canvas.paste(Image.fromarray(np.repeat(colours[:, None], 14 * scale, axis=1)), (left + 4 * scale, start))
    draw, font = ImageDraw.Draw(canvas), _font(TEXT * scale)
    for value, at in ((overlay.high, start), (overlay.low, start + length - (TEXT + 2) * scale)):
        draw.text((left + 22 * scale, at), f"{value:.3g}", fill=INK, font=font)


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
