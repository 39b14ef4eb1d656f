"""A simulated scan's tissues beside the echo they give, coloured and named as an atlas does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fhlib.figures.planes import Panel, centre_of, cut_array, plane_axes, scale_bar, undress
from fhlib.figures.style import SMALL, Look
from fhlib.images.volume import Array, Floats, Volume

# Muted, one hue a group. Bone is gold against the blue of fluid and the violet of the brain: they differ in lightness and
# to colour-blind eyes as well.
GROUPS = {
    "Skull and bone": {"bone": "#D2AC3A", "skull base": "#9C7A22", "face bone": "#E6CF86"},
    "Brain": {
        **{"brain": "#E3DAE8", "thalamus": "#AC93BC", "cerebellum": "#C3A5C9", "vermis": "#86709E"},
        **{"choroid plexus": "#6B4F86", "midline": "#4A3566", "sulcus": "#9A86A8", "vessel": "#7A4A72"},
    },
    "Fluid": {
        **{"amniotic fluid": "#A9C8E0", "cerebrospinal fluid": "#5F92BE"},
        **{"globe": "#3F77A8", "pharynx": "#CFE1EF"},
    },
    "Fetal soft tissue": {
        **{"scalp": "#A8583F", "fetal soft tissue": "#E5B9A3", "tongue": "#A85A48", "lens": "#F5E4DA"},
        **{"lung": "#D9A08C", "viscera": "#C4836C", "yolk sac": "#EFD3C2", "cord": "#8F4534", "blood": "#7A2E2A"},
    },
    "Mother": {
        **{"placenta": "#8D8B6B", "uterine wall": "#B4B296", "maternal tissue": "#DBD9CC", "muscle": "#A39E90"},
        **{"fat": "#ECEADB", "maternal skin": "#7C786C"},
    },
}
"""Tissues and their colours by what they belong to."""
COLOURS = {name: colour for group in GROUPS.values() for name, colour in group.items()}
UNNAMED = "#FFFFFF"


def tissues_beside_echo(
    tissues: Volume | Array, image: Volume, names: Sequence[str], mask: Volume | Array | None = None
) -> Figure:
    """Three orthogonal planes through a head: the tissue of each voxel above, its echo below.

    The legend names the tissues that are seen, by what they belong to.

    Args:
        tissues: of each voxel the index into `names`, in the image's shape.
        image: the echo.
        names: of the tissues.
        mask: the planes go through its centre of mass; by default through the middle.
    """
    indices = tissues.array if isinstance(tissues, Volume) else np.asarray(tissues)
    head = None if mask is None else (mask.array if isinstance(mask, Volume) else np.asarray(mask)) > 0
    panel = Panel(image, centre_of(image.array if head is None else head))
    slices = [cut_array(indices, cut, panel.point) for cut in panel.cuts]
    lookup = _lookup(names)

    figure, axes = plane_axes(
        panel, 2, (7.2, 3.4), (2.4, 0.9), "One simulated scan: its tissues, and the echo they give"
    )
    for (above, below), cut, shown in zip(axes.T, panel.cuts, slices, strict=True):
        above.imshow(lookup[shown], extent=panel.extent(cut), interpolation="nearest")
        undress(above)
        above.set_title(panel.place(cut), fontsize=SMALL)
        panel.draw(below, cut)

    scale_bar(axes[1, 0])
    seen = {names[index] for shown in slices for index in np.unique(shown)}
    shape: Look = {"fontsize": SMALL, "handlelength": 1.2, "labelspacing": 0.3}
    legend = figure.legend(handles=_named(seen), loc="outside right center", **shape)
    for text in legend.get_texts():
        if text.get_text() in GROUPS:
            text.set_fontweight("bold")
    return figure


def _lookup(names: Sequence[str]) -> Floats:
    """Colours (tissues, RGB), so that a slice of indices looks up its own."""
    return np.array([to_rgb(COLOURS.get(name, UNNAMED)) for name in names])


def _named(seen: set[str]) -> list[Artist]:
    """The legend's lines: each group's name, and below it those of its tissues that are seen."""
    lines: list[Artist] = []
    for group, colours in GROUPS.items():
        shown = [
            Patch(facecolor=colour, edgecolor="0.5", label=name) for name, colour in colours.items() if name in seen
        ]
        if shown:
            lines += [Patch(facecolor="none", edgecolor="none", label=group), *shown]
    return lines
