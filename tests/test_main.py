"""The command line."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fhlib import files
from fhlib.__main__ import main
from fhlib.cli.arguments import spacing
from fhlib.cli.execution import notebook_named, own_run
from fhlib.cli.stopped import told as told_options
from fhlib.cli.study import run_name
from fhlib.files import NOTEBOOKS
from fhlib.study import run as study
from fhlib.study.run import open_study
from tests.clones import copy_clone, run_study
from tests.cohorts.made import make


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of its own, for runs."""
    monkeypatch.setattr(study, "DATA", tmp_path / "data")
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    return tmp_path / "data"


def test_runs_are_named_for_preset_and_cohort():
    assert run_name("quick", None) == "quick"
    assert run_name("desk", Path("/clinic/my scans (2)")) == "desk-my-scans-2"


def test_a_spacing_is_one_number_or_one_an_axis():
    assert spacing("0.5") == (0.5,) and spacing("0.5, 0.5,0.7") == (0.5, 0.5, 0.7)
    for wrong in ("", "0", "-1", "nan", "inf", "0.5/0.7", "1,2,3,4", "0,5mm", "1,5", "1,,2"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is no spacing: give mm as [01].5"):
            spacing(wrong)


def told(call) -> int:
    return told_options(argparse.Namespace(call=call, again="python -m fhlib study --run x"))


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_is_told_in_one_line_that_says_how_to_continue(kind, capsys):
    number = getattr(signal, kind)
    if number == signal.SIGINT:
        signal.signal(number, signal.default_int_handler)  # a shell's background job ignores it
    before = signal.getsignal(number)
    assert told(lambda _: os.kill(os.getpid(), number) or time.sleep(5)) == 128 + number
    assert capsys.readouterr().err == f"\nstopped ({kind}); to continue: python -m fhlib study --run x\n"
    assert signal.getsignal(number) == before


def test_a_signal_while_a_module_is_imported_is_told_too(tmp_path):
    """A library would take what the handler raises for a fault of its own, or go on without a part."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException:\n    raise ImportError('none')\n"
    )
    code = "import argparse; from fhlib.cli.stopped import told; told(argparse.Namespace(call=lambda _: __import__('slow')))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 143
    assert done.stderr == "\nstopped (SIGTERM); to continue: type the same command again\n"


def test_a_full_disk_is_told_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "DATA", tmp_path / "data")

    def write(_):
        raise OSError(errno.ENOSPC, "No space left on device", "/clinic/Doe, Jane/x")

    assert told(write) == 1
    said = capsys.readouterr().err
    assert said.startswith("no space left on the disk of data/ (") and said.count("\n") == 1 and "Doe" not in said


def test_long_names_of_runs_are_cut_and_stay_apart():
    first, second = (run_name("quick", None, {"variants": ["USegNet-DS-HAS-Ctx"] * 9 + [k]}) for k in "ab")
    assert first != second and len(first) == len(second) == 80


def test_a_mistyped_preset_stops_at_once(tmp_path):
    process = run_study(copy_clone(tmp_path), "--preset", "quik")
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and "did you mean 'quick'?" in text
    assert not (tmp_path / "data" / "runs").exists()


STEMS = ("03_train", "05_accuracy", "12_realism", "15_train_more")


def test_a_notebook_is_found_by_number_or_name():
    assert [
        notebook_named(name, STEMS) for name in ("05", "5", "accuracy", "05_accuracy", "notebooks/05_accuracy.ipynb")
    ] == ["05_accuracy"] * 5
    with pytest.raises(ValueError, match=r"no notebook 'acuracy'; did you mean 'accuracy'\?; there are: 03_train, "):
        notebook_named("acuracy", STEMS)
    with pytest.raises(ValueError, match="no notebook '7'"):
        notebook_named("7", STEMS)


def test_a_notebook_that_needs_no_run_has_one_of_its_own(data, capsys):
    assert [own_run(NOTEBOOKS / f"{name}.ipynb") for name in ("15_growth", "16_longitudinal", "05_accuracy")] == [
        "growth",
        "growth",
        "",
    ]
    assert main(["notebook", "05"]) == 2
    assert "05_accuracy needs a run: name one that is there with --run" in capsys.readouterr().err
    assert main(["notebook", "15", "--run", "growht"]) == 2 and not (data / "runs" / "growht").exists()


def test_a_notebook_wants_a_run_that_is_there_and_parameters_that_it_has(data, capsys):
    open_study("quick", "smoke")
    before = sorted(data.rglob("*"))
    assert main(["notebook", "05", "--run", "quik"]) == 2
    assert "there is no run 'quik'; did you mean 'quick'?; there are: quick" in capsys.readouterr().err
    assert main(["notebook", "05", "--run", "quick", "--set", "preset=desk"]) == 2
    assert "'preset' is the run's own" in capsys.readouterr().err
    assert sorted(data.rglob("*")) == before
    assert main(["notebook", "03", "--run", "quick", "--set", "varient=USegNet-DS"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("03_train.ipynb has no parameter 'varient'; did you mean 'variant'?") and said.count("\n") == 1
    )
    assert not (data / "runs" / "quick" / "notebooks").exists()


def test_a_bare_run_name_that_is_nearly_another_starts_nothing(data, capsys):
    open_study("desk", "smoke")
    assert main(["study", "--run", "dask"]) == 2
    assert "there is no run 'dask'; did you mean 'desk'?; there are: desk" in capsys.readouterr().err
    assert [path.name for path in (data / "runs").iterdir()] == ["desk"]


LIGHT = """
import sys, time
from fhlib.__main__ import main
code = main({arguments!r})
assert "torch" not in sys.modules and "SimpleITK" not in sys.modules, "too much is imported before arguments are looked at"
print(code, time.process_time())
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment", "nowhere", "out"], "there is no 'nowhere': give a scan"),
        (["study", "--cohort", "nowhere"], "there is no cohort folder 'nowhere'"),
        (["study", "--preset", "quik"], "did you mean 'quick'?"),
        (["study", "--until", "02_prepar"], "did you mean '02_prepare'?"),
    ],
    ids=str,
)
def test_a_wrong_path_is_refused_before_anything_heavy_is_imported(arguments, words, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FHLIB_ROOT": str(tmp_path)}
    command = [sys.executable, "-c", LIGHT.format(arguments=arguments)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    code, seconds = done.stdout.split()
    assert code == "2" and float(seconds) < 2  # of the processor, alone 0.1 to 0.5
    assert not list(tmp_path.iterdir())


def test_a_dry_run_checks_the_cohort_and_makes_no_folder(data, tmp_path, capsys):
    folder = make(tmp_path / "mine")
    (folder / "labels" / "c1.nrrd").write_bytes(b"cut")
    assert main(["study", "--preset", "smoke", "--run", "mine", "--cohort", str(folder), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "cannot be used" in said and "c1: " in said and "Traceback" not in said
    assert not (data / "runs").exists()
