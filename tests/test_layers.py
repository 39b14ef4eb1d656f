"""The import rule of pyproject.toml: a room imports only from the rooms below it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clones import REPOSITORY, edited, environment_of


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package and its contract."""
    shutil.copytree(REPOSITORY / "fhlib", tmp_path / "fhlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path) -> tuple[int, str]:
    """Exit code of `lint-imports`, and what it printed."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=folder, env=environment_of(folder), capture_output=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def test_a_planted_upward_import_is_reported(copied):
    code, text = lint_imports(copied)
    assert code == 0 and "Contracts: 1 kept, 0 broken." in text, text
    volume = copied / "fhlib" / "images" / "volume.py"
    with edited(
        volume, "from __future__ import annotations\n", "from __future__ import annotations\nimport fhlib.study.run\n"
    ):
        code, text = lint_imports(copied)
    assert code == 1 and "fhlib.images is not allowed to import fhlib.study" in text, text
    assert "fhlib.images.volume -> fhlib.study.run" in text


def test_an_import_for_type_checkers_alone_may_look_upward(copied):
    volume = copied / "fhlib" / "images" / "volume.py"
    planted = "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fhlib.study.run\n"
    with edited(volume, "from __future__ import annotations\n", planted):
        code, text = lint_imports(copied)
    assert code == 0, text
