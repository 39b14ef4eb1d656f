"""The attention explorer: look through a scan, attention, feature and probability maps slice by slice (Fig. 6 and 7).

Features are computed once (`cases`) and stay in half precision, memory-mapped. A map is reduced over its channels when it
is chosen (`summaries`), laid over the scan (`layers`) and sent to the browser, which cuts slices itself (`widget`). At the
paper's size a model's features take 0.86 GB on disk. The explorer holds at most `KEPT_MAPS` reduced maps, 94 MB together.
Every view has a still twin, which executed notebooks and the report keep.
"""

from __future__ import annotations

import base64
import html
import io
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fhlib.figures.planes import PROBABILITY_MAP, centre_of, grey_window
from fhlib.figures.style import CONTOURS, new_figure
from fhlib.interpretability.browser.answers import answer
from fhlib.interpretability.browser.widget import ExplorerWidget, Message
from fhlib.interpretability.cases import ExploredCase
from fhlib.interpretability.choices import ALL_PARTS, ROLES, Choices, View
from fhlib.interpretability.layers import Layer, layer_over, scan_layer, solid
from fhlib.interpretability.panels import Overlay, Picture, Row, compose
from fhlib.interpretability.summaries import (
    ATTENTION_MAP,
    DECIDED,
    PARTS,
    SIGNED_MAP,
    boundary_channel,
    colour_limits,
    log_limits,
    mask_of,
    percent_of,
    summary_map,
    summary_words,
)

__all__ = ["KEPT_MAPS", "AttentionExplorer"]

KEPT_MAPS = 16
VOLUME_PX, IMAGE_PX = 300, 420
"""Length of the longest side on the still picture."""
PROBABILITY, REFERENCE = "probability", "reference"
Load = Callable[[str, Callable[[str], None]], ExploredCase]


