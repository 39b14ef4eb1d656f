"""A wheel, installed beside this environment's packages and used from an empty folder: what a machine without a clone gets."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from fhlib import __version__

REPOSITORY = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PROGRAMS = "Scripts" if os.name == "nt" else "bin"

pytestmark = pytest.mark.slow


class Machine:
    """A virtual environment with the wheel, and an empty folder to work in; its home folder cannot be written."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.work, self.programs = folder / "work", folder / "venv" / PROGRAMS
        self.work.mkdir()
        venv.create(folder / "venv", with_pip=False)
        python = self.programs / "python"
        pip(f"--python={python}", "install", "--no-deps", "--no-index", wheel)
        # The packages of this environment come after its own. A .pth line is not followed further, so the editable fhlib stays out.
        packages = self.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        (Path(packages) / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

    def run(self, program: str, *arguments: object, **variables: str) -> str:
        """Run a program of the environment in the empty folder; returns what it printed, fails where it fails."""
        unwanted = ("PYTHONPATH", "FHLIB_ROOT", "FHLIB_HC18", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        environment |= {"HOME": os.devnull, "OMP_NUM_THREADS": "1", **variables}
        done = subprocess.run(
            [self.programs / program, *map(str, arguments)],
            cwd=self.work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=1500,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone, built without a download."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"), wheel)


def test_a_wheel_carries_what_a_clone_has_beside_the_package(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        carried = {name.removeprefix("fhlib/shipped/") for name in archive.namelist() if "/shipped/" in name}
    places = {"presets/": "data/", "profiles/": "data/", "reference/": "data/", "weights/": "data/", "notebooks/": ""}
    listed = subprocess.run(
        ["git", "ls-files", *(inside + kind for kind, inside in places.items())],
        cwd=REPOSITORY, capture_output=True, encoding="utf-8", check=True,
    ).stdout.split()  # fmt: skip
    assert carried == {path.removeprefix("data/") for path in listed}
    assert wheel.stat().st_size < 15e6


def test_the_package_is_the_wheels_and_its_root_the_working_folder(machine: Machine, tmp_path: Path):
    shown = "import fhlib.files as files; print(files.CLONE, files.ROOT, files.SHIPPED, sep='\\n')"
    clone, root, shipped = machine.run("python", "-c", shown).splitlines()
    assert (clone, root) == ("None", str(machine.work)) and "site-packages" in shipped
    assert machine.run("python", "-c", shown, FHLIB_ROOT=str(tmp_path)).splitlines()[1] == str(tmp_path)
    assert machine.run("fhlib", "--version").strip() == f"fhlib {__version__}"


def test_a_scan_is_simulated_segmented_and_looked_up_in_a_chart(machine: Machine):
    machine.run(
        "python",
        "-c",
        "from fhlib import simulate_scan, write_volume\n"
        "from fhlib.measures.growth import centile\n"
        "scan = simulate_scan(1, ga_weeks=24, spacing_mm=1.5)\n"
        "assert 0 < centile('hc', scan.subject.hc_mm, 24) < 100\n"
        "write_volume(scan.image, 'scan.nrrd')",
    )
    machine.run("fhlib", "segment", "scan.nrrd", "found", "--ga-weeks", "24")
    row = pd.read_csv(machine.work / "found" / "segment.csv").iloc[0]
    assert row["status"] == "found" and 100 < row["volume_ml"] < 900 and 0 <= row["hc_centile"] <= 100
    assert {path.name for path in (machine.work / "found").iterdir()} >= {"scan.html", "scan_mask.seg.nrrd"}


def test_the_notebooks_are_copied_out_and_never_over_ones_own(machine: Machine, tmp_path: Path):
    machine.run("fhlib", "notebooks", tmp_path / "mine")
    copied = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (REPOSITORY / "notebooks").glob("[0-9]*.ipynb")}
    with pytest.raises(AssertionError, match=r"holds 00_start_here\.ipynb already"):
        machine.run("fhlib", "notebooks", tmp_path / "mine")


def test_presets_and_weights_of_ones_own_are_found(machine: Machine, tmp_path: Path):
    preset = (REPOSITORY / "data" / "presets" / "smoke.yaml").read_text(encoding="utf-8")
    own = tmp_path / "data" / "presets" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(preset, encoding="utf-8")
    said = machine.run("fhlib", "study", "--preset", "mine", "--dry-run", FHLIB_ROOT=str(tmp_path))
    assert "run mine: preset mine" in said and not (machine.work / "data").exists()
    (tmp_path / "data" / "weights" / "ours").mkdir(parents=True)
    shown = "from fhlib.files import own_and_shipped; print(*own_and_shipped('weights', '*/'))"
    assert machine.run("python", "-c", shown, FHLIB_ROOT=str(tmp_path)).split() == ["hc", "head", "ours", "skull"]


def test_a_study_runs_from_an_empty_folder_to_its_report(machine: Machine):
    machine.run("fhlib", "study", "--preset", "smoke")
    run = machine.work / "data" / "runs" / "smoke"
    assert (run / "report" / "index.html").stat().st_size > 1e5
    assert (run / "tables" / "claims.csv").exists() and (machine.work / "data" / "cohorts").is_dir()
    text = (run / "notebooks" / "05_accuracy.ipynb").read_text(encoding="utf-8")
    assert str(machine.work) not in text and "site-packages" not in text
    shipped = next(machine.programs.parent.rglob("fhlib/shipped/notebooks"))
    assert {path.suffix for path in shipped.iterdir()} == {"", ".ipynb"}, (
        "nothing is written beside the package's notebooks"
    )
