"""What notebooks show of errors, and which parameters they refuse."""

from __future__ import annotations

import sys

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from fhlib.kernel import is_designed, ready_notebook, require_known, running_shell
from fhlib.presets import PresetError, load_preset

OWN = 'run = "quick"\npreset = "quick"\nlevel = 1'


def test_outside_a_kernel_nothing_happens():
    assert running_shell() is None
    hook = sys.excepthook
    ready_notebook()
    assert sys.excepthook is hook


def test_a_parameter_that_the_notebook_does_not_have_is_refused():
    require_known(["", OWN, '# Parameters\nrun = "mine"\nlevel = 2\n', "%matplotlib inline"])
    with pytest.raises(ValueError, match=r"no parameter 'rum'; did you mean 'run'\?; it has: run, preset, level"):
        require_known(["", OWN, '# Parameters\nrum = "quick"\n'])
    require_known(["# Parameters\nrum = 1\n", OWN])  # a user's own cell, before any parameters


def test_errors_of_the_package_are_told_from_others():
    with pytest.raises(PresetError) as own:
        load_preset("quik")
    assert is_designed(own.value, own.value.__traceback__)
    with pytest.raises(ValueError) as foreign:
        int("x")
    assert not is_designed(foreign.value, foreign.value.__traceback__)
    assert not is_designed(TypeError("x"), own.value.__traceback__)


@pytest.fixture
def run_cells(tmp_path):
    """Run cells after the one of parameters with papermill itself; the error of the last."""

    def run(parameters, *cells):
        first = new_code_cell(OWN, metadata={"tags": ["parameters"]})
        notebook = new_notebook(cells=[first, *map(new_code_cell, cells)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, tmp_path / "in.ipynb")
        with pytest.raises(PapermillExecutionError) as error:
            papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", parameters, progress_bar=False)
        return error.value

    return run


READY = f"import sys; sys.path[:0] = {sys.path!r}\nfrom fhlib.kernel import ready_notebook\n"


def test_papermill_alone_does_not_run_the_default_run(run_cells):
    error = run_cells({"rum": "quick"}, READY + "ready_notebook()\nprint('ran')")
    assert error.evalue.startswith("this notebook has no parameter 'rum'; did you mean 'run'?")
    assert error.traceback == [error.evalue]  # the sentence alone


def test_in_a_notebook_a_designed_error_is_its_sentence_and_a_fault_keeps_its_traceback(run_cells):
    error = run_cells({}, READY + "ready_notebook()", "from fhlib.presets import load_preset\nload_preset('quik')")
    assert error.traceback == [error.evalue] and "did you mean 'quick'?" in error.evalue
    cohort = "from pathlib import Path\nimport pandas as pd\nfrom fhlib.cohorts.manifest import Cohort\n"
    cohort += "Cohort('made', Path('made'), pd.DataFrame({'case': ['s1-front']})).row('s1-fron')"
    error = run_cells({}, READY + "ready_notebook()", cohort)
    assert error.traceback == ["made has no case 's1-fron': did you mean 's1-front'?"]
    error = run_cells({}, READY + "ready_notebook()", "int('x')")
    assert "invalid literal" in error.evalue and len(error.traceback) > 1
