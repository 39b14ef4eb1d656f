"""One page from a run's executed notebooks and tables, to read without a network, print, or send to a colleague.

First what was obtained, found and claimed, and a list of the figures; then the notebooks as chapters; last the environment, parameters,
seeds and hashes. Pictures and style are inside the page; it loads nothing. Code is folded away, widgets give way to their static
pictures, progress bars are dropped, and paths of the machine are taken out of every text.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties
from nbconvert.filters import Highlight2HTML, markdown2html, strip_ansi
from PIL import Image

from fhlib.figures.score_charts import table_beside_paper
from fhlib.files import DATA, write_text
from fhlib.workflow.privacy import scrub, scrubbed
from fhlib.workflow.provenance import is_hc18, provenance

LIMIT_BYTES = 15_000_000
PICTURES = ((1600, False), (1600, True), (1200, True), (900, True), (640, True))
"""Widest picture in pixels, and whether pictures are compressed with small losses (WebP); tried in order until the page is small enough."""
TITLE = "Whole fetal head segmentation in 3D ultrasound"
HC18_CREDIT = (
    "Images with the name HC18 in this report are from T. L. A. van den Heuvel et al., “Automated measurement of fetal head circumference "
    "using 2D ultrasound images” (2018), data set HC18, DOI 10.5281/zenodo.1322001, licence CC BY 4.0; outlines and maps were added. "
    "Its file numbers are examinations: a woman may recur under another number."
)
MATH = re.compile(
    r"\$\$(?P<block>[^$]+)\$\$|\$(?P<inline>[^\s$][^$\n]*?)\$(?!\d)|(?P<code><(?P<tag>code|pre)\b.*?</(?P=tag)>)",
    re.DOTALL,
)
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"

FOUND = "**What we found.**"
NEXT = re.compile(r"\s*Next: \*\*\w+\*\*\.")


@dataclass
class Chapter:
    """One executed notebook as HTML: its anchor, its title, a shorter one for lists, the fragments of its cells, and what it found."""

    anchor: str
    title: str
    short: str = ""
    body: list[Markup] = field(default_factory=list)
    found: str = ""


@dataclass
class Pictures:
    """How pictures are embedded, and those embedded so far as (anchor, caption), numbered through the page."""

    width_px: int
    lossy: bool
    shown: list[tuple[str, str]] = field(default_factory=list)


def write_report(
    run: Path | str,
    title: str | None = None,
    facts: Mapping[str, Any] | None = None,
    hc18: bool | None = None,
    limit_bytes: int = LIMIT_BYTES,
    notebooks: Sequence[Path] = (),
) -> Path:
    """Write `report/index.html` of a run (its folder, or its name in `data/runs`) and return its path.

    Reads `notebooks` (default: all executed ones of the run, in order of name), `tables/scores.csv` beside `data/reference/table1.csv`,
    `tables/claims.csv`, `tables/cohort.csv` and, where present, `run.json`. `facts` are added to the table of the run.
    `hc18`: whether to credit HC18 (default: whether the cohort's table or `run.json` names it). Pictures are compressed, then made
    narrower, until the page is at most `limit_bytes`.

    Raises FileNotFoundError without executed notebooks, ValueError where the page stays too large.
    """
    folder = run if isinstance(run, Path) else Path(run) if os.sep in run else DATA / "runs" / run
    chapters = list(notebooks) or sorted(
        path for path in (folder / "notebooks").glob("*.ipynb") if not path.name.endswith(".failed.ipynb")
    )
    if not chapters:
        raise FileNotFoundError(
            f"run {folder.name!r} has no executed notebooks in {folder.name}/notebooks: run the study first (make study)"
        )
    credit = is_hc18(folder) if hc18 is None else hc18
    for width, lossy in PICTURES:
        pictures = Pictures(width, lossy)
        page = _render(folder, chapters, title or f"{TITLE}: run {folder.name}", facts or {}, credit, pictures)
        if len(page.encode()) <= limit_bytes:
            return write_text(page, folder / "report" / "index.html")
    size = len(page.encode()) / 1e6
    raise ValueError(
        f"the report of run {folder.name!r} has {size:.1f} MB with pictures {width} pixels wide, "
        f"more than {limit_bytes / 1e6:.1f} MB: show fewer figures in the notebooks"
    )


def _summary(folder: Path) -> str:
    """Test scores of the run beside Table 1 of the paper, as HTML; empty where either is not there."""
    scores, printed = folder / "tables" / "scores.csv", DATA / "reference" / "table1.csv"
    if not (scores.exists() and printed.exists()):
        return ""
    table = pd.read_csv(scores)
    if "split" in table and (table["split"] == "test").any():
        table = table[table["split"] == "test"]
    beside = table_beside_paper(table, pd.read_csv(printed))
    shown = beside[["variant", "n", "missed"]].map(lambda value: html.escape(str(value)))
    for column in beside.columns[beside.columns.str.endswith(", here")]:
        measure = column.removesuffix(", here")
        pairs = zip(beside[column], beside[f"{measure}, paper"], strict=True)
        shown[measure] = [
            "<br>".join(filter(None, (here, f"<small>paper {paper}</small>" if paper else ""))) for here, paper in pairs
        ]
    return _framed(shown.to_html(index=False, border=0, escape=False, classes="summary"))


def _claims(folder: Path) -> tuple[str, str]:
    """The paper's claims that this run could test, as an HTML table, and the verdicts' counts in words; empty without a ledger."""
    ledger = folder / "tables" / "claims.csv"
    if not ledger.exists():
        return "", ""
    claims = pd.read_csv(ledger)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in claims["verdict"].value_counts().items())
    tested = claims[claims["value_here"].notna() & ~claims["verdict"].str.startswith("not testable")]
    if tested.empty:
        return "", f"{len(claims)} claims: {counts}."
    unit = tested["unit"].fillna("").map(lambda word: f" {word}" if word else "")
    interval = tested[["ci_low", "ci_high"]].map("{:.4g}".format).agg(" to ".join, axis=1)
    shown = pd.DataFrame(
        {
            "claim": tested["statement"],
            "where": tested["where"],
            "printed": tested["printed_value"].map(lambda value: "" if pd.isna(value) else f"{value:.4g}") + unit,
            "here (95 % CI)": tested["value_here"].map("{:.4g}".format)
            + unit
            + interval.where(tested["ci_low"].notna(), "").map(lambda words: f" ({words})" if words else ""),
            "verdict": tested["verdict"],
        }
    )
    return _framed(shown.to_html(index=False, border=0, classes="claims")), f"{len(claims)} claims: {counts}."


def _render(
    folder: Path, notebooks: list[Path], title: str, facts: Mapping[str, Any], hc18: bool, pictures: Pictures
) -> str:
    chapters = [_chapter(path, pictures) for path in notebooks]
    interactive = any("data-plotly" in fragment for chapter in chapters for fragment in chapter.body)
    environment = Environment(
        loader=PackageLoader("fhlib"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    claims, verdicts = _claims(folder)
    return environment.get_template("report.html.j2").render(
        title=title,
        summary=Markup(scrub(_summary(folder))),
        claims=Markup(scrub(claims)),
        verdicts=verdicts,
        chapters=chapters,
        figures=pictures.shown,
        provenance=provenance(folder, facts),
        credit=HC18_CREDIT if hc18 else "",
        plotly=_packed_plotly() if interactive else "",
    )


def _packed_plotly() -> str:
    """plotly.js, gzipped and in base64 (2 MB in place of 5); the page unpacks it when the first surface is opened."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _chapter(path: Path, pictures: Pictures) -> Chapter:
    notebook = nbformat.read(path, as_version=4)
    chapter = Chapter(re.sub(r"[^\w-]", "-", path.stem), path.stem.replace("_", " "))
    chapter.short = caption = chapter.title
    named = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE)
            source = cell.source
            if heading and not named:
                named, source = True, source.replace(heading[0], "", 1)
                chapter.title, chapter.short = _titles(path.stem, heading[1])
                caption = chapter.short
            headings = re.findall(r"^##+\s+(.+)$", source, re.MULTILINE)
            if headings:
                caption = f"{chapter.short}: {re.sub(r'[`*]', '', scrub(headings[-1]))}"
            chapter.body.append(_markdown(source))
        elif cell.cell_type == "code":
            chapter.body += _code(cell, pictures, caption)
            said = [
                text for output in cell.outputs if FOUND in (text := output.get("data", {}).get("text/markdown", ""))
            ]
            if said:
                chapter.found = _markdown(NEXT.sub("", "".join(said).replace(FOUND, "", 1)))
    return chapter


