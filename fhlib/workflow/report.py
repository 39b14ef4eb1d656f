"""One page from a run's executed notebooks and tables, to read without a network, print, or send to a colleague.

First what was obtained, found and claimed, and a list of the figures; then the notebooks as chapters; last the environment, parameters,
seeds and hashes. Pictures and style are inside the page: it loads nothing. Code is folded away. Paths of the machine are taken out.
"""

from __future__ import annotations

import base64
import gzip
import html
import os
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from nbformat import NotebookNode

from fhlib.figures.charts.scores import table_beside_paper
from fhlib.files import DATA, REFERENCE_TABLES, read_json, scrubber, write_text
from fhlib.paper.ledger import ledger_html, verdict_counts
from fhlib.privacy import Scrubber, paths_in
from fhlib.workflow.fragments import Pictures, chapter_of, figure_name, framed, picture_of
from fhlib.workflow.opening import opening_of, recorded
from fhlib.workflow.provenance import is_hc18, provenance

LIMIT_BYTES = 10_000_000
PICTURES = ((2000, True), (1600, True), (1200, True), (900, True), (640, True))
"""Widest picture in pixels, and whether pictures are compressed with small losses (WebP); tried in order until the page is small enough."""
TITLE = "Whole fetal head segmentation in 3D ultrasound"
HC18_CREDIT = (
    "Images with the name HC18 in this report are from T. L. A. van den Heuvel et al., “Automated measurement of fetal "
    "head circumference using 2D ultrasound images” (2018), data set HC18, DOI 10.5281/zenodo.1322001, licence CC BY 4.0; "
    "outlines and maps were added. Its file numbers are examinations: a woman may recur under another number."
)


def write_report(run: Path | str, notebooks: Sequence[Path] = (), limit_bytes: int = LIMIT_BYTES) -> Path:
    """Write `report/index.html` of a run and return its path.

    Reads the executed notebooks and, of `tables/`, scores.csv, claims.csv and cohort.csv. HC18 is credited where the run names it.

    Args:
        run: its folder, or its name in `data/runs`.
        notebooks: executed ones, in order; by default all of the run, by name.
        limit_bytes: pictures are compressed, then made narrower, until the page is no larger.

    Raises FileNotFoundError without executed notebooks, ValueError where the page stays too large.
    """
    folder = run if isinstance(run, Path) else Path(run) if os.sep in run else DATA / "runs" / run
    chapters = list(notebooks) or _executed(folder)
    if not chapters:
        raise FileNotFoundError(
            f"run {folder.name!r} has no executed notebooks in {folder.name}/notebooks: "
            "run the study first (make study)"
        )
    for width, lossy in PICTURES:
        pictures = Pictures(width, lossy, folder / "figures")
        page = _render(folder, chapters, pictures)
        if len(page.encode()) <= limit_bytes:
            return write_text(page, folder / "report" / "index.html")
    size = len(page.encode()) / 1e6
    raise ValueError(
        f"the report of run {folder.name!r} has {size:.1f} MB with pictures {width} pixels wide, "
        f"more than {limit_bytes / 1e6:.1f} MB: show fewer figures in the notebooks"
    )


def _executed(folder: Path) -> list[Path]:
    """Executed notebooks of a run by name; those of one step in the order of its preset's networks."""
    variants = _variants(folder)

    def place(path: Path) -> tuple[str, int, str]:
        step, _, copy = path.stem.partition("-")
        variant = re.sub(r"-level\d+$", "", copy)
        return step, variants.index(variant) if variant in variants else len(variants), copy

    found = [path for path in (folder / "notebooks").glob("*.ipynb") if not path.name.endswith(".failed.ipynb")]
    return sorted(found, key=place)


def _variants(folder: Path) -> tuple[str, ...]:
    """The networks of a run in order; none where that is not known."""
    _, preset = recorded(folder)
    return preset.variants if preset is not None else ()


