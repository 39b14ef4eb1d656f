"""Where things lie, and writing that leaves either a whole file or none.

Everything the study writes goes through `atomic_path`: a temporary name in the same folder, renamed when it is complete.
Digests of contents (never of dates) say whether a result still belongs to the code, parameters and inputs that made it.
"""

from __future__ import annotations

import errno
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

from fhlib.kernel import running_shell
from fhlib.privacy import Scrubber

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

HIDDEN = "FHLIB_HIDDEN"
"""Environment variable, for kernels: a JSON list of the files and folders that a user brought."""
NO_PROGRESS = "FHLIB_NO_PROGRESS"
"""Environment variable: where it is set, nothing shows how far it is."""
FOREIGN = (
    "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir",
    "__pycache__",
)  # fmt: skip
"""What operating systems and tools leave in folders, in lower case; hidden names (`.git`, `.DS_Store`) need no list."""

IDS = ("case", "subject")
"""Columns whose cells are names, whatever they look like."""

Item = TypeVar("Item")
Table = TypeVar("Table", pd.DataFrame, pd.Series)

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system answers on a full disk, above a quota, and above the size that a file may have."""

NO_SPACE_SAID = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|os error (?:28|122|27)\b|disk is full", re.IGNORECASE
)
"""The same in the words of libraries that write without Python (safetensors, SQLite)."""

FULL_BYTES = 200_000
"""A disk with less than this free is full: torch and SimpleITK fail on one without saying why."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What a drive without file locks answers."""

LONGEST_NAME = 200
"""Characters of a folder's name: file systems end at 255 bytes, and paths below it need some."""

FORMULA = re.compile(r"[=+\-@\t\n＝＋－＠]")
"""How a cell begins that a spreadsheet takes for a formula."""


class DiskFullError(OSError):
    """A disk, quota or file limit has been reached; the message names the folder and the remedy."""


class BusyError(RuntimeError):
    """Another process holds what this one needs."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path with the same name's suffixes; rename it to `path` on success, remove it on failure.

    The temporary name keeps all suffixes (`.nii.gz`), since writers choose their format by them. Missing parent folders are made.
    Raises DiskFullError in place of whatever a writer says on a full disk.
    """
    path = Path(path)
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
        temporary = folder / path.name
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written for {path.name}: the writer was given {temporary}")
        os.replace(temporary, path)
    except Exception as error:
        full = disk_full(error, path.parent)  # asked before the half-written file is removed
        if full is None:
            raise
        raise full from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def disk_full(error: BaseException | str, folder: Path) -> DiskFullError | None:
    """The error to raise where a failure means that the disk of `folder` is full; None where it means something else."""
    if isinstance(error, DiskFullError):
        return error
    said = isinstance(error, OSError) and error.errno in NO_SPACE
    if not (said or NO_SPACE_SAID.search(str(error)) or _free_bytes(folder) < FULL_BYTES):
        return None
    place = shown_folder(folder)
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return DiskFullError(
            f"a file in {place}/ has grown to the size that this system allows (ulimit -f): "
            "raise that limit; the same command then continues"
        )
    return DiskFullError(
        f"no space left on the disk of {place}/ ({size_of(_free_bytes(folder))} free): free some space or raise the "
        "quota; the same command then continues"
    )


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def size_of(count: float) -> str:
    """So many bytes as MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def shown_folder(folder: Path) -> str:
    """A folder as messages show it: below the root, or its name alone."""
    folder = folder.absolute()
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else folder.name


@contextmanager
def sole(lock: Path, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock file; the system frees it however this process ends.

    A drive without locks is told, and nothing is held.

    Args:
        lock: the file; its folder is made.
        busy: what to say where another process holds it.
        wait: say it and wait; without it BusyError is raised.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, fallback_to_soft=False)
    try:
        held.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise BusyError(busy) from None
        print(busy, flush=True)
        held.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(
            f"the drive of {shown_folder(lock.parent)}/ has no file locks ({error.strerror}): start only one study there at a time",
            file=sys.stderr,
            flush=True,
        )
    try:
        yield
    finally:
        held.release()


def write_text(text: str, path: Path | str) -> Path:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def require_own_table(path: Path, *names: str) -> None:
    """Raise OSError where a file is there whose first line lacks one of these columns: it is somebody else's, and would be replaced."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8-sig", errors="replace") as table:
        there = {name.strip().strip('"') for name in table.readline().split(",")}
    if not there.issuperset(names):
        raise OSError(
            f"in {path.parent.name!r} {path.name} is a table of another origin, and would be replaced: move it away, or name another folder"
        )


