"""What the statistics take in: one number a case, names of subjects, and what rounding has made of equal values.

What is missing becomes NaN or None here. The statistics leave it out, count it and name it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fhlib.images.volume import Floats, Mask

ROUNDING = 1e-12
"""Values are equal that differ by no more than this share of the largest: 0.3 and 0.1 + 0.2 are."""

SMALLEST, LARGEST = 1e-100, 1e100
"""No measurement lies beyond; squares of such numbers are 0 or infinite."""

MOST_NAMES = 5


def as_numbers(values: Any, name: str) -> Floats:
    """Numbers of any shape as floats; what is masked, None, or an empty cell is NaN.

    Raises ValueError for words, dates, complex numbers and numbers beyond LARGEST.

    >>> as_numbers([1, None, "2.5", ""], "volumes").tolist()
    [1.0, nan, 2.5, nan]
    """
    values = _unmasked(values)
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths: expected one number a case") from None
    if array.dtype.kind in "biuf":
        numbers = array.astype(float)
    elif array.dtype.kind in "OUS":
        cells = [_number(cell, name) for cell in array.ravel().tolist()]
        numbers = np.array(cells, dtype=float).reshape(array.shape)
    else:
        raise ValueError(f"{name} holds {array.dtype} values: expected numbers")

    absurd = np.isfinite(numbers) & (np.abs(numbers) > LARGEST)
    if absurd.any():
        raise ValueError(f"{name} holds {numbers[absurd][0]:g}: no measurement is that large")
    return numbers


def _number(cell: Any, name: str) -> float:
    if _is_missing(cell):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} holds {cell!r}: expected numbers with a decimal point, and nothing where one is missing"
        ) from None


def one_each(values: Any, name: str) -> Floats:
    """One number a case, (n,); a single row or column will do. Raises ValueError for a table, and as `as_numbers`."""
    numbers = as_numbers(values, name)
    if numbers.ndim == 0 or numbers.size not in numbers.shape:
        raise ValueError(f"{name} has shape {numbers.shape}: expected one number a case, in one dimension")
    return numbers.ravel()


def names_of(values: Iterable[Any], name: str) -> pd.Series:
    """Names of subjects or directions as they are; None where one is missing: None, NaN, an empty cell, blanks."""
    names = pd.Series([None if _is_missing(value) else value for value in _unmasked(values)], dtype=object)
    for value in names:
        if getattr(value, "__hash__", None) is None:
            raise ValueError(f"{name} holds {value!r}: expected a name, in one dimension")
    return names


def _unmasked(values: Any) -> Any:
    """The values, those that are masked as None."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    plain = np.ma.getdata(values).astype(object)
    plain[np.ma.getmaskarray(values)] = None
    return plain


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (np.ndim(value) == 0 and bool(pd.isna(value)))


def rows_of(**columns: Any) -> pd.Index:
    """Labels of the rows that the columns share: the index of a pandas Series, else 0, 1, ...

    Columns are matched by place. Raises ValueError where lengths differ, or where two Series name their rows in another
    way: matching by place would then compare different cases.

    >>> rows_of(measured=[3, 4], reference=pd.Series([3, 5], index=["a", "b"])).tolist()
    ['a', 'b']
    """
    sizes = {name: len(values) if np.ndim(values) else 1 for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        given = " and ".join(f"{size} {name}" for name, size in sizes.items())
        raise ValueError(f"{given}: expected one of each for every case")
    labelled = {name: values.index for name, values in columns.items() if isinstance(values, (pd.Series, pd.DataFrame))}
    if not labelled:
        return pd.RangeIndex(next(iter(sizes.values())))
    (first, rows), *others = labelled.items()
    for name, index in others:
        if not rows.equals(index):
            raise ValueError(
                f"{first} and {name} are pandas Series with different indexes: bring them into one order "
                "(`.reindex`), or give `.to_numpy()` where the n-th belongs to the n-th"
            )
    return rows


def counted(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Iterable[Any]) -> str:
    """The first names, and how many more there are.

    >>> listed(range(8))
    '0, 1, 2, 3, 4 and 3 more'
    """
    words = [str(name) for name in names]
    more = len(words) - MOST_NAMES
    return ", ".join(words[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def told(noun: str, rows: pd.Index, fates: Mapping[str, ArrayLike]) -> list[str]:
    """How many rows met with each fate, and which; nothing of a fate that none met.

    >>> told("scan", pd.Index(["a", "b", "c"]), {"left out: no subject": [True, False, True], "late": [False] * 3})
    ['2 scans left out: no subject (a, c)']
    """
    said = []
    for fate, met in fates.items():
        lost = rows[np.asarray(met, dtype=bool)]
        if len(lost):
            said.append(f"{counted(len(lost), noun)} {fate} ({listed(lost)})")
    return said


def spelled_alike(names: Iterable[Any]) -> list[Any]:
    """Names that differ from another one in case, blanks or type only.

    >>> spelled_alike(["top", "Top ", "side"])
    ['top', 'Top ']
    """
    distinct = pd.Series(list(dict.fromkeys(names)), dtype=object)
    plain = distinct.map(lambda name: str(name).strip().casefold())
    return distinct[plain.duplicated(keep=False)].tolist()


def has_spread(values: Floats, scale: float | None = None) -> bool:
    """Whether at least 3 values differ by more than rounding, which is relative to `scale` (default: the largest)."""
    return len(values) >= 3 and bool(np.ptp(values) > rounding(values if scale is None else scale))


def rounding(values: Floats | float) -> float:
    """The largest difference that is rounding among values of this size."""
    return max(ROUNDING * float(np.max(np.abs(values), initial=0.0)), SMALLEST)


def settled(values: Floats, tolerance: float) -> Floats:
    """The values, those made equal that differ by rounding only, along the last axis.

    >>> settled(np.array([0.3, 0.1 + 0.2, 0.4]), 1e-12).tolist()
    [0.3, 0.3, 0.4]
    """
    order = np.argsort(values, axis=-1, kind="stable")
    ascending = np.take_along_axis(values, order, axis=-1)
    larger: Mask = np.diff(ascending, axis=-1, prepend=-math.inf) > tolerance
    # each value takes that of the last one before it that was larger than its neighbour
    source = np.maximum.accumulate(np.where(larger, np.arange(values.shape[-1]), 0), axis=-1)
    equal = np.empty_like(ascending)
    np.put_along_axis(equal, order, np.take_along_axis(ascending, source, axis=-1), axis=-1)
    return equal
