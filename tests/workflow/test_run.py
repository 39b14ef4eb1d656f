"""One start of a run at a time."""

from __future__ import annotations

import pytest

from fhlib.files import BusyError
from fhlib.workflow.run import only_start_of


def test_one_start_of_a_run_at_a_time(tmp_path):
    folder = tmp_path / "quick"
    busy = pytest.raises(BusyError, match=r"run 'quick' is being computed by process \d+")
    with only_start_of(folder), busy, only_start_of(folder):
        pass
    with only_start_of(folder):
        pass
