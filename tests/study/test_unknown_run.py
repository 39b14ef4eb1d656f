"""A run that is not there is refused in one sentence, whichever notebook or command names it, and no folder is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nbformat
import pytest

from fhlib import files
from fhlib.__main__ import main
from fhlib.files import NOTEBOOKS
from fhlib.study import cohort as cohort_module
from fhlib.study import run as run_module
from fhlib.study.run import StudyError, open_study
from tests.clones import REPOSITORY

STEMS = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
STARTS_RUNS = "01_cohort"
ABSENT_BY_DEFAULT = ("00_start_here", "01_cohort", "11_benchmark", "12_realism", "13_ablation")


@pytest.fixture
def opened(data, monkeypatch):
    """Execute a notebook's parameters, with some of them changed, and the cell that opens the run; its names."""
    monkeypatch.setattr(run_module, "running_shell", object)  # as in a kernel

    def execute(stem: str, **given: object) -> dict[str, object]:
        cells = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells
        parameters, opening = [cell.source for cell in cells if cell.cell_type == "code"][:2]
        names: dict[str, object] = {}
        exec(parameters, names)
        assert given.keys() <= names.keys()
        names |= given
        exec(opening, names)
        return names

    return execute


@pytest.fixture
def quick(data, monkeypatch):
    """The folder of runs, with the only one that there is."""
    monkeypatch.setattr(files, "DATA", data)
    open_study("quick", "quick", record=True)
    return data / "runs"


def only_run(runs):
    return [path.name for path in runs.iterdir()] == ["quick"]


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_refuses_a_mistyped_run(stem, quick, opened):
    with pytest.raises(StudyError, match=r"^there is no run 'qick'; did you mean 'quick'\?; there are: quick; [^\n]*$"):
        opened(stem, run="qick")
    assert only_run(quick)


@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem != STARTS_RUNS])
def test_a_notebook_refuses_a_run_that_is_not_there_however_it_is_named(stem, quick, opened):
    with pytest.raises(StudyError, match=r"^there is no run 'clinic-b'; there are: quick; `python -m fhlib study`"):
        opened(stem, run="clinic-b")
    assert only_run(quick)


@pytest.mark.parametrize(
    ("stem", "given"),
    [
        ("12_realism", {"trained_run": "qick"}),
        ("13_ablation", {"more_runs": ["qick"]}),
        ("13_ablation", {"trials": ["qick"]}),
    ],
    ids=str,
)
def test_other_runs_that_a_notebook_reads_must_be_there_too(stem, given, quick, opened):
    named = {"run": "quick", "preset": "quick"} if stem == "12_realism" else {}
    with pytest.raises(StudyError, match=r"^there is no run '(qick|desk)'"):
        opened(stem, **named, **given)
    assert only_run(quick)


@pytest.mark.parametrize("stem", ABSENT_BY_DEFAULT)
def test_where_nothing_was_run_a_notebook_opens_with_its_own_default(stem, data, opened):
    opened(stem)
    assert not data.exists()


def test_ones_own_files_are_segmented_without_any_run(data, opened, tmp_path):
    (tmp_path / "mine.nrrd").touch()
    given = {"volumes": str(tmp_path / "mine.nrrd"), "weights": "head", "skull_weights": "skull"}
    names = opened("10_segment", **given)
    assert names["segmentor"].outline == "skin" and names["skull"].outline == "skull"
    assert [source.name for source in names["sources"]] == ["mine.nrrd"]
    assert not data.exists()


def test_in_a_kernel_the_sentence_is_all_that_is_shown(tmp_path):
    record = tmp_path / "data" / "runs" / "quick" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"preset": "quick", "cohort": ""}), encoding="utf-8")
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / "11_benchmark.ipynb"), str(tmp_path / "out.ipynb")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "FHLIB_ROOT": str(tmp_path)}
    done = subprocess.run(
        [*command, "-k", "python3", "-p", "run", "qick", "-p", "scale", "0.05"],
        env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    shown = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    errors = [out for cell in shown.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert done.returncode == 1 and [error.traceback for error in errors] == [
        ["there is no run 'qick'; did you mean 'quick'?; there are: quick; `python -m fhlib study` starts one"]
    ]
    assert only_run(tmp_path / "data" / "runs")


@pytest.mark.parametrize(
    "command",
    [
        *(["notebook", stem] for stem in STEMS),
        ["study"],
        ["train", "--variant", "USegNet-DS"],
        ["report"],
        ["publish"],
        ["export", "--variant", "USegNet-DS", "--name", "mine"],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_a_command_refuses_a_mistyped_run(command, quick, capsys):
    assert main([*command, "--run", "qick"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("there is no run 'qick'; did you mean 'quick'?; there are: quick; ") and said.count("\n") == 1
    )
    assert only_run(quick)


def test_a_cohort_to_hand_on_may_be_a_run_and_a_mistyped_one_is_told(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cohort_module, "DATA", quick.parent)
    assert main(["cohort", "export", "qick", str(tmp_path / "out"), "--to", "nnunet"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("nor a cohort in data/cohorts/; did you mean 'quick'?; there are: quick\n")
    assert only_run(quick) and not (tmp_path / "out").exists()
