"""Saved figures."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import pytest
import seaborn
from PIL import Image

from fhlib.figures.planes import planes
from fhlib.figures.style import PALETTE, STYLE, save_figure
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


def test_the_style_is_seaborns_written_out():
    with matplotlib.rc_context():
        seaborn.set_theme(context="paper", style="ticks", palette="colorblind", font_scale=1.1)
        theirs = {name: matplotlib.rcParams[name] for name in STYLE}
    ours = {
        "grid.color",
        "grid.linewidth",
        "figure.dpi",
        "savefig.dpi",
        "figure.constrained_layout.use",
        "svg.hashsalt",
    }
    ours |= {"axes.grid", "axes.spines.top", "axes.spines.right", "legend.frameon", "axes.prop_cycle"}
    assert list(PALETTE) == list(seaborn.color_palette("colorblind").as_hex())
    for name in STYLE.keys() - ours:
        same = pytest.approx(theirs[name]) if isinstance(theirs[name], float) else theirs[name]
        assert matplotlib.rcParams[name] == same, name
