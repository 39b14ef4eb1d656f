"""One set of versions for pip and conda; two commands that say what they need; nothing of one machine in the files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import fhlib
from tests.lowest import lowest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(lines: list[str]) -> dict[str, str]:
    """Canonical name -> version of lines like `torch==2.13.0`."""
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def direct() -> list[Requirement]:
    """What pyproject.toml asks for, extras included."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


LOCK = pins((ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines())


def test_lock_pins_versions_and_nothing_else():
    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    strange = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    assert strange == [] and LOCK["torch"] == "2.13.0" and len(LOCK) == len(lines)


def test_lock_satisfies_every_direct_dependency():
    unmet = [str(need) for need in direct() if LOCK.get(canonicalize_name(need.name)) not in need.specifier]
    assert unmet == []
    assert PROJECT["requires-python"] == ">=3.11,<3.14"


def test_lock_has_a_version_of_all_that_is_needed_in_turn():
    """Of what is installed here; torch names the versions of its CUDA libraries itself."""
    waiting, seen, unlocked = [Requirement(f"fhlib[{','.join(PROJECT['optional-dependencies'])}]")], set(), set()
    while waiting:
        need = waiting.pop()
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if key in seen or re.match(r"(nvidia|cuda)-|triton$", key[0]):
            continue
        seen.add(key)
        if key[0] != "fhlib" and LOCK.get(key[0]) != Version(metadata.version(need.name)).public:
            unlocked.add(f"{key[0]} {metadata.version(need.name)}")
        for text in metadata.requires(need.name) or []:
            inner = Requirement(text)
            extras = [*need.extras, ""]
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    assert unlocked == set(), "install with --constraint requirements.lock, or mend the lock"


def test_lowest_versions_are_named_and_below_the_lock():
    pinned = pins(lowest(ROOT / "pyproject.toml"))
    assert set(pinned) == {canonicalize_name(need.name) for need in direct()}
    assert [name for name, version in pinned.items() if Version(version) > Version(LOCK[name])] == []


def test_conda_installs_the_versions_of_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    by_pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert environment["name"] == "fhlib" and f"python{PROJECT['requires-python']}" in environment["dependencies"]
    assert by_pip == ["--constraint requirements.lock", f"-e .[{','.join(PROJECT['optional-dependencies'])}]"], (
        "pip takes every version from the lock"
    )


def test_everything_that_fhlib_imports_is_a_declared_dependency():
    distributions = metadata.packages_distributions()
    declared = {canonicalize_name(need.name) for need in direct()}
    undeclared = {}
    for path in sorted((ROOT / "fhlib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for package in {name.split(".")[0] for name in names} - {"fhlib", *sys.stdlib_module_names}:
                owners = {canonicalize_name(owner) for owner in distributions.get(package, [package])}
                if not owners & declared:
                    undeclared[package] = path.name
    assert undeclared == {}


def test_nothing_of_one_system_is_imported_at_the_start():
    """Modules and names that Windows lacks are imported where they are used, with a way round."""
    lacking = {"fcntl", "grp", "posix", "pwd", "resource", "termios", "tty"}
    found = []
    for path in sorted((ROOT / "fhlib").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            inner = [] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else ast.walk(node)
            for part in inner:
                names = [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
                names += [part.module or ""] if isinstance(part, ast.ImportFrom) else []
                found += [f"{path.name}: {name}" for name in names if name.partition(".")[0] in lacking]
    assert found == []


def test_the_version_is_asked_for_by_one_command():
    done = subprocess.run(
        [sys.executable, "-m", "fhlib", "--version"], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == f"fhlib {fhlib.__version__}\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["study"], 'fhlib study --preset "quick"'),
        (["study", "PRESET=desk", "RUN=a", "COHORT=my scans"], '--preset "desk" --run "a" --cohort "my scans"'),
        (["study"], '--editable ".[study,dicom]"'),
        (["check"], '.venv/bin/pytest -m "not slow"'),
        (["test"], '--editable ".[study,dicom,docs,slurm,test]"'),
        (["docs"], ".venv/bin/python fhlib/docs/build.py"),
        (["lowest"], "tests/lowest.py"),
        (["lab"], "jupyter lab"),
        (["browser"], "chromium"),
        (["install", "-B", "TORCH_INDEX=address"], '--index-url "address"'),
    ],
)
def test_make_knows_its_commands(command, expected):
    shown = subprocess.run(
        ["make", "-nB", *command], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert expected in shown


def test_make_names_the_python_it_needs(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(["make", "install", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode != 0 and not (tmp_path / ".venv").exists()
    assert "fhlib needs Python 3.11, 3.12 or 3.13" in done.stderr and "is Python 3.9.2" in done.stderr


def test_ci_says_that_the_images_are_missing(tmp_path):
    done = subprocess.run(
        [ROOT / ".ci" / "run"],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "FHLIB_HC18": str(tmp_path / "none")},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 1 and "HC18 images are needed" in done.stderr


def test_citation_and_licence_agree_with_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (fhlib.__version__, PROJECT["license"])
    assert "the fhlib developers" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## {fhlib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_files_name_no_registry_and_no_place_on_one_machine():
    hosts = ["py" + "pi.org", "python" + "hosted", "download." + "pytorch", "conda." + "anaconda", "/simple" + "/"]
    places = ["(?<![\\w.~])/" + place + "/" for place in ("wo" + "rk", "ro" + "ot", "op" + "t")]
    unwanted = re.compile("|".join([*map(re.escape, hosts), *places]))
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout.split("\n")
    found = []
    for path in (ROOT / name for name in listed if name):
        if path.is_file() and path.suffix not in (".png", ".safetensors"):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [
                f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(lines, 1) if unwanted.search(line)
            ]
    assert found == []
