"""The printable page of one segmented case: its planes, plain and outlined, its numbers, and how far they may be trusted."""

from __future__ import annotations

import base64
import datetime
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from fhlib import __version__
from fhlib.figures.planes import AXES, KEPT_AXES, Panel, centre_of, scale_bar
from fhlib.figures.style import new_figure
from fhlib.files import write_text
from fhlib.images.exchange import COLOURS
from fhlib.images.sector import Probe, probe_of
from fhlib.images.volume import Array, Mask, Volume
from fhlib.measures.growth import valid_weeks
from fhlib.models.card import sentences
from fhlib.segmentation.head_circumference import fitted
from fhlib.segmentation.rows import NO_HEAD, Found, centile_in_words, flags_of, in_mm

PIXELS, DPI = 620, 200
"""Of the longer side of a plane's picture."""
ELLIPSE = "#F6F05A"
WITHHELD = "no BPD, OFD and HC: "
"""How a note says why there are none."""
LINE, TEXT = 1.3, 10
UNKNOWN_SIDE = "The probe's side is not known from this file: planes are along its axes, and A, B and C cannot be told."
BY_SHAPE = (
    "A and B stand on the probe's face, which is at their top; C lies parallel to it. The side was told by the sector's shape, which "
    "does not tell A from B. Left and right are as the file has them."
)
BY_FILE = (
    "A is the plane of the beams and B the one across it, each with the probe at its top; C lies parallel to the probe's face. The "
    "file states so. Readers of such files differ in which side is left."
)


@dataclass(frozen=True)
class View:
    """One plane of a case: how it is cut, what it is called, and where it lies."""

    panel: Panel
    cut: int | None
    outlines: Mapping[str, Array]
    name: str
    place: str
    probe_above: bool = False

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width."""
        return self.panel.size_mm(self.cut)

    def draw(self, axis: Axes, outlined: bool, linewidth: float = LINE) -> None:
        """Draw it plain, or with thin outlines and nothing else over it."""
        self.panel.draw(axis, self.cut)
        if outlined:
            for name, mask in self.outlines.items():
                self._outline(axis, name, mask, linewidth)
        scale_bar(axis)
        high, wide = self.size_mm
        if self.probe_above:
            axis.text(0.03 * wide, 0.03 * high, "probe \u2191", color="white", va="top")
        for text in axis.texts:
            text.set_fontsize(TEXT)
        for artist in (*axis.texts, *axis.lines):
            artist.set_path_effects([withStroke(linewidth=3, foreground="black")])  # legible on bright tissue, too

    def _outline(self, axis: Axes, name: str, mask: Array, linewidth: float) -> None:
        shown = mask if self.cut is None else np.take(mask, self.panel.point[self.cut], self.cut)
        if not shown.any() or shown.all() or min(shown.shape) < 2:
            return
        sizes = zip(self.size_mm, shown.shape, strict=True)
        y, x = ((np.arange(count) + 0.5) * length / count for length, count in sizes)
        axis.contour(x, y, shown.astype(float), levels=[0.5], colors=[colour_of(name)], linewidths=linewidth)


def colour_of(name: str) -> Any:
    """Of an outline; head and skull have the colours that 3D Slicer and DICOM show."""
    return COLOURS.get(name, ELLIPSE)


def views(found: Found) -> list[View]:
    """The planes of a case through the middle of its mask, named for the probe where its side is known; an image is one plane."""
    masks = _masks(found)
    if found.volume.ndim == 2:
        panel = Panel(Volume(found.volume.array, found.volume.spacing_mm))
        high, wide = (f"{length:.0f}" for length in found.volume.size_mm)
        return [View(panel, None, masks, "image", f"{high} x {wide} mm")]

    probe = _probe(found)
    order = _order(probe)
    turned = {name: _turned(mask, order, probe) for name, mask in masks.items()}
    spacing = tuple(found.volume.spacing_mm[axis] for axis in order)
    volume = Volume(_turned(found.volume.array, order, probe), spacing)
    point = centre_of(next((mask for mask in turned.values() if mask.any()), np.zeros(volume.shape, bool)))
    panel = Panel(volume, point)
    names = {0: "plane C", 1: "plane A", 2: "plane B"} if found.in_probe_axes else {}
    cuts = (1, 2, 0) if probe else (0, 1, 2)
    return [
        View(panel, cut, turned, *_called(panel, cut, order, probe, names), probe_above=bool(probe and cut))
        for cut in cuts
    ]


def _probe(found: Found) -> Probe | None:
    return Probe(0, True) if found.in_probe_axes else probe_of(found.volume.array)


def _masks(found: Found) -> dict[str, Mask]:
    """Of an image, the ellipse of its mask is among them."""
    masks = {name: result.mask.array > 0 for name, result in found.outlined.items()}
    ellipse = fitted(found.head) if found.volume.ndim == 2 else None
    return masks | ({"ellipse": ellipse.inside(found.volume)} if ellipse else {})


def _order(probe: Probe | None) -> tuple[int, ...]:
    """The file's axes in the order in which they are shown, that of depth first."""
    return (0, 1, 2) if probe is None else (probe.axis, *(axis for axis in range(3) if axis != probe.axis))


