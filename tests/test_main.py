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
from fhlib.__main__ import _told, run_name, spacing
from tests.clones import copy_clone, run_study


def test_runs_are_named_for_preset_and_cohort():
    assert run_name("quick", None) == "quick"
    assert run_name("desk", Path("/clinic/my scans (2)")) == "desk-my-scans-2"


def test_a_spacing_is_one_number_or_one_an_axis():
    assert spacing("0.5") == (0.5,) and spacing("0.5, 0.5,0.7") == (0.5, 0.5, 0.7)
    for wrong in ("", "0", "-1", "nan", "inf", "0.5/0.7", "1,2,3,4", "0,5mm", "1,5", "1,,2"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is no spacing: give mm as [01].5"):
            spacing(wrong)


def told(call) -> int:
    return _told(argparse.Namespace(call=call, again="python -m fhlib study --run x"))


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
    code = "import argparse; from fhlib.__main__ import _told; _told(argparse.Namespace(call=lambda _: __import__('slow')))"
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
