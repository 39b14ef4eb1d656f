"""Tables that people bring as CSV: any encoding and separator, and no value in another column than its own.

Spreadsheets write byte order marks, UTF-16, semicolons, empty rows and columns, and a separator too many at a row's end.
What means nothing is passed over. What may mean something, and fits no column, is refused with its line.
"""

from __future__ import annotations

import codecs
import csv
import glob
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

SEPARATORS = (",", ";", "\t", "|")
LARGEST_BYTES = 50_000_000
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's mark does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of Excel's and LibreOffice's own files."""

SIZE_COLUMNS = ("filename", "pixel size")
"""Words in the names of the columns that give a picture its pixel size."""
AGE_COLUMNS = ("filename", "ga_weeks")
"""The same of those that give a scan its gestational age."""
MOST_TABLES = 100
"""A folder with more of them holds tables of another kind."""

SWALLOWED = 3
"""A quoted cell with so many separators on a later line has swallowed a row: a quotation mark is missing."""


class TableError(ValueError):
    """A file that is no table, or one in which a value has no column of its own."""


class BroughtTable(NamedTuple):
    """What a file holds, each cell as text without blanks at its ends, and what a person should know of how it was read."""

    frame: pd.DataFrame
    remarks: list[str]


class _Row(NamedTuple):
    line: int
    cells: list[str]


def read_table(path: Path, known: Sequence[str] = ()) -> BroughtTable:
    """Read a CSV file as text, whatever a spreadsheet made of it.

    Args:
        path: of the file.
        known: names of columns, which tell the separator; without them it is the most frequent one of the first line.

    Raises TableError for a file that is no text or has no rows; for two columns of one name; for a row with more cells
    than there are columns, unless those beyond are empty; and for a quotation mark that is left open.
    """
    text, encoding = _text_of(path)
    remarks = []
    if encoding == "cp1252":
        remarks.append(
            f"{path.name} is not UTF-8 and was read as Windows-1252: if letters look wrong, save it as 'CSV UTF-8'"
        )
    told = re.match(r"sep=(.)\r?\n", text)
    if told:
        text = text[told.end() :]
    separator = told[1] if told else _separator(text, known)

    rows = _rows(path, text, separator, 1 if told else 0)
    if not rows:
        raise TableError(f"{path.name} is empty: expected a line with the columns' names, and one line a row")
    header, *body = rows
    columns = _columns(path, header, body)

    records = []
    for row in body:
        cells, missing = row.cells, len(columns) - len(row.cells)
        if missing > 0:
            cells = cells + [""] * missing
            remarks.append(
                f"line {row.line} has {len(row.cells)} cells, the header {len(columns)}: those missing count as empty"
            )
        records.append(cells[: len(columns)])
    frame = pd.DataFrame(records, columns=columns, dtype=str)
    return BroughtTable(frame[[name for name in columns if name]], remarks)


def pixel_sizes(folder: Path, begins: str = "") -> dict[str, float]:
    """Pixel sizes in mm by file name, from the CSV files of a folder that have HC18's columns `filename` and `pixel size(mm)`.

    `begins`: of the files' names.
    Raises ValueError where two rows give one file different sizes, for a size that is no positive number, and for a column without `mm`
    in its name.
    """
    sizes: dict[str, float] = {}
    for path, columns, table in _tables_with(SIZE_COLUMNS, folder, begins):
        if "mm" not in columns[1].lower():
            raise ValueError(f"{path.name}: the column {columns[1]!r} names no unit: expected pixel size(mm)")
        for name, given in table.itertuples(index=False, name=None):
            size = pd.to_numeric(given, errors="coerce")
            if not 0 < size < math.inf:
                raise ValueError(f"{path.name} gives {name} {given!r} mm a pixel: expected a positive number")
            if sizes.setdefault(str(name), float(size)) != size:
                raise ValueError(f"{path.name} gives {name} {size:g} mm a pixel, and another row {sizes[name]:g} mm")
    return sizes


def gestational_ages(folder: Path) -> dict[str, float]:
    """Gestational ages in weeks, written as 26.5 or 26+3, from the CSV files of a folder that have columns `filename` and `ga_weeks`.

    The name may lack its suffix. An empty cell gives none.
    Raises ValueError where two rows give one file different ages, and for what is no age.
    """
    ages: dict[str, float] = {}
    for path, _, table in _tables_with(AGE_COLUMNS, folder):
        for name, given in table[table.iloc[:, 1].str.strip() != ""].itertuples(index=False, name=None):
            try:
                weeks = parse_weeks(given)
            except ValueError as error:
                raise ValueError(f"{path.name}, {name}: {error}") from None
            if ages.setdefault(str(name), weeks) != weeks:
                raise ValueError(f"{path.name} gives {name} {weeks:g} weeks, and another row {ages[name]:g}")
    return ages


