"""The attention explorer: look through attention, feature and probability maps slice by slice (Fig. 6 and 7).

Features are computed once (`cases`) and stay in half precision, memory-mapped. A map is reduced over its channels when it
is chosen (`summaries`). A slice is then composed with numpy (`panels`) and sent as PNG. At the paper's size a model's
features take 0.86 GB on disk. The explorer holds at most `KEPT_MAPS` reduced maps, 94 MB together.
Every view has a static twin, which executed notebooks and the report keep.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fhlib.figures.planes import PROBABILITY_MAP, centre_of
from fhlib.figures.style import CONTOURS, new_figure
from fhlib.interpretability.controls import ALL_PARTS, ALONE, ROLES, Controls
from fhlib.interpretability.panels import Overlay, Picture, Row, compose
from fhlib.interpretability.pointer import Pointed, pointed_picture
from fhlib.interpretability.summaries import (
    ATTENTION_MAP,
    PARTS,
    SIGNED_MAP,
    Mask,
    Reference,
    boundary_channel,
    colour_limits,
    mask_of,
    summary_map,
)
from fhlib.networks.features import Features

__all__ = ["ALL_PARTS", "ALONE", "KEPT_MAPS", "AttentionExplorer"]

KEPT_MAPS = 16
VOLUME_PX, IMAGE_PX = 300, 420
"""Length of the longest side on the picture."""

Case = tuple[Mapping[str, Features], Reference]


class AttentionExplorer(Controls):
    """Widget over the features of one scan by one or more models, in 3D (three linked planes) or 2D.

    `show()` displays the widget, `static()` returns the present view as a Figure, `png()` as bytes. Click or drag in a
    plane moves the others; the wheel scrolls the plane under the mouse. The controls are public attributes (`Controls`).

    Args:
        models: name -> Features, those of a cascade's levels under a name each.
        reference: the true mask (array or Volume) at network resolution.
        case: name of the scan.
        cases: scans that the reader may choose.
        load: `load(case, seen)` returns models and reference of a scan, and calls `seen` some `steps` times.
        steps: how often `load` calls `seen`.
        longest_px: length of the longest side on the picture.

    Raises:
        ValueError: no model is given, or shapes do not fit.
    """

    def __init__(
        self,
        models: Mapping[str, Features],
        reference: Reference = None,
        case: str = "",
        cases: Sequence[str] = (),
        load: Callable[[str, Callable[[str], None]], Case] | None = None,
        steps: int = 1,
        longest_px: int | None = None,
    ) -> None:
        self._load, self._steps = load, steps
        self._busy = True
        self._take(models, reference)
        super().__init__(self.models, self.grey, self.reference, case, cases)
        self._longest_px = longest_px or (VOLUME_PX if self.grey.ndim == 3 else IMAGE_PX)
        self._lay_out()
        self._listen()
        self._point_to_centre()
        self._busy = False
        self.redraw()

    def _take(self, models: Mapping[str, Features], reference: Reference) -> None:
        if not models:
            raise ValueError("the explorer needs the features of at least one model")
        image = next(iter(models.values())).image
        mask = mask_of(reference)
        shapes = {name: features.probability.array.shape for name, features in models.items()}
        if mask is not None:
            shapes["reference"] = mask.shape
        for name, shape in shapes.items():
            if shape != image.array.shape:
                raise ValueError(
                    f"{name!r} has shape {shape}, the image {image.array.shape}: give it at network resolution"
                )
        self.models, self.image, self.reference = dict(models), image, mask
        self.grey = np.asarray(image.array)
        self._maps: dict[tuple[str, ...], NDArray[Any]] = {}
        self._aligned: dict[tuple[str, str], int] = {}
        self._found = {name: features.probability.array > 0.5 for name, features in models.items()}

    def _lay_out(self) -> None:
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", height="auto"))
        self.caption = widgets.HTML()
        self.progress = widgets.FloatProgress(0, min=0, max=1, layout={"visibility": "hidden"})
        pointed = pointed_picture(self.picture, self._pointed)
        self.widget = widgets.VBox([*self.panel(self._load is not None), pointed, self.caption, self.progress])
        self.enable_what_counts()

    def _listen(self) -> None:
        for control in (self.model, self.module):
            control.observe(lambda _change: self._fit_to_channels_quietly(), names="value")
        self.case.observe(lambda change: self._change_case(change["new"]), names="value")
        for control in self.changing_the_view():
            control.observe(lambda _change: self.redraw(), names="value")

    def _fit_to_channels_quietly(self) -> None:
        was_busy, self._busy = self._busy, True
        self.fit_to_channels()
        self._busy = was_busy

    def _change_case(self, case: str) -> None:
        """Load another scan, showing progress; the view stays as it is but for the point and the grey levels."""
        if self._load is None:
            return
        done = 0

        def seen(_name: str) -> None:
            nonlocal done
            done += 1
            self.progress.value = done / self._steps

        self.progress.layout.visibility, self.progress.value, self._busy = "visible", 0.0, True
        try:
            self._take(*self._load(case, seen))
            self.progress.layout.visibility = "hidden"
            self.fit_to_scan()
            self._point_to_centre()
            self.fit_to_channels()
        finally:
            self._busy = False
        self.redraw()

    def _point_to_centre(self) -> None:
        self.point = centre_of(self._outline_known(self.model.value))

    def _outline_known(self, model: str) -> Mask:
        """The reference, or what a model found where it is not known."""
        return self.reference if self.reference is not None else self._found[model]

    @property
    def point(self) -> tuple[int, ...]:
        """Voxel at which the planes are taken; of an image, its centre. May be set: all planes then move at once."""
        return tuple(slider.value for slider in self.sliders) or tuple(size // 2 for size in self.grey.shape)

    @point.setter
    def point(self, values: Sequence[int]) -> None:
        was_busy, self._busy = self._busy, True
        for slider, value in zip(self.sliders, values, strict=False):
            slider.value = int(np.clip(value, 0, slider.max))
        self._busy = was_busy
        self.redraw()

    def _pointed(self, mouse: Pointed) -> None:
        """A press or drag puts the crosshair under the mouse, the wheel moves the plane under it."""
        place = self._picture.locate(mouse.x, mouse.y)
        if place is None or not self.sliders:
            return
        under, cut = place
        moved = dict(enumerate(self.point))
        if mouse.pressed:
            moved |= under
        elif cut is not None:
            moved[cut] += mouse.turned
        if tuple(moved.values()) != self.point:
            self.point = tuple(moved.values())

    def show(self) -> None:
        """Display the widget. Beside it the output carries the static twin, for readers without widgets and for the report."""
        stream = io.BytesIO()
        self.static().savefig(stream, format="png", bbox_inches="tight", dpi=110)
        twin = base64.b64encode(stream.getvalue()).decode()
        display({**self.widget._repr_mimebundle_(), "image/png": twin}, raw=True)

    def redraw(self) -> None:
        """Compose the present view and send it to the picture."""
        if self._busy:
            return
        self.enable_what_counts()
        self._picture = self._composed()
        self.picture.value = self._picture.png()
        line = '<span style="border-bottom:3px solid {};margin-right:14px">{}</span>'
        names = [line.format(colour, html.escape(name)) for name, _, colour in self._outlines()]
        hint = "click or drag to move, wheel to scroll" if self.sliders else ""
        self.caption.value = " ".join([*names, f'<span style="color:#777">{hint}</span>'])

    def png(self) -> bytes:
        """The present view as PNG: rows are what is compared, columns the planes, all at one scale."""
        return self._composed().png()

    def static(self) -> Figure:
        """The present view as a Figure, with a legend of the contours."""
        picture = self._composed(scale=2)
        height, width = picture.pixels.shape[:2]
        inches = min(9.6, 0.012 * width)
        figure, axes = new_figure(1, 1, (inches, inches * height / width + 0.35))
        axes[0, 0].imshow(picture.pixels, interpolation="antialiased")
        axes[0, 0].set_axis_off()
        lines = [Line2D([], [], color=colour, linewidth=2, label=name) for name, _, colour in self._outlines()]
        if lines:
            figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=8, frameon=True,
                          facecolor="#333333", labelcolor="white", edgecolor="none")  # fmt: skip
        return figure

    def _outlines(self) -> list[tuple[str, Mask, str]]:
        """Name, mask and colour of the contours that are switched on."""
        model, beside = self.model.value, self.beside.value
        masks = (("reference", self.reference), (model, self._found[model]), (beside, self._found.get(beside)))
        shown = []
        for role, (name, mask), (colour, _) in zip(ROLES, masks, CONTOURS, strict=False):
            if mask is not None and self.outlines[role].value:
                shown.append((name, mask, colour))
        return shown

    def _composed(self, scale: int = 1) -> Picture:
        outlines = [(mask, colour) for _, mask, colour in self._outlines()]
        return compose(
            self.grey,
            self.image.spacing_mm,
            self.point,
            self._rows(),
            outlines,
            self.window.value,
            scale * self._longest_px,
            scale,
        )

    def _rows(self) -> list[Row]:
        model, beside, kind = self.model.value, self.beside.value, self.overlay.value
        if beside == ALL_PARTS:
            return [self._row(model, part) for part in PARTS]
        return [self._row(name, kind) for name in (model, beside) if name in self.models]

    def _row(self, name: str, kind: str) -> Row:
        features, module = self.models[name], self.module.value
        if kind == "none":
            return Row(name, None)
        if kind == "probability":
            values = features.probability.array
            return Row(f"{name}: probability of head", self._overlaid(values, 0.0, 1.0, PROBABILITY_MAP))
        if module not in features.attention or (kind != "A" and module not in features.shrunk):
            return Row(f"{name}: has no {module}", None)
        summary, words = self._summary(name)
        values = self._map(name, module, summary, kind)
        signed = kind != "A" and summary.isdigit()
        low, high = colour_limits(values, signed)
        overlay = self._overlaid(values, low, high, SIGNED_MAP if signed else ATTENTION_MAP)
        return Row(f"{name}: {module}, {PARTS[kind].split(': ')[1]}, {words}", overlay)

    def _overlaid(self, values: NDArray[Any], low: float, high: float, automatic: str) -> Overlay:
        """A map in the chosen colours, or in its own where none are chosen."""
        colours = automatic if self.colours.value == "automatic" else self.colours.value
        return Overlay(values, low, high, colours, self.opacity.value, self.fading.value)

    def _summary(self, name: str) -> tuple[str, str]:
        """The chosen summary of a model's module, as `summarise` takes it, and in words."""
        chosen, channels = str(self.summary.value), len(self.models[name].attention[self.module.value])
        if chosen == "top":
            count = min(self.strongest.value, channels)
            return f"top-{count}", f"sum of the {count} largest"
        if chosen == "boundary":
            channel = self._aligned_channel(name)
            return str(channel), f"channel {channel}"
        if chosen.isdigit():
            channel = min(int(chosen), channels - 1)
            return str(channel), f"channel {channel}"
        return chosen, f"{chosen} over channels"

    def _aligned_channel(self, name: str) -> int:
        """The channel most aligned with the boundary, computed once."""
        key = name, self.module.value
        if key not in self._aligned:
            attention = self.models[name].attention[self.module.value]
            self._aligned[key] = boundary_channel(attention, self._outline_known(name))
        return self._aligned[key]

    def _map(self, name: str, module: str, summary: str, part: str) -> NDArray[Any]:
        """A reduced map, computed once; the oldest goes when there are too many."""
        key = (name, module, summary, part)
        if key not in self._maps:
            self.progress.value, self.progress.layout.visibility = 0.0, "visible"
            values = summary_map(self.models[name], module, summary, part, self._show_progress)
            self.progress.layout.visibility = "hidden"
            while len(self._maps) >= KEPT_MAPS:
                del self._maps[next(iter(self._maps))]
            self._maps[key] = values
        return self._maps[key]

    def _show_progress(self, done: float) -> None:
        self.progress.value = done
