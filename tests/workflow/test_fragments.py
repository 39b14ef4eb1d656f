"""Parts of the report's page."""

from __future__ import annotations

from fhlib.workflow.fragments import _markdown


def test_formulas_are_drawn_and_unknown_ones_stay_readable() -> None:
    drawn = str(_markdown(r"Weight $a_k$, `cost $5 and $6`, and $\unknowncommand{x}$"))
    assert drawn.count("data:image/svg+xml;base64,") == 1 and 'alt="a_k"' in drawn
    assert "<code>cost $5 and $6</code>" in drawn and r"<code>\unknowncommand{x}</code>" in drawn
