"""Run one notebook in a process of its own: `python -m fhlib.workflow.execute 05_accuracy.ipynb executed.ipynb -p run quick`.

papermill does the running. Around it an unknown parameter is an error (papermill alone warns), and what the kernel prints is shown
while it prints it. There is either a whole executed copy or none, and paths of this machine are taken out of it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
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
import psutil  # noqa: E402
from nbformat import NotebookNode  # noqa: E402

from fhlib.files import (  # noqa: E402
    DATA,
    HIDDEN,
    NO_PROGRESS,
    NOTEBOOKS,
    ROOT,
    DiskFullError,
    atomic_path,
    disk_full,
    read_json,
    scrubber,
    shown_folder,
)
from fhlib.presets import suggestion  # noqa: E402
from fhlib.privacy import Scrubber, is_path  # noqa: E402
from fhlib.variants import VARIANTS  # noqa: E402

COPIES = {"03_train": ("variant", "level", "seed"), "04_predict": ("variant", "seed"), "05_accuracy": ("seed",)}
"""Notebooks that run once for each of these parameters, which the executed copy is named for."""

COPY_PART = {"variant": "-{}", "level": "-level{}", "seed": "_seed{}"}
"""How a copy's name goes on for each of them."""

STARTER = "FHLIB_STARTER"
"""Environment variable: the process of the study, and its machine."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(RuntimeError):
    """A notebook that cannot run, or whose run ended in an error; the message shows the cell's error."""


def execute_notebook(
    notebook: Path | str,
    output: Path | str,
    parameters: Mapping[str, Any],
    hidden_paths: Sequence[Path | str] = (),
    quiet: bool = False,
) -> Path:
    """Run `notebook` with `parameters` and save the executed copy to `output`; returns `output`.

    The kernel is that of the running interpreter and works in the notebook's folder. Paths of this machine are taken out of the saved
    text: the clone's, the cohort's of the run, those among the parameters, and any other.

    Args:
        notebook: a source, or the name of one that comes with fhlib.
        output: the executed copy.
        parameters: for the notebook's `parameters` cell.
        hidden_paths: more files and folders that a user brought.
        quiet: whether what the notebook prints goes to its copy alone.

    Raises NotebookError for an unknown parameter, and where a cell fails: `output` is then not there, and the notebook up to the error is
    kept beside it as `<stem>.failed.ipynb`. Raises DiskFullError where that is why.
    """
    notebook, output = Path(notebook), Path(output).resolve()
    if not notebook.exists() and notebook.name == str(notebook):
        notebook = NOTEBOOKS / notebook
    notebook = notebook.resolve()
    if not notebook.exists():
        known = sorted(path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
        raise NotebookError(
            f"there is no notebook {notebook.name!r}{suggestion(notebook.name, known)}; there are: {', '.join(known)}"
        )
    typed = check_parameters(notebook, parameters)
    inputs = [str(path) for path in (*hidden_paths, *_cohort_of(typed.get("run")), *filter(is_path, typed.values()))]
    hide = scrubber(inputs)
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    for old in (failed, output):
        old.unlink(missing_ok=True)
    # the kernel works in the notebook's folder, and finds the root by itself no longer
    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "FHLIB_ROOT": str(ROOT), HIDDEN: json.dumps(inputs)}
    if quiet:
        os.environ[NO_PROGRESS] = "1"
    try:
        with tempfile.TemporaryDirectory() as folder:
            running = Path(folder) / output.name
            _run(notebook, running, typed, failed, hide, quiet)
            _save(running, output, hide)
    except (OSError, RuntimeError) as error:
        if isinstance(error, NotebookError):
            raise
        for place in (output.parent, Path(tempfile.gettempdir())):
            if full := disk_full(error, place):
                raise full from error
        raise
    return output


def copy_name(notebook: str, parameters: Mapping[str, Any]) -> str:
    """Name of a notebook's executed copy, without suffix: `03_train-USegNet-DS-level1`, of a further seed `..._seed1`."""
    named = [name for name in COPIES.get(notebook, ()) if parameters.get(name) is not None]
    return notebook + "".join(COPY_PART[name].format(parameters[name]) for name in named)


