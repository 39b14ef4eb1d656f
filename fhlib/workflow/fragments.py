"""Executed notebooks as fragments of a page: prose, folded code, tables, numbered pictures, interactive figures."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import nh3
from markupsafe import Markup
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties
from nbconvert.filters import Highlight2HTML, markdown2html, strip_ansi
from nbformat import NotebookNode
from PIL import Image

MATH = re.compile(
    r"\$\$(?P<block>[^$]+)\$\$|\$(?P<inline>[^\s$][^$\n]*?)\$(?!\d)|(?P<code><(?P<tag>code|pre)\b.*?</(?P=tag)>)",
    re.DOTALL,
)
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
ATTRIBUTES = {tag: {*nh3.ALLOWED_ATTRIBUTES.get(tag, ()), "class"} for tag in nh3.ALLOWED_TAGS}
ATTRIBUTES["img"] |= {"style"}
CLASSES = re.compile(r"dataframe|highlight|formula|block|[a-z]{1,2}\d?")
"""What the page's own style knows: tables, formulas and coloured code."""
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
            heading = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE)
            source = cell.source
            if heading and not named:
                named, source = True, source.replace(heading[0], "", 1)
                chapter.title, chapter.short = _titles(stem, heading[1])
                caption = chapter.short
            headings = re.findall(r"^##+\s+(.+)$", source, re.MULTILINE)
            if headings:
                caption = f"{chapter.short}: {re.sub(r'[`*]', '', headings[-1])}"
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
    words = re.sub(r"^\d+[.: ]+", "", heading.strip())
    before = f"{number[0]}  " if number else ""
    name, _, question = words.partition(": ")
    if not copy_of:
        return f"{before}{words}", f"{before}{name}"
    return f"{before}{name}, {copy_of}" + (f": {question}" if question else ""), f"{before}{name}, {copy_of}"


def _markdown(source: str) -> Markup:
    """Prose as HTML, headings two levels down, formulas drawn as SVG."""
    rendered = re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(source))
    rendered = re.sub(r"<(/?)h([1-4])\b[^>]*>", lambda found: f"<{found[1]}h{int(found[2]) + 2}>", rendered)
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
        source = Highlight2HTML(pygments_lexer="ipython3")(cell.source)
        fragments.append(Markup(f"<details><summary>{name}</summary>{source}</details>"))
    for output in cell.outputs:
        shown = _output(output, pictures, caption)
        if shown:
            fragments.append(Markup(shown))
    return fragments


def _output(output: Any, pictures: Pictures, caption: str) -> str:
    if output.output_type == "stream":
        text = strip_ansi(output.text).strip("\n")
        return f"<pre>{html.escape(text)}</pre>" if output.name == "stdout" and text else ""
    if output.output_type == "error":
        return f'<pre class="error">{html.escape(strip_ansi(chr(10).join(output.traceback)))}</pre>'
    data = output.get("data", {})
    picture = _picture(data, pictures, caption)
    if PLOTLY in data:
        return picture + _interactive(data[PLOTLY])
    if picture or WIDGET in data:
        return picture
    writers: dict[str, Callable[[str], str]] = {
        "text/html": lambda text: framed(clean(text)),
        "text/markdown": lambda text: str(_markdown(text)),
        "text/plain": lambda text: f"<pre>{html.escape(strip_ansi(text))}</pre>",
    }
    return next((write(data[kind]) for kind, write in writers.items() if kind in data), "")


def _picture(data: Mapping[str, Any], pictures: Pictures, caption: str) -> str:
    """PNG or JPEG before SVG, which is much larger where it holds images; embedded, numbered, with its caption."""
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            try:
                content, kind = _embedded(base64.b64decode(data[kind]), kind, pictures)
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                return f"<p>{html.escape(f'A picture is left out: {error}')}</p>"
            return _figure(content, kind, pictures, caption)
    if "image/svg+xml" in data:
        return _figure(data["image/svg+xml"].encode(), "image/svg+xml", pictures, caption)
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


def framed(table: str) -> str:
    return f'<div class="wide">{table}</div>'
