"""The manifest of a cohort, `cohort.csv`: its columns, their schema, and reading what it names.

One row a scan. The columns REQUIRED must be there, those OPTIONAL and any that begins with `x_` may be. Paths are
relative to the file and never lead outside its folder. `label` is the whole head to its skin, `label_skull` the outer
skull, filled. Where both name the same file, the cohort's outline is the skull (HC18). `spacing_mm` is the size of a
voxel where a row's files do not state it; it replaces what they state.

`label` may be empty in two cases. Either `has_head` is false, and the reference is then the empty mask. Or the case is
there for prediction only: it is never trained on, so its split is test, repro or empty.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from fhlib.cohorts.pairs import AS_WRITTEN, LABEL_SOURCE
from fhlib.cohorts.segments import has_segments, read_label
from fhlib.cohorts.tables import TableError, read_table
from fhlib.files import write_csv
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume, parse_spacing
from fhlib.measures.biometry import Outline

MANIFEST = "cohort.csv"
REQUIRED = ("case", "subject", "image", "label")
OPTIONAL = (
    "ga_weeks",
    "scan_direction",
    "site",
    "split",
    "has_head",
    "label_skull",
    "reference_hc_mm",
    "reference_volume_ml",
    "spacing_mm",
)
SPLITS = ("train", "val", "test", "repro")
PATHS = ("image", "label", "label_skull")
NUMBERS = {"ga_weeks": (4, 45, "weeks"), "reference_hc_mm": (20, 500, "mm"), "reference_volume_ml": (0, 3000, "mL")}
"""Columns of numbers: from, to, unit."""
EARLIEST_WEEKS = 10
"""Below it no head can be outlined that this study is about; so few are more often months."""
FINDING = ("case", "check", "severity", "message")
Finding = tuple[str, str, str, str]
SMALLEST = {"reference_hc_mm": (50, "cm"), "reference_volume_ml": (4, "litres")}
"""No head that is outlined measures less; so small a number is more often in this unit."""
MANY_AGES = 10
"""So many ages without a decimal beyond 6 come by chance in 2 of 100 cohorts."""
_TRUTH = {"": "true", "true": "true", "yes": "true", "1": "true", "false": "false", "no": "false", "0": "false"}


class CohortError(ValueError):
    """A cohort that cannot be used; `findings` (case, check, severity, message) lists everything that was found."""

    def __init__(self, findings: pd.DataFrame, name: str = "the cohort") -> None:
        self.findings = findings
        super().__init__(f"{name} cannot be used\n{describe_findings(findings)}")


@dataclass(frozen=True, eq=False)
class Cohort:
    """A folder of scans and its manifest; `table` has a row a scan and every known column, as strings ("" is unknown).

    `remarks` tell how the file was read, where that was not plain.
    """

    name: str
    folder: Path
    table: pd.DataFrame
    remarks: tuple[str, ...] = ()

    def row(self, case: str) -> pd.Series:
        """The manifest's row of a case; KeyError with a suggestion for an unknown one."""
        rows = self.table[self.table["case"] == case]
        if rows.empty:
            raise KeyError(f"{self.name} has no case {case!r}{_suggest(case, self.table['case'].tolist())}")
        return rows.iloc[0]

    def path(self, case: str, column: str = "image") -> Path:
        """Absolute path of a file of a case; CohortError if it is not given or leaves the cohort's folder."""
        relative = self.row(case)[column]
        reason = leaves_folder(self.folder, relative) if relative else f"no {column} is given"
        if reason:
            raise CohortError(as_findings([(case, "path", "error", reason)]), self.name)
        return self.folder / relative

    def read_image(self, case: str) -> Volume:
        """The scan of a case, with the size of a voxel that its row gives."""
        self.path(case)  # refuses what leaves the folder
        return read_file(self.folder, self.row(case), "image")

    def read_label(self, case: str, column: str = "label") -> Volume:
        """The reference mask (bool) of a case from `label` or `label_skull`; the empty mask where there is no head.

        Any one value above or below 0 counts as head. Raises CohortError if there is no label or it is not binary.
        """
        row = self.row(case)
        if not row[column] and row["has_head"] == "false":
            image = self.read_image(case)
            return image.with_array(np.zeros(image.shape, bool))
        scan = self.read_image(case) if has_segments(self.path(case, column)) else None
        label = read_file(self.folder, row, column, scan)
        mask = label.array != 0
        inside = label.array[mask]
        if inside.size and inside.min() != inside.max():
            values = f"{inside.min()} to {inside.max()}"
            message = f"{column} holds more than one value besides 0 ({values}): save one structure"
            raise CohortError(as_findings([(case, "label not binary", "error", message)]), self.name)
        return label.with_array(mask)

    @property
    def spatial_dims(self) -> int:
        """2 or 3, from the first image."""
        return self.read_image(self.table["case"].iloc[0]).ndim

    @property
    def outline(self) -> Outline:
        """Of what `label` is: `skull` or `skin`."""
        return "skull" if self.outlines_skull else "skin"

    @property
    def outlines_skull(self) -> bool:
        """Whether `label` itself is the outer skull in every labelled case (as in HC18), and not the whole head."""
        labelled = self.table[self.table["label"] != ""]
        return len(labelled) > 0 and bool((labelled["label"] == labelled["label_skull"]).all())


