"""`notebook`: run one of them in a run. `notebooks`: copy them out."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhlib.cli.arguments import fail, given_path


def add_notebook(commands: Any) -> None:
    """`notebook`."""
    notebook = commands.add_parser(
        "notebook",
        help="run one notebook in a run that is there: notebook 05 --run quick",
        description="Run one notebook; the executed copy lies with the run. A parameter that the notebook does not have is refused.",
    )
    notebook.add_argument("name", help="its number or name: 05, accuracy or 05_accuracy")
    notebook.add_argument(
        "--run", help="a run that is there; notebooks that need none, such as 15, have one of their own"
    )
    notebook.add_argument(
        "--set",
        dest="changes",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="parameters of the notebook's first code cell, such as variant=USegNet-DS level=1",
    )
    notebook.set_defaults(call=_notebook)


def add_notebooks(commands: Any) -> None:
    """`notebooks`."""
    notebooks = commands.add_parser(
        "notebooks", help="copy the notebooks that come with fhlib into a folder of your own"
    )
    notebooks.add_argument("folder", type=given_path, nargs="?", default=Path(), help="default: the working folder")
    notebooks.set_defaults(call=_notebooks)


def notebook_named(name: str, known: Sequence[str]) -> str:
    """The notebook that `05`, `5`, `accuracy` or `05_accuracy.ipynb` stands for. Raises ValueError where there is none."""
    from fhlib.presets import suggestion

    wanted = Path(name).name.removesuffix(".ipynb")
    number = f"{int(wanted):02d}" if re.fullmatch(r"[0-9]{1,2}", wanted) else wanted
    found = [stem for stem in known if stem == wanted or number in stem.split("_", 1)]
    if len(found) != 1:
        parts = {part: stem for stem in known for part in (stem, stem.split("_", 1)[-1])}
        raise ValueError(
            f"there is no notebook {name[:100]!r}{suggestion(wanted, parts)}; there are: {', '.join(known)}"
        )
    return found[0]


def own_run(notebook: Path) -> str:
    """The run that a notebook has of its own, since it needs no other; empty for most. It stands in the cell that opens the run."""
    found = re.search(r"usual=\\?[\"']([\w-]+)", notebook.read_text(encoding="utf-8"))
    return found[1] if found else ""


def _notebook(options: argparse.Namespace) -> int:
    from fhlib.files import NOTEBOOKS, safe_name, shown_folder
    from fhlib.presets import parse_changes

    try:
        name = notebook_named(options.name, sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb")))
        own = own_run(NOTEBOOKS / f"{name}.ipynb")
        run = options.run or own
        if not run:
            raise ValueError(f"{name} needs a run: name one that is there with --run")
        safe_name(run, "run")
        given = parse_changes(options.changes)
        if taken := {"run", "preset"} & set(given):
            raise ValueError(
                f"{sorted(taken)[0]!r} is the run's own: name the run with --run, and leave it out of --set"
            )

        from fhlib.study.run import open_study, reopen_study

        study = open_study(run, record=False) if run == own else reopen_study(run)
    except (ValueError, OSError) as error:
        return fail(error)
    from fhlib.workflow.execute import NotebookError, copy_name, execute_notebook
    from fhlib.workflow.run import only_start_of

    parameters = {"run": study.name, "preset": study.preset.name, **given}
    study.folder.mkdir(parents=True, exist_ok=True)
    copy = study.folder / "notebooks" / f"{copy_name(name, given)}.ipynb"
    try:
        with only_start_of(study.folder):
            execute_notebook(f"{name}.ipynb", copy, parameters)
    except NotebookError as error:
        return fail(error)
    print(f"executed copy: {shown_folder(copy.parent)}/{copy.name}")
    return 0


def _notebooks(options: argparse.Namespace) -> int:
    from fhlib.files import CLONE, DATA, NOTEBOOKS

    sources = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    try:
        taken = [path.name for path in sources if (options.folder / path.name).exists()]
        if taken:
            raise ValueError(f"{options.folder} holds {taken[0]} already: name another folder, or move yours away")
        options.folder.mkdir(parents=True, exist_ok=True)
        for path in sources:
            shutil.copyfile(path, options.folder / path.name)
    except OSError as error:
        return fail(f"cannot write notebooks to {str(options.folder)!r} ({error.strerror}): name another folder")
    except ValueError as error:
        return fail(error)
    place = options.folder.resolve()
    written = DATA if CLONE or os.environ.get("FHLIB_ROOT") else place / "data"
    print(f"{len(sources)} notebooks are in {place}: open them with `jupyter lab`. What they write goes to {written}")
    return 0
