"""What fhlib sees to in the notebook that it runs in: parameters that are known, and errors that are a sentence.

papermill warns of a parameter that a notebook does not have, and then runs with the default. Here that is an error.
Outside a Jupyter kernel nothing happens.
"""

from __future__ import annotations

import ast
import difflib
import linecache
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PACKAGE = str(Path(__file__).resolve().parent)

INJECTED = "# Parameters\n"
"""How the cell begins that papermill puts after a notebook's own parameters."""

FIRST_PARAMETERS = {"run", "preset"}
"""Parameters of every notebook of fhlib. The cell that sets them is the one of parameters."""

DESIGNED = (ValueError, OSError, RuntimeError, KeyError)
"""Kinds of errors that fhlib raises with a sentence for the reader."""


def running_shell() -> Any:
    """The shell of the Jupyter kernel that this process is; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if hasattr(shell, "kernel") else None


def ready_notebook() -> None:
    """Have fhlib's errors shown as sentences, and refuse parameters that the notebook does not have (ValueError)."""
    shell = running_shell()
    if shell is None:
        return
    shell.set_custom_exc(DESIGNED, _show)
    require_known(shell.user_ns.get("In", []))


def require_known(cells: Sequence[str]) -> None:
    """Raise ValueError where papermill put in a name that the cell of parameters does not have.

    Args:
        cells: sources of the cells that have run, in order.
    """
    known: dict[str, None] = {}
    for source in cells:
        names = _assigned(source)
        if not source.startswith(INJECTED):
            known |= dict.fromkeys(names) if set(names) >= FIRST_PARAMETERS else {}
            continue
        for name in names if known else ():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"this notebook has no parameter {name!r}{meant}; it has: {', '.join(known)}")


def _assigned(source: str) -> list[str]:
    """Names that a cell gives values to; none for a cell that is no plain Python."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return []
    targets = [target for node in statements if isinstance(node, ast.Assign) for target in node.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def is_designed(error: BaseException, trace: TracebackType | None) -> bool:
    """Whether an error was raised by fhlib itself, with a sentence for the reader: its last line is a `raise` of the package."""
    if trace is None or not isinstance(error, DESIGNED):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    return file.startswith(PACKAGE) and linecache.getline(file, trace.tb_lineno).lstrip().startswith("raise ")


def _show(
    shell: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: int | None = None
) -> list[str]:
    """IPython's handler of errors: a designed one is its sentence, any other keeps its traceback."""
    if not is_designed(error, trace):
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return []
    sentence = str(error.args[0] if isinstance(error, KeyError) else error)  # a KeyError puts itself in quotes
    shell._showtraceback(kind, error, [sentence])
    return [sentence]
