"""The simulator's anatomy against published charts: volume inside the skull, cerebellum, face and length of the body.

    python -m fhlib.benchmarks.anatomy

writes `anatomy.csv` and `anatomy.png` into `data/results/anatomy`. Measures are taken from what is painted, or where
that is no more than a line, from the geometry that paints it. Charts without values in the table could not be read
when it was made: their rows say so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fhlib.figures.style import PAGE, PALETTE, Look, new_figure
from fhlib.files import DATA, atomic_path, write_csv
from fhlib.images.volume import Floats
from fhlib.measures import growth
from fhlib.phantom.anatomy import Head, draw_subject
from fhlib.phantom.fetus.body import EVEN_FLEXION, Trunk
from fhlib.phantom.fetus.sizes import crown_rump_mm
from fhlib.phantom.shapes import Points
from fhlib.phantom.tissues import ID, Tissues

OUT = DATA / "results" / "anatomy"
SOURCE_LETTERS = 22
"""Of a chart's source, in a line above its panel."""
AGES_WEEKS = (11.5, 12.5, 13.5, 16.0, 20.0, 24.0, 28.0, 32.0, 36.0)
SUBJECTS = 12
BASE_SHARE = 0.045  # of the OFD: how thick the painted skull base is
FAR_SHARE = 0.10
"""Without a published SD, a mean that is off by more than this share is called off."""


@dataclass(frozen=True)
class Published:
    """Published values of one measure: mean and SD (NaN where none is printed) between two ages, and where from."""

    measure: str
    unit: str
    source: str
    weeks: tuple[float, float]
    mean: Callable[[float], float] | None
    sd: Callable[[float], float] | None = None
    note: str = ""


