"""A data folder of its own."""

from __future__ import annotations

import pytest

from fhlib.study import run as study


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "DATA", tmp_path / "data")
    return tmp_path / "data"
