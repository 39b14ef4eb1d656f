"""The printable page of one segmented case."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from fhlib import __version__
from fhlib.files import write_text


def case_page(name: str, rows: Mapping[str, Any], flags: Mapping[str, str], figure: Figure, path: Path | str) -> Path:
    """One printable HTML page a case, complete in itself.

    Args:
        name: the case's.
        rows: measures, label -> text.
        flags: with their meaning.
        figure: the picture.
        path: where the page goes.

    Returns the path.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=140, metadata={"Software": None})
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("case.html.j2")
    picture = base64.b64encode(stream.getvalue()).decode("ascii")
    return write_text(template.render(name=name, rows=rows, flags=flags, picture=picture, version=__version__), path)
