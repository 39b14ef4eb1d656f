"""A case's page."""

from __future__ import annotations

from fhlib.figures.style import new_figure
from fhlib.segmentation.page import case_page


def test_a_page_is_complete_in_itself(tmp_path):
    figure, _ = new_figure()
    page = case_page("A <b>", {"Volume": "240 mL"}, {}, figure, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "A &lt;b&gt;" in page and "none raised" in page and "data:image/png;base64," in page
