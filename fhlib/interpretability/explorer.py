"""The attention explorer: look through attention, feature and probability maps of a segmentation (Fig. 6 and 7), slice by slice.

Features are computed once (`cases`) and stay in half precision, memory-mapped. A map is reduced over its channels
when it is chosen; a slice is then composed with numpy (`panels`) and sent as PNG. Beyond the features (0.86 GB a model at the
paper's size, on disk) the explorer holds at most `KEPT_MAPS` reduced maps of 2 bytes a voxel, 94 MB at that size.
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

from fhlib.figures.planes import AXES, PROBABILITY_MAP, centre_of, grey_window
from fhlib.figures.style import CONTOURS, new_figure
from fhlib.interpretability.panels import Overlay, Picture, Row, compose
from fhlib.interpretability.pointer import Pointed, pointed_picture
from fhlib.interpretability.summaries import (
    ATTENTION_MAP,
    PARTS,
    SIGNED_MAP,
    SUMMARIES,
    boundary_channel,
    colour_limits,
    summary_map,
)
from fhlib.networks.features import Features

KEPT_MAPS = 16
COLOUR_MAPS = ("automatic", "viridis", "cividis", "magma", "gray", "coolwarm")
OVERLAYS = {"A": "attention A", "P": "before P", "T": "after T = P A", "probability": "probability", "none": "none"}
ALONE, ALL_PARTS = "nothing", "P, A and T of this module"
ROLES = ("reference", "this model", "beside")

Case = tuple[Mapping[str, Features], Any]


class AttentionExplorer:
    """Widget over the features of one scan by one or more models, in 3D (three linked planes) or 2D.

    `models`: name -> Features, those of a cascade's levels under a name each. `reference`: the true mask (array or Volume) at network
    resolution. `cases` and `load` let the reader change the scan: `load(case, seen)` returns models and reference, and calls
    `seen` some `steps` times. Raises ValueError where no model is given, or shapes do not fit.

    `show()` displays the widget, `static()` returns the present view as a Figure, `png()` as bytes. Click or drag in a plane moves
    the others; the wheel scrolls the plane under the mouse. The controls are public attributes: case, model, beside, overlay, module,
    summary, strongest (the k of top-k), opacity, fading, colours, outlines (one for each of ROLES), window, sliders.
    """

    def __init__(
        self,
        models: Mapping[str, Features],
        reference: Any = None,
        case: str = "",
        cases: Sequence[str] = (),
        load: Callable[[str, Callable[[str], None]], Case] | None = None,
        steps: int = 1,
        longest_px: int | None = None,
    ) -> None:
        self._load, self._steps, self._longest_px = load, steps, longest_px
        self._busy = True
        self._take(models, reference)
        self._build(case, cases)
        self._point_to_centre()
        self._busy = False
        self.redraw()

    def _take(self, models: Mapping[str, Features], reference: Any) -> None:
        if not models:
            raise ValueError("the explorer needs the features of at least one model")
        image = next(iter(models.values())).image
        mask = None if reference is None else np.asarray(getattr(reference, "array", reference)) > 0
        shapes = {name: features.probability.array.shape for name, features in models.items()}
        for name, shape in {**shapes, **({"reference": mask.shape} if mask is not None else {})}.items():
            if shape != image.array.shape:
                raise ValueError(
                    f"{name!r} has shape {shape}, the image {image.array.shape}: give it at network resolution"
                )
        self.models, self.image, self.reference = dict(models), image, mask
        self.grey = np.asarray(image.array)
        self._maps: dict[tuple[str, ...], NDArray[Any]] = {}
        self._aligned: dict[tuple[str, ...], int] = {}
        self._found = {name: features.probability.array > 0.5 for name, features in models.items()}

    def _build(self, case: str, cases: Sequence[str]) -> None:
        names = list(self.models)
        hybrid = next((name for name in names if self.models[name].attention), names[0])
        modules = sorted(set().union(*(features.attention for features in self.models.values())))
        kinds = [kind for kind in OVERLAYS if modules or kind in ("probability", "none")]
        low, high = grey_window(self.grey)
        self.case = widgets.Dropdown(options=list(cases) or [case], value=case, **_labelled("scan"))
        self.model = widgets.Dropdown(options=names, value=hybrid, **_labelled("model"))
        self.beside = widgets.Dropdown(
            options=[ALONE, *names, ALL_PARTS][: None if modules else -1], **_labelled("beside")
        )
        self.overlay = widgets.ToggleButtons(
            options=[(OVERLAYS[kind], kind) for kind in kinds], style={"button_width": "112px"}
        )
        self.module = widgets.Dropdown(options=modules, value=modules[-1] if modules else None, **_labelled("module"))
        self.summary = widgets.Dropdown(options=self._summaries(), **_labelled("channels"))
        self.strongest = widgets.BoundedIntText(3, min=1, max=max(1, self._channels()), **_labelled("k of top-k"))
        self.opacity = widgets.FloatSlider(0.5, min=0, max=1, step=0.05, **_labelled("opacity"))
        self.colours = widgets.Dropdown(options=COLOUR_MAPS, **_labelled("colours"))
        self.fading = widgets.Checkbox(True, description="low values transparent", indent=False)
        self.window = widgets.FloatRangeSlider(
            value=(low, high), min=min(low, float(self.grey.min())), max=max(high, float(self.grey.max())),
            step=max((high - low) / 100, 1e-6), readout_format=".3g", **_labelled("grey levels"),
        )  # fmt: skip
        self.outlines = {
            role: widgets.Checkbox(
                role != "beside", description=role, indent=False, layout=widgets.Layout(width="110px")
            )
            for role in ROLES
        }
        self.sliders = [
            widgets.IntSlider(0, min=0, max=size - 1, **_labelled(f"slice {AXES[axis]}"))
            for axis, size in enumerate(self.grey.shape if self.grey.ndim == 3 else ())
        ]
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", height="auto"))
        self.caption, self.progress = (
            widgets.HTML(),
            widgets.FloatProgress(0, min=0, max=1, layout={"visibility": "hidden"}),
        )
        rows = [
            [*([self.case] if self._load else []), self.model, self.beside],
            [self.overlay],
            [self.module, self.summary, self.strongest],
            [self.opacity, self.colours, self.fading],
            [
                self.window,
                widgets.Label("contours:", layout=widgets.Layout(margin="2px 10px 2px 40px")),
                *self.outlines.values(),
            ],
            self.sliders,
        ]
        boxes = [widgets.HBox(row, layout=widgets.Layout(flex_flow="row wrap")) for row in rows if row]
        self.widget = widgets.VBox([*boxes, pointed_picture(self.picture, self._pointed), self.caption, self.progress])
        self._enable()
        for control in (self.model, self.module):
            control.observe(self._channels_changed, names="value")
        self.case.observe(lambda change: self._change_case(change["new"]), names="value")
        plain = (
            self.beside,
            self.overlay,
            self.summary,
            self.strongest,
            self.opacity,
            self.colours,
            self.fading,
            self.window,
        )
        for control in (*plain, self.model, self.module, *self.outlines.values(), *self.sliders):
            control.observe(lambda _change: self.redraw(), names="value")

    def _channels(self) -> int:
        counts = [len(f.attention[self.module.value]) for f in self.models.values() if self.module.value in f.attention]
        return max(counts, default=0)

    def _summaries(self) -> list[tuple[str, str]]:
        count = self._channels()
        aligned = "most aligned with the boundary" + ("" if self.reference is not None else " found")
        return [(aligned, "boundary"), *((name, name) for name in SUMMARIES), ("top-k: sum of the k largest", "top"),
                *((f"channel {number}", str(number)) for number in range(count))]  # fmt: skip

    def _channels_changed(self, _change: Any) -> None:
        chosen, options = self.summary.value, self._summaries()
        if tuple(options) != tuple(self.summary.options):
            self._busy = True
            self.summary.options = options
            self.summary.value = chosen if chosen in dict(options).values() else "boundary"
            self.strongest.max = max(1, self._channels())
            self._busy = False

    def _enable(self) -> None:
        """Only what the present view uses can be changed."""
        shows_maps = self.overlay.value in PARTS or self.beside.value == ALL_PARTS
        self.module.disabled = self.summary.disabled = not shows_maps
        self.strongest.layout.display = "" if shows_maps and self.summary.value == "top" else "none"
        self.outlines["reference"].disabled = self.reference is None
        self.outlines["beside"].disabled = self.beside.value not in self.models

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
            low, high = grey_window(self.grey)
            self.window.min, self.window.max = min(low, float(self.grey.min())), max(high, float(self.grey.max()))
            self.window.value = (low, high)
            for slider, size in zip(self.sliders, self.grey.shape, strict=False):
                slider.max = size - 1
            self._point_to_centre()
        finally:
            self._busy = False
        self._channels_changed(None)
        self.redraw()

    def _point_to_centre(self) -> None:
        self.point = centre_of(self.reference if self.reference is not None else self._found[self.model.value])

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
        moved = under if mouse.pressed else {cut: self.point[cut] + mouse.turned} if cut is not None else {}
        point = tuple(moved.get(axis, value) for axis, value in enumerate(self.point))
        if point != self.point:
            self.point = point

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
        self._enable()
        self._picture = self._composed()
        self.picture.value = self._picture.png()
        swatches = [
            f'<span style="border-bottom:3px solid {colour};margin-right:14px">{html.escape(name)}</span>'
            for name, _, colour in self._outlines()
        ]
        hint = "click or drag to move, wheel to scroll" if self.sliders else ""
        self.caption.value = " ".join([*swatches, f'<span style="color:#777">{hint}</span>'])

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

    def _outlines(self) -> list[tuple[str, NDArray[np.bool_], str]]:
        """Name, mask and colour of the contours that are switched on."""
        masks = {
            "reference": ("reference", self.reference),
            "this model": (self.model.value, self._found[self.model.value]),
            "beside": (self.beside.value, self._found.get(self.beside.value)),
        }
        return [
            (name, mask, CONTOURS[ROLES.index(role)][0])
            for role, (name, mask) in masks.items()
            if mask is not None and self.outlines[role].value
        ]

    def _composed(self, scale: int = 1) -> Picture:
        longest_px = self._longest_px or (300 if self.grey.ndim == 3 else 420)
        outlines = [(mask, colour) for _, mask, colour in self._outlines()]
        return compose(
            self.grey,
            self.image.spacing_mm,
            self.point,
            self._rows(),
            outlines,
            self.window.value,
            scale * longest_px,
            scale,
        )

    def _rows(self) -> list[Row]:
        model, beside, kind = self.model.value, self.beside.value, self.overlay.value
        if beside == ALL_PARTS:
            return [self._row(model, part) for part in PARTS]
        return [self._row(name, kind) for name in (model, beside) if name in self.models]

    def _row(self, name: str, kind: str) -> Row:
        features, module = self.models[name], self.module.value
        opacity, fading = self.opacity.value, self.fading.value
        if kind == "probability":
            values = features.probability.array
            return Row(f"{name}: probability of head", Overlay(values, 0.0, 1.0, self._cmap(kind), opacity, fading))
        if kind == "none":
            return Row(name, None)
        if module not in features.attention or (kind != "A" and module not in features.shrunk):
            return Row(f"{name}: has no {module}", None)
        summary, words = self._summary(name)
        values = self._map(name, module, summary, kind)
        signed = kind != "A" and summary.isdigit()
        low, high = colour_limits(values, signed)
        overlay = Overlay(values, low, high, self._cmap("signed" if signed else kind), opacity, fading)
        return Row(f"{name}: {module}, {PARTS[kind].split(': ')[1]}, {words}", overlay)

    def _cmap(self, kind: str) -> str:
        automatic = {"probability": PROBABILITY_MAP, "signed": SIGNED_MAP}.get(kind, ATTENTION_MAP)
        return automatic if self.colours.value == "automatic" else str(self.colours.value)

    def _summary(self, name: str) -> tuple[str, str]:
        """The chosen summary of a model's module, as `summarise` takes it, and in words."""
        chosen, module = str(self.summary.value), self.module.value
        attention = self.models[name].attention[module]
        if chosen == "top":
            count = min(self.strongest.value, len(attention))
            return f"top-{count}", f"sum of the {count} largest"
        if chosen == "boundary":
            key = (name, module, "aligned")
            if key not in self._aligned:
                mask = self.reference if self.reference is not None else self._found[name]
                self._aligned[key] = boundary_channel(attention, mask)
            return str(self._aligned[key]), f"channel {self._aligned[key]}"
        if chosen.isdigit():
            number = min(int(chosen), len(attention) - 1)
            return str(number), f"channel {number}"
        return chosen, f"{chosen} over channels"

    def _map(self, name: str, module: str, summary: str, part: str) -> NDArray[Any]:
        """A reduced map, computed once; the oldest goes when there are too many."""
        key = (name, module, summary, part)
        if key not in self._maps:
            self.progress.value, self.progress.layout.visibility = 0.0, "visible"
            values = summary_map(
                self.models[name], module, summary, part, lambda done: setattr(self.progress, "value", done)
            )
            self.progress.layout.visibility = "hidden"
            while len(self._maps) >= KEPT_MAPS:
                del self._maps[next(iter(self._maps))]
            self._maps[key] = values
        return self._maps[key]


def _labelled(description: str) -> dict[str, Any]:
    """A control's label, with a layout of its own: shared ones would be hidden together."""
    return {"description": description, "style": {"description_width": "76px"}, "layout": widgets.Layout(width="300px")}
