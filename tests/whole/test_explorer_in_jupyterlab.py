"""Notebook 08 and its explorer in JupyterLab, driven by a real browser. The screenshot is kept in tests/artifacts/explorer.png."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page

from tests.clones import copy_clone, run_python
from tests.cohorts.made_hc18 import make_hc18
from tests.whole.jupyterlab import ARTIFACTS, EVERY_NOTEBOOK, on_disk, run_all, runs_in_jupyterlab, set_parameters

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


def picture(page: Page) -> str:
    """Digest of the bytes that the explorer's picture shows."""
    return page.evaluate("""async () => {
        const image = document.querySelector("img.widget-image");
        const bytes = await (await fetch(image.src)).arrayBuffer();
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        return [...digest].map(byte => byte.toString(16)).join("");
    }""")


def settled(page: Page, before: str = "", seconds: float = 180) -> str:
    """Wait until the picture is another one than `before`, and then has not changed for a second; returns its digest."""
    deadline = time.monotonic() + seconds
    last, since = picture(page), time.monotonic()
    while last == before or time.monotonic() - since < 1:
        assert time.monotonic() < deadline, f"the explorer's picture did not change within {seconds} s"
        page.wait_for_timeout(50)
        if (now := picture(page)) != last:
            last, since = now, time.monotonic()
    return last


def control(page: Page, label: str) -> Locator:
    """The drop-down list or slider with that label."""
    return page.locator(".jupyter-widgets.widget-inline-hbox", has=page.get_by_text(label, exact=True)).first


def test_notebook_08_runs_and_its_explorer_answers(browser: Browser, lab: str, clone: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1500})
    page.set_default_timeout(120_000)
    run_all(page, lab, "08_attention")
    page.locator(".jp-OutputArea-output", has_text="What we found.").wait_for(timeout=400_000)
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count() == 0
    tables = clone / "data" / "runs" / "smoke" / "tables"
    assert (tables / "attention_shares.csv").exists() and (tables / "attention_summary.csv").exists()

    image = page.locator("img.widget-image")
    image.scroll_into_view_if_needed()
    seen = [settled(page)]
    for label, choice in (("beside", "nothing"), ("module", "SAM-2"), ("channels", "entropy")):
        control(page, label).locator("select").select_option(label=choice)
        seen.append(settled(page, seen[-1]))
    control(page, "slice d").locator(".noUi-handle").press("ArrowRight")
    seen.append(settled(page, seen[-1]))
    box = image.bounding_box()
    assert box is not None and box["width"] > 600
    page.mouse.click(box["x"] + 0.45 * box["width"], box["y"] + 0.6 * box["height"])
    seen.append(settled(page, seen[-1]))
    page.mouse.wheel(0, 100)
    seen.append(settled(page, seen[-1]))
    page.get_by_role("button", name="probability").click()
    seen.append(settled(page, seen[-1]))
    scan = control(page, "scan").locator("select")
    scan.select_option(index=1 if scan.evaluate("list => list.selectedIndex") == 0 else 0)
    seen.append(settled(page, seen[-1]))
    assert len(set(seen)) == len(seen)

    control(page, "beside").locator("select").select_option(label="USegNet-DS")
    settled(page, seen[-1])
    control(page, "scan").scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / "explorer.png")

    without_kernel = saved_without_kernel(page, lab, clone / "notebooks" / "08_attention.ipynb")
    assert len(without_kernel) == 1 and len(without_kernel[0]["image/png"]) > 10_000
    page.close()  # a page with changes asks before it goes elsewhere
    page = browser.new_page(viewport={"width": 1400, "height": 1500})
    page.set_default_timeout(120_000)
    page.goto(f"{lab}/lab/tree/08_attention.ipynb?reset")
    page.locator(".jp-OutputArea-output", has_text="What we found.").wait_for()
    sizes = page.evaluate(
        "[...document.querySelectorAll('.jp-OutputArea-output img')].map(image => image.naturalWidth)"
    )
    page.screenshot(path=ARTIFACTS / "explorer_without_kernel.png")
    page.close()
    assert len(sizes) >= 8 and min(sizes) > 300


@pytest.mark.skipif(
    not EVERY_NOTEBOOK, reason="runs in a kernel in other tests; here where FHLIB_EVERY_NOTEBOOK is set"
)
@pytest.mark.parametrize("name", BESIDE)
def test_notebooks_beside_the_study_run_in_jupyterlab(browser: Browser, lab: str, clone: Path, name: str) -> None:
    runs_in_jupyterlab(browser, lab, clone / "notebooks" / f"{name}.ipynb")


def saved_without_kernel(page: Page, lab: str, path: Path) -> list[dict[str, str]]:
    """Save the notebook and end its kernel; returns the data of its widget outputs."""
    page.keyboard.press("Control+s")
    deadline = time.monotonic() + 60
    while not ((notebook := on_disk(path)) and notebook.cells[-1].get("outputs")):
        assert time.monotonic() < deadline, f"{path.name} was not saved within 60 s"
        page.wait_for_timeout(500)
    for session in page.request.get(f"{lab}/api/sessions").json():
        token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "_xsrf")
        ended = page.request.delete(f"{lab}/api/sessions/{session['id']}", headers={"X-XSRFToken": token})
        assert ended.ok, ended.status
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"] for output in outputs if WIDGET in output.get("data", {})]
