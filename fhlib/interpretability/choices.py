"""What a reader of the attention explorer can choose, and which choices a scan and its models leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fhlib.interpretability.summaries import PARTS, SUMMARIES, summary_words
from fhlib.networks.features import Features

COLOUR_MAPS = ("automatic", "viridis", "cividis", "magma", "gray", "coolwarm")
OVERLAYS = {"A": "attention A", "P": "before P", "T": "after T = P A", "probability": "probability", "none": "none"}
ALONE, ALL_PARTS = "nothing", "P, A and T of this module"
ROLES = ("reference", "this model", "beside")
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class View:
    """What is seen: a scan, its model and map, how they look, and the point through which the planes are taken.

    `lower` and `upper` hide what a map has below and above them. `point` is a voxel of the scan, (d, h, w), an image's
    with d = 0. `window` has the grey levels of black and white.
    """

    case: str
    model: str
    beside: str = ALONE
    overlay: str = "A"
    module: str = ""
    summary: str = "rest"
    strongest: int = 3
    colours: str = "automatic"
    opacity: float = 0.5
    fading: bool = True
    smooth: bool = False
    lower: float | None = None
    upper: float | None = None
    window: tuple[float, float] = (0.0, 1.0)
    outlines: tuple[str, ...] = ROLES[:2]
    point: tuple[int, ...] = (0, 0, 0)

    def changed(self, changes: Mapping[str, Any]) -> View:
        """With what a browser sends: lists for tuples; names that a view has not are left out."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in changes.items() if name in known}
        for name in ("window", "outlines", "point"):
            if name in given:
                given[name] = tuple(given[name])
        return replace(self, **given)

    def for_browser(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Choices:
    """The choices that some models leave.

    Args:
        models: the features of one scan by the models' names.
        cases: scans that can be chosen.
        has_reference: whether the true outline is known.
    """

    models: Mapping[str, Features]
    cases: tuple[str, ...]
    has_reference: bool

    @property
    def modules(self) -> list[str]:
        """Of all models."""
        return sorted(set().union(*(features.attention for features in self.models.values())))

    def channels(self, module: str) -> int:
        """Of a module, the largest number that a model has."""
        return max((len(f.attention[module]) for f in self.models.values() if module in f.attention), default=0)

    def summaries(self, module: str) -> Pairs:
        """What a map can be reduced to, in words and as a value."""
        boundary = "the boundary" if self.has_reference else "the boundary found"
        plain = [(summary_words(name), name) for name in SUMMARIES]
        single = [(f"channel {number}", str(number)) for number in range(self.channels(module))]
        return [(f"most aligned with {boundary}", "boundary"), *plain, ("top-k: sum of the k largest", "top"), *single]

    def options(self, view: View) -> dict[str, Pairs]:
        """Label and value of all choices, by the view's field."""
        others = [ALONE, *(name for name in self.models if name != view.model)]
        parts = [ALL_PARTS] if self.modules else []
        return {
            "case": _same(self.cases),
            "model": _same(self.models),
            "beside": _same(others + parts),
            "overlay": [(words, kind) for kind, words in OVERLAYS.items() if self.modules or kind not in PARTS],
            "module": _same(self.modules),
            "summary": self.summaries(view.module),
            "colours": _same(COLOUR_MAPS),
        }

    def first_view(self, case: str) -> View:
        """The first model with attention modules, and its last module."""
        model = next((name for name, features in self.models.items() if features.attention), next(iter(self.models)))
        module = self.modules[-1] if self.modules else ""
        return View(case, model, overlay="A" if module else "probability", module=module)

    def fitted(self, view: View) -> View:
        """The nearest view that these models have: what they lack gives way to the first choice."""
        first = self.first_view(view.case)
        view = replace(view, model=view.model if view.model in self.models else first.model)
        view = replace(view, module=view.module if view.module in self.modules else first.module)
        options = self.options(view)
        for name in ("beside", "overlay", "summary", "colours"):
            values = [value for _, value in options[name]]
            if getattr(view, name) not in values:
                instead = first.overlay if name == "overlay" else values[0]
                view = view.changed({name: instead})
        return replace(view, strongest=min(max(1, int(view.strongest)), max(1, self.channels(view.module))))

    def idle(self, view: View) -> list[str]:
        """Choices that change nothing in a view."""
        return [] if view.overlay in PARTS or view.beside == ALL_PARTS else ["module", "summary"]


def _same(names: Any) -> Pairs:
    return [(name, name) for name in names]
