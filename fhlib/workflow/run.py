"""Start the run map for one run and tell what it does: which step, why, how many remain, for how long.

Snakemake runs in this process. Each notebook is a process of its own below it and ends with it: a killed study leaves nothing running
and no lock behind. The next start continues where this one stopped.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fhlib.files import NOTEBOOKS, ROOT, write_text
from fhlib.workflow.progress import TITLES, Narrator

LEFTOVER_SECONDS = 3600
"""Half-written files of a killed start are removed when they are this old; younger ones may belong to an open notebook."""


class RunBusyError(RuntimeError):
    """The run is being computed by another process."""


@contextmanager
def only_start_of(folder: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it however this process ends. Raises RunBusyError where another start holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / ".lock-owner"  # for the message only: the lock itself is empty
    try:
        with FileLock(folder / ".lock", blocking=False):
            write_text(str(os.getpid()), owner)
            yield
    except Timeout:
        process = owner.read_text(encoding="utf-8") if owner.exists() else "unknown"
        raise RunBusyError(
            f"run {folder.name!r} is being computed by process {process}: "
            "wait for it, or give this one another name (RUN=name, --run name)"
        ) from None


def run_study(
    folder: Path, run: str, preset: str, cores: int | None = None, dry_run: bool = False, until: str | None = None
) -> int:
    """Bring every file of the run up to date; returns 0, or Snakemake's exit code where a step failed.

    Args:
        folder: of the run.
        run: its name.
        preset: its preset's name.
        cores: how many processors the steps may use; all without it.
        dry_run: only list what would be done, and why.
        until: stop after the step of that title (`02_prepare`).

    Raises RunBusyError where another process computes the run.
    """
    from snakemake.cli import main as snakemake

    arguments = ["--snakefile", NOTEBOOKS / "Snakefile", "--directory", folder]
    arguments += ["--config", f"run=run:{run}", f"preset={preset}", "--cores", cores or os.cpu_count() or 1]
    arguments += ["--rerun-triggers", "params", "input", "mtime", "--rerun-incomplete", "--nolock"]
    arguments += ["--scheduler", "greedy", "--max-checksum-file-size", 1_000_000_000]
    if dry_run:
        arguments.append("--dry-run")
    if until:
        arguments += ["--until", next(rule for rule, title in TITLES.items() if title == until)]
    os.environ["FHLIB_ROOT"] = str(ROOT)  # the steps work in the run's folder
    _give_a_home(folder)
    narrator = Narrator(folder / "timings.json", dry_run)
    log = logging.getLogger("snakemake.logging")
    with only_start_of(folder):
        _remove_half_written(folder)
        log.addFilter(narrator)
        try:
            snakemake([str(argument) for argument in arguments])
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            log.removeFilter(narrator)
    return 0


def _give_a_home(folder: Path) -> None:
    """Where the user has no home folder that can be written: Snakemake, Jupyter and Matplotlib keep caches in it."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry in the system's list
        home = None
    if home is None or not (home.is_dir() and os.access(home, os.W_OK)):
        os.environ["FHLIB_HOME"] = str(home or "")  # what executed notebooks must not show all the same
        os.environ["HOME"] = str(folder / ".home")


def _remove_half_written(folder: Path) -> None:
    for path in folder.rglob(".partial-*"):
        if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
