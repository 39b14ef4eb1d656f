"""Executed notebooks as fragments of a page: prose, folded code, tables, numbered pictures, interactive figures."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nh3
from markupsafe import Markup
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties
from nbconvert.filters import Highlight2HTML, markdown2html, strip_ansi
from nbformat import NotebookNode
from PIL import Image

from fhlib.figures.captions import caption_of
from fhlib.workflow.tables import LONG, tidy

MATH = re.compile(
    r"\$\$(?P<block>[^$]+)\$\$|\$(?P<inline>[^\s$][^$\n]*?)\$(?!\d)|(?P<code><(?P<tag>code|pre)\b.*?</(?P=tag)>)",
    re.DOTALL,
)
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
ATTRIBUTES = {tag: {*nh3.ALLOWED_ATTRIBUTES.get(tag, ()), "class"} for tag in nh3.ALLOWED_TAGS}
ATTRIBUTES["img"] |= {"style"}
CLASSES = re.compile(r"dataframe|claims|grey|highlight|formula|block|[a-z]{1,2}\d?")
"""What the page's own style knows: tables, formulas and coloured code."""
FOUND = "**What we found.**"
NEXT = re.compile(r"\s*Next: \*\*\w+\*\*\.")
NEEDS = re.compile(r"^\*Needs:\*.*(?:\n.+)*", re.MULTILINE)
"""What a notebook says to those who run it."""
LIVE = "LiveCurves"
"""What draws while a training runs; what it came to is drawn again afterwards."""
PARAMETERS = re.compile(r"[A-Z]\w+\(\w+=")
"""How a parameter set begins where a cell shows it."""
UNKNOWN = re.compile(r"(?<![\w-])nan(?: to nan)?(?![\w-])")
SMALL_SVG_BYTES = 150_000
"""A figure of the run up to this size is shown as SVG, sharp at any size; a larger one as a picture, at twice the screen's size."""


@dataclass
class Chapter:
    """One executed notebook as HTML: its anchor, its title, a shorter one for lists, the fragments of its cells, code and findings."""

    anchor: str
    title: str
    short: str = ""
    body: list[Markup] = field(default_factory=list)
    code: list[Markup] = field(default_factory=list)
    found: str = ""


@dataclass
class Pictures:
    """How pictures are embedded, and those embedded so far as (anchor, caption), numbered through the page.

    What has been shown once is referred to afterwards. `kept` is the run's folder of figures, where they lie sharper than in notebooks.
    """

    width_px: int
    lossy: bool
    kept: Path | None = None
    shown: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    tables: int = 0


def chapter_of(notebook: NotebookNode, stem: str, pictures: Pictures) -> Chapter:
    """A chapter of an executed notebook.

    Args:
        notebook: without paths of this machine.
        stem: its file's name without `.ipynb`.
        pictures: of the page, to which its own are added.
    """
    chapter = Chapter(re.sub(r"[^\w-]", "-", stem), stem.replace("_", " "))
    chapter.short = caption = chapter.title
    named = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = NEEDS.sub("", cell.source)
            heading = re.search(r"^#\s+(.+)$", source, re.MULTILINE)
            if heading and not named:
                named, source = True, source.replace(heading[0], "", 1)
                chapter.title, chapter.short = _titles(stem, heading[1])
                caption = chapter.short
            headings = re.findall(r"^##+\s+(.+)$", source, re.MULTILINE)
            if headings:
                caption = f"{chapter.short}: {re.sub(r'[`*]', '', headings[-1])}"
            if source.strip() and source not in pictures.said:  # copies of one notebook say the same
                chapter.body.append(_markdown(source))
            pictures.said.add(source)
        elif cell.cell_type == "code":
            chapter.code += _source(cell)
            outputs = [output for output in cell.outputs if not (LIVE in cell.source and _is_picture(output))]
            chapter.body += filter(None, (Markup(_output(output, pictures, caption)) for output in outputs))
            said = [
                text for output in cell.outputs if FOUND in (text := output.get("data", {}).get("text/markdown", ""))
            ]
            if said:
                chapter.found = _markdown(UNKNOWN.sub("not known", NEXT.sub("", "".join(said).replace(FOUND, "", 1))))
    return chapter


