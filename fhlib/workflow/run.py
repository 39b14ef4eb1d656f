"""Start the run map for one run and tell what it does: which step, why, how many remain, for how long.

Snakemake runs in this process, in a thread beside the one that hears Ctrl-C and SIGTERM. Each notebook is a process of its own below it
and ends with it: a killed study leaves nothing running and no lock behind. The next start continues where this one stopped.
On a cluster the steps are jobs: they are cancelled when the study is stopped, and by the next start where it was killed.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from fhlib.cluster import Profile, cancel_jobs, end_left_jobs
from fhlib.files import NOTEBOOKS, ROOT, disk_full, read_json, sole, write_text
from fhlib.study.run import Study
from fhlib.workflow.progress import UP_TO_DATE, Narrator, say

LEFTOVER_SECONDS = 3600
"""Half-written files of a killed start are removed when they are this old; younger ones may belong to an open notebook."""

ENDING_SECONDS = 1.5
"""What processes are given to end by themselves."""

THREAD_SECONDS = 5.0
"""What Snakemake is given to notice that its step has ended."""

HOMES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
"""Where Snakemake, Jupyter and Matplotlib keep what they do not keep in the home folder itself."""


@contextmanager
def only_start_of(folder: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it however this process ends. Raises BusyError where another start holds it."""
    owner = folder / ".lock-owner"  # for the message only: the lock itself is empty
    process = owner.read_text(encoding="utf-8") if owner.exists() else "unknown"
    busy = (
        f"run {folder.name!r} is being computed by process {process}: "
        "wait for it, or give this one another name (RUN=name, --run name)"
    )
    with sole(folder / ".lock", busy):
        write_text(str(os.getpid()), owner)
        yield


def run_study(
    study: Study,
    cores: int | None = None,
    dry_run: bool = False,
    until: str | None = None,
    profile: Profile | None = None,
) -> int:
    """Bring every file of the run up to date; returns 0, or Snakemake's exit code where a step failed.

    Args:
        study: the run.
        cores: how many processors the steps may use, at most; all without it. On a cluster how many each may use.
        dry_run: only list what would be done, and why; nothing is written.
        until: stop after the step of that title (`02_prepare`).
        profile: of a cluster that takes the steps.

    Raises BusyError where another process computes the run, DiskFullError where Snakemake could not write. KeyboardInterrupt, and what a
    handler of SIGTERM raises, ends every process of the run first.
    """
    with _looked_at(study) if dry_run else only_start_of(study.folder) as looked_at:
        folder = looked_at or study.folder
        _give_a_home(folder)
        if not dry_run:
            _remove_half_written(folder)
            if ended := end_left_jobs(folder):
                say(f"{ended} {'jobs' if ended > 1 else 'job'} of a start that was killed ended on the cluster")
        arguments = ["--snakefile", NOTEBOOKS / "Snakefile", "--directory", folder]
        arguments += ["--config", f"run=run:{study.name}", f"preset={study.preset.name}", f"runs={folder.parent}"]
        arguments += [f"until={until}"] if until else []
        if profile is None:
            arguments += ["--cores", min(cores or os.cpu_count() or 1, os.cpu_count() or 1)]
        else:
            arguments += [*profile.arguments(folder), *(["--cores", cores] if cores else [])]
        arguments += ["--rerun-triggers", "params", "input", "mtime", "--rerun-incomplete", "--nolock"]
        arguments += ["--scheduler", "greedy", "--max-checksum-file-size", 1_000_000_000]
        if dry_run:
            arguments.append("--dry-run")
        if until:
            arguments.append("until")
        os.environ["FHLIB_ROOT"] = str(ROOT)  # the steps work in the run's folder
        narrator = Narrator(folder / "timings.json", dry_run, on_cluster=profile is not None)
        code = _run_snakemake([str(argument) for argument in arguments], narrator, folder)
        if dry_run and code == 0 and not narrator.total:  # Snakemake says so of other starts only
            say(UP_TO_DATE)
        return code