class AttentionExplorer:
    """A browser's page over the features of one scan by one or more models, in 3D (three linked planes) or 2D.

    `show()` displays it. `static()` returns the present view as a Figure, or one with other choices, and changes nothing.
    `choose()` changes the view here and in the browser.

    Args:
        explored: a scan and its features.
        cases: scans that the reader may choose.
        load: `load(case, seen)` reads one, and calls `seen` some `steps` times.
        steps: how often `load` calls `seen`.

    Raises:
        ValueError: no model is given, or shapes or geometries do not fit.
    """

    def __init__(
        self, explored: ExploredCase, cases: Sequence[str] = (), load: Load | None = None, steps: int = 1
    ) -> None:
        self._cases, self._load, self._steps = tuple(cases) if load else (), load, steps
        self.busy = threading.RLock()  # the browser is answered in a thread of its own
        view = self._take(explored)
        self.widget = ExplorerWidget(partial(answer, self), view.for_browser())

    def _take(self, explored: ExploredCase, before: View | None = None) -> View:
        """Look at a scan; returns its first view, or the one before where its choices fit."""
        _require_one_grid(explored)
        image = next(iter(explored.models.values())).image
        scan = explored.scan if explored.scan is not None else image
        layer, label = scan_layer(scan), explored.label if explored.label is not None else explored.reference
        reference = None if label is None else _mask_layer(scan, image, label)
        found = {
            name: layer_over(scan, features.image, features.probability.array.astype(np.float16))
            for name, features in explored.models.items()
        }
        # nothing has changed until all of it fits
        self.explored, self.models, self.scan, self.grid = explored, explored.models, scan, layer
        self.reference, self._found = reference, found
        self._maps: dict[str, Overlay] = {}
        self._channels: dict[tuple[str, str], int] = {}
        self.choices = Choices(explored.models, self._cases or (explored.name,), reference is not None)
        view = self.choices.first_view(explored.name) if before is None else before
        changes = {"case": explored.name, "point": self._centre(view.model), "window": grey_window(scan.array)}
        return self.choices.fitted(view.changed({**changes, "lower": None, "upper": None}))

    def _centre(self, model: str) -> tuple[int, ...]:
        """The scan's voxel in the middle of the head: the true one, or what a model found."""
        layer = self.reference if self.reference is not None else self._found[self._known(model)]
        middle = centre_of(np.asarray(layer.values) >= 0.5)
        index = (np.array(middle) - layer.offset) / np.array(layer.scale)
        return tuple(int(np.clip(round(value), 0, size - 1)) for value, size in zip(index, self.grid.values.shape))

    def _known(self, model: str) -> str:
        return model if model in self.models else next(iter(self.models))

    @property
    def view(self) -> View:
        """What is seen, here and in the browser."""
        return self.checked(self.widget.view)

    def checked(self, changes: Message, view: View | None = None) -> View:
        """A view with changes, each one that the models have, its point in the scan."""
        start = view or self.choices.first_view(self.explored.name)
        fitted = self.choices.fitted(start.changed({**changes, "case": self.explored.name}))
        sizes = self.grid.values.shape
        point = tuple(int(np.clip(value, 0, size - 1)) for value, size in zip(fitted.point, sizes, strict=True))
        return fitted.changed({"point": point})

    def choose(self, **changes: Any) -> None:
        """Change the view by its fields (`View`); `case` needs `load`.

        Raises:
            ValueError: a choice that is not offered, with those that are.
        """
        with self.busy:
            case = changes.pop("case", self.explored.name)
            if case != self.explored.name:
                self.change_case(case, lambda _done: None)
            self.widget.view = self._asked_for(changes).for_browser()

    def _asked_for(self, changes: Message) -> View:
        view = self.view.changed(changes)
        for name, options in self.choices.options(view).items():
            values = [value for _, value in options]
            if name in changes and changes[name] not in values:
                raise ValueError(f"{name} {changes[name]!r} is not offered; there are {', '.join(values)}")
        if unknown := set(changes) - set(view.for_browser()):
            raise ValueError(f"a view has no {', '.join(sorted(unknown))}; it has {', '.join(view.for_browser())}")
        return self.checked(view.for_browser())

    def show(self) -> None:
        """Display the picture of the view. Where a kernel runs, the browser puts the explorer in its place.

        So a saved notebook, a report and a page without a kernel hold the picture.
        """
        stream = io.BytesIO()
        self.static().savefig(stream, format="png", bbox_inches="tight", dpi=110)
        twin = base64.b64encode(stream.getvalue()).decode()
        words = html.escape(f"{self.explored.name}: {'; '.join(row.title for row in self._rows(self.view))}")
        picture = f'<img alt="{words}" src="data:image/png;base64,{twin}">'
        place = f'<div class="fhx-place fhx-place-{self.widget.place}">{picture}</div>'
        display({"text/html": place, "image/png": twin, "text/plain": words}, raw=True)

    def static(self, **changes: Any) -> Figure:
        """A view as a Figure, with a legend of the contours: the present one, with the changes given. Nothing else changes."""
        with self.busy:
            view = self._asked_for(changes)
            picture, lines = self._composed(view, scale=2), self._lines(view)
        height, width = picture.pixels.shape[:2]
        inches = min(9.6, 0.012 * width)
        figure, axes = new_figure(1, 1, (inches, inches * height / width + 0.35))
        axes[0, 0].imshow(picture.pixels, interpolation="antialiased")
        axes[0, 0].set_axis_off()
        handles = [Line2D([], [], color=colour, linewidth=2, label=name) for _, name, colour, _ in lines]
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=True,
                          facecolor="#333333", labelcolor="white", edgecolor="none")  # fmt: skip
        return figure

    def _composed(self, view: View, scale: int = 1) -> Picture:
        outlines = [(self.line_layer(key), colour) for _, _, colour, key in self._lines(view)]
        longest = VOLUME_PX if self.scan.ndim == 3 else IMAGE_PX
        return compose(self.grid, self.spacing_mm, view, self._rows(view), outlines, scale * longest, scale)

    @property
    def spacing_mm(self) -> list[float]:
        return [*([1.0] if self.scan.ndim == 2 else []), *self.scan.spacing_mm]

    def line_layer(self, key: str) -> Layer:
        if key == REFERENCE:
            assert self.reference is not None
            return self.reference
        return self._found[key.split("|")[1]]

    def all_lines(self, view: View) -> list[tuple[str, str, str, str]]:
        """Role, name, colour and key of the contours that can be drawn."""
        drawn = [(view.model, f"{PROBABILITY}|{view.model}"), (view.beside, f"{PROBABILITY}|{view.beside}")]
        lines = [(REFERENCE, REFERENCE)] if self.reference is not None else [("", "")]
        shown = []
        for role, (name, key), (colour, _) in zip(ROLES, lines + drawn, CONTOURS, strict=False):
            if name == REFERENCE or name in self.models:
                shown.append((role, name, colour, key))
        return shown

    def _lines(self, view: View) -> list[tuple[str, str, str, str]]:
        return [line for line in self.all_lines(view) if line[0] in view.outlines]

    def keys(self, view: View) -> list[tuple[str, str, str, str]]:
        """Title, key of the map, role of the outline and model of each row."""
        if view.beside == ALL_PARTS:
            return [self._key(view, view.model, part, ROLES[1]) for part in PARTS]
        named = [(view.model, ROLES[1]), (view.beside, ROLES[2])]
        return [self._key(view, name, view.overlay, role) for name, role in named if name in self.models]

    def _key(self, view: View, name: str, kind: str, role: str) -> tuple[str, str, str, str]:
        features = self.models[name]
        if kind == PROBABILITY:
            return f"{name}: probability of head", f"{PROBABILITY}|{name}", role, name
        if kind not in PARTS:
            return name, "", role, name
        if view.module not in features.attention or (kind != "A" and view.module not in features.shrunk):
            return f"{name}: has no {view.module}", "", role, name
        key = f"{kind}|{name}|{view.module}|{self._summary(view, name)}"
        overlay = self.overlay(key)
        return f"{name}: {overlay.name}{'; ' if overlay.note else ''}{overlay.note}", key, role, name

    def _rows(self, view: View) -> list[Row]:
        return [Row(title, self.overlay(key) if key else None) for title, key, _, _ in self.keys(view)]

    def values_read(self, view: View, name: str) -> tuple[dict[str, str], str]:
        """Keys of what is read under the mouse, by name, and what P, A and T are of."""
        features, values, reading = self.models[name], {}, ""
        if view.module in features.attention:
            summary = self._summary(view, name)
            reading = f"{view.module}, {summary_words(summary)}"
            for part in PARTS:
                if part == "A" or view.module in features.shrunk:
                    values[part] = f"{part}|{name}|{view.module}|{summary}"
        return {**values, PROBABILITY: f"{PROBABILITY}|{name}"}, reading

    def _summary(self, view: View, name: str) -> str:
        """The chosen summary of a model's module, as `summarise` takes it."""
        channels = len(self.models[name].attention[view.module])
        if view.summary == "top":
            return f"top-{min(view.strongest, channels)}"
        if view.summary == "boundary":
            return str(self._aligned_channel(name, view.module))
        return str(min(int(view.summary), channels - 1)) if view.summary.isdigit() else view.summary

    def _aligned_channel(self, name: str, module: str) -> int:
        """The channel most aligned with the boundary, computed once."""
        if (name, module) not in self._channels:
            features, reference = self.models[name], mask_of(self.explored.reference)
            outline = reference if reference is not None else features.probability.array > 0.5
            self._channels[name, module] = boundary_channel(features.attention[module], outline)
        return self._channels[name, module]

    def overlay(self, key: str) -> Overlay:
        """The map of a key (`part|model|module|summary`, or `probability|model`), computed once; the oldest goes.

        Raises:
            KeyError: there is no such map.
        """
        with self.busy:
            if key not in self._maps:
                made = self._overlay(*key.split("|"))
                while len(self._maps) >= KEPT_MAPS:
                    del self._maps[next(iter(self._maps))]
                self._maps[key] = made
            return self._maps[key]

    def _overlay(self, kind: str, name: str, module: str = "", summary: str = "") -> Overlay:
        if kind == PROBABILITY:
            return Overlay(self._found[name], "probability of head", "0 to 1", 0.0, 1.0, PROBABILITY_MAP)
        features = self.models[name]
        layer = layer_over(self.scan, features.image, summary_map(features, module, summary, kind))
        signed = kind != "A" and summary.isdigit()
        log = summary == "rest"
        low, high = log_limits(layer.values) if log else colour_limits(layer.values, signed)
        name_of_map = f"{module}, {PARTS[kind].split(': ')[1]}, {summary_words(summary)}"
        unit = "no unit" if kind != "A" and summary not in ("rest", "entropy") else "0 to 1"
        colours, note = SIGNED_MAP if signed else ATTENTION_MAP, ""
        if kind == "A" and summary in ("rest", "maximum"):
            decided = layer.values <= 1 - DECIDED if log else layer.values >= DECIDED
            note = f"one channel has over {DECIDED:.0%} of the weight in {percent_of(decided)}"
        unit = f"{unit}, log scale" if log else unit
        return Overlay(layer, name_of_map, unit, low, high, colours, log, signed, note)

    def change_case(self, case: str, progress: Callable[[float], None]) -> None:
        """Look at another scan; `progress` is told how much is done, 0 to 1. Raises ValueError for one that is not offered."""
        if self._load is None or case not in self._cases:
            raise ValueError(f"scan {case!r} is not offered; there are {', '.join(self._cases) or 'no others'}")
        done = 0

        def seen(_name: str) -> None:
            nonlocal done
            done += 1
            progress(min(1.0, done / self._steps))

        self.widget.view = self._take(self._load(case, seen), self.view).for_browser()


def _mask_layer(scan: Any, image: Any, label: Any) -> Layer:
    """The true mask, on the scan's grid or on the network's."""
    values = mask_of(label)
    assert values is not None
    values = values.astype(np.uint8)
    return Layer(solid(values)) if values.shape == scan.shape else layer_over(scan, image, values)


def _require_one_grid(explored: ExploredCase) -> None:
    if not explored.models:
        raise ValueError("the explorer needs the features of at least one model")
    image = next(iter(explored.models.values())).image
    shapes = {name: features.probability.array.shape for name, features in explored.models.items()}
    if explored.reference is not None:
        shapes["reference"] = np.shape(getattr(explored.reference, "array", explored.reference))
    for name, shape in shapes.items():
        if shape != image.array.shape:
            raise ValueError(
                f"{name!r} has shape {shape}, the image {image.array.shape}: give it at network resolution"
            )
    if explored.label is not None and explored.scan is not None and explored.label.shape != explored.scan.shape:
        raise ValueError(
            f"the label has shape {explored.label.shape}, the scan {explored.scan.shape}: give it on the scan's grid"
        )