def _titles(stem: str, heading: str) -> tuple[str, str]:
    """A chapter's title and a short one: the number and name of its notebook, the question, and what an executed copy is of."""
    number = re.match(r"\d+(?=_)", stem)
    copy_of = stem.partition("-")[2].replace("-level", " level ")
    words = re.sub(r"^\d+[.: ]+", "", heading.strip())
    before = f"{number[0]}  " if number else ""
    name, _, question = words.partition(": ")
    if not copy_of:
        return f"{before}{words}", f"{before}{name}"
    return f"{before}{name}, {copy_of}" + (f": {question}" if question else ""), f"{before}{name}, {copy_of}"


def _markdown(source: str) -> Markup:
    """Prose as HTML, headings one level down, formulas drawn as SVG."""
    rendered = re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(source))
    rendered = re.sub(r"<(/?)h([1-5])\b[^>]*>", lambda found: f"<{found[1]}h{int(found[2]) + 1}>", rendered)
    return Markup(clean(MATH.sub(_formula, rendered)))


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


def _source(cell: Any) -> list[Markup]:
    """The source of a code cell, coloured, with a line that names it where it sets parameters."""
    tags = cell.metadata.get("tags", [])
    if not cell.source.strip() or "remove-input" in tags:
        return []
    names = {
        "parameters": "Parameters, as they stand in the notebook:",
        "injected-parameters": "Parameters of this run:",
    }
    name = next((f"<p>{names[tag]}</p>" for tag in tags if tag in names), "")
    return [Markup(name + Highlight2HTML(pygments_lexer="ipython3")(cell.source))]


def _output(output: Any, pictures: Pictures, caption: str) -> str:
    if output.output_type == "stream":
        text = strip_ansi(output.text).strip("\n")
        return f"<pre>{html.escape(text)}</pre>" if output.name == "stdout" and text else ""
    if output.output_type == "error":
        return f'<pre class="error">{html.escape(strip_ansi(chr(10).join(output.traceback)))}</pre>'
    data = output.get("data", {})
    picture = _picture(data, pictures, caption, figure_name(output))
    if PLOTLY in data:
        return picture + _interactive(data[PLOTLY])
    if picture or WIDGET in data:
        return picture
    writers: dict[str, Callable[[str], str]] = {
        "text/html": lambda text: _html(text, pictures),
        "text/markdown": _said,
        "text/plain": lambda text: _plain(strip_ansi(text)),
    }
    return next((write(data[kind]) for kind, write in writers.items() if kind in data), "")


def _said(text: str) -> str:
    """Prose of an output; what a chapter found is marked, as it stands in the summary too."""
    prose = str(_markdown(UNKNOWN.sub("not known", text)))
    return f'<div class="repeated">{prose}</div>' if FOUND in text else prose


def _plain(text: str) -> str:
    """Plain text as it is; a parameter set, which Provenance lists, folded."""
    shown = f"<pre>{html.escape(text)}</pre>"
    return f"<details><summary>Parameters</summary>{shown}</details>" if PARAMETERS.match(text) else shown


def _is_picture(output: Any) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def _html(text: str, pictures: Pictures) -> str:
    """HTML of a notebook, cleaned, its tables tidied; the ledger of claims only where the page does not begin with it."""
    if "claims" in pictures.said and '<table class="claims">' in text:
        return '<p><a href="#claims">The claims stand in the summary.</a></p>'
    pictures.tables += 1
    return framed(tidy(clean(text)), f"Table {pictures.tables}")


def picture_of(output: Any, pictures: Pictures) -> Markup:
    """The picture of one output, ahead of its chapter; empty where it holds none."""
    return Markup(_picture(output.get("data", {}), pictures, "", figure_name(output)))


