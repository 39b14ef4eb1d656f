"""What several test files share."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture
def study_root(tmp_path: Path) -> Path:
    """A root of its own with the clone's notebooks, presets, reference tables and weights, and no runs; FHLIB_ROOT for a subprocess."""
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(REPOSITORY / "data" / "presets", root / "data" / "presets")
    for name in ("reference", "weights"):
        if (REPOSITORY / "data" / name).exists():
            (root / "data" / name).symlink_to(REPOSITORY / "data" / name)
    return root


@pytest.fixture
def study_environment(study_root: Path) -> dict[str, str]:
    """Environment for `python -m fhlib` in `study_root`, working from this clone's package."""
    return {**os.environ, "FHLIB_ROOT": str(study_root), "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}


PYTHON = sys.executable