def _turned(array: Array, order: Sequence[int], probe: Probe | None) -> Array:
    """An array with depth as its first axis, from the probe on."""
    moved = np.transpose(array, order)
    return moved if probe is None or probe.first_is_near else moved[::-1]


def _called(
    panel: Panel, cut: int, order: Sequence[int], probe: Probe | None, names: Mapping[int, str]
) -> tuple[str, str]:
    """What a plane is called, and where it lies; `names` of those that are known by their cut."""
    step, count = panel.volume.spacing_mm[cut], panel.volume.shape[cut]
    at, whole = (panel.point[cut] + 0.5) * step, count * step
    if probe is None:
        across = "".join(AXES[axis] for axis in KEPT_AXES[cut])
        return f"plane {across}", f"at {at:.0f} of {whole:.0f} mm along the file's axis {AXES[cut]}"
    if cut == 0:
        return "plane C", f"{at:.0f} of {whole:.0f} mm down from the box's side at the probe"
    return names.get(cut, "plane A or B"), f"at {at:.0f} of {whole:.0f} mm along the file's axis {AXES[order[cut]]}"


def picture(found: Found, name: str) -> Figure:
    """All planes of a case in one figure: plain above, outlined below, titled with its flags."""
    planes = views(found)
    highs, wides = np.array([view.size_mm for view in planes]).T
    scale = min(9.5 / wides.sum(), 3.6 / highs.max())
    size = (scale * wides.sum() + 0.3, 2 * scale * highs.max() + 1.2)
    figure, axes = new_figure(2, len(planes), size, gridspec_kw={"width_ratios": wides})
    figure.suptitle(f"{name}: {'; '.join(flags_of(found)) or 'no flag'}", fontsize=10)
    for (above, below), view in zip(axes.T, planes, strict=True):
        view.draw(above, outlined=False)
        view.draw(below, outlined=True)
        above.set_title(f"{view.name}\n{view.place}", fontsize=7)
    names = [outline for outline, mask in planes[0].outlines.items() if mask.any()]
    handles = [Line2D([], [], color=colour_of(outline), linewidth=2) for outline in names]
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=True,
                      facecolor="#333333", labelcolor="white", edgecolor="none")  # fmt: skip
    return figure


def case_page(name: str, row: Mapping[str, Any], found: Found, path: Path | str) -> Path:
    """One printable HTML page a case, complete in itself: it loads nothing.

    Args:
        name: the case's.
        row: of `measures`, with the whole note.
        found: what was found.
        path: where the page goes.

    Returns the path.
    """
    planes = views(found)
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    outlines = [outline for outline, mask in planes[0].outlines.items() if mask.any()]
    page = environment.get_template("case.html.j2").render(
        name=name,
        status=status_in_words(row, found),
        sure=row["status"] == "found",
        flags=flags_of(found),
        uncalibrated=[name for name, card in zip(found.outlined, found.cards, strict=False) if card.uncalibrated],
        warnings=sentences(found.cards),
        pictures=[picture for view in planes for picture in _pictures(view)],
        widths=[round(view.size_mm[1]) for view in planes],
        legend={outline: _css(colour_of(outline)) for outline in outlines},
        side=_about_side(found),
        results=results_in_words(row, found),
        note=row["note"],
        scan=scan_in_words(row, found),
        cards=list(zip(found.outlined, found.cards, strict=False)),
        version=__version__,
    )
    return write_text(page, path)


def _about_side(found: Found) -> str:
    """How the probe's side is known."""
    if found.volume.ndim == 2:
        return ""
    if found.in_probe_axes:
        return BY_FILE
    return BY_SHAPE if _probe(found) else UNKNOWN_SIDE


def _pictures(view: View) -> Iterator[dict[str, str]]:
    """A plane plain and outlined, as PNG in text, with what it is."""
    high, wide = view.size_mm
    inch = PIXELS / DPI / max(high, wide)
    for outlined in (False, True):
        figure, axes = new_figure(size=(wide * inch, high * inch), layout="none")
        axes[0, 0].set_position((0, 0, 1, 1))
        view.draw(axes[0, 0], outlined)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        words = f"{view.name}, {view.place}"
        yield {
            "content": base64.b64encode(stream.getvalue()).decode("ascii"),
            "alt": f"{words}, {'with outlines' if outlined else 'plain'}",
            "name": view.name,
            "place": "outlined" if outlined else view.place,
        }


def _css(colour: Any) -> str:
    return colour if isinstance(colour, str) else "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def status_in_words(row: Mapping[str, Any], found: Found) -> str:
    """What was found, and what its doubt means."""
    if row["status"] != "uncertain":
        return str(row["status"])
    if NO_HEAD in found.head.flags:
        return "uncertain: something is outlined, and it may be no head; no sizes are given"
    return "uncertain: a head is outlined, and what is outlined as its skull may be none; no sizes are given"


