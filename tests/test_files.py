"""Whole files or none; one writer at a time; tables that a spreadsheet only shows."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch

from fhlib import files
from fhlib.files import (
    BusyError,
    DiskFullError,
    atomic_path,
    blank_gaps,
    files_below,
    read_csv,
    read_json,
    require_free_space,
    safe_name,
    sole,
    write_csv,
    write_text,
)


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


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("x" * 100_000),
        lambda path: pd.DataFrame({"a": range(10_000)}).to_csv(path),
        lambda path: torch.save({"a": torch.zeros(100_000)}, path),
        lambda path: np.save(open(path, "wb"), np.zeros(100_000)),  # noqa: SIM115
    ],
    ids=["text", "pandas", "torch", "numpy"],
)
def test_a_full_disk_is_called_one_with_its_folder_and_the_remedy(write, tmp_path, monkeypatch):
    """Each writer says it in its own words, torch says something else; the old file stays."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    path = write_text("old", tmp_path / "models" / "x.bin")
    monkeypatch.setattr(files, "_free_bytes", lambda folder: 0)
    told = pytest.raises(
        DiskFullError, match=r"^no space left on the disk of models/ \(0\.0 MB free\): free some space"
    )
    with told, atomic_path(path) as temporary:
        os.symlink("/dev/full", temporary)
        write(temporary)
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["x.bin"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "raise the quota"),
        (OSError(errno.EFBIG, "File too large"), r"ulimit -f"),
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), "no space left"),
        (RuntimeError("sqlite3: database or disk is full"), "no space left"),
    ],
)
def test_what_means_a_full_disk(error, expected, tmp_path):
    with pytest.raises(DiskFullError, match=expected), atomic_path(tmp_path / "x"):
        raise error


def test_other_failures_are_no_full_disk(tmp_path):
    for error in (OSError(errno.EACCES, "Permission denied"), ValueError("a full disk of data")):
        with pytest.raises(type(error)) as caught, atomic_path(tmp_path / "x"):
            raise error
        assert caught.value is error


FORMULAS = [
    "=1+1",
    "+A1",
    "-A1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "=cmd|' /C calc'!A0",
    "＝1+1",
    "-2+3",
    "=",
    "+1 234",
]
NUMBERS = ["-5.2", "+3", "-1e5", "-inf", "1", "", "-", "a=b", "x@y", "'=1"]


def test_a_cell_is_never_a_formula_and_a_number_stays_one(tmp_path):
    texts = FORMULAS + NUMBERS
    frame = pd.DataFrame({"text": texts, "number": -np.arange(len(texts)) / 3, "=name": None}, dtype=object)
    frame["number"] = frame["number"].astype(float)
    back = pd.read_csv(write_csv(frame, tmp_path / "t.csv"), dtype={"text": str}, keep_default_na=False)
    quoted = [text if text in ("=",) else "'" + text for text in FORMULAS]
    assert back["text"].tolist() == [text.replace("\r", "\n") for text in quoted] + NUMBERS
    assert back.columns.tolist() == ["text", "number", "'=name"]
    assert back["number"].iloc[1] == pytest.approx(-1 / 3) and back["number"].dtype == float
    again = write_csv(back, tmp_path / "again.csv")
    assert pd.read_csv(again, dtype={"text": str}, keep_default_na=False)["text"].tolist() == back["text"].tolist()


def test_a_table_without_formulas_is_written_as_pandas_writes_it(tmp_path):
    frame = pd.DataFrame(
        {"a": [1, None, "x"], "b": [1.5, np.nan, -2], "c": pd.Categorical(["u", "v", "u"]), "d": [True, False, None]}
    )
    expected = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    assert write_csv(frame, tmp_path / "t.csv").read_text() == expected


def test_a_table_shows_no_path_of_this_machine(tmp_path):
    said = "itk::ERROR: NrrdImageIO: could not open /clinic/Doe, Jane/scan 1.nrrd"
    write_csv(pd.DataFrame({"message": [said], "image": ["images/a.nrrd"]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == (
        "message,image\nitk::ERROR: NrrdImageIO: could not open [path removed],images/a.nrrd\n"
    )


def test_one_holds_a_lock_and_the_other_says_so_and_waits(tmp_path, capsys):
    lock, order = tmp_path / ".lock", []

    def second() -> None:
        with sole(lock, "busy: waiting", wait=True):
            order.append("second")

    waiting = threading.Thread(target=second)
    with sole(lock, "busy"):
        with pytest.raises(BusyError, match=r"^busy$"), sole(lock, "busy"):
            pass
        waiting.start()
        time.sleep(0.3)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"] and capsys.readouterr().out == "busy: waiting\n"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_told_and_stops_nothing(number, tmp_path, monkeypatch, capsys):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole(tmp_path / ".lock", "busy"):
        (tmp_path / "done").touch()
    assert re.search("has no file locks .*: start only one study there at a time", capsys.readouterr().err)
    assert (tmp_path / "done").exists()


def test_an_error_of_a_lock_that_says_something_else_is_raised(tmp_path, monkeypatch):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError), sole(tmp_path / ".lock", "busy"):
        pass


@pytest.mark.parametrize("name", ["quick", "20240115", "a.b_c-d", "CONtrast", "x" * 200])
def test_names_that_are_folders_everywhere(name):
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "x.", "a/b", "a b", "a\n", "é", "NUL", "com1.nii", "x" * 201])
def test_names_that_are_no_folders_somewhere(name):
    with pytest.raises(ValueError):
        safe_name(name)


def test_a_damaged_json_file_is_named(tmp_path):
    for content in ("", "{", "[" * 100_000, '{"a": }'):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            read_json(tmp_path / "run.json")


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


def test_gaps_are_blank_in_columns_of_numbers_too(tmp_path):
    (tmp_path / "a.csv").write_text("none,number,text\n,1.5,a\n,,\n")
    table = blank_gaps(pd.read_csv(tmp_path / "a.csv"))
    assert table.to_numpy().tolist() == [["", 1.5, "a"], ["", "", ""]]
    assert blank_gaps(pd.Series([float("nan")])).tolist() == [""]
