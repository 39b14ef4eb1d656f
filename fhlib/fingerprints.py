"""Hashes of contents and of code: what says whether a result still belongs to what made it.

Code counts module by module, along the import graph that grimp reads from the sources: a result depends on the modules that made it and
on all that these import, directly or not. Docstrings, comments and layout do not count, nor imports for type checkers only.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhlib.files import read_json, write_json

if TYPE_CHECKING:
    from grimp import ImportGraph

UNCOUNTED = frozenset({"fhlib.variants", "fhlib.presets", "fhlib.privacy"})
"""Modules that make nothing stale: values of variants and presets are parameters of their own; what hides paths changes no number."""


def digest(*parts: Any) -> str:
    """Short hash of JSON-like values, independent of the order of keys in mappings."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path | str) -> str:
    """Short hash of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def stamped_row(stamp: Path, fingerprint: str, files: Iterable[Path] = ()) -> dict[str, Any] | None:
    """The row that a stamp keeps about a result, or None.

    Args:
        stamp: a JSON file beside the result.
        fingerprint: that it must have.
        files: of the result, which must be there.
    """
    known = read_json(stamp) if stamp.exists() else {}
    fits = known.get("fingerprint") == fingerprint and all(file.exists() for file in files)
    return known.get("row") if fits else None


def kept_or_made(
    stamp: Path, fingerprint: str, files: Iterable[Path], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The row about a result that is complete for this fingerprint; else the result is made anew.

    Args:
        stamp: a JSON file beside the result, written last, so that a killed start leaves none.
        fingerprint: of all that decides the result.
        files: that the result consists of.
        make: writes them and returns the row.
    """
    row = stamped_row(stamp, fingerprint, files)
    if row is None:
        stamp.unlink(missing_ok=True)
        row = make()
        write_json({"fingerprint": fingerprint, "row": row}, stamp)
    return row


def code_digest(*modules: str) -> str:
    """Hash of the code that the named modules reach, to be kept beside what they made."""
    return digest(code_reached(*modules))


def code_reached(*modules: str, source: str = "") -> dict[str, str]:
    """Hash of each module that is reached from modules by name (`"fhlib.training.trainer"`), or from the imports in code.

    A module outside of fhlib counts by itself. Raises ModuleNotFoundError for one that is not there.
    """
    start = {*modules, *_imported(source)}
    reached = set(start)
    for module in start:
        if module in _graph().modules:
            reached |= _graph().find_upstream_modules(module)
    return {module: _module_digest(module) for module in sorted(reached - UNCOUNTED)}


@cache
def _graph() -> ImportGraph:
    import grimp  # only runs of a study and their predictions ask for it

    return grimp.build_graph("fhlib", exclude_type_checking_imports=True, cache_dir=None)


def _imported(source: str) -> Iterator[str]:
    """Modules of fhlib that code imports; a public name (`from fhlib import evaluate`) stands for the module that has it."""
    public = sys.modules["fhlib"].PUBLIC  # an import of fhlib here would stand in the graph
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in _graph().modules)
        elif isinstance(node, ast.ImportFrom) and str(node.module) in _graph().modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if node.module == "fhlib" and alias.name in public:
                    yield public[alias.name]
                else:
                    yield inner if inner in _graph().modules else str(node.module)


@cache
def _module_digest(module: str) -> str:
    found = find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"there is no module {module!r}: install it, or mend its name")
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [item for item in body if not _is_docstring(item)]  # type: ignore[attr-defined]
    return digest(ast.dump(tree))


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
