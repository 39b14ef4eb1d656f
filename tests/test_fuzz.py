"""Mutated files are refused in words, or read as what they say; more of them: `python tests/fuzz.py --files 20000`."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz, make_originals

FILES = 2000


@pytest.mark.slow
def test_no_mutated_file_is_read_wrong_or_stops_the_reader(tmp_path):
    verdicts = list(fuzz(FILES, seed=0))
    broken = [entry for entry in verdicts if entry["verdict"] in ("BROKEN", "CRASHED")]
    assert not broken, broken[:5]
    assert sorted(entry["index"] for entry in verdicts) == list(range(FILES))
    # every file was tried, and refused at times
    refused = {entry["file"] for entry in verdicts if entry["verdict"] == "refused"}
    assert refused == {original.mutated for original in make_originals(tmp_path)}
    read = sum(entry["verdict"] in ("same", "other") for entry in verdicts)
    assert read > 0.1 * FILES
