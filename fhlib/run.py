"""Start the run map for one run and tell what it does: which step, why, how many remain, for how long.

Snakemake runs in this process; each notebook is a process of its own below it and ends with it, so that a killed study leaves
nothing running and no lock behind. The next start continues where this one stopped.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fhlib.files import ROOT, read_json, write_json
from fhlib.runmap import explain

TITLES = {
    "start_here": "00_start_here",
    "cohort": "01_cohort",
    "prepare": "02_prepare",
    "train": "03_train",
    "predict": "04_predict",
    "accuracy": "05_accuracy",
    "agreement": "06_agreement",
    "reproducibility": "07_reproducibility",
    "attention": "08_attention",
    "claims": "09_claims",
    "segment": "10_segment",
}

TARGET = "study"
"""The rule that stands for all files together and makes none."""

SHARES = {"cohort": 12.0, "prepare": 2.0, "train": 20.0, "predict": 4.0, "accuracy": 2.0}
"""Relative times of the steps (others 1), used until this run has times of its own."""

START_SECONDS = 4.0
"""What each notebook takes to start."""

STALE_SECONDS = 3600
"""Half-written files of a killed start are removed when they are this old; younger ones may belong to an open notebook."""


class RunBusyError(RuntimeError):
    """The run is being computed by another process."""


@contextmanager
def only_start_of(folder: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it however this process ends. Raises RunBusyError where another start holds it."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise RunBusyError(
                f"run {folder.name!r} is being computed by process {stream.read().strip() or 'unknown'}: "
                "wait for it, or give this one another name (RUN=name, --run name)"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def run_study(
    folder: Path, run: str, preset: str, cores: int | None = None, dry_run: bool = False, until: str | None = None
) -> int:
    """Bring every file of the run up to date; returns 0, or Snakemake's exit code where a step failed.

    `dry_run` only lists what would be done and why. `cores` bounds how many steps run side by side: each takes them all. `until` stops
    after the step of that title (`02_prepare`).
    """
    from snakemake.cli import main as snakemake

    arguments = ["--snakefile", ROOT / "notebooks" / "Snakefile", "--directory", folder]
    arguments += ["--config", f"run=run:{run}", f"preset={preset}", "--cores", cores or os.cpu_count() or 1]
    arguments += ["--rerun-triggers", "params", "input", "mtime", "--rerun-incomplete", "--nolock"]
    arguments += [
        "--scheduler",
        "greedy",
        "--max-checksum-file-size",
        1_000_000_000,
        *(["--dry-run"] if dry_run else []),
        *(["--until", next(rule for rule, title in TITLES.items() if title == until)] if until else []),
    ]
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


class Narrator(logging.Filter):
    """Turns Snakemake's log into a line a step. As a filter it sees every record and keeps them all from other handlers."""

    def __init__(self, timings: Path, dry_run: bool = False) -> None:
        super().__init__()
        self.timings, self.dry_run = timings, dry_run
        self.seconds: dict[str, float] = read_json(timings) if timings.exists() else {}
        self.waiting: Counter[str] = Counter()
        self.running: dict[int, tuple[str, str, float]] = {}
        self.listed: set[int] = set()
        self.total = self.started = 0
        self.failed = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Narrate one record; always False."""
        event = getattr(record, "event", None)
        handler = getattr(self, f"_{event.value}" if event is not None else "_none", None)
        if handler is not None:
            handler(record)
        elif record.levelno >= logging.ERROR:
            self._none(record)
        return False

    def _run_info(self, record: Any) -> None:
        if self.total or set(record.stats) <= {"total", TARGET}:
            return
        self.waiting = Counter({rule: count for rule, count in record.stats.items() if rule not in ("total", TARGET)})
        self.total = sum(self.waiting.values())
        say(
            f"{self.total} step{'s' * (self.total > 1)} {'would be' if self.dry_run else 'to be'} done{self._remaining()}"
        )

    def _job_info(self, record: Any) -> None:
        if record.jobid in self.listed or record.rule_name == TARGET:
            return
        self.listed.add(record.jobid)
        self.started += 1
        words = [TITLES.get(record.rule_name, record.rule_name), *map(str, record.wildcards.values())]
        title = " ".join(words)
        self.running[record.jobid] = (record.rule_name, title, time.monotonic())
        say(f"[{self.started}/{self.total}] {title} ({explain(record.reason)})")

    def _job_finished(self, record: Any) -> None:
        if record.job_id not in self.running:
            return
        rule, title, start = self.running.pop(record.job_id)
        seconds = time.monotonic() - start
        self.waiting[rule] -= 1
        self.seconds[rule] = seconds
        write_json(self.seconds, self.timings)
        left = sum(self.waiting.values())
        say(f"      {title}: {_duration(seconds)}; {left} step{'s' * (left != 1)} left{self._remaining()}")

    def _job_error(self, record: Any) -> None:
        self.failed = True
        title = self.running.get(record.jobid, ("", record.rule_name, 0))[1]
        say(f"{title} failed; what it printed is above. Once mended, the same command continues from here.")

    def _none(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "Nothing to be done" in message:
            say("nothing to do: everything is up to date")
        elif record.levelno >= logging.ERROR and not self.failed:
            say(message)

    def _remaining(self) -> str:
        """`, about 12 min`: by the times of this or an earlier start; steps not timed yet by their share of what those took."""
        if len(self.seconds) < 3 or not sum(self.waiting.values()):
            return ""
        shares = sum(SHARES.get(rule, 1.0) for rule in self.seconds)
        scale = sum(max(seconds - START_SECONDS, 0.0) for seconds in self.seconds.values()) / shares
        left = 0.0
        for rule, count in self.waiting.items():
            left += count * self.seconds.get(rule, START_SECONDS + SHARES.get(rule, 1.0) * scale)
        return f", about {_duration(left)}"


def say(text: str) -> None:
    """One line on standard output, at once."""
    print(text, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _remove_half_written(folder: Path) -> None:
    for path in folder.rglob(".partial-*"):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
