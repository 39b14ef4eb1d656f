"""What a cell of a notebook shows: figures, which are kept with the run, tables, and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from fhlib.figures.style import save_figure


def show(*contents: Any, keep: Path | None = None, otherwise: str = "") -> None:
    """Show figures, tables and texts (as Markdown), one below the other.

    Args:
        contents: what to show. None and empty tables stand for something that does not exist here.
        keep: folder and name under which a figure is kept, as PNG and as SVG.
        otherwise: the text in place of what does not exist.
    """
    with pd.option_context("display.max_colwidth", 120, "display.max_rows", None):
        for content in contents:
            if isinstance(content, Figure) and keep is not None:
                save_figure(content, keep.parent, keep.name)
            shown = otherwise if _is_nothing(content) else content
            if isinstance(shown, str):
                shown = Markdown(shown) if shown else None
            if shown is not None:
                named = keep.name if keep is not None and isinstance(shown, Figure) else ""
                display(shown, metadata={"fhlib": {"figure": named}} if named else None)


def show_each(figures: Mapping[str, Figure], folder: Path, otherwise: str = "") -> None:
    """Show figures one below the other, and keep each of them.

    Args:
        figures: by the name under which each is kept.
        folder: where they are kept.
        otherwise: the text where there is no figure.
    """
    for name, figure in figures.items():
        show(figure, keep=folder / name)
    if not figures:
        show(otherwise)


def conclude(*sentences: str, then: str = "") -> None:
    """Say what a notebook found and, where one follows, which is `then` the next. The report quotes it."""
    following = f"Next: **{then}**." if then else ""
    show(" ".join(filter(None, ("**What we found.**", *sentences, following))))


def _is_nothing(content: Any) -> bool:
    table = getattr(content, "data", content)  # of a styled table
    return content is None or (isinstance(table, pd.DataFrame) and table.empty)
