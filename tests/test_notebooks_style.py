"""Committed notebooks: prose, parameters, calls and pictures; no outputs, no functions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from fhlib.fingerprints import UNCOUNTED, code_reached

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAMES = {
    *("00_start_here", "01_cohort", "02_prepare", "03_train", "04_predict", "05_accuracy", "06_agreement"),
    *("07_reproducibility", "08_attention", "09_claims", "10_segment", "11_benchmark", "12_realism", "13_ablation"),
    *("14_few_cases", "15_growth", "16_longitudinal"),
}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_of(path: Path) -> ast.Module:
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    lines = [line for source in cells for line in source.splitlines() if not line.lstrip().startswith("%")]
    return ast.parse("\n".join(lines))


def test_every_notebook_of_the_study_is_there():
    assert {path.stem for path in NOTEBOOKS} >= NAMES


@each_notebook
def test_carries_no_outputs(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells), (
        f"run: nbstripout notebooks/{path.name}"
    )


@each_notebook
def test_first_parameters_are_run_and_preset(path):
    tagged = [cell for cell in read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assigned = [node.targets[0].id for node in ast.parse(tagged[0].source).body if isinstance(node, ast.Assign)]
    assert assigned[:2] == ["run", "preset"]


@each_notebook
def test_holds_no_function_and_no_class(path):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    assert [node.name for node in ast.walk(code_of(path)) if isinstance(node, kinds)] == []


@each_notebook
def test_opens_with_its_question(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "?" in first.source


@each_notebook
def test_run_map_sees_every_import_from_fhlib(path):
    imports = [node for node in ast.walk(code_of(path)) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = [ast.unparse(node) for node in imports if "fhlib" in ast.unparse(node)]
    parameters = {f"from {module} import" for module in UNCOUNTED}  # whose values count instead
    seen = {line: set(code_reached(source=line)) - {"fhlib"} for line in ours if not line.startswith(tuple(parameters))}
    unseen = [line for line, modules in seen.items() if not modules]
    assert not unseen, f"a change of what these import would redo nothing; import from the module: {unseen}"


@each_notebook
def test_holds_no_absolute_or_outer_path_and_runs_no_notebook(path):
    code = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert re.findall(r"""['"](?:/|~/|\.\./|[A-Z]:\\)\w[^'"]*|%run|[\w-]+\.ipynb""", code) == []
