"""The core works without the packages that only the notebooks, the run map and the tests need."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow  # a process each

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"{{name}} is not part of the core")
sys.meta_path.insert(0, Blocked())
"""

SCAN = """
import numpy as np
from fhlib import evaluate, simulate_scan, write_volume
scan = simulate_scan(1, ga_weeks=24, spacing_mm=4)
label = scan.label.array > 0
"""

USES = {
    "import": "import fhlib\nassert not {'numpy', 'torch', 'pandas'} & set(sys.modules), 'importing fhlib is light'",
    "simulate and evaluate": SCAN + "assert evaluate(label, label, scan.label.spacing_mm).dsc == 1",
    "agreement": """
from fhlib import bland_altman, repeatability
assert bland_altman([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]).bias > 0
repeatability([1.0, 2.0, 4.0, 3.0], ["a", "a", "b", "b"])""",
    "networks": """
from fhlib import TABLE1, TABLE2, build_network
for name in dict.fromkeys([*TABLE1, *TABLE2]):
    build_network(name, width=4)""",
    "growth charts": """
from fhlib.measures.growth import centile
assert 0 < centile("hc", 220.0, 24.0) < 100""",
    "segment": SCAN + """
from fhlib import load_segmentor
assert load_segmentor("head").segment(scan.image).volume_ml > 0""",
    "the command segment": SCAN + """
from fhlib.__main__ import main
write_volume(scan.image, "scan.nrrd")
assert main(["segment", "scan.nrrd", "results", "--ga-weeks", "24"]) == 0
from pathlib import Path
assert Path("results/scan.html").exists() and Path("results/scan_mask.seg.nrrd").exists()""",
}  # fmt: skip


def beyond_the_core() -> set[str]:
    """Import names of everything installed that the core neither names nor needs in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        canonicalize_name(Requirement(text).name)
        for group in project["optional-dependencies"].values()
        for text in group
    }
    shared = {
        "pillow",
        "filelock",
        "markupsafe",
        "psutil",
        "pyyaml",
    }  # matplotlib, torch, Jinja2 and Accelerate need them
    names = packages_distributions().items()
    return {name for name, owners in names if {canonicalize_name(owner) for owner in owners} & (extras - shared)}


@pytest.mark.parametrize("use", USES)
def test_the_core_needs_no_extra(use, tmp_path):
    blocked = beyond_the_core()
    assert {"pandera", "seaborn", "papermill", "snakemake", "pytest"} <= blocked
    command = [sys.executable, "-c", BLOCK.format(names=blocked) + USES[use]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FHLIB_ROOT": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
