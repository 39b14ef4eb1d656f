"""A smoke study on a real SLURM of one node, whose node daemon is killed in the middle; its tables are held against a local study's.

    apt-get install slurmctld slurmd slurm-client munge          Debian and Ubuntu, as root
    .venv/bin/python -m pip install "snakemake-executor-plugin-slurm>=2.8"
    .venv/bin/python -m tests.slurm.one_node                     some ten minutes on two quiet cores
    .venv/bin/python -m tests.slurm.one_node --short             one network, to its scores

The daemons are started by hand in a folder that is removed afterwards, without systemd and without a change to the machine's own SLURM.
Root starts them, as daemons of nodes run as root. Exit code 0: the tables have the same bytes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from tests.clones import copy_clone, run_study

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """ClusterName=fhlib
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout={node_timeout}
KillWait=5
MinJobAge=3600
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE_TIMEOUT_SECONDS = 20
"""After so long without an answer SLURM takes a node for down and starts its jobs again."""

SHORT = ("--until", "05_accuracy", "--set", "variants=[USegNet-DS]", "tuning=null")


def lacking() -> str:
    """Why SLURM cannot be started here; empty where it can."""
    missing = [name for name in (*DAEMONS, "sbatch") if not _program(name)]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "SLURM's daemons want root: repeat it as root, in a container for example"


@dataclass
class OneNode:
    """A running SLURM of one node, with a GPU that is none (`/dev/null`)."""

    folder: Path
    processes: dict[str, psutil.Popen] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> None:
        """Start a daemon in the foreground, its output in a log."""
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = psutil.Popen(
                [_program(name), *arguments], stdout=log, stderr=log, env=self.environment
            )

    def start_node(self) -> None:
        """Start the node's daemon."""
        self.start("slurmd", "-D")

    def kill_node(self) -> int:
        """Kill the node's daemon and every job on it, as a power cut does; returns how many processes."""
        daemon = self.processes["slurmd"]
        steps = [process for process in psutil.process_iter(["name"]) if process.info["name"] == "slurmstepd"]
        struck = [daemon]
        for step in steps:
            struck += [step, *step.children(recursive=True)]
        for process in struck:
            _call(process.kill)
        daemon.wait()
        return len(struck)

    @property
    def conf(self) -> dict[str, str]:
        """What programs that shall use this SLURM have in their environment."""
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same with all else."""
        return {**os.environ, **self.conf}

    def answer(self, *command: str) -> str:
        """What one of SLURM's commands prints."""
        return subprocess.run(command, env=self.environment, capture_output=True, encoding="utf-8").stdout

    def wait_for(self, state: str, seconds: float = 60) -> None:
        """Wait until the node has a state."""
        until = time.monotonic() + seconds
        while state not in (seen := self.answer("sinfo", "--noheader", "--format=%T")):
            assert time.monotonic() < until, f"the node is {seen.strip() or 'unknown'}, not {state}:\n{self.logs()}"
            time.sleep(0.5)

    def logs(self) -> str:
        """The last lines of each daemon's log."""
        return "\n".join(
            f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}" for path in self.folder.glob("*.log")
        )


