"""Saved figures."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PIL import Image

from fhlib.figures.planes import planes
from fhlib.figures.style import save_figure
from fhlib.images.volume import Volume


def test_saved_figures_are_whole_files_without_a_date(tmp_path: Path, scan: Volume) -> None:
    png, svg = save_figure(planes(scan), tmp_path / "figures", "planes")
    first = svg.read_bytes()
    assert Image.open(png).size[0] > 1000 and ElementTree.fromstring(first).tag.endswith("svg")
    save_figure(planes(scan), tmp_path / "figures", "planes")
    assert svg.read_bytes() == first and sorted(path.name for path in png.parent.iterdir()) == [
        "planes.png",
        "planes.svg",
    ]
