"""Notebook 08 and its explorer in JupyterLab, driven by a real browser. The screenshot is kept in tests/artifacts/explorer.png."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.clones import copy_clone, run_python
from tests.cohorts.made_hc18 import make_hc18
from tests.whole.jupyterlab import (
    ARTIFACTS,
    EVERY_NOTEBOOK,
    SHUT_DOWN,
    on_disk,
    run_all,
    runs_in_jupyterlab,
    set_parameters,
)

pytestmark = pytest.mark.slow


WIDGET = "application/vnd.jupyter.widget-view+json"
BESIDE: dict[str, dict[str, object]] = {
    "11_benchmark": {"scale": 0.15, "repeats": 1, "width": 4, "networks": ["Residual-U-Net"]},
    "12_realism": {"planes": 3},
    "13_ablation": {},
    "14_few_cases": {"counts": [1, 2]},
    "15_growth": {"subjects": 200, "repetitions": 2},
    "16_longitudinal": {"subjects": 200},
}
# Small enough to be made here, fine enough to be looked at
SMALL_RUN = """
from fhlib.study.accuracy import score
from fhlib.study.cohort import make_cohort
from fhlib.study.predict import predict
from fhlib.study.prepare import prepare
from fhlib.study.run import open_study
from fhlib.study.train import train
changes = {"simulated_cohort.spacing_mm": 3.0, "simulated_cohort.headless_share": 0.0, "preparation.spacing_mm": 4.5, "tuning": None}
study = open_study("smoke", "smoke", changes=changes)
make_cohort(study)
prepare(study)
for variant, level in (("USegNet-DS", 1), ("USegNet-DS-HAS", 1), ("USegNet-DS-HAS-Ctx", 2)):
    train(study, variant, level)
    predict(study, variant)
score(study)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copied clone with a run `smoke` of three variants up to its scores, and notebooks set to it."""
    clone = copy_clone(tmp_path_factory.mktemp("clone"))
    set_parameters(clone / "notebooks" / "08_attention.ipynb", run="smoke", preset="smoke")
    for name, given in BESIDE.items():
        set_parameters(clone / "notebooks" / f"{name}.ipynb", run="smoke", preset="smoke", **given)
    set_parameters(clone / "notebooks" / "12_realism.ipynb", hc18=str(make_hc18(clone / "hc18", "subfolders")))
    run_python(clone, SMALL_RUN)
    return clone


def settled(page: Page, before: str = "", seconds: float = 60) -> str:
    """Wait until the planes are other ones than `before`, and then have not changed for half a second; returns their digest."""
    shown = """async () => {
        const planes = [...document.querySelectorAll(".fhx-pane canvas")].map(canvas => canvas.toDataURL()).join();
        const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(planes));
        return [...new Uint8Array(digest)].map(byte => byte.toString(16)).join("");
    }"""
    deadline = time.monotonic() + seconds
    last, since = page.evaluate(shown), time.monotonic()
    while last == before or time.monotonic() - since < 0.5:
        assert time.monotonic() < deadline, f"the explorer's planes did not change within {seconds} s"
        page.wait_for_timeout(50)
        if (now := page.evaluate(shown)) != last:
            last, since = now, time.monotonic()
    return last


def watched(browser: Browser) -> tuple[Page, list[str]]:
    """A page, and a list of its errors and of what it asks of any other machine."""
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(120_000)
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    at_home = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(at_home) else trouble.append(asked.url))
    return page, trouble


def test_notebook_08_runs_and_its_explorer_answers(browser: Browser, lab: str, clone: Path) -> None:
    page, trouble = watched(browser)
    run_all(page, lab, "08_attention")
    page.locator(".fhx[data-drawn]").wait_for(timeout=300_000)  # while later cells are still at work
    page.locator(".jp-OutputArea-output", has_text="What we found.").wait_for(timeout=400_000)
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count() == 0
    tables = clone / "data" / "runs" / "smoke" / "tables"
    assert (tables / "attention_shares.csv").exists() and (tables / "attention_summary.csv").exists()

    explorer = page.locator(".fhx")
    explorer.scroll_into_view_if_needed()
    seen = [settled(page)]
    for label, choice in (("module", "SAM-2"), ("summary", "entropy"), ("overlay", "probability"), ("overlay", "P")):
        explorer.locator(f"select[name={label}]").select_option(choice)
        seen.append(settled(page, seen[-1]))
    plane = page.locator(".fhx-pane canvas").nth(1)
    plane.click(position={"x": 120, "y": 90})
    seen.append(settled(page, seen[-1]))
    page.mouse.wheel(0, 100)
    seen.append(settled(page, seen[-1]))
    plane.press("ArrowLeft")
    seen.append(settled(page, seen[-1]))
    scan = explorer.locator("select[name=case]")
    scan.select_option(index=1 if scan.evaluate("list => list.selectedIndex") == 0 else 0)
    page.wait_for_function(
        "document.querySelector('.fhx').explorer.case === document.querySelector('[name=case]').value"
    )
    seen.append(settled(page, seen[-1]))
    assert len(set(seen)) == len(seen)
    explorer.screenshot(path=ARTIFACTS / "explorer.png")
    assert trouble == []

    outputs = saved_without_kernel(page, lab, clone / "notebooks" / "08_attention.ipynb")
    page.locator(".fhx-notice", has_text="The kernel").wait_for(timeout=60_000)
    plane.press("PageDown")
    settled(page, seen[-1])  # slices go on
    page.screenshot(path=ARTIFACTS / "explorer_without_kernel.png")
    assert not [kind for output in outputs for kind in output if kind == WIDGET]
    page.close()  # a page with changes asks before it goes elsewhere


def test_a_reopened_notebook_shows_the_picture(browser: Browser, lab: str, clone: Path) -> None:
    page, trouble = watched(browser)
    page.goto(f"{lab}/lab/tree/08_attention.ipynb?reset")
    page.locator(".jp-OutputArea-output", has_text="What we found.").wait_for()
    page.get_by_text("| Idle").wait_for()  # a new kernel, which knows nothing of the explorer
    twin = page.locator(".fhx-place img")
    twin.scroll_into_view_if_needed()
    assert twin.evaluate("image => image.naturalWidth") > 600 and twin.get_attribute("alt")
    assert page.locator(".fhx").count() == 0
    assert page.get_by_text("model not found").count() == page.get_by_text("Loading widget").count() == 0
    page.screenshot(path=ARTIFACTS / "explorer_reopened.png")
    page.evaluate(SHUT_DOWN)
    page.close()
    assert trouble == []


@pytest.mark.skipif(
    not EVERY_NOTEBOOK, reason="runs in a kernel in other tests; here where FHLIB_EVERY_NOTEBOOK is set"
)
@pytest.mark.parametrize("name", BESIDE)
def test_notebooks_beside_the_study_run_in_jupyterlab(browser: Browser, lab: str, clone: Path, name: str) -> None:
    runs_in_jupyterlab(browser, lab, clone / "notebooks" / f"{name}.ipynb")


def saved_without_kernel(page: Page, lab: str, path: Path) -> list[dict[str, str]]:
    """Save the notebook and end its kernel; returns the data of all outputs."""
    page.keyboard.press("Control+s")
    deadline = time.monotonic() + 60
    while not ((notebook := on_disk(path)) and notebook.cells[-1].get("outputs")):
        assert time.monotonic() < deadline, f"{path.name} was not saved within 60 s"
        page.wait_for_timeout(500)
    page.evaluate(SHUT_DOWN)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"] for output in outputs if "data" in output]
