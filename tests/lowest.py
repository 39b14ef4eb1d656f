"""Print pyproject.toml's dependencies, extras included, each at its lowest version: a list of constraints for `make lowest`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def lowest(pyproject: Path) -> list[str]:
    """Lines like `torch==2.6` from lines like `torch>=2.6`; raises ValueError for a dependency without a lowest version."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    lines = []
    for needed in (text for group in groups for text in group):
        found = re.fullmatch(r"([\w.-]+)>=([\d.]+)", needed)
        if not found:
            raise ValueError(f"{needed!r} has no lowest version: write NAME>=VERSION")
        lines.append(f"{found[1]}=={found[2]}")
    return lines


if __name__ == "__main__":
    print("\n".join(lowest(Path(__file__).resolve().parents[1] / "pyproject.toml")))
