"""Whole files or none."""

from __future__ import annotations

import pytest

from fhlib.files import atomic_path, require_free_space, write_text


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = write_text("old", tmp_path / "table.csv")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".csv"
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old" and [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_too_small_a_disk_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match="GB are needed"):
        require_free_space(tmp_path / "not" / "yet", 1e18)
