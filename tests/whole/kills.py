"""Stop a smoke study at random moments, or fill its disk, until it is done; compare its tables with those of an undisturbed one.

    python -m tests.whole.kills                   30 times, half of them SIGKILL and half SIGTERM
    python -m tests.whole.kills --seed 2 --kills 60
    python -m tests.whole.kills --full-disk       a full disk at the start of seven steps; mounts a tmpfs, so on Linux only

Each takes some minutes for every ten stops. Exit code 0: the tables have the same bytes, nothing was left running, every stop was told
as one, and a full disk as a full disk.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.clones import copy_clone, run_study

LEFT_RUNNING_SECONDS = 15
"""What a killed study's processes are given to notice."""

FILLED = (
    "01_cohort",
    "02_prepare",
    "03_train USegNet-DS 1",
    "04_predict USegNet-DS",
    "05_accuracy",
    "08_attention",
    "report",
)
"""Steps at whose start the disk is filled."""

DISK_BYTES = 1_500_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full-disk", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        whole, stopped = copy_clone(Path(place) / "whole"), copy_clone(Path(place) / "stopped")
        seconds = undisturbed(whole)
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        if options.full_disk:
            with small_disk(stopped / "data" / "runs"), small_disk(stopped / "data" / "cohorts"):
                return full_disks(whole, stopped)
        return kills(whole, stopped, options.kills, random.Random(options.seed), seconds / 8)


def undisturbed(clone: Path) -> float:
    """Run the smoke study; seconds that it took."""
    start = time.monotonic()
    process = run_study(clone, "--preset", "smoke")
    text = process.communicate()[0]
    assert process.returncode == 0, text
    return time.monotonic() - start


def kills(whole: Path, stopped: Path, count: int, chance: random.Random, longest: float) -> int:
    """Kill and continue; where the study ends before `count` kills, it is compared and begun anew."""
    faults: list[str] = []
    done: Counter[str] = Counter()
    slowest = 0.0
    begin(whole, stopped)
    while True:
        process = run_study(stopped, "--preset", "smoke")
        said = heard(process)
        wait = chance.uniform(0.5, longest) if done.total() < count else 3600.0
        kind = signal.SIGTERM if done.total() % 2 else signal.SIGKILL
        try:
            code = process.wait(wait)
        except subprocess.TimeoutExpired:
            seconds, found = stop(process, kind, said)
            slowest = max(slowest, seconds)
            done[kind.name] += 1
            faults += found
            print(
                f"{done.total()}: {kind.name} after {wait:.1f} s; all had ended in {seconds:.1f} s {found or ''}",
                flush=True,
            )
            continue
        faults += [f"exit code {code}: {''.join(said)[-2000:]}"] if code else []
        differing = different(whole, stopped)
        print(f"the study has ended; different tables: {differing or 'none'}", flush=True)
        faults += differing
        if done.total() >= count or faults:
            break
        begin(whole, stopped)
    print(f"{dict(done)}; processes had ended in {slowest:.1f} s at most; faults: {faults or 'none'}")
    return 1 if faults else 0


def begin(whole: Path, stopped: Path) -> None:
    """Take away scans and runs. Precision and memory format are measured at a first start; both runs shall use the same."""
    for name in ("runs", "cohorts"):
        shutil.rmtree(stopped / "data" / name, ignore_errors=True)
    run = stopped / "data" / "runs" / "smoke"
    run.mkdir(parents=True)
    shutil.copy(whole / "data" / "runs" / "smoke" / "execution.json", run)


def heard(process: subprocess.Popen[str]) -> list[str]:
    """What a study prints, as it prints it."""
    said: list[str] = []
    assert process.stdout is not None
    threading.Thread(target=lambda: said.extend(process.stdout), daemon=True).start()
    return said


def stop(process: subprocess.Popen[str], kind: signal.Signals, said: list[str]) -> tuple[float, list[str]]:
    """Send a signal; seconds until all processes had ended, and what was wrong."""
    children = psutil.Process(process.pid).children(recursive=True)
    before, start = len(said), time.monotonic()
    process.send_signal(kind)
    faults = []
    try:
        process.wait(LEFT_RUNNING_SECONDS)
    except subprocess.TimeoutExpired:
        below = [child.name() for child in psutil.Process(process.pid).children(recursive=True)]
        faults.append(f"still runs after {LEFT_RUNNING_SECONDS} s, with {below}: {''.join(said)[-800:]}")
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(children, LEFT_RUNNING_SECONDS)
    seconds = time.monotonic() - start
    faults += [f"{child.name()} still runs" for child in left if child.is_running()]
    for child in left:
        child.kill()
    if kind == signal.SIGTERM and process.returncode != 128 + signal.SIGTERM and process.returncode != -signal.SIGTERM:
        faults.append(f"exit code {process.returncode} after SIGTERM")
    time.sleep(0.2)
    last = "".join(said[before:])
    if re.search(r"Traceback|Error|failed", last):
        faults.append(f"said: {last[-500:]}")
    if kind == signal.SIGTERM and process.returncode > 0 and "to continue: " not in last + "".join(said[-3:]):
        faults.append(f"not told how to continue: {last[-300:]}")
    return seconds, faults


def different(whole: Path, stopped: Path) -> list[str]:
    """Names of tables whose bytes differ, or which one of the two lacks."""
    tables = [
        {path.name: path.read_bytes() for path in (clone / "data/runs/smoke/tables").glob("*.csv")}
        for clone in (whole, stopped)
    ]
    return sorted(name for name in tables[0] | tables[1] if tables[0].get(name) != tables[1].get(name))


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def full_disks(whole: Path, stopped: Path) -> int:
    """Fill the disks as each of the steps starts, free them again once the study has ended, and continue."""
    faults: list[str] = []
    begin(whole, stopped)
    fillers = [stopped / "data" / name / ".filler" for name in ("runs", "cohorts")]
    for step in FILLED:
        process = run_study(stopped, "--preset", "smoke")
        said = heard(process)
        while process.poll() is None and not re.search(
            rf"^\[\d+/\d+\] {re.escape(step)} \(", "".join(said), re.MULTILINE
        ):
            time.sleep(0.02)
        for filler in fillers:
            fill(filler)
        code = process.wait()
        for filler in fillers:
            filler.unlink()
        text = "".join(said)
        told = re.findall(r"^.*(?:no space left on the disk of|are needed for).*$", text, re.MULTILINE)
        print(f"{step}: exit code {code}; {told[:1] or text[-600:]}", flush=True)
        if code == 0 or not told or "Traceback" in text:
            faults.append(f"{step}: {text[-1500:]}")
    process = run_study(stopped, "--preset", "smoke")
    text = process.communicate()[0]
    faults += [text[-1500:]] if process.returncode else []
    faults += different(whole, stopped)
    print(f"{len(FILLED)} full disks; faults: {faults or 'none'}")
    return 1 if faults else 0


def fill(filler: Path) -> None:
    """Write until nothing more fits."""
    with open(filler, "wb", buffering=0) as stream:
        try:
            while stream.write(bytes(1_000_000)):
                pass
        except OSError:
            return


if __name__ == "__main__":
    if "--full-disk" in sys.argv and os.geteuid():
        os.execvp(
            "unshare",
            ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "tests.whole.kills", *sys.argv[1:]],
        )
    sys.exit(main())