def write_csv(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write a table atomically, without its index; floats with at most 10 significant digits, so that diffs stay readable.

    A text that a spreadsheet would take for a formula (`=`, `+`, `-`, `@`, a tab or a line break at its start) gets an
    apostrophe before it. Numbers stay as they are, as text too. Read back, the apostrophe is part of the text.
    Paths of this machine are taken out of texts.
    """
    clean = scrubber().text
    safe = frame.rename(columns=lambda name: _no_formula(name) if isinstance(name, str) else name)
    for k, kind in enumerate(frame.dtypes):
        cells = [] if pd.api.types.is_numeric_dtype(kind) else frame.iloc[:, k].tolist()
        quoted = [_no_formula(clean(cell)) if isinstance(cell, str) else cell for cell in cells]
        if any(new is not old for new, old in zip(quoted, cells, strict=True)):
            safe.isetitem(k, pd.Series(quoted, index=frame.index, dtype=object))
    return write_text(safe.to_csv(index=False, float_format="%.10g", lineterminator="\n"), path)


def scrubber(inputs: Iterable[Path | str] = ()) -> Scrubber:
    """What takes paths out of texts; `inputs` are files and folders that a user brought."""
    hidden = json.loads(os.environ.get(HIDDEN, "[]"))
    shown = {ROOT: ".", PACKAGE.parent: ".", Path(sys.prefix): ".venv", Path(sys.base_prefix): "python"}
    return Scrubber(shown, [*inputs, *hidden])


def _no_formula(cell: str) -> str:
    """A cell or heading as a spreadsheet shows it and never computes it; line breaks as CSV has them."""
    cell = re.sub("\r\n?", "\n", cell)
    if len(cell) < 2 or not FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def read_csv(path: Path | str) -> pd.DataFrame:
    """Read a table of the study: ids stay text (`007`, `NA`, `1e3`), other columns become numbers where they hold them."""
    table = pd.read_csv(path)
    ids = [name for name in IDS if name in table]
    if not ids:
        return table
    return table.assign(**pd.read_csv(path, usecols=ids, dtype=str, keep_default_na=False))


def blank_gaps(table: Table) -> Table:
    """Missing values as empty text. `fillna` does that no longer where a column has no text at all and so is of numbers."""
    return table.astype(object).where(table.notna(), "")


def write_json(content: Any, path: Path | str) -> Path:
    """Write JSON atomically, indented."""
    return write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", path)


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises ValueError, with its name, where it is damaged."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{shown_folder(path.parent)}/{path.name} is damaged ({error}): remove it, and it is made anew"
        ) from error


def is_foreign(name: str) -> bool:
    """Whether a file or folder is an operating system's or a tool's, by its name: hidden, a backup, a lock."""
    return name.startswith((".", "~$")) or name.endswith("~") or name.lower() in FOREIGN


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and the folders below it, sorted. What is foreign is left out; links to folders are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_foreign(name)]
        paths = [Path(place, name) for name in names if not is_foreign(name)]
        found += [path for path in paths if path.is_file()]
    return sorted(found)


def given_path(path: Path | str) -> Path:
    """A file or folder that a notebook is given, seen from the notebook's folder, else from ROOT.

    There JupyterLab's list of files begins, from which paths are copied.
    """
    path = Path(path)
    return path if path.exists() or not (ROOT / path).exists() else ROOT / path


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
    free = _free_bytes(folder)
    if free < needed_bytes:
        raise DiskFullError(
            f"{size_of(needed_bytes)} are needed for {folder.name}/ and {size_of(free)} are free: "
            "free some space, or set FHLIB_ROOT to a folder on a larger disk"
        )


def safe_name(name: str, what: str = "name") -> str:
    """Return `name` if it can be a folder's name everywhere, raise ValueError otherwise.

    That is up to LONGEST_NAME letters, digits, `-`, `_` and `.`; none that Windows keeps for devices.
    """
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?", name):
        raise ValueError(
            f"{what} {name[:LONGEST_NAME]!r} must begin with a letter or digit and hold only letters, digits, '-', '_' "
            "and '.', which is not the last"
        )
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{what} {name[:20]!r}... has {len(name)} characters: choose one of at most {LONGEST_NAME}")
    if re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", name.partition(".")[0], re.IGNORECASE):
        raise ValueError(f"{what} {name!r} is kept for a device on Windows: choose another")
    return name


def progress(iterable: Iterable[Item], description: str, total: int | None = None, initial: int = 0) -> tqdm[Item]:
    """A text progress bar with the remaining time; in executed notebooks it passes through to the terminal.

    It goes to standard error, which notebooks show in red as an error: there it goes to standard output.

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
        file=sys.stderr if running_shell() is None else sys.stdout,
        disable=bool(os.environ.get(NO_PROGRESS)),
        mininterval=interval,
        dynamic_ncols=False,
        ncols=100,
    )
