"""The report as a reader meets it: in a real browser. Screenshots are kept in tests/artifacts/."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4
from playwright.sync_api import Browser

from fhlib.figures import planes as figures
from fhlib.figures import surfaces
from fhlib.images.volume import Volume
from fhlib.workflow.report import write_report
from tests.whole.jupyterlab import ARTIFACTS, wait_until, watched_offline

pytestmark = pytest.mark.slow

PUBLISHED = Path(__file__).parents[2] / "data" / "results" / "quick"

AXE = Path(__file__).with_name("axe") / "axe.min.js"
"""Deque's checks of accessibility (MPL-2.0); for tests alone."""


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
    (run / "run.json").write_text(json.dumps({"preset": "quick", "cohort": ""}))
    (run / "tables").mkdir()
    shutil.copy(PUBLISHED / "scores.csv", run / "tables")
    shutil.copy(PUBLISHED / "claims.csv", run / "tables")
    table = pd.read_csv(PUBLISHED / "agreement.csv").to_html()
    chapters["06_agreement"] = (
        "# Agreement?\n\n## A wide table",
        [
            v4.new_output("display_data", {"text/html": table}),
            v4.new_output("display_data", {"text/markdown": "**What we found.** They agree."}),
        ],
    )
    (run / "notebooks").mkdir()
    for name, (prose, outputs) in chapters.items():
        cells = [v4.new_markdown_cell(prose), v4.new_code_cell("figure", outputs=outputs)]
        nbformat.write(v4.new_notebook(cells=cells), run / "notebooks" / f"{name}.ipynb")
    return write_report(run)


def test_report_opens_offline_without_request_or_error(browser: Browser, report_page: Path) -> None:
    page, requests, errors = watched_offline(browser)
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
    wait_until(page, "document.querySelector('details.interactive .js-plotly-plot').data[1].visible === true")
    page.screenshot(path=ARTIFACTS / "report_surface.png")
    assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.getElementById(a.hash.slice(1)))")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [
        text for text in errors if "WebGL" not in text
    ] == []  # a machine without 3D graphics keeps the static figure
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1400])
def test_the_report_is_read_on_a_phone_in_the_dark_and_without_a_mouse(
    browser: Browser, report_page: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.goto(report_page.as_uri())
    page.screenshot(path=ARTIFACTS / f"report_{width}_{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".opening dd").first.bounding_box()["width"] > 250
    assert page.locator("nav ol").is_visible() == (width > 900)
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run().then(result => result.violations.map(one => [one.id, one.impact, one.nodes[0].html]))"
    )
    assert found == []
    context.close()


def test_the_section_that_is_read_is_marked(browser: Browser, report_page: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 700}, reduced_motion="reduce")
    page.goto(report_page.as_uri())
    marked = page.locator("nav a[aria-current]")
    assert marked.all_inner_texts() == ["Summary"]
    page.evaluate("document.getElementById('06_agreement').scrollIntoView({behavior: 'instant'})")
    wait_until(page, "document.querySelector('nav a[aria-current]').hash === '#06_agreement'")
    assert marked.count() == 1
    page.close()


def test_the_report_is_printed_in_black_on_white_without_folds(browser: Browser, report_page: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(report_page.as_uri())
    printed = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 6
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details.code").first.is_hidden() and page.locator("table.claims").first.is_visible()
    assert page.locator("dl.found").is_visible() and page.locator(".repeated").first.is_hidden()
    page.close()