def _titles(stem: str, heading: str) -> tuple[str, str]:
    """A chapter's title and a short one: the number and name of its notebook, the question, and what an executed copy is of."""
    number = re.match(r"\d+(?=_)", stem)
    copy_of = stem.partition("-")[2].replace("-level", " level ")
    words = scrub(re.sub(r"^\d+[.: ]+", "", heading.strip()))
    before = f"{number[0]}  " if number else ""
    name, _, question = words.partition(": ")
    if not copy_of:
        return f"{before}{words}", f"{before}{name}"
    return f"{before}{name}, {copy_of}" + (f": {question}" if question else ""), f"{before}{name}, {copy_of}"


def _markdown(source: str) -> Markup:
    """Prose as HTML, headings two levels down, formulas drawn as SVG."""
    rendered = re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(scrub(source)))
    rendered = re.sub(r"<(/?)h([1-4])\b[^>]*>", lambda found: f"<{found[1]}h{int(found[2]) + 2}>", rendered)
    return Markup(_without_scripts(MATH.sub(_formula, rendered)))


def _formula(found: re.Match[str]) -> str:
    """A formula as an inline SVG; what matplotlib's mathtext does not know stays as typed, in code font."""
    if found["code"]:
        return found[0]
    latex = html.unescape(found["block"] or found["inline"]).strip()
    stream = io.StringIO()
    try:
        font = FontProperties(size=15 if found["block"] else 12)
        depth = mathtext.math_to_image(f"${latex}$", stream, prop=font, format="svg", dpi=72)
    except ValueError:
        return f"<code>{html.escape(latex)}</code>"
    name = "formula block" if found["block"] else "formula"
    uri = "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue().encode()).decode()
    return f'<img class="{name}" style="vertical-align:-{depth:.1f}pt" src="{uri}" alt="{html.escape(latex)}">'


