"""How a run came about: versions, commit, machine and parameters, without paths."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from fhlib.files import CLONE, read_csv, scrubber
from fhlib.fingerprints import file_digest
from fhlib.presets import PresetError, load_preset
from fhlib.privacy import REMOVED

SEEDS = ("seed", "seeds")
"""How names of seeds end."""


def provenance(folder: Path) -> dict[str, dict[str, str]]:
    """What made a run, by heading: the run, the software, the preset's parameters, its seeds, and hashes of what went in and came out.

    As far as recorded; no path and no machine's name. Hashes are the first 16 digits of SHA-256.
    """
    run: dict[str, Any] = {"run": folder.name, "commit when the report was written": _commit()}
    run["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    cohort = folder / "tables" / "cohort.csv"
    if cohort.exists():
        table = read_csv(cohort)
        subjects = f", {table['subject'].nunique()} subjects" if "subject" in table else ""
        run["cohort"] = f"{len(table)} scans{subjects}"
    parameters: dict[str, Any] = {}
    record = folder / "run.json"
    if record.exists():
        recorded = json.loads(record.read_text(encoding="utf-8"))
        run |= {"started with " + name: value for name, value in _flat(recorded).items()}
        with suppress(PresetError):  # the preset may have gone, or changed since
            parameters = _flat(load_preset(recorded["preset"], recorded.get("changes")).model_dump(mode="json"))
    hashed = [*(folder / "tables").glob("*.csv"), *folder.glob("models*/*/level*/weights.safetensors")]
    hashes = {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(hashed)}
    for path in sorted(folder.glob("models*/*/level*/parameters.json")):
        fingerprint = json.loads(path.read_text(encoding="utf-8")).get("fingerprint", "")
        hashes[f"{path.parent.relative_to(folder).as_posix()}: code, parameters and cases of the training"] = (
            fingerprint
        )
    sections = {
        "Run": run,
        "Environment": {"Python": platform.python_version(), **_versions()},
        "Parameters": {name: value for name, value in parameters.items() if not name.endswith(SEEDS)},
        "Seeds": {name: value for name, value in parameters.items() if name.endswith(SEEDS)},
        "Hashes": hashes,
    }
    shown = {heading: _known(found) for heading, found in sections.items()}
    return {heading: found for heading, found in shown.items() if found}


def _known(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: _without_folders(str(value)) for name, value in facts.items() if value not in (None, "")}


def _versions() -> dict[str, str]:
    """Installed versions of fhlib and all that it names as needed, for the core and for the study."""
    try:
        needed = [line for line in metadata.requires("fhlib") or [] if not re.search("extra == .(?!study)", line)]
    except metadata.PackageNotFoundError:
        needed = []
    names = ["fhlib", *sorted(re.split(r"[^\w.-]", line)[0] for line in needed)]
    return {name: _version(name) for name in names}


def _without_folders(value: str) -> str:
    """A fact without paths; an absolute path is a whole value, blanks and all."""
    shown = scrubber().text(value)
    return REMOVED if shown.startswith(("/", REMOVED)) or re.match(r"[A-Za-z]:\\", shown) else shown


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    if CLONE is None:
        return "installed from a wheel"
    try:
        command = ["git", "-C", str(CLONE), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not a git clone"


def is_hc18(folder: Path) -> bool:
    files = [path for path in (folder / "run.json", folder / "tables" / "cohort.csv") if path.exists()]
    return any(re.search(r"hc18|\d{3}_\d*HC\b", path.read_text(encoding="utf-8"), re.IGNORECASE) for path in files)