def parse_weeks(text: str) -> float:
    """Gestational age in weeks, written as 26.5 or as 26+3 (weeks and days); ValueError for anything else.

    >>> parse_weeks("26+3") == 26 + 3 / 7, parse_weeks("26.5")
    (True, 26.5)
    """
    if parts := re.fullmatch(r"(\d+)\+([0-6])", text.strip()):
        return int(parts[1]) + int(parts[2]) / 7
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no age: give weeks as 26.5, or weeks and days as 26+3") from None


def _tables_with(
    words: Sequence[str], folder: Path, begins: str = ""
) -> Iterator[tuple[Path, list[str], pd.DataFrame]]:
    """Those of a folder's CSV files with a column for each of these words, the names of these columns, and them alone."""
    for path in sorted(folder.glob(f"{glob.escape(begins)}*.csv" if begins else "[!.]*.csv"))[:MOST_TABLES]:
        with path.open("rb") as stream:
            start = stream.read(4096).replace(b"\0", b"").lower()  # zeros are of UTF-16
        if not all(word.encode() in start for word in words):
            continue  # somebody's own file, whatever is in it
        table = read_table(path).frame
        columns = [next((str(name) for name in table if word in str(name).lower()), "") for word in words]
        if all(columns):
            yield path, columns, table[columns]


def _text_of(path: Path) -> tuple[str, str]:
    """The text of a file, and its encoding."""
    if path.stat().st_size > LARGEST_BYTES:
        raise TableError(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB: expected a table of some kB")
    content = path.read_bytes()
    if content.startswith(WORKBOOKS):
        raise TableError(
            f"{path.name} is a workbook with another name: save the sheet as 'CSV UTF-8' in the spreadsheet"
        )

    mark, encoding = next(((mark, name) for mark, name in MARKS if content.startswith(mark)), (b"", ""))
    start = content[:400]
    if not encoding and b"\0" in start:  # UTF-16 whose mark was lost: the zeros tell the order
        encoding = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    for name in (encoding,) if encoding else ("utf-8", "cp1252"):
        try:
            text = content[len(mark) :].decode(name)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, name
    raise TableError(f"{path.name} is not a text file: save the table as 'CSV UTF-8'")


def _separator(text: str, known: Sequence[str]) -> str:
    """The separator under which most of the known names are columns; without any, the most frequent one of the first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def fit(separator: str) -> tuple[int, int]:
        names = {cell.strip().strip('"').lower() for cell in first.split(separator)}
        return len(names.intersection(known)), first.count(separator)

    return max(SEPARATORS, key=fit)


def _rows(path: Path, text: str, separator: str, before: int) -> list[_Row]:
    """Rows that hold anything, with the number of the line that each ends in; `before` lines came first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows = []
    try:
        for cells in reader:
            row = _Row(reader.line_num + before, [_stripped(cell) for cell in cells])
            _require_closed(path, row, separator)
            if any(row.cells):
                rows.append(row._replace(cells=[re.sub(r"\s*[\r\n]+\s*", " ", cell) for cell in row.cells]))
    except csv.Error as error:
        raise TableError(
            f"{path.name}, line {reader.line_num + before}: {error}; is a quotation mark missing, or one too many?"
        ) from error
    return rows


def _stripped(cell: str) -> str:
    """Without blanks at its ends, those that cannot be seen included."""
    return cell.strip().strip("\ufeff\u200b").strip()


def _require_closed(path: Path, row: _Row, separator: str) -> None:
    for cell in row.cells:
        _, *later = cell.splitlines() or [""]
        if any(line.count(separator) >= SWALLOWED for line in later):
            raise TableError(
                f"{path.name}: a cell that ends in line {row.line} holds a whole row: a quotation mark is missing before it"
            )


def _columns(path: Path, header: _Row, body: Sequence[_Row]) -> list[str]:
    """Names of the columns up to the last that has one; "" for an empty column between.

    Raises TableError where a value has no column.
    """
    names = list(header.cells)
    while names and not names[-1]:
        names.pop()
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise TableError(f"{path.name} has two columns named {twice[0]!r}: keep one, or give it another name")
    for row in body:
        for number, cell in enumerate(row.cells):
            if cell and number >= len(names):
                raise TableError(
                    f"{path.name}, line {row.line}: {len(row.cells)} cells, and the header has {len(names)}; {cell!r} is beyond: "
                    "a comma within a text needs quotation marks around it"
                )
            if cell and not names[number]:
                raise TableError(
                    f"{path.name}: column {number + 1} has no name, and {cell!r} in line {row.line}: "
                    "give it a name that begins with x_, or take it out"
                )
    return names