def _summary(folder: Path) -> str:
    """Test scores of the run beside Table 1 of the paper, as HTML; empty where either is not there."""
    scores, printed = folder / "tables" / "scores.csv", REFERENCE_TABLES / "table1.csv"
    if not (scores.exists() and printed.exists()):
        return ""
    table = pd.read_csv(scores)
    if "split" in table and (table["split"] == "test").any():
        table = table[table["split"] == "test"]
    beside = table_beside_paper(table, pd.read_csv(printed))
    beside = beside[beside["variant"].isin(table["variant"])]  # the paper's other networks stand in chapter 05
    shown = beside[["variant", "n", "missed"]].map(lambda value: html.escape(str(value)))
    for column in beside.columns[beside.columns.str.endswith(", here")]:
        measure = column.removesuffix(", here")
        pairs = zip(beside[column], beside[f"{measure}, paper"], strict=True)
        shown[measure] = [
            "<br>".join(filter(None, (here, f"<small>paper {paper}</small>" if paper else ""))) for here, paper in pairs
        ]
    shown = shown.rename(columns={"variant": "network"})
    return framed(shown.to_html(index=False, border=0, escape=False, classes="summary"), "Scores beside the paper's")


def _claims(folder: Path) -> tuple[str, str]:
    """The paper's claims as HTML (`ledger_html`), and the verdicts' counts in words; empty without a ledger."""
    ledger = folder / "tables" / "claims.csv"
    if not ledger.exists():
        return "", ""
    claims = pd.read_csv(ledger)
    return ledger_html(claims), verdict_counts(claims)


def _example(folder: Path, notebooks: Sequence[NotebookNode], pictures: Pictures) -> Markup:
    """The picture that stands first: what 04_predict drew of a test scan for the run's last network."""
    cells = [cell for notebook in notebooks for cell in notebook.cells]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    for variant in reversed(_variants(folder)):
        for output in outputs:
            if figure_name(output).startswith(f"04_{variant}_"):
                return picture_of(output, pictures)
    return Markup("")


def _render(folder: Path, notebooks: list[Path], pictures: Pictures) -> str:
    read = [_read(path) for path in notebooks]
    scrub = scrubber_of(folder, read)
    clean = [scrub.content(content) for content in read]
    claims, verdicts = _claims(folder)
    pictures.said |= {"claims"} if claims else set()
    example = _example(folder, clean, pictures)
    chapters = [chapter_of(content, path.stem, pictures) for content, path in zip(clean, notebooks, strict=True)]
    interactive = any("data-plotly" in fragment for chapter in chapters for fragment in chapter.body)
    environment = Environment(
        loader=PackageLoader("fhlib.workflow"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=f"{TITLE}: run {folder.name}",
        opening=opening_of(folder, read),
        picture=example,
        summary=Markup(scrub.text(_summary(folder))),
        claims=Markup(scrub.text(claims)),
        verdicts=verdicts,
        chapters=chapters,
        figures=pictures.shown,
        provenance=provenance(folder),
        credit=HC18_CREDIT if is_hc18(folder) else "",
        plotly=_packed_plotly() if interactive else "",
    )


def _read(path: Path) -> NotebookNode:
    """An executed notebook. Raises ValueError for a file that is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises whatever the damage leads to
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path.name} is no notebook ({reason}): run the step that makes it again") from error


def scrubber_of(folder: Path, notebooks: Sequence[NotebookNode] = ()) -> Scrubber:
    """What takes out of a run's pages the places of its cohort and of what its notebooks were given."""
    record = folder / "run.json"
    cohort = str(read_json(record).get("cohort") or "") if record.exists() else ""
    given = [cohort] if cohort else []
    for notebook in notebooks:
        for cell in notebook.cells:
            if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
                given += paths_in(cell.source)
    return scrubber(given)


def _packed_plotly() -> str:
    """plotly.js, gzipped and in base64 (2 MB in place of 5); the page unpacks it when the first surface is opened."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