def closing_words(study: Study) -> list[str]:
    """What a run that learns on from few cases says last: whether it helped, and the command that uses it."""
    verdict = study.tables / "verdict.json"
    if not (study.preset.learns_from_few and verdict.exists()):
        return []
    found = read_json(verdict)
    begin = "use them" if found["helped"] else "to try the tuned ones all the same"
    return [found["sentence"], f"{begin}: python -m fhlib segment SCANS RESULTS --weights {study.name}"]


def _run_snakemake(arguments: list[str], narrator: Narrator, run: Path) -> int:
    """Snakemake's exit code for the run in a folder.

    Its own handler of SIGTERM waits for the running step; in a thread it installs none.
    """
    from snakemake.cli import main as snakemake

    log = logging.getLogger("snakemake.logging")
    ended: list[Any] = []
    done = threading.Event()  # `Thread.join` takes a thread for ended when a signal interrupts it

    def work() -> None:
        try:
            snakemake(arguments)
        except SystemExit as end:
            ended.append(int(end.code or 0))
        except BaseException as error:
            ended.append(error)
        finally:
            done.set()

    log.addFilter(narrator)
    try:
        threading.Thread(target=work, daemon=True).start()
        while not done.wait(0.2):
            pass
    except BaseException as error:
        narrator.stopping.set()
        until = time.monotonic() + THREAD_SECONDS
        end_children()
        while not done.wait(0.2) and time.monotonic() < until:
            end_children()  # a step may have begun meanwhile
        if narrator.on_cluster and (jobs := cancel_jobs(run)):
            say(f"cancelled on the cluster: {', '.join(jobs)}")
        if not done.is_set():
            _end_soon(error)
        raise  # the narrator stays: what Snakemake still says is not for the reader
    log.removeFilter(narrator)
    code = ended[0] if ended else 0
    if isinstance(code, BaseException):
        raise disk_full(code, narrator.timings.parent) or code
    return code


def _end_soon(error: BaseException) -> None:
    """End this process in some seconds, whatever its threads do: Python waits for them at its end, and they for their steps."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else signal.SIGINT

    def end() -> None:
        end_children()
        os._exit(128 + number)

    last = threading.Timer(ENDING_SECONDS, end)
    last.daemon = True
    last.start()


def end_children(parent: psutil.Process | None = None) -> None:
    """End all processes below one, by default this: steps, their kernels, and what those started."""
    running = (parent or psutil.Process()).children(recursive=True)
    for process in running:
        _signal(process, "terminate")
    _, left = psutil.wait_procs(running, ENDING_SECONDS)
    for process in left:
        _signal(process, "kill")
    psutil.wait_procs(left, ENDING_SECONDS)


def _signal(process: psutil.Process, how: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, how)()


@contextmanager
def _looked_at(study: Study) -> Iterator[Path]:
    """A folder in the run's place, removed afterwards, with a link to everything that the run has: Snakemake writes beside it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / study.name
        folder.mkdir()
        study.write_record(folder / "run.json")
        for path in study.folder.glob("*"):
            if path.name not in ("run.json", "cohort_files.json") and not path.name.startswith("."):
                (folder / path.name).symlink_to(path, target_is_directory=path.is_dir())
        for name in (".snakemake/metadata", ".snakemake/incomplete"):
            if (study.folder / name).is_dir():
                shutil.copytree(study.folder / name, folder / name)
        yield folder


def _give_a_home(folder: Path) -> None:
    """Where the user has no home folder that can be written: Snakemake, Jupyter and Matplotlib keep caches in it."""
    for name in HOMES:
        if os.environ.get(name) and not _can_be_written(Path(os.environ[name])):
            del os.environ[name]
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry in the system's list
        home = None
    if home is None or not (home.is_dir() and _can_be_written(home)):
        os.environ["HOME"] = str(folder / ".home")
        say(f"the home folder cannot be written to: caches go to .home in the folder of run {folder.name}")


def _can_be_written(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _remove_half_written(folder: Path) -> None:
    for path in folder.rglob(".partial-*"):
        if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
