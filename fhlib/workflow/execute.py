"""Run one notebook in a process of its own: `python -m fhlib.workflow.execute 05_accuracy.ipynb executed.ipynb -p run quick`.

papermill does the running. Around it an unknown parameter is an error (papermill alone warns), and what the kernel prints is shown
while it prints it. There is either a whole executed copy or none, and paths of this machine are taken out of it.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# jsonschema, which nbformat imports, takes this where it is installed, and its grammar alone takes 2 s to compile.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat  # noqa: E402

from fhlib.files import NOTEBOOKS, ROOT, atomic_path  # noqa: E402
from fhlib.presets import suggestion  # noqa: E402
from fhlib.workflow.privacy import replace_texts, replacements  # noqa: E402

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(RuntimeError):
    """A notebook that cannot run, or whose run ended in an error; the message shows the cell's error."""


def execute_notebook(
    notebook: Path | str, output: Path | str, parameters: Mapping[str, Any], hidden_paths: Sequence[Path | str] = ()
) -> Path:
    """Run `notebook` with `parameters` and save the executed copy to `output`; returns `output`.

    The kernel is that of the running interpreter and works in the notebook's folder. The clone's, the home and the temporary folder are
    taken out of the saved text.

    Args:
        notebook: a source.
        output: the executed copy.
        parameters: for the notebook's `parameters` cell.
        hidden_paths: folders whose place the copy must not show.

    Raises NotebookError for an unknown parameter, and where a cell fails: `output` is then not there, and the notebook up to the error is
    kept beside it as `<stem>.failed.ipynb`.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    if not notebook.exists():
        raise NotebookError(f"there is no notebook {notebook}: the notebooks are in {NOTEBOOKS}")
    typed = check_parameters(notebook, parameters)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    for old in (failed, output):
        old.unlink(missing_ok=True)
    # the kernel works in the notebook's folder, and finds the root by itself no longer
    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "FHLIB_ROOT": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        running = Path(folder) / output.name
        try:
            papermill.execute_notebook(
                _read(notebook),
                running,
                typed,
                kernel_name="python3",
                progress_bar=False,
                request_save_on_cell_execute=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                cwd=notebook.parent,
                extra_arguments=["--log-level=50"],  # a kernel warns of local TCP at each start, and of its own end
            )
        except PapermillExecutionError as error:
            _save(running, failed, hidden_paths)
            trace = COLOUR.sub("", "\n".join(error.traceback))
            raise NotebookError(
                f"{notebook.name} failed in cell [{error.exec_count}]\n{trace}\nkept: {failed}"
            ) from None
        except RuntimeError as error:  # nbclient: the kernel died or did not start
            raise NotebookError(
                f"{notebook.name} ended without an answer ({error}): was there memory enough?"
            ) from error
        _save(running, output, hidden_paths)
    return output


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parameters` as the notebook's `parameters` cell types them: text becomes the type of the default.

    Raises NotebookError for a name that the cell does not have, and for text that is not of the default's type.
    """
    import papermill

    known = papermill.inspect_notebook(_read(notebook))
    typed = {}
    for name, value in parameters.items():
        if name not in known:
            raise NotebookError(
                f"{notebook.name} has no parameter {name!r}{suggestion(name, known)}; "
                f"it has: {', '.join(known) or 'none'}"
            )
        typed[name] = _as_type_of(known[name]["default"], value, f"parameter {name!r} of {notebook.name}")
    return typed


def scrub_notebook(notebook: nbformat.NotebookNode, hidden_paths: Sequence[Path | str] = ()) -> nbformat.NotebookNode:
    """Take paths of this machine and progress bars out of an executed notebook, in place; returns it.

    Text anywhere in it (sources, outputs, metadata; not pictures) gets `.` for the clone, `~` for the home folder and a
    folder's last name for each of `hidden_paths`. Lines of standard error that carriage returns overwrote are dropped.
    """
    for key in ("input_path", "output_path", "environment_variables"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    hidden = replacements(hidden_paths)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _without_progress(cell.outputs)
    return replace_texts(notebook, hidden)


def _read(notebook: Path) -> nbformat.NotebookNode:
    """The notebook, with the running interpreter's kernel whatever kernel it was last saved with."""
    content = nbformat.read(notebook, as_version=4)
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content.metadata["language_info"] = {"name": "python"}
    return content


def _save(running: Path, output: Path, hidden_paths: Sequence[Path | str]) -> None:
    executed = scrub_notebook(nbformat.read(running, as_version=4), hidden_paths)
    with atomic_path(output) as temporary:
        nbformat.write(executed, temporary)


def _as_type_of(default: str, value: Any, what: str) -> Any:
    try:
        example = ast.literal_eval(default)
    except (ValueError, SyntaxError):
        return value
    if not isinstance(value, str) or example is None or isinstance(example, str):
        return value
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        parsed = value
    whole_for_real = isinstance(example, float) and type(parsed) is int
    if type(parsed) is not type(example) and not whole_for_real:
        raise NotebookError(f"{what} is {value!r} and must be a {type(example).__name__}, such as {default}")
    return parsed


def _without_progress(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join neighbouring pieces of one stream, then drop overwritten lines: a bar may reach us in several pieces."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = "\n".join(line for line in output.text.split("\n") if "\r" not in line)
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def end_with_parent() -> None:
    """End this process when the one that started it has gone, so that a killed study leaves no notebook running."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fhlib.workflow.execute", description="Run one notebook and save an executed copy."
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument(
        "--hide", action="append", default=[], metavar="PATH", help="a folder whose place the copy must not show"
    )
    parser.add_argument(
        "--end-with-parent", action="store_true", help="stop when the process that started this one has gone"
    )
    options = parser.parse_args(arguments)
    if options.end_with_parent:
        end_with_parent()
    try:
        execute_notebook(options.notebook, options.output, dict(options.parameter), options.hide)
    except NotebookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
