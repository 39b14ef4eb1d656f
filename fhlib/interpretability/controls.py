"""The attention explorer's controls: what can be chosen, and which choices the scan and the view leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from fhlib.figures.planes import AXES, grey_window
from fhlib.interpretability.summaries import PARTS, SUMMARIES
from fhlib.networks.features import Features

COLOUR_MAPS = ("automatic", "viridis", "cividis", "magma", "gray", "coolwarm")
OVERLAYS = {"A": "attention A", "P": "before P", "T": "after T = P A", "probability": "probability", "none": "none"}
ALONE, ALL_PARTS = "nothing", "P, A and T of this module"
ROLES = ("reference", "this model", "beside")


class Controls:
    """Widgets as public attributes, each with its present choice as `value`.

    - What is looked at: case, model, beside, overlay, module, summary, strongest (the k of top-k).
    - How it looks: opacity, fading, colours, window, outlines (one for each of ROLES).
    - Where: sliders, one for each axis of a volume.

    Args:
        models: the features of one scan by the models' names.
        grey: the scan.
        reference: the true mask, None where it is not known.
        case: name of the scan.
        cases: scans that can be chosen.
    """

    def __init__(
        self,
        models: Mapping[str, Features],
        grey: NDArray[Any],
        reference: NDArray[np.bool_] | None,
        case: str,
        cases: Sequence[str],
    ) -> None:
        self.models, self.grey, self.reference = dict(models), grey, reference
        self._choose_models(case, cases)
        self._choose_map()
        self._choose_look()
        self._choose_place()

    def _choose_models(self, case: str, cases: Sequence[str]) -> None:
        names, modules = list(self.models), self._modules()
        hybrid = next((name for name in names if self.models[name].attention), names[0])
        others = [ALONE, *names, ALL_PARTS] if modules else [ALONE, *names]
        kinds = [(words, kind) for kind, words in OVERLAYS.items() if modules or kind not in PARTS]
        self.case = widgets.Dropdown(options=list(cases) or [case], value=case, **_labelled("scan"))
        self.model = widgets.Dropdown(options=names, value=hybrid, **_labelled("model"))
        self.beside = widgets.Dropdown(options=others, **_labelled("beside"))
        self.overlay = widgets.ToggleButtons(options=kinds, style={"button_width": "112px"})

    def _choose_map(self) -> None:
        modules = self._modules()
        last = modules[-1] if modules else None
        self.module = widgets.Dropdown(options=modules, value=last, **_labelled("module"))
        self.summary = widgets.Dropdown(options=self._summaries(), **_labelled("channels"))
        self.strongest = widgets.BoundedIntText(3, min=1, max=max(1, self._channels()), **_labelled("k of top-k"))

    def _choose_look(self) -> None:
        self.opacity = widgets.FloatSlider(0.5, min=0, max=1, step=0.05, **_labelled("opacity"))
        self.colours = widgets.Dropdown(options=COLOUR_MAPS, **_labelled("colours"))
        self.fading = widgets.Checkbox(True, description="low values transparent", indent=False)
        low, high = grey_window(self.grey)
        self.window = widgets.FloatRangeSlider(
            value=(low, high), step=max((high - low) / 100, 1e-6), readout_format=".3g",
            min=min(low, float(self.grey.min())), max=max(high, float(self.grey.max())), **_labelled("grey levels"),
        )  # fmt: skip
        self.outlines = {}
        for role in ROLES:
            narrow = widgets.Layout(width="110px")
            self.outlines[role] = widgets.Checkbox(role != "beside", description=role, indent=False, layout=narrow)

    def _choose_place(self) -> None:
        shape = self.grey.shape if self.grey.ndim == 3 else ()
        self.sliders = []
        for axis, size in enumerate(shape):
            self.sliders.append(widgets.IntSlider(0, min=0, max=size - 1, **_labelled(f"slice {AXES[axis]}")))

    def panel(self, with_case: bool) -> list[widgets.HBox]:
        """The controls in rows; the scan's only where others can be loaded."""
        contours = widgets.Label("contours:", layout=widgets.Layout(margin="2px 10px 2px 40px"))
        first = [self.model, self.beside]
        rows = [
            [self.case, *first] if with_case else first,
            [self.overlay],
            [self.module, self.summary, self.strongest],
            [self.opacity, self.colours, self.fading],
            [self.window, contours, *self.outlines.values()],
            self.sliders,
        ]
        return [widgets.HBox(row, layout=widgets.Layout(flex_flow="row wrap")) for row in rows if row]

    def changing_the_view(self) -> list[widgets.Widget]:
        """All controls but the scan's."""
        choices = [self.model, self.beside, self.overlay, self.module, self.summary, self.strongest]
        look = [self.opacity, self.colours, self.fading, self.window]
        return [*choices, *look, *self.outlines.values(), *self.sliders]

    def enable_what_counts(self) -> None:
        """Only what the present view uses can be changed."""
        shows_maps = self.overlay.value in PARTS or self.beside.value == ALL_PARTS
        self.module.disabled = self.summary.disabled = not shows_maps
        self.strongest.layout.display = "" if shows_maps and self.summary.value == "top" else "none"
        self.outlines["reference"].disabled = self.reference is None
        self.outlines["beside"].disabled = self.beside.value not in self.models

    def fit_to_channels(self) -> None:
        """Offer the channels that the chosen module has. In place of one that it lacks the boundary's is chosen."""
        chosen, options = self.summary.value, self._summaries()
        if tuple(options) != tuple(self.summary.options):
            self.summary.options = options
            self.summary.value = chosen if chosen in dict(options).values() else "boundary"
            self.strongest.max = max(1, self._channels())

    def fit_to_scan(self) -> None:
        """Grey levels and slices of the scan."""
        low, high = grey_window(self.grey)
        self.window.min, self.window.max = min(low, float(self.grey.min())), max(high, float(self.grey.max()))
        self.window.value = (low, high)
        for slider, size in zip(self.sliders, self.grey.shape, strict=False):
            slider.max = size - 1

    def _modules(self) -> list[str]:
        return sorted(set().union(*(features.attention for features in self.models.values())))

    def _channels(self) -> int:
        """Channels of the chosen module, the largest number that a model has."""
        module = self.module.value
        maps = [features.attention[module] for features in self.models.values() if module in features.attention]
        return max(map(len, maps), default=0)

    def _summaries(self) -> list[tuple[str, str]]:
        """What a map can be reduced to, in words and as a value."""
        boundary = "the boundary" if self.reference is not None else "the boundary found"
        channels = [(f"channel {number}", str(number)) for number in range(self._channels())]
        plain = [(name, name) for name in SUMMARIES]
        return [
            (f"most aligned with {boundary}", "boundary"),
            *plain,
            ("top-k: sum of the k largest", "top"),
            *channels,
        ]


def _labelled(description: str) -> dict[str, Any]:
    """A control's label, with a layout of its own: shared ones would be hidden together."""
    return {"description": description, "style": {"description_width": "76px"}, "layout": widgets.Layout(width="300px")}
