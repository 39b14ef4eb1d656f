"""One page from a run's executed notebooks and tables, to read without a network, print, or send to a colleague.

Pictures and style are inside the page; it loads nothing. Code is folded away, widgets give way to their static pictures, progress bars are
dropped, and paths of the machine are taken out of every text.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
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

from fhlib.charts import table_beside_paper
from fhlib.files import DATA, ROOT, file_digest, write_text
from fhlib.presets import PRESETS, load_preset

LIMIT_BYTES = 15_000_000
WIDTHS_PX = (1600, 1200, 900, 640)
TITLE = "Whole fetal head segmentation in 3D ultrasound"
HC18_CREDIT = (
    "Images with the name HC18 in this report are from T. L. A. van den Heuvel et al., “Automated measurement of fetal head circumference "
    "using 2D ultrasound images” (2018), data set HC18, DOI 10.5281/zenodo.1322001, licence CC BY 4.0; outlines and maps were added. "
    "Its file numbers are examinations: a woman may recur under another number."
)
REMOVED = "[path removed]"

_URI = r"(?P<uri>\bdata:[\w/+.-]+;base64,[A-Za-z0-9+/=]+|\bhttps?://[^\s\"'<>]+)"
_QUOTED = r"(?P<quote>&quot;|&#39;|[\"'])(?:/(?:home|Users|root|media|mnt|Volumes|tmp|private)/|[A-Za-z]:\\)[^\"'<>\n]*?(?P=quote)"
_HOME = r"(?<![\w./<~])/(?:home|Users|media|mnt|Volumes|net)/(?:[^\s/\"'<>&]+(?: [^\s/\"'<>&]+)*/)*[^\s\"'<>&]*"
_UNIX = r"\bfile://[^\s\"'<>]+|(?<![\w./<~])/(?:[\w.+@-]+/)+[\w.+@-]*|(?<![\w./<~])/(?:root|tmp|home)\b"
_WINDOWS = r"\b[A-Za-z]:\\[^\s\"'<>|]+|\\\\[\w.-]+\\[^\s\"'<>|]+"
PATHS = re.compile("|".join((_URI, _QUOTED, _HOME, _UNIX, _WINDOWS)))
MATH = re.compile(
    r"\$\$(?P<block>[^$]+)\$\$|\$(?P<inline>[^\s$][^$\n]*?)\$(?!\d)|(?P<code><(?P<tag>code|pre)\b.*?</(?P=tag)>)",
    re.DOTALL,
)
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass
class Chapter:
    """One executed notebook as HTML: its anchor, its title and the fragments of its cells."""

    anchor: str
    title: str
    body: list[Markup] = field(default_factory=list)


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
    `tables/cohort.csv` and, where present, `run.json`. `facts` are added to the table of provenance.
    `hc18`: whether to credit HC18 (default: whether the cohort's table or `run.json` names it). Pictures are made
    narrower until the page is at most `limit_bytes`.

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
    credit = _is_hc18(folder) if hc18 is None else hc18
    for width in WIDTHS_PX:
        page = _render(folder, chapters, title or f"{TITLE}: run {folder.name}", facts or {}, credit, width)
        if len(page.encode()) <= limit_bytes:
            return write_text(page, folder / "report" / "index.html")
    size = len(page.encode()) / 1e6
    raise ValueError(
        f"the report of run {folder.name!r} has {size:.1f} MB with pictures {width} pixels wide, "
        f"more than {limit_bytes / 1e6:.1f} MB: show fewer figures in the notebooks"
    )


def scrub(text: str, root: Path | str = ROOT) -> str:
    """Take paths of this machine out of a text: those below `root` become relative, the home folder `~`, others are removed.

    Whatever a removed path holds (a user's, a patient's name) goes with it, quoted paths with blanks included. Links to the web and
    embedded pictures stay as they are.
    """
    names = {str(path) for path in (Path(root), Path(root).resolve(), ROOT, ROOT.resolve()) if len(path.parts) > 1}
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(
            rf"(?<![\w/]){re.escape(name)}(?:(/)|(?![\w-]|\.\w))", lambda found: "" if found[1] else ".", text
        )
    return PATHS.sub(_without_path, text)


def _without_path(found: re.Match[str]) -> str:
    if found["uri"]:
        return found[0]
    quote = found["quote"] or ""
    path = found[0].removeprefix(quote)
    home = str(Path.home())
    if not quote and len(Path(home).parts) > 1 and path == home:
        return "~"
    return f"{quote}{REMOVED}{quote}"


def provenance(folder: Path, facts: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What made a run: versions, commit, kind of machine, parameters and cohort, as far as recorded; no path, no machine's name."""
    found: dict[str, Any] = {
        "run": folder.name,
        "fhlib": _version("fhlib"),
        "commit": _commit(),
        "Python": platform.python_version(),
        "torch": _version("torch"),
        "MONAI": _version("monai"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
    }
    cohort = folder / "tables" / "cohort.csv"
    if cohort.exists():
        table = pd.read_csv(cohort, dtype=str)
        subjects = f", {table['subject'].nunique()} subjects" if "subject" in table else ""
        found["cohort"] = f"{len(table)} scans{subjects}; manifest {file_digest(cohort)}"
    record = folder / "run.json"
    if record.exists():
        recorded = json.loads(record.read_text(encoding="utf-8"))
        found |= {"started with " + name: value for name, value in _flat(recorded).items()}
        if (PRESETS / f"{recorded.get('preset')}.yaml").exists():
            found |= _flat(load_preset(recorded["preset"], recorded.get("changes")).model_dump(mode="json"))
    found |= _flat(dict(facts or {}))
    return {name: _without_folders(str(value)) for name, value in found.items() if value not in (None, "")}


def _without_folders(value: str) -> str:
    """A fact without paths; an absolute path is a whole value, blanks and all."""
    shown = scrub(value)
    return REMOVED if shown.startswith(("/", REMOVED)) or re.match(r"[A-Za-z]:\\", shown) else shown


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not a git clone"


def _is_hc18(folder: Path) -> bool:
    files = [path for path in (folder / "run.json", folder / "tables" / "cohort.csv") if path.exists()]
    return any(re.search(r"hc18|\d{3}_\d*HC\b", path.read_text(encoding="utf-8"), re.IGNORECASE) for path in files)


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
        shown[measure] = [f"{here}<br><small>{f'paper {paper}' if paper else ''}</small>" for here, paper in pairs]
    return _framed(shown.to_html(index=False, border=0, escape=False, classes="summary"))


def _render(
    folder: Path, notebooks: list[Path], title: str, facts: Mapping[str, Any], hc18: bool, width_px: int
) -> str:
    chapters = [_chapter(path, width_px) for path in notebooks]
    interactive = any("data-plotly" in fragment for chapter in chapters for fragment in chapter.body)
    plotly_js = ""
    if interactive:
        from plotly.offline import get_plotlyjs

        plotly_js = get_plotlyjs().replace("</script", "<\\/script")
    environment = Environment(
        loader=PackageLoader("fhlib"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        summary=Markup(scrub(_summary(folder))),
        chapters=chapters,
        provenance=provenance(folder, facts),
        credit=HC18_CREDIT if hc18 else "",
        plotly_js=Markup(plotly_js),
    )


def _chapter(path: Path, width_px: int) -> Chapter:
    notebook = nbformat.read(path, as_version=4)
    chapter = Chapter(re.sub(r"[^\w-]", "-", path.stem), path.stem.replace("_", " "))
    named = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE)
            source = cell.source
            if heading and not named:
                named, source = True, source.replace(heading[0], "", 1)
                suffix = path.stem.partition("-")[2]
                number = re.match(r"\d+(?=_)", path.stem)
                words = scrub(re.sub(r"^\d+[.: ]+", "", heading[1].strip())) + (f": {suffix}" if suffix else "")
                chapter.title = f"{number[0]}  {words}" if number else words
            chapter.body.append(_markdown(source))
        elif cell.cell_type == "code":
            chapter.body += _code(cell, width_px)
    return chapter


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


def _code(cell: Any, width_px: int) -> list[Markup]:
    """A code cell: source folded away, then what it showed."""
    fragments = []
    tags = cell.metadata.get("tags", [])
    if cell.source.strip() and "remove-input" not in tags:
        name = "parameters" if {"parameters", "injected-parameters"} & set(tags) else "code"
        source = Highlight2HTML(pygments_lexer="ipython3")(scrub(cell.source))
        fragments.append(Markup(f"<details><summary>{name}</summary>{source}</details>"))
    for output in cell.outputs:
        shown = _output(output, width_px)
        if shown:
            fragments.append(Markup(shown))
    return fragments


def _output(output: Any, width_px: int) -> str:
    if output.output_type == "stream":
        text = scrub(strip_ansi(output.text)).strip("\n")
        return f"<pre>{html.escape(text)}</pre>" if output.name == "stdout" and text else ""
    if output.output_type == "error":
        return f'<pre class="error">{html.escape(scrub(strip_ansi(chr(10).join(output.traceback))))}</pre>'
    data = output.get("data", {})
    if PLOTLY in data:
        return _picture(data, width_px) + _interactive(data[PLOTLY])
    picture = _picture(data, width_px)
    if picture or WIDGET in data:
        return picture
    writers: dict[str, Callable[[str], str]] = {
        "text/html": lambda text: _framed(_without_scripts(text)),
        "text/markdown": lambda text: str(_markdown(text)),
        "text/plain": lambda text: f"<pre>{html.escape(strip_ansi(text))}</pre>",
    }
    return next((write(scrub(data[kind])) for kind, write in writers.items() if kind in data), "")


def _picture(data: Mapping[str, Any], width_px: int) -> str:
    """PNG or JPEG before SVG, which is much larger where it holds images; embedded, at most `width_px` wide."""
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            content = _narrowed(base64.b64decode(data[kind]), width_px)
            return f'<figure><img src="data:{kind};base64,{base64.b64encode(content).decode()}" alt="figure"></figure>'
    if "image/svg+xml" in data:
        content = _without_scripts(scrub(data["image/svg+xml"])).encode()
        return (
            f'<figure><img src="data:image/svg+xml;base64,{base64.b64encode(content).decode()}" alt="figure"></figure>'
        )
    return ""


def _narrowed(content: bytes, width_px: int) -> bytes:
    """The picture without metadata, scaled down if it is wider than `width_px`; its bytes where that does not make it smaller."""
    with Image.open(io.BytesIO(content)) as picture:
        kind, size = picture.format, picture.size
        if size[0] <= width_px:
            return content
        scaled = picture.resize((width_px, round(size[1] * width_px / size[0])), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    scaled.save(stream, kind, optimize=True)
    return min(stream.getvalue(), content, key=len)


def _interactive(content: Mapping[str, Any]) -> str:
    """A plotly figure that is drawn when the reader opens it, so that the page needs no 3D graphics to load or print."""
    kept = {name: content[name] for name in ("data", "layout") if name in content}
    payload = html.escape(json.dumps(_scrubbed(kept)), quote=True)
    return (
        f'<details class="interactive"><summary>turn the surface</summary><div data-plotly="{payload}"></div></details>'
    )


def _scrubbed(content: Any) -> Any:
    """`scrub` on every text of a JSON value; packed numbers (plotly's `bdata`) are no text."""
    if isinstance(content, Mapping):
        return {name: value if name == "bdata" else _scrubbed(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_scrubbed(value) for value in content]
    return scrub(content) if isinstance(content, str) else content


def _framed(table: str) -> str:
    return f'<div class="wide">{table}</div>'


def _without_scripts(text: str) -> str:
    """HTML without scripts, event handlers, frames, style sheets and anything that would be fetched from elsewhere."""
    text = re.sub(r"<(script|iframe|object|embed|style)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"<(?:script|iframe|object|embed|link|meta|base)\b[^>]*>", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\son\w+\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s>]+)", "", text, flags=re.IGNORECASE)
    return re.sub(r"<img\b(?![^>]*\bsrc=[\"']data:)[^>]*>", "", text, flags=re.IGNORECASE)