def _code(cell: Any, pictures: Pictures, caption: str) -> list[Markup]:
    """A code cell: source folded away, then what it showed."""
    fragments = []
    tags = cell.metadata.get("tags", [])
    if cell.source.strip() and "remove-input" not in tags:
        names = {
            "parameters": "parameters, as they stand in the notebook",
            "injected-parameters": "parameters of this run",
        }
        name = next((names[tag] for tag in tags if tag in names), "code")
        source = Highlight2HTML(pygments_lexer="ipython3")(scrub(cell.source))
        fragments.append(Markup(f"<details><summary>{name}</summary>{source}</details>"))
    for output in cell.outputs:
        shown = _output(output, pictures, caption)
        if shown:
            fragments.append(Markup(shown))
    return fragments


def _output(output: Any, pictures: Pictures, caption: str) -> str:
    if output.output_type == "stream":
        text = scrub(strip_ansi(output.text)).strip("\n")
        return f"<pre>{html.escape(text)}</pre>" if output.name == "stdout" and text else ""
    if output.output_type == "error":
        return f'<pre class="error">{html.escape(scrub(strip_ansi(chr(10).join(output.traceback))))}</pre>'
    data = output.get("data", {})
    picture = _picture(data, pictures, caption)
    if PLOTLY in data:
        return picture + _interactive(data[PLOTLY])
    if picture or WIDGET in data:
        return picture
    writers: dict[str, Callable[[str], str]] = {
        "text/html": lambda text: _framed(_without_scripts(text)),
        "text/markdown": lambda text: str(_markdown(text)),
        "text/plain": lambda text: f"<pre>{html.escape(strip_ansi(text))}</pre>",
    }
    return next((write(scrub(data[kind])) for kind, write in writers.items() if kind in data), "")


def _picture(data: Mapping[str, Any], pictures: Pictures, caption: str) -> str:
    """PNG or JPEG before SVG, which is much larger where it holds images; embedded, numbered, with its caption."""
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            content, kind = _embedded(base64.b64decode(data[kind]), kind, pictures)
            return _figure(content, kind, pictures, caption)
    if "image/svg+xml" in data:
        return _figure(_without_scripts(scrub(data["image/svg+xml"])).encode(), "image/svg+xml", pictures, caption)
    return ""


def _figure(content: bytes, kind: str, pictures: Pictures, caption: str) -> str:
    number = len(pictures.shown) + 1
    words = html.escape(f"Figure {number}. {caption}")
    pictures.shown.append((f"figure-{number}", f"{number}. {caption}"))
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return f'<figure id="figure-{number}"><img src="{source}" alt="{words}"><figcaption>{words}</figcaption></figure>'


def _embedded(content: bytes, kind: str, pictures: Pictures) -> tuple[bytes, str]:
    """The picture and its kind, scaled down where it is too wide and compressed where that is asked; as it is where that saves nothing."""
    with Image.open(io.BytesIO(content)) as picture:
        name, size = str(picture.format), picture.size
        if size[0] <= pictures.width_px and not pictures.lossy:
            return content, kind
        width = min(size[0], pictures.width_px)
        scaled = picture.resize((width, round(size[1] * width / size[0])), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    if pictures.lossy:
        scaled.convert("RGB").save(stream, "webp", quality=88, method=4)
    else:
        scaled.save(stream, name, optimize=True)
    smaller = len(stream.getvalue()) < len(content)
    return (stream.getvalue(), "image/webp" if pictures.lossy else kind) if smaller else (content, kind)


def _interactive(content: Mapping[str, Any]) -> str:
    """A plotly figure that is drawn when the reader opens it, so that the page needs no 3D graphics to load or print."""
    kept = {name: content[name] for name in ("data", "layout") if name in content}
    payload = html.escape(json.dumps(scrubbed(kept)), quote=True)
    summary = "<summary>In 3D: drag to turn, scroll to zoom</summary>"
    return f'<details class="interactive">{summary}<div data-plotly="{payload}"></div></details>'


def _framed(table: str) -> str:
    return f'<div class="wide">{table}</div>'


def _without_scripts(text: str) -> str:
    """HTML without scripts, event handlers, frames, style sheets and anything that would be fetched from elsewhere."""
    text = re.sub(r"<(script|iframe|object|embed|style)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"<(?:script|iframe|object|embed|link|meta|base)\b[^>]*>", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\son\w+\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s>]+)", "", text, flags=re.IGNORECASE)
    return re.sub(r"<img\b(?![^>]*\bsrc=[\"']data:)[^>]*>", "", text, flags=re.IGNORECASE)
