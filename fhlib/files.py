"""Where things lie, and writing that leaves either a whole file or none.

Everything the study writes goes through `atomic_path`: a temporary name in the same folder, renamed when it is complete.
Digests of contents (never of dates) say whether a result still belongs to the code, parameters and inputs that made it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from tqdm import tqdm

PACKAGE = Path(__file__).resolve().parent
CLONE = PACKAGE.parent if (PACKAGE.parent / "notebooks" / "Snakefile").exists() else None
"""The clone that this package lies in; None where it was installed from a wheel."""

ROOT = Path(os.environ.get("FHLIB_ROOT") or CLONE or Path.cwd()).absolute()
DATA = ROOT / "data"
"""What is written: cohorts/, runs/, and presets/ and weights/ of one's own."""

# What comes with fhlib and is only read: in a clone it lies beside the package, in a wheel inside it.
SHIPPED = CLONE / "data" if CLONE else PACKAGE / "shipped"
NOTEBOOKS = CLONE / "notebooks" if CLONE else PACKAGE / "shipped" / "notebooks"
REFERENCE_TABLES = SHIPPED / "reference"

Item = TypeVar("Item")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path with the same name's suffixes; rename it to `path` on success, remove it on failure.

    The temporary name keeps all suffixes (`.nii.gz`), since writers choose their format by them. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
    temporary = folder / path.name
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written for {path.name}: the writer was given {temporary}")
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(text: str, path: Path | str) -> Path:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_csv(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write a table atomically, without its index; floats with at most 10 significant digits, so that diffs stay readable."""
    return write_text(frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"), path)


def write_json(content: Any, path: Path | str) -> Path:
    """Write JSON atomically, indented."""
    return write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", path)


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def own_or_shipped(kind: str, name: str) -> Path:
    """Path of `name` among one's own `presets` or `weights` (in DATA) where it is there, else among those that come with fhlib.

    Nothing need be there: the caller tells what was looked for, with the names from `own_and_shipped`.
    """
    own = DATA / kind / name
    return own if own.exists() else SHIPPED / kind / name


def own_and_shipped(kind: str, pattern: str) -> list[str]:
    """Names, sorted, that `own_or_shipped` finds for a glob pattern."""
    return sorted({path.name for folder in (DATA, SHIPPED) for path in (folder / kind).glob(pattern)})


def require_free_space(folder: Path | str, needed_bytes: float) -> None:
    """Raise OSError, before anything is written, where the disk that holds `folder` has less than `needed_bytes` free."""
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OSError(
            f"{needed_bytes / 1e9:.1f} GB are needed for {folder.name}/ and {free / 1e9:.1f} GB are free: "
            "free some space, or set FHLIB_ROOT to a folder on a larger disk"
        )


def safe_name(name: str, what: str = "name") -> str:
    """Return `name` if it can be a folder's name everywhere (letters, digits, `-`, `_`, `.`), raise ValueError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ValueError(
            f"{what} {name!r} must begin with a letter or digit and hold only letters, digits, '-', '_' and '.', "
            "at most 200 of them"
        )
    return name


def progress(iterable: Iterable[Item], description: str, total: int | None = None, initial: int = 0) -> tqdm[Item]:
    """A text progress bar on standard error with the remaining time; in executed notebooks it passes through to the terminal.

    Args:
        iterable: what is gone through.
        description: shown before the bar.
        total: how many there are, where `iterable` does not tell.
        initial: how many are done already.
    """
    interval = 0.2 if sys.stderr.isatty() else 2.0
    return tqdm(
        iterable,
        desc=description,
        total=total,
        initial=initial,
        file=sys.stderr,
        mininterval=interval,
        dynamic_ncols=False,
        ncols=100,
    )
