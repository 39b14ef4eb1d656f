"""Tell in the terminal what a run does, why, and how long it will take."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fhlib.files import read_csv, read_json, shown_folder, write_json
from fhlib.workflow.dependencies import explain
from fhlib.workflow.steps import TITLES

TARGETS = {"study", "until"}
"""The rules that stand for several files together and make none."""

EXPECTED = "expected.csv"
"""Beside the timings: what 00_start_here expects each step to take on this machine (`fhlib.benchmarks.machine.expected_steps`)."""

UP_TO_DATE = "nothing to do: everything is up to date"

HEARD_SECONDS = 0.5
"""How long after a step's end a signal to stop may still come."""


class Narrator(logging.Filter):
    """Turns Snakemake's log into a line a step. As a filter it sees every record and keeps them all from other handlers.

    On a terminal a second line tells how long each step took. On a cluster steps wait and run beside each other: how long is left is not
    told, and what they took is not kept.
    """

    def __init__(self, timings: Path, dry_run: bool = False, on_cluster: bool = False) -> None:
        super().__init__()
        self.timings, self.dry_run, self.on_cluster = timings, dry_run, on_cluster
        self.seconds = _timed(timings)
        self.left = TimeLeft(timings.with_name(EXPECTED), self.seconds)
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
        if self.total or set(record.stats) <= {"total", *TARGETS}:
            return
        self.waiting = Counter({rule: count for rule, count in record.stats.items() if rule not in {"total", *TARGETS}})
        self.total = sum(self.waiting.values())
        steps, to_be = "steps" if self.total > 1 else "step", "would be" if self.dry_run else "to be"
        say(f"{self.total} {steps} {to_be} done{self._remaining()}")

    def _job_info(self, record: Any) -> None:
        if record.jobid in self.listed or record.rule_name in TARGETS:
            return
        self.listed.add(record.jobid)
        self.started += 1
        title = title_of(record.rule_name, record.wildcards)
        self.running[record.jobid] = (record.rule_name, title, time.monotonic())
        left = "" if self.dry_run else self._remaining()
        say(f"[{self.started}/{self.total}] {title} ({explain(record.reason)}){left}")

    def _job_finished(self, record: Any) -> None:
        if record.job_id not in self.running:
            return
        rule, title, start = self.running.pop(record.job_id)
        seconds = time.monotonic() - start
        self.waiting[rule] -= 1
        if not self.on_cluster:
            self.left.took(title, seconds)
            self.seconds[title] = seconds
            write_json(self.seconds, self.timings)
        if sys.stdout.isatty():
            say(f"      {title}: {duration(seconds)}")

    def _job_error(self, record: Any) -> None:
        self.failed = True
        # a system that ends a study signals all its processes: this one may hear it last
        if self.stopping.wait(HEARD_SECONDS):
            return
        title = self.running.get(record.jobid, ("", record.rule_name, 0))[1]
        say(f"{title} failed; {self._printed(record)}. Once mended, the same command continues from here.")

    def _printed(self, record: Any) -> str:
        """Where to read what a failed step printed, and what the cluster says of it."""
        if not self.on_cluster:
            return "what it printed is above"
        logs = [shown_folder(Path(log).parent) + f"/{Path(log).name}" for log in record.log]
        said = str(record.rule_msg or "").strip().rstrip(".")
        return (
            "; ".join(filter(None, [said, f"what it printed is in {', '.join(logs)}" if logs else ""]))
            or "it told no reason"
        )

    def _none(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "Nothing to be done" in message:
            say(UP_TO_DATE)
        elif record.levelno < logging.ERROR or self.failed or self.stopping.is_set():
            return
        elif "CalledProcessError" not in message:  # the step has said by itself what is wrong
            say(message)

    def _remaining(self) -> str:
        """`; about 12 min left`, once 00_start_here has measured this machine."""
        seconds = 0.0 if self.on_cluster else self.left.of(self.waiting)
        return f"; about {duration(seconds)} left" if seconds else ""


def title_of(rule: str, wildcards: Mapping[str, Any]) -> str:
    """A step in words, such as `03_train USegNet-DS 1`; of a further seed with `seed 1` at its end."""
    named = {name: str(value) for name, value in wildcards.items()}
    seed = named.pop("seed", "").replace("_seed", "seed ")
    return " ".join(filter(None, [TITLES.get(rule, rule), *named.values(), seed]))


class TimeLeft:
    """How long the steps will take that are still to be done.

    A step that this run has done before will take as long again. Others take what 00_start_here expects, times what those that are
    done now took over their own expectation: of the same kind where there are any, else of all.
    """

    def __init__(self, expected: Path, before: Mapping[str, float]) -> None:
        self.path, self.before = expected, dict(before)
        self.expected = _expected(expected)
        self.done: dict[str, float] = {}

    def took(self, title: str, seconds: float) -> None:
        """Note what a step took."""
        self.done[title] = seconds
        if title == TITLES["start_here"]:
            self.expected = _expected(self.path)

    def of(self, waiting: Mapping[str, int]) -> float:
        """Seconds of the steps that are waiting, by rule and number; 0 where nothing is known."""
        return (
            sum(count * self._each(rule, count) for rule, count in waiting.items() if count) if self.expected else 0.0
        )

    def _each(self, rule: str, count: int) -> float:
        """Mean seconds of the `count` steps of a rule that are still to be done."""
        kind = TITLES.get(rule, rule)
        titles = [title for title in self.expected if title.split(" ")[0] == kind and title not in self.done]
        if not titles:
            return self.before.get(kind, 0.0)
        factor = self._factor(kind)
        seconds = [self.before.get(title, factor * self.expected[title]) for title in titles]
        return sum(seconds) / len(seconds)

    def _factor(self, kind: str) -> float:
        timed = [title for title in self.done if title in self.expected]
        alike = [title for title in timed if title.split(" ")[0] == kind] or timed
        expected = sum(self.expected[title] for title in alike)
        return sum(self.done[title] for title in alike) / expected if expected else 1.0


def _expected(path: Path) -> dict[str, float]:
    """Seconds by step as 00_start_here wrote them; nothing where it has not, or the file is damaged."""
    try:
        return {str(step): float(seconds) for step, seconds in read_csv(path)[["step", "seconds"]].to_numpy()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _timed(timings: Path) -> dict[str, float]:
    """What the steps of earlier starts took; nothing where that is not known or damaged."""
    try:
        return {str(title): float(seconds) for title, seconds in read_json(timings).items()}
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
