"""Tell in the terminal what a run does, why, and how long it will take."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from fhlib.files import read_json, write_json
from fhlib.workflow.dependencies import explain

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
    "few_cases": "14_few_cases",
}

TARGET = "study"
"""The rule that stands for all files together and makes none."""

SHARES = {"cohort": 12.0, "prepare": 2.0, "train": 20.0, "predict": 4.0, "accuracy": 2.0}
"""Relative times of the steps (others 1), used until this run has times of its own."""

START_SECONDS = 4.0
"""What each notebook takes to start."""


UP_TO_DATE = "nothing to do: everything is up to date"

HEARD_SECONDS = 0.5
"""How long after a step's end a signal to stop may still come."""


class Narrator(logging.Filter):
    """Turns Snakemake's log into a line a step. As a filter it sees every record and keeps them all from other handlers."""

    def __init__(self, timings: Path, dry_run: bool = False) -> None:
        super().__init__()
        self.timings, self.dry_run = timings, dry_run
        self.seconds = _timed(timings)
        self.waiting: Counter[str] = Counter()
        self.running: dict[int, tuple[str, str, float]] = {}
        self.listed: set[int] = set()
        self.total = self.started = 0
        self.failed = False
        self.stopping = threading.Event()

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
        steps, to_be = "steps" if self.total > 1 else "step", "would be" if self.dry_run else "to be"
        say(f"{self.total} {steps} {to_be} done{self._remaining()}")

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
        say(f"      {title}: {duration(seconds)}; {left} step{'s' * (left != 1)} left{self._remaining()}")

    def _job_error(self, record: Any) -> None:
        self.failed = True
        # a system that ends a study signals all its processes: this one may hear it last
        if self.stopping.wait(HEARD_SECONDS):
            return
        title = self.running.get(record.jobid, ("", record.rule_name, 0))[1]
        say(f"{title} failed; what it printed is above. Once mended, the same command continues from here.")

    def _none(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "Nothing to be done" in message:
            say(UP_TO_DATE)
        elif record.levelno < logging.ERROR or self.failed or self.stopping.is_set():
            return
        elif "CalledProcessError" not in message:  # the step has said by itself what is wrong
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
        return f", about {duration(left)}"


def _timed(timings: Path) -> dict[str, float]:
    """What the steps of earlier starts took; nothing where that is not known or damaged."""
    try:
        return {str(rule): float(seconds) for rule, seconds in read_json(timings).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def say(text: str) -> None:
    """One line on standard output, at once; nothing where its reader has left, as `| head` does."""
    with suppress(BrokenPipeError):
        print(text, flush=True)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
