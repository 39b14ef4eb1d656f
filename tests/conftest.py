"""What several test files share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def need(what: str | None, message: str) -> str:
    """Return `what`; where it is empty the test fails in CI and is skipped elsewhere, with what to do about it."""
    if what:
        return what
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The clone that holds these tests."""
    return REPOSITORY


@pytest.fixture(scope="session")
def hc18() -> Path:
    """Folder of HC18 images: FHLIB_HC18."""
    return Path(need(os.environ.get("FHLIB_HC18"), "set FHLIB_HC18 to a folder with HC18 images and their CSV"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """Program of a Chromium browser, for playwright's `executable_path`."""
    names = filter(None, (os.environ.get("FHLIB_BROWSER"), *BROWSERS))
    found = next((program for name in names if (program := shutil.which(name))), None)
    return need(found, "no Chromium browser: run `make browser`, or set FHLIB_BROWSER to its program")


def copy_clone(folder: Path) -> Path:
    """What a study needs of this clone (package, notebooks, data without cohorts and runs), as a clone of its own in `folder`."""
    unwanted = shutil.ignore_patterns("__pycache__", ".*", "cohorts", "runs", "results")
    for name in ("fhlib", "notebooks", "data"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=unwanted)
    return folder


def run_study(clone: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m fhlib study` in a copied clone, with that clone's package, on one thread, so that two studies can run
    beside each other; output and errors in one stream.
    """
    environment = {**os.environ, "PYTHONPATH": str(clone), "FHLIB_ROOT": str(clone), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fhlib", "study", *arguments]
    return subprocess.Popen(
        command, cwd=clone, env=environment, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def execute_notebook(clone: Path, name: str, out: Path, **parameters: object) -> None:
    """Execute `notebooks/<name>.ipynb` of a copied clone with its own package, in the preset smoke; fails with what it printed."""
    command = [sys.executable, "-m", "fhlib.workflow.execute", str(clone / "notebooks" / f"{name}.ipynb"), str(out)]
    for key, value in {"run": "smoke", "preset": "smoke", **parameters}.items():
        command += ["-p", key, str(value)]
    environment = {**os.environ, "PYTHONPATH": str(clone), "FHLIB_ROOT": str(clone), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=clone, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