def _of_growth(measure: str) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Mean and SD of a chart of `fhlib.measures.growth`."""
    return (
        lambda weeks: float(growth.reference(measure, weeks)[0]),
        lambda weeks: float(growth.reference(measure, weeks)[1]),
    )


NASAL_WEEKS, NASAL_MM, NASAL_SD_MM = (11.5, 12.5, 13.5), (2.18, 2.46, 2.91), (0.53, 0.45, 0.55)
CHARTS = (
    Published("inside the skull", "mL", "Chang 2003, 3D ultrasound", (22, 34), _of_growth("icv")[0]),
    Published("inside the skull", "mL", "Jarvis 2019, MR, 200 fetuses", (18, 37), None, note="its tables could not be read"),
    Published("inside the skull", "mL", "Kyriakopoulou 2017, MR, 127 fetuses", (21, 38), None, note="its tables could not be read"),
    Published("cerebellum, across", "mm", "INTERGROWTH-21st", (14, 40), *_of_growth("tcd")),
    Published("orbit", "mm", "Suh 2006", (16, 38), lambda weeks: 0.654 * weeks - 0.856),
    Published("outer orbital", "mm", "Suh 2006", (16, 38), lambda weeks: 1.679 * weeks + 0.510),
    Published("outer orbital", "mm", "Sukonpan 2008", (15, 40), lambda weeks: 2.590 + 1.420 * weeks),
    Published(
        "nasal bone", "mm", "Clin Exp Obstet Gynecol 2014, 41:556", (11.5, 13.5),
        lambda weeks: float(np.interp(weeks, NASAL_WEEKS, NASAL_MM)),
        lambda weeks: float(np.interp(weeks, NASAL_WEEKS, NASAL_SD_MM)),
    ),
    Published(
        "nasal bone", "mm", "Guis 1995", (14, 35), lambda weeks: 4 + 8 * (weeks - 14) / 21,
        note="a line between the two ends that are printed",
    ),
    Published("mandible", "BPD", "from memory, unconfirmed", (11, 40), lambda weeks: 0.31, lambda weeks: 0.04, "0.27 to 0.35"),
    Published("crown-rump", "mm", "Robinson 1975", (11, 14), crown_rump_mm),
)  # fmt: skip


def measured(head: Head) -> dict[str, float]:
    """The measures of `CHARTS` of one head, and of a body evenly flexed under it."""
    return {
        "inside the skull": inside_skull_ml(head),
        "cerebellum, across": _extent(head, "cerebellum", (0, 0.27, -0.235), (0.36, 0.12, 0.10))[0],
        "orbit": _extent(head, "globe", ((head.binocular_mm - head.orbit_mm) / 2 / head.o, -0.37, -0.285), (0.16, 0.16, 0.16))[2],
        "outer orbital": _extent(head, "globe", (0, -0.37, -0.285), (0.48, 0.02, 0.02))[0],
        "nasal bone": head.nasal_mm,
        "mandible": head.mandible_mm / head.subject.bpd_mm,
        "crown-rump": Trunk(head, float(EVEN_FLEXION), 0.0).crown_rump_mm(),
    }  # fmt: skip


def inside_skull_ml(head: Head) -> float:
    """Volume (mL) inside calvarium and skull base: the outer skull less the plates' thickness and the painted base."""
    step = head.o / 45
    low, high = head.mm(-0.52, -0.60, -0.45), head.mm(0.52, 0.60, 0.50)
    axes = [np.arange(a, b, step, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    p = tuple(np.ascontiguousarray(c) for c in np.meshgrid(*axes, indexing="ij"))
    inner = np.maximum(head.skull(p) + head.plate(p)[0], head.base(p) + np.float32(BASE_SHARE * head.o))
    return float(np.clip(0.5 - inner / step, 0, 1).sum()) * step**3 / 1000


def _extent(head: Head, name: str, centre: tuple[float, ...], half: tuple[float, ...]) -> Floats:
    """Extent (mm; x, y, z) of a tissue in a box of head coordinates (fractions of the OFD)."""
    step = 0.006 * head.o
    axes = [
        np.arange(c - h, c + h, 0.006, dtype=np.float32) * np.float32(head.o) for c, h in zip(centre, half, strict=True)
    ]
    p: Points = tuple(np.ascontiguousarray(c) for c in np.meshgrid(*axes, indexing="ij"))
    tissue: Tissues = np.zeros(p[0].shape, np.uint8)
    skull = head.skull(p)
    head.paint_face(p, tissue, head.skin(p, skull), skull)
    head.paint_brain(p, tissue, skull)
    at = np.argwhere(tissue == ID[name])
    return (np.ptp(at, axis=0) + 1) * step if len(at) else np.full(3, np.nan)


def anatomy_table(subjects: int = SUBJECTS) -> pd.DataFrame:
    """A row for each chart and age: published and simulated values, both looks, and what is off.

    Columns end in `_default` for the paper's machines and in `_drawn` for drawn ones, which differ from 20 weeks on.
    `off` names a mean that is more than one published SD from the chart, or where none is printed more than a tenth.

    Args:
        subjects: how many are drawn at each age.
    """
    rows = []
    for weeks in AGES_WEEKS:
        of_look = {look: _drawn_heads(weeks, look == "drawn", subjects) for look in ("default", "drawn")}
        for chart in CHARTS:
            if not chart.weeks[0] <= weeks <= chart.weeks[1]:
                continue
            published = chart.mean(weeks) if chart.mean else np.nan
            sd = chart.sd(weeks) if chart.sd else np.nan
            row: dict[str, float | str] = {
                "measure": chart.measure,
                "unit": chart.unit,
                "ga_weeks": weeks,
                "source": chart.source,
            }
            row |= {"published": published, "published_sd": sd}
            for look, values in of_look.items():
                mean = float(values[chart.measure].mean())
                row[f"simulated_{look}"] = mean
                row[f"simulated_sd_{look}"] = float(values[chart.measure].std(ddof=1))
                row[f"off_{look}"] = _verdict(mean, published, sd)
            rows.append(row | {"note": chart.note})
    return pd.DataFrame(rows).sort_values(["measure", "source", "ga_weeks"], ignore_index=True)


def _drawn_heads(weeks: float, detailed: bool, subjects: int) -> pd.DataFrame:
    heads = (Head(draw_subject(seed, weeks, detailed), detailed) for seed in range(subjects))
    return pd.DataFrame([measured(head) for head in heads])


def _verdict(simulated: float, published: float, sd: float) -> str:
    if np.isnan(published):
        return "unknown"
    difference = simulated - published
    if np.isnan(sd):
        share = difference / published
        return f"off by {100 * share:+.0f} %" if abs(share) > FAR_SHARE else "near"
    return f"off by {difference / sd:+.1f} SD" if abs(difference) > sd else "within 1 SD"


def anatomy_figure(table: pd.DataFrame) -> Figure:
    """Each measure against age: published values as lines, simulated means as points.

    Args:
        table: of `anatomy_table`.
    """
    measures = list(dict.fromkeys(table["measure"]))
    figure, axes = new_figure(2, 4, size=(PAGE, 6.4))
    simulated: dict[str, Look] = {
        "default": {"marker": "o", "color": PALETTE[3], "label": "simulated,\nthe paper's machines"},
        "drawn": {"marker": "x", "color": "black", "label": "simulated,\ndrawn machines"},
    }
    for axis, measure in zip(axes.flat, measures, strict=False):
        rows = table[table["measure"] == measure]
        for source, chart in rows.dropna(subset="published").groupby("source"):
            weeks, mean, sd = (chart[name] for name in ("ga_weeks", "published", "published_sd"))
            axis.plot(weeks, mean, label=textwrap.fill(str(source), SOURCE_LETTERS))
            axis.fill_between(weeks, mean - sd, mean + sd, alpha=0.2)
        # above the panel: inside it would lie on points
        axis.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), handlelength=1.2, borderaxespad=0.2)
        once = rows.drop_duplicates("ga_weeks").sort_values("ga_weeks")
        for look, marks in simulated.items():
            axis.plot(once["ga_weeks"], once[f"simulated_{look}"], linestyle="none", **marks)
        axis.set(xlabel="weeks", ylabel=f"{measure} [{rows['unit'].iloc[0]}]")
    for axis in axes.flat[len(measures) :]:
        axis.set_axis_off()
    points = [Line2D([], [], linestyle="none", **marks) for marks in simulated.values()]
    band = Patch(color=PALETTE[0], alpha=0.2, label="published ± 1 SD")
    axes.flat[-1].legend(handles=[*points, band], loc="center")
    return figure


def main() -> None:
    """Write the table and the figure."""
    table = anatomy_table()
    write_csv(table.round(3), OUT / "anatomy.csv")
    with atomic_path(OUT / "anatomy.png") as temporary:
        anatomy_figure(table).savefig(
            temporary, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None}
        )
    print(table.to_string())


if __name__ == "__main__":
    main()
