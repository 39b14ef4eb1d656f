"""The report and the explorer as a reader meets them: in a real browser. Screenshots are kept in tests/artifacts/."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat import v4
from playwright.sync_api import Browser, Page, sync_playwright

from fhlib import figures, surfaces
from fhlib.report import write_report
from fhlib.volume import Volume

REPOSITORY = Path(__file__).resolve().parents[1]
ARTIFACTS = Path(__file__).parent / "artifacts"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
EXPLORER = """
import numpy as np
from types import SimpleNamespace
from fhlib.explorer import AttentionExplorer
from fhlib.volume import Volume
rng = np.random.default_rng(0)
d, h, w = np.meshgrid(*[np.linspace(-1, 1, n) for n in (48, 40, 56)], indexing="ij")
head = d**2 + h**2 + w**2 < 0.4
image = Volume((rng.rayleigh(30, head.shape) * (1 + head)).clip(0, 255).astype("uint8"), (0.95, 1.2, 0.8))
attention = {f"{kind}-{k}": rng.dirichlet(np.ones(4), [n // f for n in head.shape]).transpose(3, 0, 1, 2)
             for kind in ("SAM", "UAM") for k, f in ((1, 4), (2, 2), (3, 1))}
features = SimpleNamespace(image=image, probability=image.with_array(head.astype("float32")), attention=attention)
explorer = AttentionExplorer(features, reference=head, names=("USegNet-DS-HAS",))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = filter(None, (os.environ.get("FHLIB_BROWSER"), *PROGRAMS))
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.fail(
            "no Chromium browser found: install one (Debian, Ubuntu: apt-get install chromium), or set FHLIB_BROWSER to its program"
        )
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
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
    plot = json.loads(surfaces.interactive_surface(surface, faces=800).to_json())
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
    page.locator("details.interactive .plotly").first.wait_for(timeout=20_000)
    page.screenshot(path=ARTIFACTS / "report_surface.png")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [
        text for text in errors if "WebGL" not in text
    ] == []  # a machine without 3D graphics keeps the static figure
    context.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """Address of a JupyterLab of its own, in a temporary folder with one notebook, ended with the test."""
    (tmp_path / "root").mkdir()
    cells = [
        v4.new_markdown_cell("# Explorer"),
        v4.new_code_cell(EXPLORER.strip()),
        v4.new_code_cell("explorer.show()"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "root" / "explorer.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {
        **os.environ,
        **folders,
        "PYTHONPATH": str(REPOSITORY),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
               "--ServerApp.token=", "--ServerApp.password=", "--ServerApp.ip=127.0.0.1",
               f"--ServerApp.root_dir={tmp_path / 'root'}"]  # fmt: skip
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 40
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


def picture(page: Page) -> str:
    """Digest of the bytes that the explorer's picture shows."""
    return page.evaluate("""async () => {
        const image = document.querySelector("img.widget-image");
        const bytes = await (await fetch(image.src)).arrayBuffer();
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        return [...digest].map(byte => byte.toString(16)).join("");
    }""")


def changed(page: Page, before: str) -> str:
    """Wait until the picture is another one; returns its digest."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        now = picture(page)
        if now != before:
            return now
        page.wait_for_timeout(50)
    raise AssertionError("the explorer's picture did not change within 10 s")


def test_explorer_answers_in_jupyterlab(browser: Browser, lab: str) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1050})
    page.goto(f"{lab}/lab/tree/explorer.ipynb?reset")
    page.get_by_text("| Idle").wait_for(timeout=40_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator("img.widget-image").wait_for(timeout=40_000)
    first = picture(page)

    page.locator(".widget-dropdown select").first.select_option(label="UAM-3")
    module = changed(page, first)
    handle = page.locator(".widget-slider", has_text="slice d").locator(".noUi-handle")
    handle.press("ArrowRight")
    moved = changed(page, module)
    page.get_by_role("button", name="probability").click()
    probability = changed(page, moved)

    assert len({first, module, moved, probability}) == 4
    assert page.evaluate("document.querySelector('img.widget-image').naturalWidth") > 600
    page.locator("img.widget-image").scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / "explorer.png")
    page.close()
