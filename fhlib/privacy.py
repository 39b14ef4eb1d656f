"""Keep personal names and absolute paths out of everything that is handed on: tables, executed notebooks, the report.

One scrubber. It knows the places that a run has to do with (its clone, its cohort, the volumes that a notebook was given) in whatever way
they are written, names with blanks and commas included. Of every other absolute path it takes away as much as looks like one.
"""

from __future__ import annotations

import ast
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

REMOVED = "[path removed]"

_ORDINARY = """
    data runs cohorts scans images labels volumes documents desktop downloads home users root media mnt tmp var srv opt usr work
"""
ORDINARY = frozenset(_ORDINARY.split())
"""Names of folders that say nothing about anybody."""

_SUFFIX = r"(?:nii\.gz|nii|nrrd|nhdr|mha|mhd|hdr|img|raw|dcm|vol|png|jpe?g|tiff?|csv|json|ya?ml|ipynb|py|txt|html?|zip)"
_WORDS = r"[\w.+@^~%$#=-]+(?:[ ,;()&'’]{1,3}[\w.+@^~%$#=-]+){0,8}[)]?"
_LAST = rf"(?:{_WORDS}\.{_SUFFIX}\b|[^\s\"'<>,;:|]*(?:,? [A-Z][\w.-]*)*)"
_KEPT = r"(?P<kept>\bdata:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+|\bhttps?://[^\s\"'<>]+)"
_START = r"(?:/(?!/)|[A-Za-z]:[\\/]|\\\\|file:)"
_QUOTED = "|".join(
    rf"(?P<q{k}>{mark}){_START}(?:(?!{mark}(?!\w))[^<>\n])*?[\\/](?:(?!{mark}(?!\w))[^<>\n])*(?={mark})"
    for k, mark in enumerate(('"', "'", "&quot;", "&#(?:39|x27);"))
)
_UNIX = rf"(?<![\w./<~])/(?:{_WORDS}/)+{_LAST}|(?<![\w./<~])/(?:root|tmp|home)\b"
_WINDOWS = rf"(?:\b[A-Za-z]:\\+|\\\\(?=\w))(?:{_WORDS}[\\/]+)*{_LAST}"
_PATHS = re.compile("|".join((_KEPT, _QUOTED, r"\bfile:/+[^\s\"'<>]+", _UNIX, _WINDOWS)))
_CELL_FILE = re.compile(r"/(?:[\w.-]+/)*ipykernel_\d+/\d+\.py")
_PACKED = re.compile(r"(?=.{76}\n|.{200})(?:[A-Za-z0-9+/=]{76}\n)*[A-Za-z0-9+/=]+\n?")


class Scrubber:
    """Takes paths out of texts.

    Args:
        shown: known places, and what is shown in place of each; what lies below one is shown relative to it (`.`: without a prefix).
        inputs: files and folders that a user brought, as they were given. Each is shown by its own name; names of the folders that
            it lies in are not shown at all.
    """

    def __init__(self, shown: Mapping[Path, str], inputs: Iterable[Path | str] = ()) -> None:
        given = [str(path) for path in inputs if Path(path).name]
        brought = {place: Path(path).name for path in given for place in (path, *map(str, _places(path)))}
        below = {str(place): name for path, name in shown.items() for place in (path, path.resolve())}
        above = {parent for path in given for parent in _places(path)[0].parents if len(parent.parts) > 2}
        known = dict.fromkeys(map(str, above), REMOVED) | below | brought
        spelt = {form: name for place, name in known.items() if len(place) > 1 for form in _spellings(place)}
        self._known = [
            (form, re.compile(rf"(?<![\w]){re.escape(form)}(?:(?P<below>[\\/]+(?=[\w.]))|(?![\w-]|\.\w))"), name)
            for form, name in sorted(spelt.items(), key=lambda pair: -len(pair[0]))
        ]
        folders = {name for parent in above for name in parent.parts[1:]}
        self._names = _named_folders(folders - set(brought.values()))

    def text(self, text: str) -> str:
        """The text without paths. Links to the web and embedded pictures stay as they are."""
        if "/" not in text and "\\" not in text and self._names is None:
            return text
        if _PACKED.fullmatch(text):
            return text
        text = _CELL_FILE.sub("cell", text)
        for form, pattern, name in self._known:
            if form in text:
                text = pattern.sub(partial(_shown, name), text)
        text = _PATHS.sub(_without_path, text)
        return text if self._names is None else self._names.sub(REMOVED, text)

    def content(self, content: Any) -> Any:
        """The same on every text of a JSON value; pictures and packed numbers (plotly's `bdata`) are no text."""
        if isinstance(content, str):
            return self.text(content)
        if isinstance(content, dict):
            clean = {key: value if _is_no_text(key) else self.content(value) for key, value in content.items()}
            return type(content)(clean)
        if isinstance(content, list | tuple):
            return [self.content(value) for value in content]
        return content


def _is_no_text(key: Any) -> bool:
    return key == "bdata" or (str(key).startswith("image/") and key != "image/svg+xml")


def paths_in(code: str) -> list[str]:
    """Texts in a notebook's parameters cell that are paths."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError):
        return []
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if is_path(text)]


def is_path(value: Any) -> bool:
    """Whether a parameter's value may be a path: it holds a separator, or is there."""
    return isinstance(value, str) and 1 < len(value) < 4096 and "\n" not in value and bool(re.search(r"[\\/]", value))


def _places(path: str) -> tuple[Path, ...]:
    """Where a path that was given may lie, absolute: as written and with links resolved."""
    place = Path(path).expanduser()
    try:
        return place.absolute(), place.resolve()
    except (OSError, RuntimeError):
        return (place.absolute(),)


def _spellings(path: str) -> Iterator[str]:
    """A path as texts, notebooks, pages and links write it."""
    for form in {path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)}:
        yield from (form, html.escape(form), html.escape(form, quote=False), quote(form), form.replace("'", "\\'"))
        yield from (json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], ascii(form)[1:-1])
        yield html.escape(form).replace("&#x27;", "&#39;")


def _shown(name: str, found: re.Match[str]) -> str:
    below = found["below"]
    if name == REMOVED:
        return f"{REMOVED}/" if below else REMOVED
    if name == ".":
        return "" if below else "."
    return f"{name}/" if below else name


def _without_path(found: re.Match[str]) -> str:
    if found["kept"]:
        return found[0]
    mark = next((found[f"q{k}"] for k in range(4) if found[f"q{k}"]), "")
    return f"{mark}{REMOVED}"


def _named_folders(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds the names of folders where they stand alone: in quotes, or before a slash."""
    telling = [re.escape(name) for name in names if len(name) > 3 and name.lower() not in ORDINARY]
    if not telling:
        return None
    either = "|".join(sorted(telling, key=len, reverse=True))
    return re.compile(rf"(?<=[\"'`])(?:{either})(?=[\"'`])|(?<![\w-])(?:{either})(?=[\\/])")
