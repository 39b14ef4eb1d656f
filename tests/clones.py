"""Copies of this clone, to run studies and notebooks in without touching its data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def copy_clone(folder: Path) -> Path:
    """What a study needs of this clone (package, notebooks, data without cohorts and runs), as a clone of its own in `folder`."""
    unwanted = ("__pycache__", ".*")
    for name in ("fhlib", "notebooks"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns(*unwanted))
    results = shutil.ignore_patterns(*unwanted, "cohorts", "runs", "results")
    shutil.copytree(REPOSITORY / "data", folder / "data", ignore=results)
    return folder


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """Replace the first `old` in a copied file for as long as the context lasts; a file that is not there is made of `new`."""
    original = path.read_text(encoding="utf-8") if path.exists() else None
    if original is not None:
        assert old in original, f"{path.name} holds no {old!r}"
    path.write_text(new if original is None else original.replace(old, new, 1), encoding="utf-8")
    try:
        yield
    finally:
        if original is None:
            path.unlink()
        else:
            path.write_text(original, encoding="utf-8")


def environment_of(clone: Path) -> dict[str, str]:
    """For a process that shall use a copied clone's package and data, on one thread, so that two can run beside each other."""
    return {**os.environ, "PYTHONPATH": str(clone), "FHLIB_ROOT": str(clone), "OMP_NUM_THREADS": "1"}


def run_study(clone: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `python -m fhlib study` in a copied clone, with more in its environment; output and errors in one stream."""
    command = [sys.executable, "-m", "fhlib", "study", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    return subprocess.Popen(command, cwd=clone, env={**environment_of(clone), **(environment or {})}, **streams)


def run_python(clone: Path, code: str, *arguments: object) -> str:
    """Run code in a process of its own with a copied clone's package; what it printed. Fails with its errors."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=clone, env=environment_of(clone), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def execute_notebook(clone: Path, name: str, out: Path, **parameters: object) -> None:
    """Execute `notebooks/<name>.ipynb` of a copied clone with its own package, in the preset smoke; fails with what it printed."""
    command = [sys.executable, "-m", "fhlib.workflow.execute", str(clone / "notebooks" / f"{name}.ipynb"), str(out)]
    for key, value in {"run": "smoke", "preset": "smoke", **parameters}.items():
        command += ["-p", key, str(value)]
    done = subprocess.run(
        command, env=environment_of(clone), cwd=clone, capture_output=True, encoding="utf-8", timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