def results_in_words(row: Mapping[str, Any], found: Found) -> dict[str, tuple[str, str]]:
    """The numbers of a row in words: label -> text and expected error."""
    errors = _expected(found)
    words = {**_volume(row, found, errors), **_lengths(row, errors), **_ellipse(row)}
    if "ga_weeks" in row:
        given = centile_in_words(row.get("hc_centile", math.nan))
        label = f"HC centile at {age_in_words(row['ga_weeks'])} (INTERGROWTH-21st)"
        words[label] = (f"{given} ({row['hc_centile_note']})" if given else f"none: {row['hc_centile_note']}", "")
    return words


def _expected(found: Found) -> dict[str, str]:
    """Expected errors by what is measured; those of heads without a flag say nothing of one that has some."""
    errors: dict[str, str] = {}
    for result, card in zip(found.outlined.values(), found.cards, strict=False):
        unknown = "larger than without a flag; how much is not known"
        errors |= {name: unknown if result.flags else text for name, text in card.errors.items()}
    return errors


def _number(row: Mapping[str, Any], name: str, unit: str, digits: int = 1) -> str:
    value = row.get(name)
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f} {unit}".strip()


def _volume(row: Mapping[str, Any], found: Found, errors: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    volume, low, high = (_number(row, name, "", 0) for name in ("volume_ml", "volume_low_ml", "volume_high_ml"))
    if not volume or row["status"] not in ("found", "uncertain"):
        return {}
    whole = "the skull" if found.head.outline == "skull" else "the whole head, to the skin"
    whole = whole if row["status"] == "found" else "what is outlined"
    interval = f"95 % interval {low} to {high} mL" if low else "no interval: weights not calibrated"
    return {f"Volume of {whole}": (f"{volume} mL ({interval})", errors.get("volume", ""))}


def _lengths(row: Mapping[str, Any], errors: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """BPD, OFD and HC, or why they are withheld; of an image HC's interval and the age it speaks for."""
    words = {}
    for label, name in (("BPD", "bpd_mm"), ("OFD", "ofd_mm"), ("HC", "hc_mm")):
        skull, skin = _number(row, name, "mm"), _number(row, f"skin_{name}", "mm")
        if skull:
            words[f"{label}, outer skull"] = (skull, errors.get(label, ""))
        elif skin:
            words[f"{label}, to the skin: not for growth charts"] = (skin, "")
    why = next((part.removeprefix(WITHHELD) for part in row["note"].split("; ") if part.startswith(WITHHELD)), "")
    if row["status"] == "uncertain":
        why = "the result is uncertain"
    if why and not words:
        words["BPD, OFD and HC"] = (f"withheld: {why}", "")

    if _number(row, "hc_low_mm", ""):
        words["95 % interval of HC"] = (f"{_number(row, 'hc_low_mm', '')} to {_number(row, 'hc_high_mm', 'mm')}", "")
    if age := _number(row, "ga_by_hc_weeks", "weeks"):
        first, last = (f"{week:g}" for week in valid_weeks("hc"))
        youngest = _number(row, "ga_by_hc_low_weeks", "") or f"below {first}"
        oldest = _number(row, "ga_by_hc_high_weeks", "") or f"above {last}"
        label = "Gestational age by HC (INTERGROWTH-21st's chart read backwards)"
        words[label] = (f"{age} (95 % interval {youngest} to {oldest})", "")
    return words


def _ellipse(row: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    if not (right := _number(row, "center_x_mm", "")):
        return {}
    down, long = _number(row, "center_y_mm", ""), _number(row, "semi_axes_a_mm", "")
    short, angle = _number(row, "semi_axes_b_mm", "mm"), _number(row, "angle_rad", "rad", 3)
    words = f"centre {right} mm to the right and {down} mm down from the first pixel, semi-axes {long} and {short}, angle {angle}"
    return {"Ellipse": (words, "")}


def age_in_words(weeks: float) -> str:
    """Gestational age, in weeks and days where it is whole days.

    >>> age_in_words(26 + 3 / 7), age_in_words(26.5)
    ('26+3 weeks', '26.5 weeks')
    """
    days = round(7 * weeks)
    return f"{days // 7}+{days % 7} weeks" if abs(7 * weeks - days) < 0.05 else f"{weeks:.4g} weeks"


def scan_in_words(row: Mapping[str, Any], found: Found) -> dict[str, str]:
    """What was segmented, and when: label -> text."""
    volume = found.volume
    age = f"{age_in_words(row['ga_weeks'])}, as given" if "ga_weeks" in row else "not given"
    unit, axes = ("Voxel", "d x h x w") if volume.ndim == 3 else ("Pixel", "h x w")
    return {
        f"{unit} size ({axes})": f"{in_mm(volume.spacing_mm)} mm",
        "Matrix": " x ".join(map(str, volume.shape)),
        "Field of view": " x ".join(f"{length:.0f}" for length in volume.size_mm) + " mm",
        "Gestational age": age,
        "Segmented on": f"{datetime.date.today():%d %B %Y}".lstrip("0"),
    }
