"""What the browser's page asks of the explorer, by the question's `kind`: hello, rows, grid, surface, case."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fhlib.figures.planes import PROBABILITY_MAP
from fhlib.interpretability.browser.widget import Message
from fhlib.interpretability.choices import COLOUR_MAPS
from fhlib.interpretability.layers import handedness, position_matrix, surface_of
from fhlib.interpretability.panels import colour_table

if TYPE_CHECKING:
    from fhlib.interpretability.explorer import AttentionExplorer

Answer = tuple[Message, list[bytes]]
Progress = Callable[[float], None]


def answer(explorer: AttentionExplorer, question: Message, progress: Progress = lambda _done: None) -> Answer:
    """The answer to a question: a message, and numbers as buffers.

    Args:
        explorer: that is asked.
        question: from the browser.
        progress: is told how much is done, 0 to 1.

    Raises:
        ValueError: nothing answers to that kind of question.
    """
    kind = str(question.get("kind"))
    with explorer.busy:
        if kind == "hello":
            return _hello(explorer)
        if kind == "rows":
            return _rows(explorer, question["choices"])
        if kind == "grid":
            return _grid(explorer, str(question["key"]))
        if kind == "surface":
            return _surface(explorer, str(question["key"]))
        if kind == "case":
            explorer.change_case(str(question["case"]), progress)
            return _hello(explorer)
    raise ValueError(f"the explorer does not know the question {kind!r}")


def _hello(explorer: AttentionExplorer) -> Answer:
    """The scan, where it lies, the colours, and the view."""
    values = explorer.grid.values
    low, high = float(values.min()), float(values.max())
    scan = explorer.grid.header() | {
        "key": f"scan {explorer.explored.name}",
        "spacing": explorer.spacing_mm,
        "matrix": position_matrix(explorer.scan),
        "hand": handedness(explorer.scan),
        "flat": explorer.scan.ndim == 2,
        "range": [low, high if high > low else low + 1],
    }
    tables = {name: colour_table(name).ravel().tolist() for name in {*COLOUR_MAPS[1:], PROBABILITY_MAP}}
    return {"scan": scan, "luts": tables, "view": explorer.view.for_browser()}, [explorer.grid.numbers()]


def _rows(explorer: AttentionExplorer, choices: Message) -> Answer:
    """What the choices show: rows, contours, and what can be chosen next."""
    view = explorer.checked(choices, explorer.view)
    rows: list[dict[str, Any]] = []
    for title, key, role, name in explorer.keys(view):
        values, reading = explorer.values_read(view, name)
        rows.append({"title": title, "key": key, "role": role, "values": values, "reading": reading})
    lines = [dict(zip(("role", "name", "colour", "key"), line, strict=True)) for line in explorer.all_lines(view)]
    message = {
        "rows": rows,
        "contours": lines,
        "choices": {name: getattr(view, name) for name in choices},
        "options": explorer.choices.options(view),
        "idle": explorer.choices.idle(view),
    }
    return message, []


def _grid(explorer: AttentionExplorer, key: str) -> Answer:
    """A map's numbers and how they are coloured; of an outline the mask's."""
    if key == "reference":
        layer = explorer.line_layer(key)
        look = {"name": key, "unit": "0 or 1", "low": 0, "high": 1, "colours": "gray"}
        return {"grid": layer.header() | look | {"key": key}}, [layer.numbers()]
    overlay = explorer.overlay(key)
    return {"grid": overlay.header() | {"key": key}}, [overlay.layer.numbers()]


def _surface(explorer: AttentionExplorer, key: str) -> Answer:
    """A surface's vertices and faces."""
    vertices, faces = surface_of(explorer.line_layer(key))
    return {"said": "no voxel reaches 0.5: no surface"}, [vertices.tobytes(), faces.tobytes()]
