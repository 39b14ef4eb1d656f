"""Tissues have colours of their own, and a legend by what they belong to."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb

from fhlib.figures import tissues
from fhlib.images.volume import Volume
from fhlib.phantom.tissues import ID, TISSUES
from tests.figures.made import smallest_letters


def test_every_tissue_of_the_simulator_has_a_colour_of_its_own() -> None:
    assert set(tissues.COLOURS) == {tissue.name for tissue in TISSUES}
    assert len(set(tissues.COLOURS.values())) == len(TISSUES)


def test_bone_and_what_lies_beside_it_differ_in_grey_print() -> None:
    """Luminance (Rec. 709) of the skull against scalp and cerebrospinal fluid."""
    grey = {name: float(np.dot(to_rgb(tissues.COLOURS[name]), (0.2126, 0.7152, 0.0722))) for name in tissues.COLOURS}
    assert min(abs(grey["bone"] - grey[name]) for name in ("scalp", "cerebrospinal fluid", "brain")) > 0.08


def test_the_legend_names_what_is_seen_by_group() -> None:
    names = [tissue.name for tissue in TISSUES]
    indices = np.full((6, 8, 10), ID["maternal tissue"], np.uint8)
    indices[2:4, 3:5, 4:6] = ID["brain"]
    indices[0, 0, 0] = ID["lens"]  # in none of the planes
    figure = tissues.tissues_beside_echo(
        Volume(indices, (1, 1, 2)), Volume(indices, (1, 1, 2)), names, indices == ID["brain"]
    )
    lines = [text.get_text() for text in figure.legends[0].get_texts()]
    assert lines == ["Brain", "brain", "Mother", "maternal tissue"]
    assert smallest_letters(figure) >= 7
    above = figure.axes[0].images[0].get_array()
    assert {tuple(np.round(colour, 3)) for colour in above.reshape(-1, 3)} == {
        tuple(np.round(to_rgb(tissues.COLOURS[name]), 3)) for name in ("brain", "maternal tissue")
    }
