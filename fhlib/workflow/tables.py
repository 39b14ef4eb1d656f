"""Tables of notebooks as a reader wants them: words for headings, few digits, no NaN, no row numbers."""

from __future__ import annotations

import math
import re

from bs4 import BeautifulSoup, Tag

from fhlib.figures.charts.scores import MEASURES

LONG = 20
"""Rows; a longer table is folded."""

DIGITS = 4
"""Significant digits of a column's largest number."""

SMALLEST_P = 0.001

NOTHING = ("NaN", "nan", "None", "<NA>", "NaT")

REAL = re.compile(r"[-+]?(?:\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+|inf)")

WORDS = {
    **{name: label.removesuffix(" [%]") for name, label in MEASURES.items()},
    "absolute_relative_volume_error": "absolute volume error",
    "ci_low": "95 % from",
    "ci_high": "95 % to",
    "low": "95 % from",
    "high": "95 % to",
    "p": "p",
    "p_holm": "p (Holm)",
    "ga_weeks": "age [weeks]",
    "n": "n",
    "sd": "SD",
    "val_dsc": "validation DSC",
    "value_here": "here",
    "printed_value": "printed",
    "hc_mm": "HC [mm]",
    "bpd_mm": "BPD [mm]",
    "ofd_mm": "OFD [mm]",
}
"""What columns and measures are called where that does not follow from their name."""

UNITS = {"mm": "mm", "ml": "mL", "mm2": "mm²", "percent": "%", "weeks": "weeks", "gb": "GB", "s": "s", "gflop": "GFLOP"}
"""The last word of a name, where it is a unit."""

STATISTICS = {"mean": "mean", "sd": "SD", "median": "median", "low": "from", "high": "to", "min": "min", "max": "max"}


def in_words(name: str) -> str:
    """A column's or a measure's name as one would say it: `surface_ml` is `surface [mL]`, `dsc_mean` is `DSC, mean`."""
    name = name.strip()
    if name in WORDS:
        return WORDS[name]
    stem, _, last = name.rpartition("_")
    if stem in WORDS and last in STATISTICS:
        return f"{WORDS[stem]}, {STATISTICS[last]}"
    if "_" not in name or not re.fullmatch(r"\w+", name):
        return name
    unit = f" [{UNITS[last]}]" if last in UNITS else ""
    words = (stem if unit else name).replace("_", " ")
    return re.sub(r"\b(dsc|hc|bpd|ofd|sd|ci)\b", lambda found: found[0].upper(), words) + unit


def tidy(html: str) -> str:
    """Tables in a piece of HTML, made readable; what holds no table is returned as it is."""
    if "<table" not in html:
        return html
    soup = BeautifulSoup(html, "html.parser")
    for table in soup.select("table:not(.claims)"):
        _tidy_table(table)
    return str(soup)


def _tidy_table(table: Tag) -> None:
    rows = [list(row.find_all(["th", "td"])) for row in table.select("tbody tr")]
    _join_headings(table)
    numbered = all(re.fullmatch(r"\d+", row[0].get_text(strip=True)) and row[0].name == "th" for row in rows)
    if rows and numbered and not _heading(table, 0):
        _drop_column(table, rows, 0)
    for place in reversed(range(len(rows[0]) if rows else 0)):
        _tidy_column(table, rows, place)
    for heading in table.select("thead th"):
        heading.string = in_words(heading.get_text(strip=True))
        heading["scope"] = "col"
        if not heading.string:
            del heading["scope"]
            heading.name = "td"
    for heading in table.select("tbody th"):
        heading["scope"] = "row"
        if heading.string:
            heading.string = in_words(heading.string)
    for row in table.select("tbody tr"):
        cells = row.find_all("td")
        if cells and not any(cell.get_text(strip=True) for cell in cells):
            row.decompose()


def _join_headings(table: Tag) -> None:
    """pandas names an index in a second line of headings: one line is enough."""
    lines = table.select("thead tr")
    if len(lines) != 2:
        return
    first, second = (line.find_all("th") for line in lines)
    named = [cell.get_text(strip=True) for cell in second]
    levels = len([name for name in named if name])
    if len(first) != len(second) or any(named[levels:]):
        return
    across = first[0].get_text(strip=True)  # what the columns are values of, such as seed
    for cell in first[levels:] if across else ():
        if re.fullmatch(r"\d+", cell.get_text(strip=True)):
            cell.string = f"{across} {cell.get_text(strip=True)}"
    for cell, name in zip(first, named[:levels], strict=False):
        cell.string = name
    lines[1].decompose()


def _heading(table: Tag, place: int) -> str:
    lines = table.select("thead tr")
    cells = lines[-1].find_all("th") if lines else []
    return cells[place].get_text(strip=True) if place < len(cells) else ""


def _drop_column(table: Tag, rows: list[list[Tag]], place: int) -> None:
    for line in [*(row.find_all(["th", "td"]) for row in table.select("thead tr")), *rows]:
        if place < len(line):
            line[place].decompose()
            line.pop(place)


def _tidy_column(table: Tag, rows: list[list[Tag]], place: int) -> None:
    """One column: words for nothing and for truth, numbers with as many decimals as the largest needs."""
    cells = [row[place] for row in rows if place < len(row) and len(row) == len(rows[0])]
    texts = [cell.get_text(strip=True) for cell in cells]
    if all(text in (*NOTHING, "") for text in texts) and cells and cells[0].name == "td":
        _drop_column(table, rows, place)
        return
    heading = _heading(table, place)
    decimals = _decimals([float(text) for text in texts if REAL.fullmatch(text)])
    for cell, text in zip(cells, texts, strict=True):
        if text in NOTHING:
            cell.string = ""
        elif REAL.fullmatch(text):
            cell.string = _number(float(text), decimals, heading)
        elif text in ("True", "False"):
            cell.string = "yes" if text == "True" else "no"
        elif text in WORDS or text in MEASURES:
            cell.string = in_words(text)


def _decimals(values: list[float]) -> int:
    finite = [abs(value) for value in values if math.isfinite(value)]
    if not finite or all(value == round(value) for value in finite):
        return 0
    largest = max(finite)
    return min(max(DIGITS - 1 - math.floor(math.log10(largest)), 0), DIGITS) if largest else 0


def _number(value: float, decimals: int, heading: str) -> str:
    if not math.isfinite(value):
        return "infinite" if math.isinf(value) else ""
    if heading in ("p", "p_holm"):
        return f"< {SMALLEST_P}" if value < SMALLEST_P else f"{value:.3f}"
    text = f"{value:.{decimals}f}"
    return f"{value:.2g}" if value and float(text) == 0 else text  # small is not nothing