def structure_of(row: Mapping[Any, str] | pd.Series, column: str) -> str:
    """What a row's column outlines: where both columns name one file, it is the skull."""
    return "skull" if column == "label_skull" or row["label"] == row["label_skull"] else "head"


def read_file(folder: Path, row: Mapping[Any, str] | pd.Series, column: str, scan: Volume | None = None) -> Volume:
    """One file of a row as it lies there, with the size of a voxel that the row gives.

    Args:
        folder: the cohort's.
        row: of the manifest.
        column: `image`, `label` or `label_skull`.
        scan: in whose grid a label of 3D Slicer is brought.

    Raises as `read_volume` and `read_label`.
    """
    path, spacing_mm = folder / row[column], parse_spacing(row.get("spacing_mm", ""))
    if column == "image" or (spacing_mm and not has_segments(path)):
        return read_volume(path, spacing_mm)
    return read_label(path, scan, structure_of(row, column))


def load_cohort(folder: Path | str, strict: bool = True) -> Cohort:
    """Read and validate the manifest of a folder, not its images (`check_cohort` does that).

    Raises FileNotFoundError without a cohort.csv, and CohortError listing everything that breaks the schema. With
    `strict=False` only what makes the table unusable raises, such as a missing column; `check_cohort` has the rest.
    """
    folder = Path(folder)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name) or "cohort"
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"there is no {MANIFEST} in {folder.name or '.'}/: see data/README.md for its columns")
    try:
        table, remarks = read_table(path, (*REQUIRED, *OPTIONAL))
    except TableError as error:
        raise CohortError(as_findings([("", "schema", "error", str(error))]), name) from error
    cohort = Cohort(name, folder, _complete(table), tuple(remarks))
    findings = check_manifest(cohort, tuple(table.columns))
    fatal = findings["severity"] == "error"
    if (fatal & (findings["check"] == "schema")).any() or (strict and fatal.any()):
        raise CohortError(findings, name)
    return cohort


