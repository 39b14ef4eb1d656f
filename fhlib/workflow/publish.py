"""Publish a run, and keep the numbers on the pages equal to the tables they come from.

No number on a page is typed. A marker names a CSV beside the page and shows how it is written:

    <!-- table: summary.csv[n > 10] with: ../../reference/table1.csv as paper on variant
    | network   | DSC [%]                 | the paper's [%]          |
    | {variant} | {100 * dsc_mean:.2f}    | {paper_dsc_percent:.2f}  |
    -->
    <!-- end -->

- `table`: a heading and one line, repeated for each row of the CSV. With `each: column` for each value of a column.
- `facts`: a heading and lines that are filled once each, from all rows: `{100 * dsc.mean():.1f} %`.
- `value`: a single number inside a sentence: `<!-- value: summary.csv[variant == 'USegNet'] {n} --><!-- end -->`.
  No line begins with it: Markdown would take the whole line for HTML.

Brackets choose rows, as `pandas.DataFrame.query` does. Braces hold an expression over columns, as `DataFrame.eval`
reads it, and a format. `with` looks rows up in another CSV, whose columns then begin with the given name; what a second
`with` of the same name finds fills what the first left empty. `= column` after `on` names the other CSV's key.
A cell of a table with a missing value stays empty. The format `p` writes a p value.
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib.files import DATA, ROOT, atomic_path, write_csv, write_text
from fhlib.paper.answers import RUNS, answers, published_claims
from fhlib.study.run import Study, StudyError, reopen_study

RESULTS = DATA / "results"

SMALL_BYTES = 200_000
"""Tables up to this size are published; a larger one only where an earlier state of it is."""

ANSWERS, CLAIMS = "answers.csv", "claims.csv"
"""What the published runs say to the paper's questions, and to its claims (`fhlib.paper.answers`)."""
EXAMPLE = "example.png"
"""The picture of README: what 04_predict drew of the first test case for the preset's last variant."""

SOURCE = r"(?P<file>[^\s\[]+)(?:\[(?P<condition>[^\]]+)\])?"
MARKER = re.compile(r"<!-- (?P<kind>table|facts|value): (?P<spec>.*?)-->(?P<text>.*?)<!-- end -->", re.DOTALL)
FIELD = re.compile(r"\{(?P<expression>[^{}:]+)(?::(?P<format>[^{}]*))?\}")
LOOK_UP = re.compile(rf"{SOURCE} as (?P<name>\w+) on (?P<key>\w+)(?: = (?P<other>\w+))?")
CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


class PublishError(ValueError):
    """A marker that cannot be filled; the message names the page, the marker and the remedy."""


@dataclass(frozen=True)
class Marker:
    """One marker of a page: its kind, how it is written, and the text that stands in it now."""

    page: Path
    kind: str
    spec: str
    text: str

    @property
    def name(self) -> str:
        """Page and first line of the marker, for messages."""
        return f"{_shown(self.page)}, marker '{self.kind}: {self.spec.splitlines()[0].strip()}'"

    def error(self, what: str) -> PublishError:
        """An error that names this marker."""
        return PublishError(f"{self.name}: {what}")


def publish(run: str) -> list[Path]:
    """Copy a finished run's small tables and figures to `data/results/<run>/` and rewrite the pages; returns what was written.

    Published are tables up to `SMALL_BYTES`, the figures that a page shows, and whatever an earlier state of lies there.
    Executed notebooks never are. Files of other origin (another seed's scores, say) stay as they are.
    Raises StudyError where there is no such run or it is not finished, PublishError for a marker that cannot be filled.
    """
    study = reopen_study(run)
    _require_finished(study)
    destination = RESULTS / study.name
    copied = []

    for source, name in [*_tables(study, destination), *_figures(study, destination)]:
        with atomic_path(destination / name) as temporary:
            shutil.copyfile(source, temporary)
        copied.append(destination / name)
    return copied + refresh_pages()


def refresh_pages() -> list[Path]:
    """Work out anew what the published runs say to the paper's questions and claims, where it stands which runs, and rewrite the markers of
    every page.

    Returns the pages that have changed. Raises as `refresh`.
    """
    if (RESULTS / RUNS).exists():
        write_csv(answers(RESULTS), RESULTS / ANSWERS)
        write_csv(published_claims(RESULTS), RESULTS / CLAIMS)
    return [page for page in pages() if refresh(page)]


def pages() -> list[Path]:
    """Every page of the repository that may hold markers: the README files, but for those of cohorts and runs."""
    inner = [
        path for folder in ("presets", "results", "weights", "reference") for path in (DATA / folder).rglob("*.md")
    ]
    return [path for path in [ROOT / "README.md", *sorted(inner)] if path.exists()]


def refresh(page: Path | str) -> bool:
    """Rewrite all markers of a page from their CSVs, atomically; returns whether the page has changed.

    Raises PublishError, before anything is written, where a marker cannot be filled.
    """
    page = Path(page)
    before = page.read_text(encoding="utf-8")
    after = _with_each_marker(page, before, _written)
    if after == before:
        return False
    write_text(after, page)
    return True


