"""Manifests as spreadsheets write them: the same values in the same columns, or a refusal with the line."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhlib.cohorts.manifest import CohortError, load_cohort
from fhlib.cohorts.tables import TableError, read_table
from tests.cohorts.made import make

HEADER = "case,subject,image,label,ga_weeks,site"
ROWS = (
    "c0,s0,images/c0.nrrd,labels/c0.nrrd,20.5,Bern",
    "c1,s1,images/c1.nrrd,labels/c1.nrrd,,",
    "c2,s2,images/c2.nrrd,labels/c2.nrrd,26,",
)
PLAIN = "\n".join((HEADER, *ROWS)) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sound cohort whose manifest tests write anew."""
    return make(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def plain(folder):
    (folder / "cohort.csv").write_text(PLAIN)
    return load_cohort(folder).table


@pytest.mark.parametrize(
    "content",
    [
        "\n".join((HEADER, *(row + "," for row in ROWS))),  # a comma too many, in the rows alone
        "\n".join(line + ",,," for line in (HEADER, *ROWS)),  # Excel's empty columns
        PLAIN + ",,,,,\n , ,,,,\n\n",  # Excel's empty rows
        "\n\n" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),  # an old Mac's
        ("\ufeff" + PLAIN).encode("utf-8"),
        ("\ufeff\ufeff" + PLAIN).encode("utf-8"),  # saved with a mark twice
        PLAIN.encode("utf-16"),
        ("\ufeff" + PLAIN).encode("utf-16-be"),
        PLAIN.encode("utf-16-le"),  # the mark is lost
        PLAIN.replace(",", "\t").encode("utf-16"),  # Excel's 'Unicode text'
        PLAIN.replace(",", ";").replace("20.5", "20,5"),  # a German Excel
        "sep=;\r\n" + PLAIN.replace(",", ";").replace("20.5", "20,5"),
        PLAIN.replace("20.5", '"20,5"'),
        PLAIN.replace(",", " , "),
        PLAIN.replace("images/", "images\\")
        .replace("labels/", ".\\labels\\")
        .replace(".\\labels", "labels"),  # Windows' paths
        "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER, *ROWS)),
    ],
)
def test_what_spreadsheets_write_is_the_table_that_was_meant(folder, plain, content):
    (folder / "cohort.csv").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    cohort = load_cohort(folder)
    pd.testing.assert_frame_equal(cohort.table, plain)
    assert cohort.remarks == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN.replace("Bern", "Bern, Insel"), r"line 2: 7 cells, and the header has 6; 'Insel' is beyond"),
        (
            PLAIN.replace(",26,", ",26,4,").replace("20.5", "20,5"),
            r"line 2: 7 cells.*'Bern' is beyond",
        ),  # unquoted decimal commas
        (
            PLAIN.replace(",site", ",").replace("Bern", "Bern"),
            r"line 2: 6 cells, and the header has 5; 'Bern' is beyond",
        ),
        (PLAIN.replace(",ga_weeks,", ",,"), r"column 5 has no name, and '20.5' in line 2"),
        (PLAIN.replace("site", "label"), "two columns named 'label'"),
        (PLAIN.replace("label,", "labl,"), "'labl' is not a column of cohort.csv: did you mean 'label'"),
        (PLAIN.replace("case,", "CASE,"), "'CASE' is not a column of cohort.csv: did you mean 'case'"),
        (PLAIN.replace("Bern", '"Bern'), r"a whole row: a quotation mark is missing|quotation mark"),
        (PLAIN.replace("Bern", '"Bern').replace("26,", '26,"'), "a whole row: a quotation mark is missing"),
        (PLAIN.replace("20.5", '"1,234"'), "ga_weeks is '1.234'"),
        (
            HEADER.replace("ga_weeks", "reference_volume_ml") + "\n" + ROWS[0].replace("20.5", '"1,234"'),
            "write 1234 or 1.234",
        ),
        (PLAIN.replace("20.5", "170"), "is it in days. 170 days are 24.29 weeks"),
        (PLAIN.replace("20.5", "24+3"), "24 weeks and 3 days are 24.43"),
        (PLAIN.replace("20.5", "2024-05-24"), "looks like a date"),
        (PLAIN.replace("20.5", "24. Mrz"), "looks like a date"),
        (PLAIN.replace("20.5", "-20.5"), "ga_weeks is '-20.5': expected a number of 4 to 45 weeks"),
        (PLAIN.replace("20.5", "2_0"), "ga_weeks is '2_0'"),  # Python alone takes it for a number
        (b"PK\x03\x04 a workbook", "is a workbook with another name"),
        (bytes(range(128, 256)) * 9, "not a text file|is missing"),
        ("case,subject,image\na,b,c\n", "column 'label' is missing"),
        (ROWS[0] + "\n" + ROWS[1], "column 'case' is missing"),  # the header was lost
    ],
)
def test_what_fits_no_column_is_refused_with_its_line(folder, content, message):
    (folder / "cohort.csv").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    with pytest.raises(CohortError, match=message):
        load_cohort(folder)


def test_letters_of_another_encoding_and_cells_that_are_missing_are_said(folder):
    (folder / "cohort.csv").write_bytes(PLAIN.replace("Bern", "Zürich").encode("cp1252"))
    cohort = load_cohort(folder)
    assert cohort.row("c0")["site"] == "Zürich" and "read as Windows-1252" in cohort.remarks[0]
    (folder / "cohort.csv").write_text(PLAIN.replace("26,", "26"))
    cohort = load_cohort(folder)
    assert cohort.row("c2")["ga_weeks"] == "26" and "line 4 has 5 cells, the header 6" in cohort.remarks[0]


def test_a_line_break_within_quotation_marks_stays_in_its_cell(folder):
    (folder / "cohort.csv").write_text(PLAIN.replace("Bern", '"Bern,\r\nInsel"'))
    assert load_cohort(folder).table["site"].tolist() == ["Bern, Insel", "", ""]


def test_ids_are_text_whatever_they_look_like(folder):
    ids = ["NA", "nan", "None"]
    (folder / "cohort.csv").write_text(
        PLAIN.replace("s0", "007").replace("c0,", "NA,").replace("c1,", "nan,").replace("c2,", "None,")
    )
    table = load_cohort(folder).table
    assert table["case"].tolist() == ids and table["subject"].tolist() == ["007", "s1", "s2"]


CELLS = st.text(st.sampled_from("aB0 ,;\t|.-_\"'\n\rü€"), max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.integers(0, 3),
)
def test_any_table_comes_back_cell_by_cell_or_is_refused(tmp_path_factory, rows, separator, encoding, empty):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("case", "subject", "image"), *(row + ("",) * empty for row in rows)])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(stream.getvalue().encode(encoding))
    try:
        frame = read_table(path, ("case", "subject", "image")).frame
    except TableError as error:
        assert "quotation mark" in str(error)  # text that cannot be told from a swallowed row
        return
    meant = [
        [" ".join(part.strip() for part in cell.strip().splitlines() if part.strip()) for cell in row] for row in rows
    ]
    found = [[" ".join(cell.split()) for cell in row] for row in frame.to_numpy().tolist()]
    assert found == [[" ".join(cell.split()) for cell in row] for row in meant if any(row)]