def write_manifest(table: pd.DataFrame, folder: Path | str) -> Cohort:
    """Validate a table, write it as the folder's cohort.csv (known columns first, empty ones left out) and load it.

    Raises CohortError before anything is written.
    """
    folder = Path(folder)
    text = table.astype(object).where(table.notna(), "").astype(str)
    cohort = Cohort(folder.name, folder, _complete(text))
    findings = check_manifest(cohort, tuple(table.columns))
    if (findings["severity"] == "error").any():
        raise CohortError(findings, cohort.name)
    known = [name for name in cohort.table if name in REQUIRED or (cohort.table[name] != "").any()]
    write_csv(cohort.table[known], folder / MANIFEST)
    return load_cohort(folder)


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """Strip cells, add the optional columns that are absent, order the columns.

    has_head becomes true or false, a decimal comma a point, and a path has slashes.
    """
    table = table.apply(lambda column: column.str.strip())
    missing = [name for name in OPTIONAL if name not in table]
    table = table.assign(**dict.fromkeys(missing, ""))
    table["has_head"] = table["has_head"].map(lambda value: _TRUTH.get(value.lower(), value))
    for name in [name for name in NUMBERS if name in table]:
        table[name] = table[name].map(partial(_with_point, limits=NUMBERS[name]))
    for name in [name for name in PATHS if name in table]:
        # as Windows writes them; at the start they make a path absolute
        table[name] = table[name].map(lambda path: path if path.startswith("\\") else path.replace("\\", "/"))
    known = [name for name in (*REQUIRED, *OPTIONAL) if name in table]
    return table[[*known, *(name for name in table if name not in known)]].reset_index(drop=True)


def _with_point(value: str, limits: tuple[float, float, str]) -> str:
    """A number with a decimal point. `1,234` is 1.234 or 1234: only where one of them is possible, it is taken."""
    if re.fullmatch(r"-?\d{1,3}(\.\d{3})*,\d+", value, re.ASCII) is None:
        return value
    point = value.replace(".", "").replace(",", ".")
    thousands = value.replace(",", "") if re.fullmatch(r"\d{1,3},\d{3}", value, re.ASCII) else ""
    low, high, _ = limits
    return value if thousands and low <= float(thousands) <= high else point


def _suggest(name: str, known: Sequence[str]) -> str:
    """ ": did you mean ...?" for the nearest known name; "" if none is near."""
    near = difflib.get_close_matches(name.lower(), known, n=1) or [
        full for full in known if name.lower().startswith(full)
    ]
    return f": did you mean {near[0]!r}?" if near else ""


def as_findings(rows: Sequence[Finding]) -> pd.DataFrame:
    """Table of findings (case, check, severity, message)."""
    return pd.DataFrame(rows, columns=list(FINDING), dtype=str)


def leaves_folder(folder: Path, relative: str) -> str:
    """Why a path is not a place within the folder, links and `..` resolved; "" if it is."""
    if Path(relative).is_absolute() or re.match(r"[A-Za-z]:|\\|~|[A-Za-z]+://", relative):
        return f"{Path(relative).name!r} is given with an absolute path: write it relative to {MANIFEST}"
    try:
        place, home = (folder / relative).resolve(), folder.resolve()
        place.exists()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names that are too long
        kind = "a link that leads to itself" if isinstance(error, RuntimeError) else "no name of a file"
        return f"{relative[:60]!r} is {kind}: name the file itself"
    if place == home:
        return f"{relative!r} is the cohort's folder itself: name a file or folder in it"
    if not place.is_relative_to(home):
        return f"{relative!r} leads outside the cohort's folder: move the file into it (a link does not count)"
    return ""


def _number(name: str) -> pa.Column:
    """A column of numbers in a range, or nothing."""
    low, high, unit = NUMBERS[name]

    def within(value: str) -> bool:
        return value == "" or (NUMBER.fullmatch(value) is not None and low <= float(value) <= high)

    return pa.Column(str, pa.Check(within, element_wise=True, error=f"expected a number of {low:g} to {high:g} {unit}"))


def _is_spacing(value: str) -> bool:
    try:
        parse_spacing(value)
    except ValueError:
        return False
    return True


