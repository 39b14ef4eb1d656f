"""What the tests of `segment` share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhlib.segmentation import segmentor
from tests.segmentation.fixed import Fixed


@pytest.fixture
def shipped(monkeypatch):
    """The command line with cheap segmentors in place of the shipped ones, by name."""
    made = {"head": Fixed(50, "skin"), "skull": Fixed(140, "skull")}
    monkeypatch.setattr(segmentor, "load_segmentor", lambda folder: made[Path(folder).name])
    return made
