"""A stroke drawn with the mouse in JupyterLab lies in the label that is saved. The screenshot is kept in tests/artifacts/correction.png."""

from __future__ import annotations

import re
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from fhlib.images.formats import read_volume
from tests.clones import copy_clone
from tests.whole.jupyterlab import ARTIFACTS, run_all

pytestmark = pytest.mark.slow

# An oblique, anisotropic scan whose head is a ball of 12 mm about (z, y, x) = (20, 18, 25) mm, outlined 3 mm too small
CELL = """
from pathlib import Path
import numpy as np
from fhlib.annotation.corrected import Corrected
from fhlib.annotation.editor import MaskEditor
from fhlib.images.volume import Volume

spacing = (1.0, 1.5, 0.75)
away = np.sqrt(sum((s * i - c) ** 2 for s, i, c in zip(spacing, np.indices((40, 24, 66)), (20, 18, 25))))
noise = np.random.default_rng(0).integers(0, 60, away.shape)
direction = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
scan = Volume((150 * (away < 12) + noise).astype(np.uint8), spacing, (3.0, -4.0, 5.0), direction)
editor = MaskEditor(scan, scan.with_array((away < 9).astype(np.uint8)), "ball", Corrected(Path("corrected")))
editor.show()
print("shown")
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copied clone with a notebook that opens the editor."""
    clone = copy_clone(tmp_path_factory.mktemp("clone"))
    cells = [nbformat.v4.new_code_cell(CELL)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), clone / "notebooks" / "correct.ipynb")
    return clone


def press(page: Page, name: str) -> None:
    page.locator("button.jupyter-button", has_text=re.compile(f"^{name}$")).click()


def stroke(page: Page, points: list[tuple[float, float]]) -> None:
    """Drag through points given as shares of the view's width and height."""
    box = page.locator("canvas").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
        page.wait_for_timeout(300)  # a busy browser drops moves
    page.mouse.up()


def saved(page: Page, path: Path) -> np.ndarray:
    """The label after a press on save, as soon as the message names it."""
    path.unlink(missing_ok=True)
    press(page, "save")
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, "nothing was saved"
        page.wait_for_timeout(200)
    page.wait_for_timeout(500)
    return read_volume(path).array > 0


def test_a_stroke_lies_in_the_saved_label(browser: Browser, lab: str, clone: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(120_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    run_all(page, lab, "correct")
    page.locator("canvas").wait_for()
    page.get_by_text("shown", exact=True).wait_for()
    page.wait_for_timeout(4000)
    page.screenshot(path=ARTIFACTS / "correction.png")
    label = clone / "notebooks" / "corrected" / "ball_Label.nrrd"

    before = saved(page, label)
    assert before.sum() * 1.125 == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.03)
    page.locator("button.widget-toggle-button", has_text="draw").click()
    page.wait_for_timeout(1000)
    page.locator("canvas").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    stroke(page, [(0.20, 0.05), (0.28, 0.05), (0.28, 0.12), (0.20, 0.12), (0.20, 0.05)])
    page.wait_for_timeout(2000)
    page.screenshot(path=ARTIFACTS / "correction.png")
    after = saved(page, label)
    assert after.sum() > before.sum() and not (before & ~after).any()
    assert min(np.ptp(places) for places in np.nonzero(after & ~before)) == 0  # one plane
    assert np.nonzero(after & ~before)[0].max() < 10  # drawn at the top, where the probe is
    geometry = read_volume(label)
    assert geometry.origin == pytest.approx((3, -4, 5)) and geometry.spacing_mm == pytest.approx((1.0, 1.5, 0.75))

    press(page, "undo")
    page.wait_for_timeout(2000)
    assert np.array_equal(saved(page, label), before)
    page.close()
    assert errors == []