def figure_name(output: Any) -> str:
    """The name under which the run keeps a figure; empty for a picture that it does not keep."""
    return str(output.get("metadata", {}).get("fhlib", {}).get("figure", ""))


def _picture(data: Mapping[str, Any], pictures: Pictures, caption: str, name: str) -> str:
    """A picture embedded and numbered, with its caption; for one that has been shown, where."""
    kind = next((kind for kind in ("image/png", "image/jpeg", "image/svg+xml") if kind in data), "")
    if not kind:
        return ""
    try:
        content = data[kind].encode() if kind == "image/svg+xml" else base64.b64decode(data[kind])
        mark = hashlib.sha256(content).digest()
        if mark in pictures.numbers:
            return f'<p><a href="#figure-{pictures.numbers[mark]}">See Figure {pictures.numbers[mark]}.</a></p>'
        content, kind = _sharpest(content, kind, name, pictures)
        if kind != "image/svg+xml":
            content, kind = _embedded(content, kind, pictures)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return f"<p>{html.escape(f'A picture is left out: {error}')}</p>"
    pictures.numbers[mark] = len(pictures.shown) + 1
    return _figure(content, kind, pictures, caption_of(name) or caption)


def _sharpest(content: bytes, kind: str, name: str, pictures: Pictures) -> tuple[bytes, str]:
    """The figure as the run keeps it: a small SVG, else its PNG; what the notebook holds where it keeps none."""
    if pictures.kept is None or not re.fullmatch(r"[\w.-]+", name):
        return content, kind
    drawing, raster = (pictures.kept / f"{name}.{end}" for end in ("svg", "png"))
    if drawing.is_file() and drawing.stat().st_size <= SMALL_SVG_BYTES:
        return drawing.read_bytes(), "image/svg+xml"
    return (raster.read_bytes(), "image/png") if raster.is_file() else (content, kind)


def _figure(content: bytes, kind: str, pictures: Pictures, caption: str) -> str:
    number = len(pictures.shown) + 1
    words = html.escape(f"Figure {number}. {caption}")
    pictures.shown.append((f"figure-{number}", f"{number}. {caption}"))
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    half = f' style="width:{width}px"' if (width := _shown_width(content, kind)) else ""
    return f'<figure id="figure-{number}"><img src="{source}"{half} alt="{html.escape(caption)}"><figcaption>{words}</figcaption></figure>'


def _shown_width(content: bytes, kind: str) -> int:
    """CSS pixels of a picture's width: a raster one has two pixels to each."""
    if kind == "image/svg+xml":
        return 0
    with Image.open(io.BytesIO(content)) as picture:
        return round(picture.width / 2)


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
    payload = html.escape(json.dumps(kept), quote=True)
    summary = "<summary>In 3D: drag to turn, scroll to zoom</summary>"
    return f'<details class="interactive">{summary}<div data-plotly="{payload}"></div></details>'


def clean(text: str) -> str:
    """HTML that runs nothing and loads nothing, by Mozilla's rules (nh3): no scripts, styles, forms, frames, drawings or ids."""
    return nh3.clean(
        text,
        attributes=ATTRIBUTES,
        attribute_filter=_kept_attribute,
        filter_style_properties={"vertical-align"},
        url_schemes={"http", "https", "mailto", "data"},
    )


def _kept_attribute(tag: str, name: str, value: str) -> str | None:
    """The value of an allowed attribute, or None to drop it."""
    if name == "class":
        return " ".join(word for word in value.split() if CLASSES.fullmatch(word)) or None
    if name == "src":
        return value if value.startswith("data:image/") else None
    return None if value.strip().lower().startswith("data:") else value


def framed(table: str, name: str = "Table") -> str:
    """A table that is scrolled by itself where it is wider than the page, also by keyboard; a long one is folded."""
    wide = f'<div class="wide" tabindex="0" role="region" aria-label="{name}">{table}</div>'
    rows = table.count("<tr") - 1
    if "<table" not in table or rows <= LONG:
        return wide
    return f"<details><summary>Table of {rows} rows</summary>{wide}</details>"
