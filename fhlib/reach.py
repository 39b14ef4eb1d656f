"""Which parts of fhlib some code reaches, function by function, so that a change redoes what depends on it and nothing else.

A part is a name at the top of a module: a function, a class, a constant. A part reaches every part whose name stands in it, in
its own module or imported; a module's remaining top-level statements belong to each of its parts. Names are taken at face value, so
a local variable that shares a part's name reaches that part too: too much is redone then, never too little.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fhlib.files import PACKAGE, digest

WHOLE = "*"
DATA_ONLY = frozenset({"fhlib.variants", "fhlib.presets"})
"""Modules whose values enter as parameters of their own: a new variant or preset must not make every training stale."""
Reference = tuple[str, str]
"""A module and the name of a part of it, or WHOLE."""


@dataclass
class Module:
    """A module's parts by name, what its imports bind, and the statements that are neither."""

    parts: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Reference] = field(default_factory=dict)
    rest: list[ast.stmt] = field(default_factory=list)


def reached(*modules: str, source: str = "") -> dict[str, str]:
    """Hash of what is reached in each fhlib module, from whole modules by name (`"fhlib.report"`) and from code.

    Docstrings, comments and layout do not count.
    """
    start = _parse(source)
    waiting = [(module, WHOLE) for module in modules]
    for part in [start.rest, *start.parts.values()]:
        waiting += _references(part, start)
    waiting += [target for target in start.imports.values() if target[1] != WHOLE]
    seen: set[Reference] = set()
    while waiting:
        reference = waiting.pop()
        if reference not in seen:
            seen.add(reference)
            waiting.extend(_reaches(reference))
    names: dict[str, list[str]] = {}
    for module, name in sorted(seen):
        names.setdefault(module, []).append(name)
    return {module: _digest(module, tuple(found)) for module, found in names.items() if module != "fhlib"}


def code_digest(*modules: str) -> str:
    """Hash of the code that the named modules reach, to be kept beside what they made."""
    return digest({module: state for module, state in reached(*modules).items() if module not in DATA_ONLY})


@cache
def _reaches(reference: Reference) -> tuple[Reference, ...]:
    module, name = reference
    content = _module(module)
    if name == WHOLE:
        return tuple((module, part) for part in (*content.parts, *content.imports))
    if name in content.parts:
        return (*_references(content.parts[name], content, module), *_references(content.rest, content, module))
    if name in content.imports:
        return (content.imports[name],)
    return ((module, WHOLE),) if module != "fhlib" else ()


def _references(statements: list[ast.stmt], content: Module, module: str = "") -> Iterator[Reference]:
    nodes = [node for statement in statements for node in ast.walk(statement)]
    narrowed = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            target = content.imports.get(node.value.id)
            if target and target[1] == WHOLE:
                yield (target[0], node.attr)
        elif isinstance(node, ast.Name):
            target = content.imports.get(node.id)
            if target and (target[1] != WHOLE or id(node) not in narrowed):
                yield target
            if node.id in content.parts and module:
                yield (module, node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _bound(node).values()


@cache
def _module(name: str) -> Module:
    return _parse(_file(name).read_text(encoding="utf-8"))


def _parse(source: str) -> Module:
    content = Module()
    for statement in _without_docstrings(ast.parse(source)).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            content.imports |= _bound(statement)
            if isinstance(statement, ast.Import) and any("." in name for name in _bound(statement)):
                content.rest.append(statement)  # import fhlib.volume: used through two dots, so taken whole
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            content.parts.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for node in (node for target in targets for node in ast.walk(target)):
                if isinstance(node, ast.Name):
                    content.parts.setdefault(node.id, []).append(statement)
        elif _is_for_type_checkers(statement):
            for node in ast.walk(statement):
                content.imports |= _bound(node)
        else:
            content.rest.append(statement)
    return content


def _bound(node: ast.AST) -> dict[str, Reference]:
    """Names that an import binds to parts of fhlib; a module used as a whole binds to WHOLE and is narrowed by its attributes."""
    bound: dict[str, Reference] = {}
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fhlib":
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            bound[alias.asname or alias.name] = (
                (inner, WHOLE) if _file(inner).exists() else (str(node.module), alias.name)
            )
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == "fhlib" and alias.name != "fhlib":
                bound[alias.asname or alias.name] = (alias.name, WHOLE)
    return bound


def _file(module: str) -> Path:
    stem = PACKAGE.joinpath(*module.split(".")[1:])
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def _is_for_type_checkers(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [item for item in body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]
            node.body = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])  # type: ignore[attr-defined]
    return tree


@cache
def _digest(module: str, names: tuple[str, ...]) -> str:
    content = _module(module)
    parts = [ast.dump(statement) for name in names for statement in content.parts.get(name, [])]
    return digest(sorted(set(parts)), [ast.dump(statement) for statement in content.rest])
