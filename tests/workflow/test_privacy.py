"""Paths and names leave every text."""

from __future__ import annotations

import pytest

from fhlib.workflow.privacy import REMOVED, replace_texts, replacements, scrub


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/study/clone/data/runs/quick/scores.csv", "data/runs/quick/scores.csv"),
        ("in /study/clone: done", "in .: done"),
        ("at /study/clone now", "at . now"),
        ("/home/jane.doe/scans/x.nii.gz read", f"{REMOVED} read"),
        ("'/home/Jane Doe/my scans/x.nii'", f"'{REMOVED}'"),
        ("/Users/Jane Doe/scans/x.nii", REMOVED),
        ("PATH=/usr/bin:/home/jane/bin", f"PATH={REMOVED}:{REMOVED}"),
        ("file:///home/jane/x.html", REMOVED),
        (r"C:\Users\jane\x.dcm", REMOVED),
        ("<b>/mnt/ward/jane_doe/1.dcm</b>", f"<b>{REMOVED}</b>"),
        (
            "see https://zenodo.org/records/1322001 and 3 mm/pixel, 1/4, and/or",
            "see https://zenodo.org/records/1322001 and 3 mm/pixel, 1/4, and/or",
        ),
        ("data/cohorts/x.csv ../y/z.csv <br/></td>", "data/cohorts/x.csv ../y/z.csv <br/></td>"),
        ('src="data:image/jpeg;base64,/9j/4AAQ/abc/d="', 'src="data:image/jpeg;base64,/9j/4AAQ/abc/d="'),
    ],
)
def test_scrub_removes_paths_and_nothing_else(text: str, expected: str) -> None:
    assert scrub(text, "/study/clone") == expected


def test_a_users_own_home_stays_hidden_where_a_run_was_given_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/study/run/.home")
    monkeypatch.setenv("FHLIB_HOME", "/clinic/alice")
    hidden = replacements([])
    assert replace_texts("/clinic/alice/scans/x.nii /study/run/.home/y", hidden) == "~/scans/x.nii ~/y"