@contextmanager
def one_node() -> Iterator[OneNode]:
    """A SLURM of one node for as long as the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="one-node-"))
    folder.chmod(0o755)  # munge wants a socket that others reach
    host = socket.gethostname().split(".")[0]
    ports = {"controller_port": _free_port(), "node_port": _free_port()}
    values = {"folder": folder, "host": host, "node_timeout": NODE_TIMEOUT_SECONDS, **ports}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
    (folder / "state").mkdir()
    # within a job Snakemake's plugin forgets where the configuration lies
    (folder / "bin").mkdir()
    (folder / "bin" / "srun").write_text(f'#!/bin/sh\nSLURM_CONF="{folder}/slurm.conf" exec {_program("srun")} "$@"\n')
    (folder / "bin" / "srun").chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    node = OneNode(folder)
    try:
        own = [
            "--key-file",
            "munge.key",
            "--socket",
            "munge.socket",
            "--pid-file",
            "munge.pid",
            "--seed-file",
            "munge.seed",
        ]
        places = [word if word.startswith("--") else str(folder / word) for word in own]
        node.start("munged", "--foreground", "--force", *places)
        _wait_for_file(folder / "munge.socket", node)
        node.start("slurmctld", "-D")
        node.start_node()
        node.wait_for("idle")
        yield node
    finally:
        node.answer("scancel", "--me")
        for process in reversed(node.processes.values()):
            _call(process.terminate)
        _, alive = psutil.wait_procs(list(node.processes.values()), 10)
        for process in alive:
            _call(process.kill)
        shutil.rmtree(folder, ignore_errors=True)


def write_profile(clone: Path) -> str:
    """A profile of a user's own, made of the shipped one for this small node; returns its name."""
    content = yaml.safe_load((clone / "data" / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    content |= {"cores": 2, "latency-wait": 10, "slurm-init-seconds-before-status-checks": 3}
    content |= {"set-threads": {"train": 2}, "default-resources": {"mem_mb": 4000, "runtime": 60}}
    content["set-resources"]["train"] |= {"mem_mb": 8000, "runtime": 60}
    own = clone / "data" / "profiles" / "one-node" / "config.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(yaml.safe_dump(content))
    return own.parent.name


def struck_study(clone: Path, node: OneNode, *arguments: str) -> str:
    """A study of that clone on SLURM whose node fails in its first training; returns what it printed."""
    given = ["--preset", "smoke", "--run", "cluster", "--profile", "one-node", *arguments]
    process = run_study(clone, *given, environment=node.conf)
    run, until = clone / "data" / "runs" / "cluster", time.monotonic() + 1800
    while (
        not next(run.glob("models/*/level1/checkpoint.pt"), None)
        and process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.05)
    struck = node.kill_node()
    print(f"{struck} processes of the node killed in a training", flush=True)
    node.wait_for("down", NODE_TIMEOUT_SECONDS + 60)
    node.start_node()
    text, _ = process.communicate(timeout=3600)
    assert process.returncode == 0, f"{text}\n{node.logs()}"
    return text


def differing_tables(first: Path, second: Path) -> tuple[int, list[str]]:
    """How many tables a run has, and which of them differ from another run's."""
    names = sorted({path.name for run in (first, second) for path in (run / "tables").glob("*.csv")})
    contents = [[_bytes(run / "tables" / name) for run in (first, second)] for name in names]
    return len(names), [name for name, (one, other) in zip(names, contents, strict=True) if one != other]


def compare(short: bool) -> tuple[int, list[str]]:
    """Run a study here and another on SLURM, in a clone of their own; how many tables there are, and which differ."""
    changes = SHORT if short else ()
    with tempfile.TemporaryDirectory(prefix="slurm-study-") as place, one_node() as node:
        clone = copy_clone(Path(place))
        write_profile(clone)
        here, there = (clone / "data" / "runs" / name for name in ("here", "cluster"))
        begun = time.monotonic()
        process = run_study(clone, "--preset", "smoke", "--run", "here", "--cores", "2", *changes)
        text, _ = process.communicate(timeout=3600)
        assert process.returncode == 0, text
        print(f"here: {time.monotonic() - begun:.0f} s", flush=True)
        there.mkdir()
        # precision and memory format are measured at a run's first start; both runs shall use the same
        shutil.copy(here / "execution.json", there)
        begun = time.monotonic()
        print(struck_study(clone, node, *changes))
        print(f"on SLURM, with a node that failed: {time.monotonic() - begun:.0f} s", flush=True)
        assert re.search(r"Requeu|requeue", (node.folder / "slurmctld.log").read_text()), node.logs()
        return differing_tables(here, there)


def _call(signalled: Callable[[], None]) -> None:
    """End a process; one that has gone is no error."""
    with suppress(psutil.NoSuchProcess):
        signalled()


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_file(path: Path, node: OneNode, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} is not there:\n{node.logs()}"
        time.sleep(0.1)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one network, to its scores")
    options = parser.parse_args()
    if why := lacking():
        print(why, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    count, differing = compare(options.short)
    print(f"{count} tables, {len(differing)} of them differ{': ' + ', '.join(differing) if differing else ''}")
    return 1 if differing or not count else 0


if __name__ == "__main__":
    sys.exit(main())