def check(page: Path | str) -> list[str]:
    """What on a page disagrees with its CSVs: one sentence for each marker, with the remedy; an empty list where all agree.

    Raises PublishError where a marker cannot be filled.
    """
    page = Path(page)
    found = []
    for marker in markers(page):
        expected = fill(marker)
        if marker.text.strip() == expected:
            continue
        was, should = _first_difference(marker.text.strip(), expected)
        found.append(
            f"{marker.name}: the page says {was!r} and the CSV {should!r}; write it anew with `python -m fhlib publish`"
        )
    return found


def markers(page: Path | str) -> list[Marker]:
    """The markers of a page in order, those in code blocks left out. Raises PublishError for one without an end."""
    page = Path(page)
    found: list[Marker] = []

    def collect(marker: Marker) -> str:
        found.append(marker)
        return marker.text

    _with_each_marker(page, page.read_text(encoding="utf-8"), collect)
    return found


def fill(marker: Marker) -> str:
    """The text of a marker as its CSV has it. Raises PublishError where it cannot be filled."""
    written = [line.strip() for line in marker.spec.strip().splitlines()]
    head = " ".join(line for line in written if not line.startswith("|"))
    lines = [line for line in written if line.startswith("|")]
    if marker.kind == "value":
        source = re.match(SOURCE, head)
        assert source is not None
        return _filled(marker, head[source.end() :].strip(), _rows(marker, source), required=True)

    rows, groups = _read(marker, head)
    if len(lines) < 2 or (marker.kind == "table" and len(lines) != 2):
        raise marker.error("a table has two lines, the headings and how a row is written; facts have two or more")
    headings = _cells(lines[0])
    body = [headings, ["---"] * len(headings)]
    if marker.kind == "table":
        for group in _grouped(marker, rows, groups):
            body.append([_filled(marker, cell, group) for cell in _cells(lines[1])])
    else:
        for line in lines[1:]:
            body.append([_filled(marker, cell, rows, required=True) for cell in _cells(line)])
    return "\n".join(map(_line, body))


def _with_each_marker(page: Path, text: str, change: Callable[[Marker], str]) -> str:
    """`text` with each marker's content replaced by what `change` returns; code blocks are left alone."""

    def replace(match: re.Match[str]) -> str:
        marker = Marker(page, match["kind"], match["spec"], match["text"])
        if opened := re.search(r"<!-- (?:table|facts|value): ", match["text"]):
            raise marker.error(f"it has no '<!-- end -->' before {match['text'][opened.start() :][:40]!r}: add one")
        return f"<!-- {match['kind']}: {match['spec']}-->{change(marker)}<!-- end -->"

    parts = CODE.split(text)
    prose = "".join(parts[::2])
    if len(MARKER.findall(prose)) != prose.count("<!-- end -->"):
        raise PublishError(f"{_shown(page)}: an '<!-- end -->' has no marker before it: remove it, or mend the marker")
    if left := re.search(r"<!-- (?:table|facts|value): [^\n]*", MARKER.sub("", prose)):
        raise PublishError(
            f"{_shown(page)}, marker {left.group()!r}: it has no '<!-- end -->': add one after its place"
        )
    parts[::2] = [MARKER.sub(replace, part) for part in parts[::2]]
    return "".join(parts)


def _written(marker: Marker) -> str:
    text = fill(marker)
    return text if marker.kind == "value" else f"\n\n{text}\n\n"


