"""The attention explorer: look through the attention and probability maps of a segmentation (Fig. 6 and 7), slice by slice.

Features are computed once and kept as arrays; a slice is composed with numpy and sent as PNG, so that a slider answers in about 100 ms.
Every view has a static twin, which executed notebooks and the report keep.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fhlib.figures import (
    AXES,
    CONTOURS,
    PROBABILITY_MAP,
    centre_of,
    contour_legend,
    cut_array,
    grey_window,
    new_figure,
    plane_grid,
)

ATTENTION_MAP = "viridis"
SUMMARIES = ("maximum", "entropy", "mean")


def summarise(attention: NDArray[Any], summary: str | int) -> NDArray[np.float32]:
    """Reduce an attention map (channels, ...) over its channels, or take one channel by number (0-based, an int or digits).

    - maximum: weight of the strongest channel, 1 / channels (no preference) to 1;
    - entropy: of the weights over channels, divided by its maximum ln(channels); 0 one channel alone, 1 no preference;
    - mean: 1 / channels everywhere, by the softmax of Eq. 4. A check, and the reason why the others are needed.

    Raises ValueError for an unknown summary, IndexError for a channel that is not there.
    """
    if str(summary).isdigit():
        if int(summary) >= len(attention):
            raise IndexError(f"channel {summary} was asked for, the map has channels 0 to {len(attention) - 1}")
        return np.asarray(attention[int(summary)], dtype=np.float32)
    if summary == "maximum":
        return np.asarray(attention.max(axis=0), dtype=np.float32)
    if summary == "mean":
        return attention.mean(axis=0, dtype=np.float32)
    if summary == "entropy":
        weights = np.maximum(attention.astype(np.float32), 1e-12)
        return -(weights * np.log(weights)).sum(axis=0) / np.log(len(attention))
    raise ValueError(f"summary {summary!r} is not known; expected {', '.join(SUMMARIES)} or a channel's number")


def boundary_channel(attention: NDArray[Any], reference: NDArray[np.bool_]) -> int:
    """Channel whose mean weight on the boundary of `reference` (image grid) is largest against its mean elsewhere."""
    band = ndimage.binary_dilation(reference) & ~ndimage.binary_erosion(reference)
    factors = _factors(attention.shape[1:], reference.shape)
    padded = np.pad(band, [(0, f * n - m) for f, n, m in zip(factors, attention.shape[1:], band.shape, strict=True)])
    blocks = padded.reshape([size for n, f in zip(attention.shape[1:], factors, strict=True) for size in (n, f)])
    touched = blocks.any(axis=tuple(range(1, blocks.ndim, 2)))
    if touched.all() or not touched.any():
        return 0
    return int(np.argmax([channel[touched].mean() / max(channel[~touched].mean(), 1e-12) for channel in attention]))


def on_image_grid(values: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Repeat a module's map (1/4, 1/2 or full size of the padded image) to the image's grid, without interpolation.

    The network pads at the end of each axis to a multiple of 8; what lies in the padding is cut off. Raises ValueError for a map that is
    no whole fraction of the padded size.
    """
    for axis, factor in enumerate(_factors(values.shape, shape)):
        values = np.repeat(values, factor, axis=axis)
    return values[tuple(slice(0, size) for size in shape)]


