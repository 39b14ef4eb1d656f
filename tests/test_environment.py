"""One set of versions for pip and conda; two commands that say what they need; nothing of one machine in the files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    assert "torch==2.13.0" in PROJECT["dependencies"]


def test_conda_installs_the_versions_of_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    by_pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert environment["name"] == "fhlib" and "python=3.11" in environment["dependencies"]
    pinned = pins(by_pip)
    assert pinned == {name: LOCK[name] for name in pinned}
    assert set(pinned) == {canonicalize_name(need.name) for need in direct()}
    assert {"--constraint requirements.lock", "-e ."} <= set(by_pip), (
        "what these need in turn must have the lock's versions too"
    )


def test_everything_that_fhlib_imports_is_a_declared_dependency():
    distributions = packages_distributions()
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


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["study"], 'fhlib study --preset "quick"'),
        (["study", "PRESET=desk", "RUN=a", "COHORT=my scans"], '--preset "desk" --run "a" --cohort "my scans"'),
        (["test"], ".venv/bin/pytest"),
        (["lab"], "jupyter lab"),
        (["browser"], "chromium"),
        (["install", "-B", "TORCH_INDEX=address"], '--index-url "address"'),
    ],
)
def test_make_knows_its_commands(command, expected):
    shown = subprocess.run(["make", "-n", *command], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    assert expected in shown


def test_make_names_the_python_it_needs(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"))
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(["make", "install", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode != 0 and not (tmp_path / ".venv").exists()
    assert "fhlib needs Python 3.11" in done.stderr and "is Python 3.9.2" in done.stderr


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
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert "the fhlib developers" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


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
