"""Keep personal names and absolute paths out of everything that is handed on."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fhlib.files import PACKAGE, ROOT

CELL_FILE = re.compile(r"/(?:[\w.-]+/)*ipykernel_\d+/\d+\.py")


def replacements(hidden_paths: Sequence[Path | str]) -> list[tuple[re.Pattern[str], str]]:
    shown = {Path(path): Path(path).name for path in hidden_paths}
    shown |= {ROOT: ".", PACKAGE.parent: ".", Path(sys.prefix): ".venv", Path(sys.base_prefix): "python"}
    shown |= {home: "~" for home in _homes()}
    shown[Path(tempfile.gettempdir())] = "tmp"
    shown |= {path.resolve(): name for path, name in shown.items()}
    absolute = [path for path in shown if path.is_absolute() and len(path.parts) > 1]
    longest_first = sorted(absolute, key=lambda path: len(str(path)), reverse=True)
    return [(CELL_FILE, "cell")] + [
        (re.compile(re.escape(str(path)) + r"(?![\w.-])"), shown[path]) for path in longest_first
    ]


def _homes() -> list[Path]:
    """The home folder, and the user's own where a run had to be given another (`fhlib.workflow.run`)."""
    own = os.environ.get("FHLIB_HOME")
    return [Path.home(), *([Path(own)] if own else [])]


def replace_texts(content: Any, replacements: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(content, str):
        for pattern, shown in replacements:
            content = pattern.sub(shown, content)
    elif isinstance(content, list):
        content[:] = [replace_texts(item, replacements) for item in content]
    elif isinstance(content, dict):
        for key, value in content.items():
            if not str(key).startswith("image/"):
                content[key] = replace_texts(value, replacements)
    return content


REMOVED = "[path removed]"

_URI = r"(?P<uri>\bdata:[\w/+.-]+;base64,[A-Za-z0-9+/=]+|\bhttps?://[^\s\"'<>]+)"
_QUOTED = (
    r"(?P<quote>&quot;|&#39;|[\"'])"
    r"(?:/(?:home|Users|root|media|mnt|Volumes|tmp|private)/|[A-Za-z]:\\)[^\"'<>\n]*?(?P=quote)"
)
_HOME = r"(?<![\w./<~])/(?:home|Users|media|mnt|Volumes|net)/(?:[^\s/\"'<>&]+(?: [^\s/\"'<>&]+)*/)*[^\s\"'<>&]*"
_UNIX = r"\bfile://[^\s\"'<>]+|(?<![\w./<~])/(?:[\w.+@-]+/)+[\w.+@-]*|(?<![\w./<~])/(?:root|tmp|home)\b"
_WINDOWS = r"\b[A-Za-z]:\\[^\s\"'<>|]+|\\\\[\w.-]+\\[^\s\"'<>|]+"
PATHS = re.compile("|".join((_URI, _QUOTED, _HOME, _UNIX, _WINDOWS)))


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
    return PATHS.sub(without_path, text)


def without_path(found: re.Match[str]) -> str:
    if found["uri"]:
        return found[0]
    quote = found["quote"] or ""
    path = found[0].removeprefix(quote)
    home = str(Path.home())
    if not quote and len(Path(home).parts) > 1 and path == home:
        return "~"
    return f"{quote}{REMOVED}{quote}"


def scrubbed(content: Any) -> Any:
    """`scrub` on every text of a JSON value; packed numbers (plotly's `bdata`) are no text."""
    if isinstance(content, Mapping):
        return {name: value if name == "bdata" else scrubbed(value) for name, value in content.items()}
    if isinstance(content, list):
        return [scrubbed(value) for value in content]
    return scrub(content) if isinstance(content, str) else content
