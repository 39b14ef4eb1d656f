"""Open, run and save notebooks in JupyterLab through a browser's page."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Page

ARTIFACTS = Path(__file__).parents[1] / "artifacts"


def set_parameters(path: Path, **given: object) -> None:
    """Write values into the cell of a notebook that papermill's would replace; names that it has not are left out."""
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in given.items():
        cell.source = re.sub(rf"^{name} = .*", lambda _, n=name, v=value: f"{n} = {v!r}", cell.source, flags=re.M)
    nbformat.write(notebook, path)


def run_all(page: Page, address: str, name: str) -> None:
    """Open a notebook in JupyterLab and have it run all its cells."""
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset", timeout=120_000)
    page.get_by_text("| Idle").wait_for(timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def on_disk(path: Path) -> nbformat.NotebookNode | None:
    """The notebook's file; None while it is being written."""
    text = path.read_text(encoding="utf-8")
    return nbformat.reads(text, as_version=4) if text.rstrip().endswith("}") else None


def saved(page: Page, path: Path, seconds: float) -> nbformat.NotebookNode:
    """The notebook as JupyterLab saves it once every cell has run or one has failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        page.keyboard.press("Control+s")
        page.wait_for_timeout(1000)
        notebook = on_disk(path)
        if notebook is None:
            continue
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        failed = any(output.output_type == "error" for cell in code for output in cell.outputs)
        if failed or all(cell.execution_count for cell in code):
            return notebook
    raise AssertionError(f"{path.name} did not run to its end within {seconds} s")


def watched_offline(browser: Browser) -> tuple[Page, list[str], list[str]]:
    """A page without a network, the addresses that it asks for, and its errors."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True).new_page()
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page, requests, errors


def wait_until(page: Page, condition: str, seconds: float = 20) -> None:
    """Until a JavaScript expression is true. `Page.wait_for_function` evaluates within the page, whose own policy may forbid that."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


SHUT_DOWN = """async () => {
    const token = document.cookie.match(/_xsrf=([^;]+)/)[1];
    for (const {id} of await (await fetch("/api/sessions")).json())
        await fetch(`/api/sessions/${id}`, {method: "DELETE", headers: {"X-XSRFToken": token}});
}"""
EVERY_NOTEBOOK = bool(os.environ.get("FHLIB_EVERY_NOTEBOOK"))
"""Minutes more, in continuous integration. Without it the others run in a kernel only, in test_study.py and test_notebooks.py."""


def runs_in_jupyterlab(browser: Browser, lab: str, path: Path) -> None:
    """Run a notebook from top to bottom; fails with the errors of its cells."""
    page = browser.new_page(viewport={"width": 1400, "height": 1050})
    run_all(page, lab, path.stem)
    code = [cell for cell in saved(page, path, 300).cells if cell.cell_type == "code"]
    errors = ["\n".join(output.traceback) for cell in code for output in cell.outputs if output.output_type == "error"]
    page.screenshot(path=ARTIFACTS / f"lab_{path.stem}.png")
    page.evaluate(SHUT_DOWN)
    page.close()
    assert errors == []
    assert "What we found." in code[-1].outputs[-1].data["text/markdown"]