def _hint(column: str, value: str) -> str:
    """What a person may have meant by a value that is refused; "" if that cannot be told."""
    if column == "split":
        return _suggest(value, SPLITS)
    if column == "spacing_mm":
        return ": give mm as 0.5, or one number an axis (d,h,w) in quotation marks, as 0.5,0.5,0.7"
    if column in NUMBERS and re.fullmatch(r"\d{1,3},\d{3}", value):
        return f": write {value.replace(',', '')} or {value.replace(',', '.')}"
    if column != "ga_weeks":
        return ""
    if parts := re.fullmatch(r"(\d\d)\s*(?:\+|w|weeks?)\s*(\d)\s*(?:d|days?|/7)?", value.lower()):
        return f": {parts[1]} weeks and {parts[2]} days are {int(parts[1]) + int(parts[2]) / 7:.2f}"
    if NUMBER.fullmatch(value) and 45 < float(value) <= 315:
        return f": is it in days? {value} days are {float(value) / 7:.2f} weeks"
    if re.search(r"[a-zäé]{3}|\d[-/.]\d+[-/.]\d", value.lower()):
        return ": it looks like a date, which a spreadsheet makes of numbers; give the age in weeks"
    return ""


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_IDENTIFIER = pa.Check.str_matches(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    error="expected a pseudonym of letters, digits, '-', '_' and '.', beginning with a letter or digit",
)
SCHEMA = pa.DataFrameSchema(
    {
        "case": pa.Column(str, _IDENTIFIER),
        "subject": pa.Column(str, _IDENTIFIER),
        "image": pa.Column(str, pa.Check(lambda value: value != "", element_wise=True, error="an image is required")),
        "split": pa.Column(str, pa.Check.isin([*SPLITS, ""], error=f"expected {', '.join(SPLITS)} or nothing")),
        "has_head": pa.Column(str, pa.Check.isin(["true", "false"], error="expected true, false or nothing")),
        **{name: _number(name) for name in NUMBERS},
        "spacing_mm": pa.Column(str, pa.Check(_is_spacing, element_wise=True, error="expected the size of a voxel")),
    }
)


def check_manifest(cohort: Cohort, columns: Sequence[str]) -> pd.DataFrame:
    """Everything that the manifest alone tells; `columns` are those that the file has."""
    rows = list(_check_columns(cohort.table, columns))
    # without its columns or rows the table cannot be looked at any further
    if all(check != "schema" for _, check, _, _ in rows):
        rows += [
            *_check_values(cohort.table),
            *_check_rows(cohort),
            *_check_ages(cohort.table),
            *_check_sources(cohort.table),
            *_check_subjects(cohort.table),
        ]
    rows += [("", "table", "warning", remark) for remark in cohort.remarks]
    return as_findings(rows)