def _factors(shape: Sequence[int], image_shape: Sequence[int]) -> tuple[int, ...]:
    padded = [-(-size // 8) * 8 for size in image_shape]
    if len(shape) != len(image_shape) or any(whole % part for whole, part in zip(padded, shape, strict=True)):
        raise ValueError(
            f"a map of shape {tuple(shape)} is no whole fraction of {tuple(padded)}, the padded size of image {tuple(image_shape)}"
        )
    return tuple(whole // part for whole, part in zip(padded, shape, strict=True))


def attention_maps(
    features: Any,
    modules: Sequence[str] | None = None,
    summary: str | int = "maximum",
    reference: Any = None,
    crosshair: Sequence[int] | None = None,
) -> Figure:
    """Attention of each module (Eq. 4), reduced over its channels and drawn at its own resolution: rows are planes, columns modules.

    `features`: `image` (Volume at network resolution), `probability`, and `attention`, module -> (channels, d', h', w'). Each module has
    a colour scale of its own, printed above it, since their contrasts differ. `summary` as in `summarise`.
    """
    image = features.image
    mask = None if reference is None else np.asarray(getattr(reference, "array", reference)) > 0
    point = (
        tuple(crosshair)
        if crosshair is not None
        else centre_of(mask if mask is not None else features.probability.array > 0.5)
    )
    columns: list[tuple[str, Any, Any, Any, Any]] = [("image", image, mask, point, None)]
    for name in modules or sorted(features.attention):
        values = summarise(features.attention[name], summary)
        low, high = _limits(values)
        scaled = on_image_grid(Normalize(low, high, clip=True)(values).data, image.array.shape)
        columns.append((f"{name}\n{low:.3g} to {high:.3g}", image, mask, point, scaled))
    named = f"channel {summary}" if str(summary).isdigit() else f"{summary} over channels"
    label = f"{named} (each module scaled to 0-1)"
    return plane_grid(columns, ["reference"] if mask is not None else [], None, label, Normalize(0, 1), ATTENTION_MAP)


class AttentionExplorer:
    """Widget over the features of one case, and of a second model beside it (`second`), in 3D (three linked planes) or 2D.

    `features` and `second`: objects with `image`, `probability` (volumes at network resolution) and `attention` (module -> array
    (channels, d', h', w')). `contours`: name -> mask on the image's grid, the reference first; `reference` is short for one of them.
    `names` are those of the models. `show()` displays the widget, `static()` returns the present view as a Figure, `png()` as bytes.
    The controls are public attributes: module, summary, overlay, opacity, outlines, window, sliders.
    """

    def __init__(
        self,
        features: Any,
        reference: Any = None,
        second: Any = None,
        contours: Mapping[str, Any] | None = None,
        names: Sequence[str] = ("model", "second model"),
        height_px: int | None = None,
    ) -> None:
        self.models = dict(zip(names, [features] + ([second] if second is not None else []), strict=False))
        self.image = features.image
        self.grey = np.asarray(self.image.array)
        masks = {"reference": reference} if reference is not None else {}
        self.contours = {
            name: np.asarray(getattr(mask, "array", mask)) > 0 for name, mask in {**masks, **(contours or {})}.items()
        }
        for name, mask in [
            *self.contours.items(),
            *((name, model.probability.array) for name, model in self.models.items()),
        ]:
            if mask.shape != self.grey.shape:
                raise ValueError(
                    f"{name!r} has shape {mask.shape}, the image {self.grey.shape}: give it at network resolution"
                )
        self.height_px = height_px or (300 if self.grey.ndim == 3 else 420)
        self._summaries: dict[tuple[str, str, str], tuple[NDArray[Any], tuple[float, float]]] = {}
        self._build(features)
        self.redraw()

    def _build(self, features: Any) -> None:
        modules = sorted(set.intersection(*(set(model.attention) for model in self.models.values())))
        modules = modules or sorted(set().union(*(model.attention for model in self.models.values())))
        point = centre_of(next(iter(self.contours.values())) if self.contours else features.probability.array > 0.5)
        low, high = grey_window(self.grey)
        wide = {"description_width": "80px"}
        self.overlay = widgets.ToggleButtons(
            options=["attention", "probability", "none"] if modules else ["probability", "none"],
            tooltips=["attention of the chosen module", "probability of head", "the image alone"][
                -3 if modules else -2 :
            ],
            style={"button_width": "100px"},
        )
        self.module = widgets.Dropdown(options=modules, description="module", style=wide, disabled=not modules)
        self.summary = widgets.Dropdown(
            options=self._summary_options(), description="channels", style=wide, disabled=not modules
        )
        self.opacity = widgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="opacity", style=wide)
        self.outlines = widgets.Checkbox(
            bool(self.contours), description="contours", disabled=not self.contours, indent=False
        )
        step = max((high - low) / 100, 1e-6)
        self.window = widgets.FloatRangeSlider(
            value=(low, high), min=min(low, float(self.grey.min())), max=max(high, float(self.grey.max())), step=step,
            description="grey levels", readout_format=".3g", style=wide,
        )  # fmt: skip
        self.sliders = [
            widgets.IntSlider(middle, min=0, max=size - 1, description=f"slice {AXES[axis]}", style=wide)
            for axis, (middle, size) in enumerate(zip(point, self.grey.shape, strict=True))
        ] if self.grey.ndim == 3 else []  # fmt: skip
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", object_fit="contain"))
        self.caption = widgets.HTML()
        rows = [[self.module, self.summary, self.outlines], [self.opacity, self.window], self.sliders]
        self.widget = widgets.VBox(
            [self.overlay, *(widgets.HBox(row) for row in rows if row), self.picture, self.caption]
        )
        self.module.observe(self._module_changed, names="value")
        for control in (
            self.overlay,
            self.module,
            self.summary,
            self.opacity,
            self.outlines,
            self.window,
            *self.sliders,
        ):
            control.observe(lambda _change: self.redraw(), names="value")

    def _summary_options(self) -> list[tuple[str, str]]:
        count = max((len(model.attention[self.module.value]) for model in self._with_module()), default=0)
        boundary = [("channel nearest to the boundary", "boundary")] if self.contours and count else []
        return (
            [(name, name) for name in SUMMARIES]
            + boundary
            + [(f"channel {number}", str(number)) for number in range(count)]
        )

    def _with_module(self) -> list[Any]:
        return [model for model in self.models.values() if self.module.value in model.attention]

    def _module_changed(self, _change: Any) -> None:
        chosen, options = self.summary.value, self._summary_options()
        if tuple(options) != tuple(self.summary.options):
            self.summary.options = options
            self.summary.value = chosen if chosen in dict(options).values() else SUMMARIES[0]

    @property
    def point(self) -> tuple[int, ...]:
        """Voxel at which the planes are taken; of an image, its centre."""
        return tuple(slider.value for slider in self.sliders) or tuple(size // 2 for size in self.grey.shape)

    def show(self) -> None:
        """Display the widget. Without a kernel behind it the notebook shows what `static()` gave beside it."""
        display(self.widget)

    def redraw(self) -> None:
        """Compose the present view and send it to the picture."""
        self.picture.value = self.png()
        parts = [f"<b>{AXES[axis]}</b> = {value}" for axis, value in enumerate(self.point)] if self.sliders else []
        scales = [f"{name}: colours from {low:.3g} to {high:.3g}" for name, (low, high) in self._scales().items()]
        self.caption.value = "; ".join(parts + scales)

    def png(self) -> bytes:
        """The present view as PNG: a row for each model, a column for each plane, all at one scale."""
        rows = [
            np.concatenate(_bottom_aligned([self._panel(name, cut) for cut in self._cuts()]), axis=1)
            for name in self.models
        ]
        stream = io.BytesIO()
        Image.fromarray(np.concatenate(rows, axis=0)).save(stream, "png", compress_level=1)
        return stream.getvalue()

    def static(self) -> Figure:
        """The present view as a Figure with slice numbers, legend and colour bar."""
        cuts, names = self._cuts(), list(self.models)
        panels = [[self._panel(name, cut, outlines=False) for cut in cuts] for name in names]
        widths = [panel.shape[1] for panel in panels[0]]
        high, wide = max(panel.shape[0] for panel in panels[0]), sum(widths)
        width = min(9.0, 4.5 * wide / high)
        size = (width + 0.9, len(names) * (width * high / wide + 0.2) + 0.4)
        figure, axes = new_figure(len(names), len(cuts), size, gridspec_kw={"width_ratios": widths})
        for row, name in enumerate(names):
            for axis, cut, panel in zip(axes[row], cuts, panels[row], strict=True):
                axis.imshow(panel)
                axis.set_axis_off()
                position = "" if cut is None else f"{AXES[cut]} = {self.point[cut]}"
                axis.set_title(f"{name}  {position}" if axis is axes[row, 0] else position, fontsize=8)
                for number, mask in enumerate(self.contours.values() if self.outlines.value else ()):
                    colour, style = CONTOURS[number % len(CONTOURS)]
                    cut_mask = _resized(
                        cut_array(mask, cut, self.point).astype(np.float32), panel.shape[:2], smooth=True
                    )
                    if 0 < cut_mask.mean() < 1:
                        axis.contour(cut_mask, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.2)
        for row, (low, high_value) in enumerate(self._scales().values()):
            mappable = ScalarMappable(Normalize(low, high_value), self._colours())
            figure.colorbar(mappable, ax=list(axes[row]), shrink=0.8, pad=0.01, label=self._overlay_name())
        contour_legend(figure, list(self.contours) if self.outlines.value else [])
        return figure

    def _cuts(self) -> tuple[int | None, ...]:
        return (0, 1, 2) if self.grey.ndim == 3 else (None,)

    def _colours(self) -> str:
        return PROBABILITY_MAP if self.overlay.value == "probability" else ATTENTION_MAP

    def _overlay_name(self) -> str:
        if self.overlay.value == "probability":
            return "probability of head"
        return (
            f"{self.module.value}, {dict((value, label) for label, value in self.summary.options)[self.summary.value]}"
        )

    def _scales(self) -> dict[str, tuple[float, float]]:
        chosen = {name: self._values(name) for name in self.models}
        return {name: found[1] for name, found in chosen.items() if found is not None}

    def _values(self, name: str) -> tuple[NDArray[Any], tuple[float, float]] | None:
        """The chosen map of a model at its own resolution, and the limits of its colours; None without overlay."""
        model, overlay = self.models[name], self.overlay.value
        if overlay == "probability":
            return model.probability.array, (0.0, 1.0)
        if overlay == "none" or self.module.value not in model.attention:
            return None
        key = (name, self.module.value, self.summary.value)
        if key not in self._summaries:
            attention = model.attention[self.module.value]
            summary: str | int = self.summary.value
            if summary == "boundary":
                summary = boundary_channel(attention, next(iter(self.contours.values())))
            values = summarise(attention, summary)
            while len(self._summaries) >= 16:
                del self._summaries[next(iter(self._summaries))]
            self._summaries[key] = values, _limits(values)
        return self._summaries[key]

    def _panel(self, name: str, cut: int | None, outlines: bool = True) -> NDArray[np.uint8]:
        """One plane as RGB at the common scale."""
        kept = [axis for axis in range(self.grey.ndim) if axis != cut]
        spacing = [self.image.spacing_mm[axis] for axis in kept]
        grey = cut_array(self.grey, cut, self.point).astype(np.float32)
        per_mm = self.height_px / max(
            size * step for size, step in zip(self.grey.shape, self.image.spacing_mm, strict=True)
        )
        shape = tuple(max(1, round(size * step * per_mm)) for size, step in zip(grey.shape, spacing, strict=True))
        low, high = self.window.value
        rgb = np.repeat(
            _resized(np.clip((grey - low) / max(high - low, 1e-9), 0, 1), shape, smooth=True)[..., None], 3, axis=2
        )
        found = self._values(name)
        if found is not None:
            values, limits = found
            factors = (
                _factors(values.shape, self.grey.shape) if values.shape != self.grey.shape else (1,) * self.grey.ndim
            )
            place = [coordinate // factor for coordinate, factor in zip(self.point, factors, strict=True)]
            plane = cut_array(values, cut, place).astype(np.float32)
            for axis, array_axis in enumerate(kept):
                plane = np.repeat(plane, factors[array_axis], axis=axis)
            plane = _resized(plane[: grey.shape[0], : grey.shape[1]], shape, smooth=False)
            scaled = np.clip((plane - limits[0]) / max(limits[1] - limits[0], 1e-12), 0, 1)
            rgb = (1 - self.opacity.value) * rgb + self.opacity.value * colormaps[self._colours()](scaled)[..., :3]
        if cut is not None:
            for axis, array_axis in enumerate(kept):
                line = min(
                    shape[axis] - 1, int((self.point[array_axis] + 0.5) / self.grey.shape[array_axis] * shape[axis])
                )
                rgb[(slice(None),) * axis + (line,)] = 0.55 * rgb[(slice(None),) * axis + (line,)] + 0.45
        for number, mask in enumerate(self.contours.values() if outlines and self.outlines.value else ()):
            inside = _resized(cut_array(mask, cut, self.point).astype(np.float32), shape, smooth=True) > 0.5
            rgb[inside & ~ndimage.binary_erosion(inside, iterations=2)] = to_rgb(CONTOURS[number % len(CONTOURS)][0])
        return (255 * rgb + 0.5).astype(np.uint8)


def _resized(plane: NDArray[np.float32], shape: Sequence[int], smooth: bool) -> NDArray[np.float32]:
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize((shape[1], shape[0]), method)
    )


def _bottom_aligned(panels: Sequence[NDArray[np.uint8]], gap: int = 6) -> list[NDArray[np.uint8]]:
    """Panels on white to one height, with a gap to the right of each and below."""
    high = max(panel.shape[0] for panel in panels)
    return [np.pad(panel, ((high - panel.shape[0], gap), (0, gap), (0, 0)), constant_values=255) for panel in panels]


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    """1st and 99.5th percentile of a subsample; an interval of no width is widened, so that a constant map has a scale."""
    sample = values[tuple(slice(None, None, max(1, size // 48)) for size in values.shape)]
    low, high = map(float, np.percentile(sample, (1, 99.5)))
    return (low, high) if high - low > 1e-6 else (low, low + 1e-6)
