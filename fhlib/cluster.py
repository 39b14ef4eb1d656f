"""A run on a cluster: Snakemake's profile for it, and the jobs that its starts have there.

A profile is a folder of `data/profiles` with a `config.yaml`, one's own or one that comes with fhlib. Snakemake reads it: which executor
takes the steps, and what each asks for. Jobs are told apart by their names, on SLURM only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fhlib.files import BusyError, own_and_shipped, own_or_shipped, safe_name
from fhlib.fingerprints import digest
from fhlib.presets import suggestion

CONFIG = "config.yaml"

ENDING_SECONDS = 60
"""What jobs are given to end when they are cancelled: SLURM kills after half of it what does not end by itself."""

ANSWER_SECONDS = 30
"""How long SLURM's own commands may take."""


class ClusterError(ValueError):
    """A profile that cannot be used; the message names the remedy."""


@dataclass(frozen=True)
class Profile:
    """A profile that can be used: its name, its folder, and Snakemake's executor that takes the steps."""

    name: str
    folder: Path
    executor: str

    def arguments(self, run: Path) -> list[Any]:
        """Snakemake's arguments for the run in a folder."""
        if self.executor != "slurm":
            return ["--profile", self.folder]
        # without SLURM's accounting sacct knows of no job, and Snakemake would wait for ever
        asked = [] if _succeeds(["sacct", "--allocations", "--noheader"]) else ["--slurm-status-command", "squeue"]
        return ["--profile", self.folder, "--slurm-jobname-prefix", job_prefix(run), *asked]


def open_profile(name: str) -> Profile:
    """Raises ClusterError for a profile that there is not, that names no executor, or whose executor is not installed here."""
    known = [
        folder
        for folder in own_and_shipped("profiles", "*/")
        if (own_or_shipped("profiles", folder) / CONFIG).is_file()
    ]
    if name not in known:
        raise ClusterError(
            f"profile {name[:100]!r} is not known{suggestion(name, known)}; there are: {', '.join(known) or 'none'}"
        )
    folder = own_or_shipped("profiles", safe_name(name, "profile"))
    try:
        content = YAML(typ="safe", pure=True).load((folder / CONFIG).read_text(encoding="utf-8"))
    except (YAMLError, ValueError) as error:
        raise ClusterError(f"profile {name!r}: {CONFIG} cannot be read: {str(error).splitlines()[0]}") from None
    executor = content.get("executor") if isinstance(content, dict) else None
    if not isinstance(executor, str):
        raise ClusterError(f"profile {name!r}: {CONFIG} names no executor: write `executor: slurm` into it")

    package = f"snakemake-executor-plugin-{executor}"
    if executor != "local" and find_spec(package.replace("-", "_")) is None:
        raise ClusterError(f"profile {name!r} needs the package {package}: python -m pip install {package}")
    if executor == "slurm" and not shutil.which("sbatch"):
        raise ClusterError(
            f"profile {name!r} needs SLURM's sbatch, which is not on this machine: start on a login node"
        )
    return Profile(name, folder, executor)


def job_prefix(run: Path) -> str:
    """How the names of a run's jobs begin: no other run, of this user or in another clone, has it."""
    return f"fhlib-{re.sub('[^A-Za-z0-9]+', '-', run.name)[:24]}-{digest(str(run.resolve()))[:12]}"


def jobs_of(run: Path) -> list[str]:
    """Ids of a run's jobs that SLURM holds; none where SLURM is not there or does not answer."""
    listed = _answer(["squeue", "--me", "--noheader", "--format=%i %j"])
    rows = [line.split(maxsplit=1) for line in listed.splitlines()]
    return [row[0] for row in rows if len(row) == 2 and row[1].startswith(f"{job_prefix(run)}_")]


def cancel_jobs(run: Path) -> list[str]:
    """Cancel a run's jobs; returns their ids."""
    jobs = jobs_of(run)
    if jobs:
        _answer(["scancel", *jobs])
    return jobs


def end_left_jobs(run: Path) -> int:
    """Cancel the jobs that a killed start has left, and wait for their end; returns how many. Raises BusyError where some do not end."""
    jobs = cancel_jobs(run)
    until = time.monotonic() + ENDING_SECONDS
    left = jobs
    while left := jobs_of(run) if left else []:
        if time.monotonic() > until:
            raise BusyError(
                f"jobs of run {run.name!r} on the cluster do not end ({', '.join(left)}): wait until squeue no longer lists them"
            )
        time.sleep(1)
    return len(jobs)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _answer(command: Sequence[str]) -> str:
    """What one of SLURM's commands prints; nothing where it is not there, fails or does not answer."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
