"""The report and the notebooks as a reader meets them: in a real browser. Screenshots are kept in tests/artifacts/."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import copy_clone
from nbformat import v4
from playwright.sync_api import Browser, Page, sync_playwright

from fhlib.figures import planes as figures
from fhlib.figures import surfaces
from fhlib.images.volume import Volume
from fhlib.workflow.report import write_report

ARTIFACTS = Path(__file__).parent / "artifacts"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


def figure_output(figure: figures.Figure) -> nbformat.NotebookNode:
    stream = io.BytesIO()
    figure.savefig(stream, bbox_inches="tight", dpi=100)
    return v4.new_output(
        "display_data", {"image/png": base64.b64encode(stream.getvalue()).decode(), "text/plain": "<Figure>"}
    )


@pytest.fixture(scope="module")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in (48, 40, 56)], indexing="ij")
    head = sum(axis**2 for axis in grid) < 0.4
    scan = Volume(
        (np.random.default_rng(0).rayleigh(30, head.shape) * (1 + head)).clip(0, 255).astype(np.uint8), (0.95, 1.2, 0.8)
    )
    surface = surfaces.surface_distance(np.roll(head, 2, 0), head, scan.spacing_mm)
    both = {
        "USegNet-DS": surface,
        "USegNet-DS-HAS": surfaces.surface_distance(np.roll(head, 1, 1), head, scan.spacing_mm),
    }
    plot = json.loads(surfaces.interactive_surfaces(both, faces=800).to_json())
    turning = v4.new_output("display_data", {"application/vnd.plotly.v1+json": plot})
    chapters = {
        "01_cohort": ("# The cohort\n\nAttention: $a_k$.", [figure_output(figures.planes(scan, {"expert": head}))]),
        "05_accuracy": (
            "# How accurate is it?",
            [figure_output(surfaces.surface_distance_map({"USegNet-DS": surface})), turning],
        ),
    }
    (run / "notebooks").mkdir()
    for name, (prose, outputs) in chapters.items():
        cells = [v4.new_markdown_cell(prose), v4.new_code_cell("figure", outputs=outputs)]
        nbformat.write(v4.new_notebook(cells=cells), run / "notebooks" / f"{name}.ipynb")
    return write_report(run)


def test_report_opens_offline_without_request_or_error(browser: Browser, report_page: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(report_page.as_uri())
    widths = page.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
    page.screenshot(path=ARTIFACTS / "report.png", full_page=True)
    assert len(widths) == 3 and min(widths) > 0  # a formula and two figures
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("nav a", has_text="How accurate").click()
    assert page.locator("h2", has_text="How accurate").is_visible()
    page.locator("details.interactive summary").click()
    page.locator("details.interactive .plotly").first.wait_for(timeout=120_000)
    marks = page.locator("details.interactive .colorbar").first.text_content() or ""
    assert all(word in marks for word in ("min", "mean", "max"))
    page.locator("details.interactive .updatemenu-button", has_text="HAS").click()
    page.wait_for_function("document.querySelector('details.interactive .js-plotly-plot').data[1].visible === true")
    page.screenshot(path=ARTIFACTS / "report_surface.png")
    assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.getElementById(a.hash.slice(1)))")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [
        text for text in errors if "WebGL" not in text
    ] == []  # a machine without 3D graphics keeps the static figure
    context.close()


def set_parameters(path: Path, **given: object) -> None:
    """Write values into the cell of a notebook that papermill's would replace; names that it has not are left out."""
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in given.items():
        cell.source = re.sub(rf"^{name} = .*", lambda _, n=name, v=value: f"{n} = {v!r}", cell.source, flags=re.M)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copied clone whose notebooks are set to the preset `smoke`, with one variant."""
    clone = copy_clone(tmp_path_factory.mktemp("clone"))
    for path in (clone / "notebooks").glob("[0-9]*.ipynb"):
        set_parameters(path, run="smoke", preset="smoke", variant="USegNet-DS-HAS")
    run = clone / "data" / "runs" / "smoke"
    run.mkdir(parents=True)
    one_variant = {"preset": "smoke", "cohort": "", "changes": {"variants": ["USegNet-DS-HAS"]}}
    (run / "run.json").write_text(json.dumps(one_variant), encoding="utf-8")
    return clone


@pytest.fixture(scope="module")
def lab(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a JupyterLab of its own on that clone, ended with the tests."""
    tmp_path = tmp_path_factory.mktemp("lab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {
        **os.environ,
        **folders,
        "PYTHONPATH": str(clone),
        "FHLIB_ROOT": str(clone),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
               "--ServerApp.token=", "--ServerApp.password=", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.root_dir={clone / 'notebooks'}"]  # fmt: skip
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while server.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        else:
            pytest.fail(f"JupyterLab did not start:\n{(tmp_path / 'lab.log').read_text(encoding='utf-8')[-2000:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()


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


SHUT_DOWN = """async () => {
    const token = document.cookie.match(/_xsrf=([^;]+)/)[1];
    for (const {id} of await (await fetch("/api/sessions")).json())
        await fetch(`/api/sessions/${id}`, {method: "DELETE", headers: {"X-XSRFToken": token}});
}"""
STUDY = ("00_start_here", "01_cohort", "02_prepare", "03_train", "04_predict", "05_accuracy", "06_agreement")
STUDY += ("07_reproducibility", "09_claims", "10_segment")
EVERY_NOTEBOOK = bool(os.environ.get("FHLIB_EVERY_NOTEBOOK"))
"""Minutes more, in continuous integration. Without it the others run in a kernel only, in test_run_map.py and beside what they show."""
if not EVERY_NOTEBOOK:
    STUDY = STUDY[:4]


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


@pytest.mark.parametrize("name", STUDY)
def test_notebook_runs_in_jupyterlab_from_top_to_bottom(browser: Browser, lab: str, clone: Path, name: str) -> None:
    """In order: each reads what those before it wrote. 08 and those beside the study are in test_explorer_browser.py."""
    runs_in_jupyterlab(browser, lab, clone / "notebooks" / f"{name}.ipynb")
