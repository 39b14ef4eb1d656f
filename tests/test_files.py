"""Whole files or none."""

from __future__ import annotations

import pandas as pd
import pytest

from fhlib.files import atomic_path, files_below, read_csv, require_free_space, write_csv, write_text


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


def test_ids_in_tables_are_text_and_other_columns_numbers(tmp_path):
    ids = ["NA", "nan", "None", "007", "1e3", "True", "0x1F", "12345678901234567890"]
    path = write_csv(pd.DataFrame({"case": ids, "subject": ids, "dsc": [0.5] * 7 + [None]}), tmp_path / "scores.csv")
    table = read_csv(path)
    assert table["case"].tolist() == table["subject"].tolist() == ids
    assert table["dsc"].tolist()[:7] == [0.5] * 7 and table["dsc"].isna().sum() == 1
    assert read_csv(write_csv(pd.DataFrame({"n": [7]}), tmp_path / "n.csv"))["n"].tolist() == [7]


def test_files_below_leave_out_what_systems_and_tools_put_there(tmp_path):
    for name in ("a", "sub/b", ".git/c", "sub/.d", "sub/Thumbs.db", "__MACOSX/._e", "f~"):
        write_text("x", tmp_path / name)
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    assert files_below(tmp_path) == [tmp_path / "a", tmp_path / "sub" / "b"]