def _run(
    notebook: Path, running: Path, parameters: Mapping[str, Any], failed: Path, hide: Scrubber, quiet: bool
) -> None:
    """Run a notebook into `running`, or raise and keep what there is in `failed`."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            _read(notebook),
            running,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            request_save_on_cell_execute=False,
            stdout_file=_Waits() if quiet else sys.stdout,
            stderr_file=None if quiet else sys.stderr,
            cwd=notebook.parent,
            # a kernel warns of local TCP at each start, and of its own end; its history would be a file beside the run's
            extra_arguments=["--log-level=50", "--HistoryManager.enabled=False"],
        )
    except PapermillExecutionError as error:
        if full := disk_full(f"{error.ename}: {error.evalue}", failed.parent):
            if error.ename == type(full).__name__:
                full = DiskFullError(error.evalue)
            raise full from None
        _save(running, failed, hide)
        raise NotebookError(_told(notebook, error, failed, hide)) from None
    except RuntimeError as error:  # nbclient: the kernel died or did not start
        raise NotebookError(f"{notebook.name} ended without an answer ({error}): was there memory enough?") from error


class _Waits:
    """Of what a notebook prints, what it waits for: all that a reader of a study's log needs of it."""

    def write(self, text: str) -> None:
        if "waiting for it" in text:
            sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


def _told(notebook: Path, error: Any, failed: Path, hide: Scrubber) -> str:
    """What a cell's error says: fhlib's own ones are a sentence (see `fhlib.kernel`), others have their traceback."""
    trace = hide.text(COLOUR.sub("", "\n".join(error.traceback)))
    if trace == hide.text(error.evalue):
        return f"{notebook.stem}: {trace}"
    kept = f"{shown_folder(failed.parent)}/{failed.name}"
    return f"{notebook.name} failed in cell [{error.exec_count}]\n{trace}\nkept: {kept}"


def _cohort_of(run: Any) -> list[str]:
    """The folder of scans that a run was started with, where there is one."""
    record = DATA / "runs" / str(run or "") / "run.json"
    cohort = str(read_json(record).get("cohort") or "") if record.is_file() else ""
    return [cohort] if cohort else []


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parameters` as the notebook's `parameters` cell types them: text becomes the type of the default.

    Raises NotebookError for a name that the cell does not have, for text that is not of the default's type, and for an unknown variant.
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
    if (variant := typed.get("variant", "")) and variant not in VARIANTS:
        raise NotebookError(
            f"variant {variant!r} is not known{suggestion(variant, VARIANTS)}; known: {', '.join(VARIANTS)}"
        )
    return typed


def scrub_notebook(notebook: NotebookNode, hide: Scrubber) -> NotebookNode:
    """An executed notebook without paths of this machine and progress bars.

    Paths leave any text in it: sources, outputs, metadata; not pictures. Lines of standard error that carriage returns overwrote are
    dropped.
    """
    for key in ("input_path", "output_path", "environment_variables"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _without_progress(cell.outputs)
    return hide.content(notebook)


def _read(notebook: Path) -> NotebookNode:
    """The notebook, with the running interpreter's kernel whatever kernel it was last saved with."""
    content = nbformat.read(notebook, as_version=4)
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content.metadata["language_info"] = {"name": "python"}
    return content


def _save(running: Path, output: Path, hide: Scrubber) -> None:
    executed = scrub_notebook(nbformat.read(running, as_version=4), hide)
    with atomic_path(output) as temporary:
        nbformat.write(executed, temporary)


def _as_type_of(default: str, value: Any, what: str) -> Any:
    try:
        example = ast.literal_eval(default)
    except (ValueError, SyntaxError):
        return value
    if not isinstance(value, str) or isinstance(example, str):
        return value
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        parsed = value
    if example is None:
        return parsed
    whole_for_real = isinstance(example, float) and type(parsed) is int
    if type(parsed) is not type(example) and not whole_for_real:
        raise NotebookError(f"{what} is {value!r} and must be a {type(example).__name__}, such as {default}")
    return parsed


def _without_progress(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream, then drop overwritten lines: a bar may reach us in several pieces."""
    kept: list[NotebookNode] = []
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
    """End this process when the one that started it has gone, so that a killed study leaves no notebook running.

    The study may have been killed before this process came so far: STARTER names it.
    """
    parent = os.getppid()
    process, _, machine = os.environ.get(STARTER, "").partition("@")
    if process and machine == platform.node() and not psutil.pid_exists(int(process)):
        os._exit(1)

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
        "--hide",
        action="append",
        default=[],
        metavar="PATH",
        help="a file or folder whose place the copy must not show, beside the cohort and the paths among the parameters",
    )
    parser.add_argument(
        "--end-with-parent", action="store_true", help="stop when the process that started this one has gone"
    )
    options = parser.parse_args(arguments)
    if options.end_with_parent:
        end_with_parent()
    quiet = options.end_with_parent and not sys.stdout.isatty()  # a study in a file has a line a step
    try:
        execute_notebook(options.notebook, options.output, dict(options.parameter), options.hide, quiet)
    except (NotebookError, DiskFullError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # the study that started this one says what is to be said
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
