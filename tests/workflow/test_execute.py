"""Executed copies of notebooks: whole or absent, typed parameters, nothing of this machine in them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fhlib.files import NO_PROGRESS, NOTEBOOKS, scrubber
from fhlib.privacy import REMOVED
from fhlib.workflow.execute import (
    STARTER,
    NotebookError,
    check_parameters,
    copy_name,
    execute_notebook,
    main,
    scrub_notebook,
)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """Two parameters, a text one and a whole number; prints their product, a planted path, and a progress bar."""
    cells = [
        new_markdown_cell("# What is repeated?"),
        new_code_cell('run = "ab"\nlevel = 2', metadata={"tags": ["parameters"]}),
        new_code_cell(
            "import sys\nfrom pathlib import Path\n"
            "print(run * level)\n"
            "print(Path.home() / 'secret_name' / 'scan.nrrd')\n"
            "for step in range(3):\n"
            "    print(f'\\rtraining {step}', end='', file=sys.stderr, flush=True)\n"
            "print(file=sys.stderr)\nprint('kept warning', file=sys.stderr)"
        ),
        new_code_cell("assert level < 9, f'level is {level}'"),
    ]
    path = tmp_path / "folder with space" / "tiny.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=cells), path)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_parameters_reach_the_kernel_and_paths_and_bars_do_not_reach_the_copy(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir("/")
    output = execute_notebook(notebook, tmp_path / "out" / "tiny.ipynb", {"run": "xy", "level": "3"})
    assert "xyxyxy" in printed(output)
    text = output.read_text(encoding="utf-8")
    assert f"{Path.home()}/" not in text and REMOVED in printed(output)
    assert "input_path" not in text and str(tmp_path) not in text
    assert "training" not in printed(output) and "kept warning" in printed(output)
    live = capsys.readouterr()
    assert "xyxyxy" in live.out and "\rtraining 2" in live.err
    assert [path.name for path in output.parent.iterdir()] == ["tiny.ipynb"]


def test_unknown_and_mistyped_parameters_stop_before_anything_runs(notebook, tmp_path):
    with pytest.raises(NotebookError, match=r"no parameter 'levl'; did you mean 'level'\?; it has: run, level"):
        execute_notebook(notebook, tmp_path / "out.ipynb", {"levl": 1})
    with pytest.raises(NotebookError, match=r"parameter 'level' of tiny.ipynb is 'two' and must be a int, such as 2"):
        execute_notebook(notebook, tmp_path / "out.ipynb", {"level": "two"})
    assert not (tmp_path / "out.ipynb").exists()


def test_a_variant_that_is_not_known_stops_before_anything_runs(notebook):
    cells = nbformat.read(notebook, as_version=4)
    cells.cells[1].source += '\nvariant = "USegNet-DS"'
    nbformat.write(cells, notebook)
    with pytest.raises(NotebookError, match="variant 'USegNet-SD' is not known; did you mean 'USegNet-DS'"):
        check_parameters(notebook, {"variant": "USegNet-SD"})


def test_text_stays_text_where_it_looks_like_a_number(notebook):
    assert check_parameters(notebook, {"run": "2020", "level": "4"}) == {"run": "2020", "level": 4}


def test_a_failing_cell_leaves_no_output_and_keeps_what_ran(notebook, tmp_path, capsys):
    output = tmp_path / "tiny.ipynb"
    output.write_text("an older copy")
    code = main([str(notebook), str(output), "-p", "level", "9"])
    said = capsys.readouterr().err
    assert code == 1 and "AssertionError: level is 9" in said
    assert str(tmp_path) not in said and said.endswith("/tiny.failed.ipynb\n")
    assert not output.exists()
    failed = tmp_path / "tiny.failed.ipynb"
    assert "abab" in printed(failed) and f"{Path.home()}/" not in failed.read_text(encoding="utf-8")
    execute_notebook(notebook, output, {})
    assert output.exists() and not failed.exists()


def test_a_quiet_run_prints_only_what_it_waits_for(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(NO_PROGRESS, raising=False)
    cell = "print('width 4')\nprint('another run is making the scans: waiting for it')\nimport os; print(os.environ['FHLIB_NO_PROGRESS'])"
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), tmp_path / "talks.ipynb")
    copy = execute_notebook(tmp_path / "talks.ipynb", tmp_path / "out" / "talks.ipynb", {}, quiet=True)
    monkeypatch.delenv(NO_PROGRESS)
    assert "waiting for it" in capsys.readouterr().out and "width 4" in printed(copy)


def test_copies_are_named_for_what_they_were_made_of():
    assert copy_name("03_train", {"variant": "USegNet-DS", "level": 2}) == "03_train-USegNet-DS-level2"
    assert copy_name("05_accuracy", {"variant": "x", "seed": None}) == "05_accuracy"
    assert copy_name("05_accuracy", {"seed": 2}) == "05_accuracy_seed2"
    assert copy_name("03_train", {"level": 1, "seed": 2, "variant": "SAM-1"}) == "03_train-SAM-1-level1_seed2"
    assert check_parameters(NOTEBOOKS / "05_accuracy.ipynb", {"seed": "2"}) == {"seed": 2}


def test_scrub_hides_named_folders_in_any_text_but_leaves_pictures():
    html = {"text/html": "<p>/clinic/Jane_Doe/scans/1.nrrd</p>", "image/png": "/clinic/Jane_Doe"}
    cell = new_code_cell("folder = '/clinic/Jane_Doe/scans'")
    cell.outputs = [nbformat.v4.new_output("display_data", data=html)]
    cell.outputs.append(
        nbformat.v4.new_output("display_data", data={"application/json": {"path": ["/clinic/Jane_Doe/scans"]}})
    )
    scrubbed = scrub_notebook(new_notebook(cells=[cell]), scrubber(["/clinic/Jane_Doe/scans"])).cells[0]
    assert scrubbed.source == "folder = 'scans'"
    assert scrubbed.outputs[0].data == {"text/html": "<p>scans/1.nrrd</p>", "image/png": "/clinic/Jane_Doe"}
    assert json.dumps(scrubbed.outputs[1].data) == '{"application/json": {"path": ["scans"]}}'


def test_scrub_is_quick_on_the_megabytes_that_widgets_carry():
    cell = new_code_cell("", outputs=[nbformat.v4.new_output("stream", name="stderr", text="x" * 3_000_000)])
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": "QUJD/ab+" * 500_000}})
    start = time.monotonic()
    scrub_notebook(notebook, scrubber())
    assert time.monotonic() - start < 3
    warned = new_code_cell(
        "", outputs=[nbformat.v4.new_output("stream", name="stderr", text="/var/t/ipykernel_7/123.py:2: Warning\n")]
    )
    assert scrub_notebook(new_notebook(cells=[warned]), scrubber()).cells[0].outputs[0].text == "cell:2: Warning\n"


def test_a_grammar_that_takes_seconds_to_compile_is_not_loaded():
    asked = "import sys, fhlib.workflow.execute; print(sys.modules['rfc3987_syntax'])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize(("machine", "ends"), [(platform.node(), True), ("another", False)])
def test_a_notebook_whose_study_was_killed_before_it_looked_ends_at_once(machine, ends):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = "from fhlib.workflow.execute import end_with_parent; end_with_parent(); print('goes on')"
    environment = {**os.environ, STARTER: f"{gone.pid}@{machine}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == ((1, "") if ends else (0, "goes on\n"))
