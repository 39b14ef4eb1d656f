"""What a step of the run map depends on, as short texts that Snakemake records and compares.

Each text names one thing and its state: `fhlib.training.trainer@1a2b3c4d5e6f7a8b` a module, `notebook 03_train@...` a notebook,
`training.steps=400` a parameter of the preset. When one differs from the recorded one the step is stale, and the difference says why.
Contents count, never dates: a fresh checkout of the same code redoes nothing.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from fhlib.cohorts.importers import files_read
from fhlib.files import NOTEBOOKS, PACKAGE, REFERENCE_TABLES, own_or_shipped, read_json, write_json
from fhlib.fingerprints import code_reached, digest, file_digest
from fhlib.presets import Preset
from fhlib.variants import VARIANTS

CHANGED_CODE = re.compile(r"((?:notebook |template |reference |weights )?[\w.-]+)@[0-9a-f]{16}")
CHANGED_SETTING = re.compile(r"([\w.]+)=([^,'\"]*)")


@cache
def notebook_state(name: str) -> tuple[str, ...]:
    """State of the notebook `name` (`"03_train"`) and of what its code reaches in each fhlib module."""
    path = NOTEBOOKS / f"{name}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    code = "\n".join(_without_magics(source) for kind, source in sources if kind == "code")
    return (f"notebook {name}@{digest(sources)}", *module_state(source=code))


@cache
def module_state(*modules: str, source: str = "") -> tuple[str, ...]:
    """State of what the named fhlib modules and `source` reach, one text a module."""
    return tuple(f"{module}@{code}" for module, code in code_reached(*modules, source=source).items())


def reference_state(*patterns: str) -> tuple[str, ...]:
    """State of tables in `data/reference` by glob (`"table*.csv"`)."""
    files = sorted({path for pattern in patterns for path in REFERENCE_TABLES.glob(pattern)})
    return tuple(f"reference {path.name}@{file_digest(path)}" for path in files)


def template_state() -> tuple[str, ...]:
    """State of the report's templates."""
    files = sorted(path for path in PACKAGE.glob("*/templates/**/*") if path.is_file())
    return tuple(f"template {path.name}@{file_digest(path)}" for path in files)


def preset_state(preset: Preset, *sections: str) -> tuple[str, ...]:
    """One text a parameter of the named sections of a preset (`"training"`, `"val_fraction"`)."""
    content = preset.model_dump(mode="json")
    return tuple(text for section in sections for text in _flat(section, content[section]))


def variant_state(*names: str) -> tuple[str, ...]:
    """What the named variants are made of, with the code of networks of others."""
    rows = tuple(f"{name}@{digest(repr(VARIANTS[name]))}" for name in names)
    modules = [VARIANTS[name].modules for name in names]
    return rows + module_state(*chain.from_iterable(modules))


def weights_state(*names: str) -> tuple[str, ...]:
    """State of the shipped weights that a training starts from; nothing for an empty name."""
    states = []
    for name in filter(None, names):
        levels = sorted(own_or_shipped("weights", name).glob("level*/weights.safetensors"))
        states.append(f"weights {name}@{digest([file_digest(path) for path in levels])}")
    return tuple(states)


def error_state(name: str) -> tuple[str, ...]:
    """State of what the error of shipped weights is known from."""
    return (f"error of {name}@{file_digest(own_or_shipped('weights', name) / 'coverage.csv')}",)


def folder_state(folder: Path, record: Path) -> tuple[str, ...]:
    """One text for what is read of a folder that a user brings; nothing about where it lies, or about other files in it.

    `record` keeps each file's digest with its size and date, so that volumes are read again only when they were touched.
    """
    known: dict[str, Any] = read_json(record) if record.exists() else {}
    current = {}
    for path in files_read(folder):
        name, status = Path(os.path.relpath(path, folder)).as_posix(), path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        current[name] = known[name] if known.get(name, [None])[0] == stamp else [stamp, file_digest(path)]
    if current != known:
        write_json(current, record)
    return (f"cohort@{digest({name: content for name, (_, content) in current.items()})}",)


def explain(reason: str) -> str:
    """Snakemake's reason for running a step, in words: which module, notebook or parameter changed, or which file is not there."""
    if "Params have changed" not in reason:
        return _files(reason)
    before, _, now = reason.partition(" now: ")
    words = []
    code = sorted({*CHANGED_CODE.findall(before), *CHANGED_CODE.findall(now)})
    if code:
        words.append(f"changed: {_some(code, 4)}")
    old, new = dict(CHANGED_SETTING.findall(before)), dict(CHANGED_SETTING.findall(now))
    words += [f"{name}: {old.get(name, 'none')} -> {new.get(name, 'none')}" for name in dict.fromkeys([*old, *new])]
    return "; ".join(words) or "its parameters changed"


def _files(reason: str) -> str:
    kind, _, names = reason.split("; ")[0].partition(": ")
    shown = _some([name.strip() for name in names.split(",")], 2)
    words = {
        "Missing output files": f"not there yet: {shown}",
        "Incomplete output files": "it was stopped before it was complete",
        "Updated input files": f"newer: {shown}",
        "Input files updated by another job": f"follows from {shown}",
        "Set of input files has changed since last execution": "it reads other files than before",
    }
    return words.get(kind, reason)


def _some(names: list[str], limit: int) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _flat(name: str, content: Any) -> list[str]:
    if isinstance(content, dict):
        return [text for key, value in content.items() for text in _flat(f"{name}.{key}", value)]
    if isinstance(content, list):
        content = "|".join(map(str, content))
    return [f"{name}={content}"]


def _without_magics(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