def _check_columns(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[Finding]:
    """Unknown and missing columns, and a table without rows."""
    known = (*REQUIRED, *OPTIONAL)
    for name in columns:
        if name not in known and not name.startswith("x_"):
            hint = _suggest(name, known) or ": begin its name with x_ to keep it"
            yield "", "unknown column", "error", f"{name!r} is not a column of {MANIFEST}{hint}"
    for name in REQUIRED:
        if name not in columns:
            yield "", "schema", "error", f"the column {name!r} is missing; {MANIFEST} has {', '.join(columns)}"
    if table.empty:
        yield "", "schema", "error", f"{MANIFEST} has no rows: give one row a scan"


def _check_values(table: pd.DataFrame) -> Iterator[Finding]:
    """Values that break the schema, and cases that stand in two rows."""
    try:
        SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        for failure in error.failure_cases.to_dict("records"):
            case = table["case"].iloc[int(failure["index"])]
            column, value = failure["column"], failure["failure_case"]
            yield case, "value", "error", f"{column} is {value!r}: {failure['check']}{_hint(column, value)}"
    for case in table["case"][table["case"].str.lower().duplicated()]:
        message = "the case stands in more than one row: give each scan its own name"
        yield case, "duplicate case", "error", message


def _check_rows(cohort: Cohort) -> Iterator[Finding]:
    """Paths that leave the cohort's folder, numbers that cannot be meant, and labels that are missing."""
    for row in cohort.table.to_dict("records"):
        for column in PATHS:
            if row[column] and (reason := leaves_folder(cohort.folder, row[column])):
                yield row["case"], "path", "error", f"{column}: {reason}"
        yield from _check_numbers(row)
        if row["label"] or row["has_head"] == "false":
            continue
        if row["split"] in ("train", "val"):
            yield row["case"], "missing label", "error", f"a case of split {row['split']} needs a label"
        else:
            yield row["case"], "missing label", "warning", "no label: the case is for prediction only"


def _check_numbers(row: Mapping[Hashable, str]) -> Iterator[Finding]:
    """Numbers within their limits that cannot be meant, and a size of a voxel that nothing reads."""
    age, volume = row["ga_weeks"], row["reference_volume_ml"]
    if NUMBER.fullmatch(age) and 4 <= float(age) < EARLIEST_WEEKS:
        yield row["case"], "age", "warning", f"ga_weeks is {age}: are these months?"
    if NUMBER.fullmatch(volume) and float(volume) == 0 and row["has_head"] == "true":
        message = "reference_volume_ml is 0 where a head is expected: leave it empty, or set has_head to false"
        yield row["case"], "value", "error", message
    for column, (smallest, unit) in SMALLEST.items():
        # where there is a label, the number is held against it
        if not row["label"] and NUMBER.fullmatch(row[column]) and 0 < float(row[column]) < smallest:
            yield row["case"], "reference", "warning", f"{column} is {row[column]}: is it in {unit}?"
    if row.get("x_spacing_mm") and not row["spacing_mm"]:
        yield (
            row["case"],
            "spacing",
            "warning",
            "x_spacing_mm is a column of your own, which nothing reads: name it spacing_mm",
        )


def _check_ages(table: pd.DataFrame) -> Iterator[Finding]:
    """Whether ages with one decimal may be weeks and days: of many, none has a decimal beyond 6."""
    told = table["ga_weeks"].str.extract(r"^\d\d\.([1-9])$")[0].dropna()
    if len(told) >= MANY_AGES and told.max() <= "6" and told.nunique() > 3:
        message = (
            f"none of {len(told)} values of ga_weeks has a decimal beyond 6: are they weeks and days, as 26.3 for 26+3?"
        )
        yield "", "age", "warning", f"{message} If so, divide the days by 7"


def _check_sources(table: pd.DataFrame) -> Iterator[Finding]:
    """Labels that no person has made: scores against them say nothing."""
    if LABEL_SOURCE not in table:
        return
    for case in table.loc[table[LABEL_SOURCE] == AS_WRITTEN, "case"]:
        message = (
            "the label is a mask as segment wrote it, which nobody has changed: look at it, and save it as X_Label"
        )
        yield case, "uncorrected label", "warning", message


def _check_subjects(table: pd.DataFrame) -> Iterator[Finding]:
    """Subjects whose scans lie in several splits, an error where one of these trains; and names that differ in case alone."""
    for subject, split in table[table["split"] != ""].groupby("subject")["split"]:
        names = sorted(set(split))
        if len(names) > 1:
            severity = "error" if {"train", "val"} & set(names) else "warning"
            message = f"subject {subject} is in {' and '.join(names)}: a subject belongs to one split"
            yield "", "subject in two splits", severity, message
    spellings = pd.Series(table["subject"].unique())
    for _, names in spellings.groupby(spellings.str.lower()):
        if len(names) > 1:
            message = f"{' and '.join(sorted(names))} differ in case alone: write one woman in one way, and two in two"
            yield "", "subject spelling", "error", message


def describe_findings(findings: pd.DataFrame) -> str:
    """The findings as text to read: counts first, then a line each, errors before warnings."""
    if findings.empty:
        return "no findings"
    counts = findings["severity"].value_counts()
    lines = [", ".join(f"{counts[kind]} {kind}(s)" for kind in ("error", "warning") if kind in counts)]
    for row in findings.sort_values("severity", kind="stable").to_dict("records"):
        lines.append(f"  {row['severity']:7}  {row['case'] or '(cohort)'}: {row['check']}: {row['message']}")
    return "\n".join(lines)
