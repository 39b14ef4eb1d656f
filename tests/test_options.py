"""Options that cannot be met: one line that names the value, exit code 2, and nothing written."""

from __future__ import annotations

import json

import pytest

from fhlib.__main__ import main
from fhlib.study import run as study
from fhlib.workflow import publish

NAMES = ("", "nope", "smok", "../x", "/etc", "a b", ".", "..", "~", "x/y", "run\n1", "é", "x" * 300, "*", "%s")
RUNS = [
    *(["export", "--variant=USegNet-DS", "--name=x", f"--run={name}"] for name in NAMES),
    *(["train", "--variant=USegNet-DS", f"--run={name}"] for name in NAMES),
    *(["report", f"--run={name}"] for name in NAMES),
    *(["publish", f"--run={name}"] for name in NAMES),
]
ODD = [
    # (arguments, words of the message)
    *((["export", "--run=smoke", "--variant=USegNet-DS", f"--name={name}"], "name ") for name in ("", "../x", "/etc", "a b", ".")),
    *((["export", "--run=smoke", "--name=x", f"--variant={name}"], "cannot be trained") for name in ("", "../x", "USegNet-DSS")),
    *((["train", "--run=smoke", f"--variant={name}"], "cannot be trained") for name in ("", "../x", "usegnet")),
    (["train", "--run=smoke", "--variant=USegNet-DS"], "no prepared cases yet: run 02_prepare first"),
    (["export", "--run=smoke", "--variant=USegNet-DS", "--name=x"], "run 01_cohort first"),
    (["report", "--run=smoke"], "has no executed notebooks"),
    (["report", "--run=smoke", "nope.ipynb"], "'nope.ipynb' is no executed notebook"),
    (["report", "--run=smoke", ".."], "is no executed notebook"),
    (["report", "--run=smoke", "broken.ipynb"], "Notebook does not appear to be JSON"),
    (["publish", "--run=smoke"], "is not finished"),
    (["notebooks", "file"], "cannot write notebooks to 'file' (File exists)"),
    (["notebooks", "file/below"], "(Not a directory): name another folder"),
    (["notebooks", "x" * 300], "(File name too long)"),
    (["notebooks", "taken"], "taken holds 00_start_here.ipynb already"),
    (["segment", "nope", "out"], "there is no 'nope'"),
    (["segment", "empty", "out"], "there is no volume in 'empty'"),
    (["segment", "../x", "out"], "there is no 'x'"),
    (["segment", "scans", "file"], "cannot write results to 'file' (File exists)"),
    (["segment", "scans", "file/below"], "cannot write results to 'below' (Not a directory)"),
    (["segment", "scans", "x" * 300], "(File name too long)"),
    (["segment", "scans", "out", "--weights=heda"], "did you mean 'head'?"),
    (["segment", "scans", "out", "--weights="], "give a folder, or one of"),
    (["segment", "scans", "out", "--weights=../x"], "weights 'x' are not there"),
    (["segment", "scans", "out", "--weights=file/below"], "weights 'below' are not there"),
    (["segment", "scans", "out", "--weights=scans/"], "there are no weights and no run 'scans'"),
    (["segment", "scans", "out", "--skull-weights=skul"], "did you mean 'skull'?"),
    (["segment", "scans", "out", "--ga-weeks=nan"], "give a positive number of weeks"),
    (["segment", "scans", "out", "--ga-weeks=-1"], "give a positive number of weeks"),
]  # fmt: skip
MALFORMED = [
    ([], "usage"),
    (["bogus"], "invalid choice"),
    (["segment"], "required: volumes, results"),
    (["segment", "", "out"], "the path is empty"),
    (["segment", "scans", " "], "the path is empty"),
    (["segment", "~nobody-of-that-name/x", "out"], "no such user's home folder"),
    (["segment", "scans", "out", "--ga-weeks=26,5"], "give weeks as 26.5, or weeks and days as 26+3"),
    (["segment", "scans", "out", "--ga-weeks=26+7"], "'26+7' is no age"),
    (["segment", "my", "scans", "out"], "names that hold blanks need quotation marks"),
    (["segment", "scans", "out", "--ga-weeks="], "give weeks as 26.5"),
    (["segment", "scans", "out", "--spacing-mm=0"], "is no spacing"),
    (["segment", "scans", "out", "--wieghts=head"], "unrecognized arguments"),
    (["notebooks", ""], "the path is empty"),
    (["train", "--run=x"], "required: --variant"),
    (["export", "--run=x"], "required: --name"),
    (["report"], "required: --run"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a run that was only started, and files that stand in the way."""
    (tmp_path / "runs" / "smoke").mkdir(parents=True)
    (tmp_path / "runs" / "smoke" / "run.json").write_text(json.dumps({"preset": "smoke", "cohort": ""}))
    for name in ("empty", "scans", "taken"):
        (tmp_path / name).mkdir()
    for name in ("file", "broken.ipynb", "scans/a.nrrd", "taken/00_start_here.ipynb"):
        (tmp_path / name).write_text("no such thing")
    monkeypatch.setattr(study, "DATA", tmp_path)
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entries(folder):
    return sorted(path for path in folder.rglob("*") if path.name != "out")


@pytest.mark.parametrize("arguments", RUNS, ids=lambda arguments: " ".join(arguments)[:60])
def test_runs_that_are_not_there_are_told_and_not_started(place, capsys, arguments):
    before = entries(place)
    assert main(arguments) == 2
    said, name = capsys.readouterr().err, arguments[-1].removeprefix("--run=")
    assert repr(name)[:11] in said and len(said.splitlines()) == 1
    reasons = ("did you mean 'smoke'?",) if name == "smok" else ("must begin with", "there is no run", "at most 200")
    assert any(reason in said for reason in reasons)
    assert entries(place) == before


@pytest.mark.parametrize(("arguments", "words"), ODD, ids=str)
def test_what_cannot_be_met_is_told_in_a_line(place, capsys, arguments, words):
    before = entries(place)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err and said.out == "" and len(said.err.splitlines()) == 1
    assert entries(place) == before


@pytest.mark.parametrize(("arguments", "words"), MALFORMED, ids=str)
def test_malformed_commands_are_told(place, capsys, arguments, words):
    before = entries(place)
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    assert code == 2 and words in said.err + said.out
    assert entries(place) == before


def test_many_options_are_tried():
    assert len(RUNS) + len(ODD) + len(MALFORMED) >= 100