def _read(marker: Marker, head: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows of a table's first line, with what it looks up, and the columns that its rows are put together by."""
    first, *clauses = re.split(r"\s(?=(?:with|each): )", head)
    rows = _rows(marker, _matched(marker, SOURCE, first))
    groups: list[str] = []
    for clause in clauses:
        word, rest = clause.split(": ", 1)
        if word == "with":
            rows = _looked_up(marker, rows, _matched(marker, LOOK_UP, rest))
        else:
            groups = rest.replace(",", " ").split()
    return rows, groups


def _matched(marker: Marker, pattern: str | re.Pattern[str], text: str) -> re.Match[str]:
    match = re.fullmatch(pattern, text.strip())
    if match is None:
        raise marker.error(
            f"{text.strip()!r} cannot be read: write FILE[condition], and after it "
            "'with: FILE as NAME on COLUMN' or 'each: COLUMN'"
        )
    return match


def _rows(marker: Marker, source: re.Match[str]) -> pd.DataFrame:
    """Rows of a CSV, those that meet the condition in brackets."""
    path = marker.page.parent / source["file"]
    if not path.exists():
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.csv")], n=1)
        raise marker.error(f"there is no file {source['file']}" + (f"; did you mean {near[0]}?" if near else ""))
    rows = pd.read_csv(path)
    if source["condition"] is None:
        return rows
    rows = _evaluated(marker, source["condition"], lambda: rows.query(source["condition"], engine="python"), rows)
    if rows.empty:
        raise marker.error(f"no row of {source['file']} meets [{source['condition']}]: change the condition")
    return rows.reset_index(drop=True)


def _looked_up(marker: Marker, rows: pd.DataFrame, clause: re.Match[str]) -> pd.DataFrame:
    """`rows` with the columns of another CSV, found by a key; names begin with the name that the clause gives."""
    other = _rows(marker, clause)
    key = clause["other"] or clause["key"]
    if clause["key"] not in rows or key not in other:
        raise marker.error(
            f"{clause['key']} = {key} is no column of both files: name the key with 'on COLUMN = COLUMN'"
        )
    if other[key].duplicated().any():
        raise marker.error(f"{clause['file']} has several rows for one {key}: choose among them with [condition]")
    found = other.set_index(key).reindex(rows[clause["key"]]).set_index(rows.index).add_prefix(f"{clause['name']}_")
    for column in found:
        rows[column] = rows[column].where(rows[column].notna(), found[column]) if column in rows else found[column]
    return rows


def _grouped(marker: Marker, rows: pd.DataFrame, columns: list[str]) -> Iterator[pd.DataFrame]:
    """The rows one by one, or those that are equal in `columns` together, in the order of the CSV."""
    if unknown := [name for name in columns if name not in rows]:
        raise marker.error(f"there is no column {unknown[0]!r}; columns: {', '.join(rows)}")
    if columns:
        yield from (group for _, group in rows.groupby(columns, sort=False, dropna=False))
    else:
        yield from (rows.iloc[[k]] for k in range(len(rows)))


def _filled(marker: Marker, template: str, rows: pd.DataFrame, required: bool = False) -> str:
    """A template with its fields from `rows`; empty where a value is missing, an error where one is `required`."""
    if required and marker.kind == "value" and not FIELD.search(template):
        raise marker.error("it shows nothing: write what to show in braces, such as {100 * dsc_mean:.1f}")
    values = {match.group(): _value(marker, match["expression"], rows) for match in FIELD.finditer(template)}
    if missing := [field for field, value in values.items() if pd.isna(value)]:
        if required:
            raise marker.error(f"{missing[0]} has no value in these rows: choose others")
        return ""
    return FIELD.sub(lambda match: _formatted(marker, values[match.group()], match["format"] or ""), template)


def _value(marker: Marker, expression: str, rows: pd.DataFrame) -> Any:
    """The one value of an expression over these rows."""
    result = _evaluated(marker, expression, lambda: rows.eval(expression.strip(), engine="python"), rows)
    if not isinstance(result, pd.Series):
        return result
    values = result.unique()
    if len(values) != 1:
        raise marker.error(
            f"{{{expression}}} has {len(values)} values in {len(rows)} rows: choose rows with [condition], "
            "or reduce them, as in dsc.mean()"
        )
    return values[0]


def _evaluated(marker: Marker, text: str, evaluate: Callable[[], Any], rows: pd.DataFrame) -> Any:
    try:
        return evaluate()
    except Exception as error:  # pandas raises many kinds; all mean that the text cannot be evaluated
        columns = ", ".join(map(str, rows.columns))
        raise marker.error(f"{text!r} cannot be evaluated ({error}); columns: {columns}") from None


def _formatted(marker: Marker, value: Any, form: str) -> str:
    if form == "p":
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    try:
        text = format(value, form)
    except (ValueError, TypeError) as error:
        raise marker.error(f"{value!r} cannot be written as {form!r} ({error})") from None
    return re.sub(r"^[-+](?=[0.]+$)", "", text)  # no sign for what is rounded to zero


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _first_difference(text: str, expected: str) -> tuple[str, str]:
    """The first line in which two texts differ, of each."""
    was, should = text.splitlines(), expected.splitlines()
    for k in range(max(len(was), len(should))):
        pair = "".join(was[k : k + 1]), "".join(should[k : k + 1])
        if pair[0] != pair[1]:
            return pair
    return "", ""


def _require_finished(study: Study) -> None:
    if not (study.folder / "report" / "index.html").exists() or not any(study.tables.glob("*.csv")):
        raise StudyError(
            f"run {study.name!r} is not finished: it has no report yet. "
            f"Finish it with `python -m fhlib study --preset {study.preset.name} --run {study.name}`, then publish it"
        )


def _tables(study: Study, destination: Path) -> Iterator[tuple[Path, str]]:
    """The run's tables to publish, and their names there."""
    for path in sorted(study.tables.glob("*.csv")):
        if path.stat().st_size <= SMALL_BYTES or (destination / path.name).exists():
            yield path, path.name


def _figures(study: Study, destination: Path) -> Iterator[tuple[Path, str]]:
    """The run's figures to publish: those that a page shows or that an earlier state of lies there."""
    shown = _pictures_shown()
    for path in sorted(study.figures.glob("*.png")):
        place = destination / path.name
        if place.exists() or place.resolve() in shown:
            yield path, path.name

    example = destination / EXAMPLE
    drawn = sorted(study.figures.glob(f"04_{study.preset.variants[-1]}_*.png"))
    if drawn and (example.exists() or example.resolve() in shown):
        yield drawn[0], EXAMPLE


def _pictures_shown() -> set[Path]:
    return {
        (page.parent / name).resolve() for page in pages() for name in PICTURE.findall(page.read_text(encoding="utf-8"))
    }


def _shown(page: Path) -> str:
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
