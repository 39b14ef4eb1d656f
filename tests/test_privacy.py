"""Paths and names leave every text; what is no path stays."""

from __future__ import annotations

import html
import json
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest

from fhlib.files import NOTEBOOKS
from fhlib.privacy import REMOVED, Scrubber, paths_in

SCRUB = Scrubber({Path("/study/clone"): "."})

PLANTED = [
    "Doe, Jane", "DOE^JANE", "Jane Doe 1984-02-03", "Müller Anna", "O'Brien, Mary", "patient (12)", "a & b", "Nguyễn_Thị",
    "12345678", "Smith;John", "van den Berg, Maria", "x  y", "José #4", "100% Jane", "Doe.Jane", "jane doe", "JANE=DOE", "Doe,Jane,M",
    "Ward 3, bed 4", "Иванова Анна",
]  # fmt: skip
SPELLINGS = {
    "plain": "cannot open {} for reading",
    "last on the line": "reading {}",
    "quoted": "there is no file '{}'",
    "Python": "PosixPath({!r})",
    "page": "<td>{}</td>",
    "link": "file://{}",
    "JSON": "{}",
}


def spelt(kind: str, path: str) -> str:
    forms = {"page": html.escape(path), "link": quote(path), "JSON": json.dumps({"file": path})}
    return SPELLINGS[kind].format(forms.get(kind, path))


@pytest.mark.parametrize("kind", SPELLINGS)
@pytest.mark.parametrize("name", PLANTED)
def test_no_folder_above_an_input_is_ever_shown(name: str, kind: str) -> None:
    given = f"/clinic/{name}/2024/scan 1.nii.gz"
    shown = Scrubber({}, [given]).text(spelt(kind, given))
    parts = [
        name,
        html.escape(name),
        quote(name),
        json.dumps(name)[1:-1],
        *(word for word in name.split() if len(word) > 4),
    ]
    assert [part for part in parts if part in shown] == []
    assert "scan" in shown or kind == "link"  # the input's own name


@pytest.mark.parametrize("kind", SPELLINGS)
@pytest.mark.parametrize("name", PLANTED)
def test_a_file_that_is_no_input_is_removed_with_its_folders(name: str, kind: str) -> None:
    shown = SCRUB.text(spelt(kind, f"/clinic/{name}/2024/scan.nii.gz"))
    assert name not in shown and "2024" not in shown and "clinic" not in shown and REMOVED in shown


def test_a_folder_above_an_input_is_not_shown_by_its_name_alone() -> None:
    hide = Scrubber({}, ["/clinic/Doe, Jane/scans"])
    assert hide.text("there is no x.nii in 'Doe, Jane'") == f"there is no x.nii in '{REMOVED}'"
    assert hide.text("there is no x.nii in Doe, Jane/") == f"there is no x.nii in {REMOVED}/"
    assert hide.text("scans/1.nrrd is read") == "scans/1.nrrd is read"


def test_an_input_is_shown_by_its_own_name_and_what_lies_in_it_below_it() -> None:
    hide = Scrubber({Path("/study/clone"): "."}, ["/clinic/Doe, Jane/scans", "../Doe, Jane/one.nii"])
    assert hide.text("/clinic/Doe, Jane/scans/a b/1.nii") == "scans/a b/1.nii"
    assert hide.text("volumes = '../Doe, Jane/one.nii'") == "volumes = 'one.nii'"
    assert hide.text("/clinic/Doe, Jane/other.nii") == f"{REMOVED}/other.nii"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/study/clone/data/runs/quick/scores.csv", "data/runs/quick/scores.csv"),
        ("in /study/clone: done", "in .: done"),
        ("at /study/clone now", "at . now"),
        ("/study/clones/x", REMOVED),
        ("/home/jane.doe/scans/x.nii.gz read", f"{REMOVED} read"),
        ("'/home/Jane Doe/my scans/x.nii'", f"'{REMOVED}'"),
        ("/Users/Jane Doe/scans/x.nii", REMOVED),
        ("PATH=/usr/bin:/home/jane/bin", f"PATH={REMOVED}:{REMOVED}"),
        ("file:///home/jane/x.html", REMOVED),
        (r"C:\Users\jane\x.dcm", REMOVED),
        (r"'C:\\Users\\Jane Doe\\x.dcm'", f"'{REMOVED}'"),
        (r"\\server\share\Jane Doe\x.dcm", REMOVED),
        ("<b>/mnt/ward/jane_doe/1.dcm</b>", f"<b>{REMOVED}</b>"),
        ("two: /a/b/c.nii and /d/e/f.nii", f"two: {REMOVED} and {REMOVED}"),
        (
            "see https://zenodo.org/records/1322001 and 3 mm/pixel, 1/4, and/or",
            "see https://zenodo.org/records/1322001 and 3 mm/pixel, 1/4, and/or",
        ),
        ("data/cohorts/x.csv ../y/z.csv <br/></td>", "data/cohorts/x.csv ../y/z.csv <br/></td>"),
        ('src="data:image/jpeg;base64,/9j/4AAQ/abc/d="', 'src="data:image/jpeg;base64,/9j/4AAQ/abc/d="'),
        ("x = a / b / c  # 50 / 50", "x = a / b / c  # 50 / 50"),
    ],
)
def test_paths_are_removed_and_nothing_else(text: str, expected: str) -> None:
    assert SCRUB.text(text) == expected


def test_packed_numbers_and_pictures_are_no_text() -> None:
    packed = "+/ab/" * 60
    content = {"bdata": "/a/b/c", "image/png": "/a/b/c", "text": packed, "name": ["/a/b/c"]}
    assert SCRUB.content(content) == {**content, "name": [REMOVED]}
    wrapped = "\n".join(["+/ab/" * 15 + "x"] * 3 + ["ab=="])
    assert SCRUB.text(wrapped) == wrapped


def test_many_short_lines_with_paths_are_not_taken_for_packed_numbers() -> None:
    for line in ("/clinic/DoeJane/scans\n", "reading /clinic/DoeJane/scans "):
        assert "DoeJane" not in SCRUB.text(line * 50)


def test_the_notebooks_themselves_say_nothing_that_is_taken_for_a_path() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        assert SCRUB.content(notebook) == notebook, path.name


def test_paths_are_found_among_parameters() -> None:
    code = 'run = "quick"\nvolumes = "/clinic/Doe, Jane/x.nii"  # a volume\nother = ["..\\\\y"]\n'
    assert paths_in(code) == ["/clinic/Doe, Jane/x.nii", "..\\y"]
    assert paths_in("not code (") == []
