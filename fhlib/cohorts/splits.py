"""Assign every case to train, val, test or repro, subject by subject."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from fhlib.cohorts.manifest import CohortError, Finding, as_findings

VISIT = re.compile(r"(?P<woman>.+?)[-_.]?(visit|session|ses|timepoint|tp|week|wk|exam|repeat|rep)[-_.]?(\d{1,2}|[a-d])")
"""Ends of ids that say that a woman was seen again."""

SCAN = re.compile(r"(?P<woman>.*\d.*?)(([-_.](v|t|us|scan|run|acq|view)?[-_.]?\d{1,2})|[-_.]?[a-d])")
"""Ends that may say so, where the rest holds a number already: P01_2, P01b."""

MOST_SCANS = 4
"""More ids that differ in their last number alone are more likely women of one site."""


def assign_splits(
    table: pd.DataFrame, seed: int, test_fraction: float = 0.2, val_fraction: float = 0.2
) -> pd.DataFrame:
    """A copy of a manifest's table in which every row has a split; a subject is never divided and given splits stay.

    Rows without a split follow their subject's other rows; subjects without any go to train. Subjects with a case that
    has no label are for prediction only and go to test, on top of the fraction.

    Fractions are rounded, but draw at least one subject and leave at least one. The draw depends on the seed and the
    set of subjects alone.

    Raises ValueError for fractions outside [0, 1), CohortError if a subject is in train or val and another split.

    Args:
        table: columns subject, split, label, has_head.
        seed: of the draw.
        test_fraction: of all subjects outside repro, for test. Not used where the table names a test case.
        val_fraction: of the training subjects, those given as train included, for val. Not used where the table names
            a val case. The paper trains on all 50 and selects nothing: 0 follows it.
    """
    if not (0 <= test_fraction < 1 and 0 <= val_fraction < 1):
        raise ValueError(f"fractions must lie in [0, 1), got test {test_fraction} and val {val_fraction}")
    split = _given_splits(table)
    named = set(table["split"])
    unlabelled = table.loc[(table["label"] == "") & (table["has_head"] != "false"), "subject"]
    split |= {subject: "test" for subject in unlabelled if subject not in split}
    free = sorted(set(table["subject"]) - set(split))
    if "test" not in named:
        others = sum(name in ("train", "val") for name in split.values())
        count = _count(test_fraction, len(free) + others, len(free) - (others == 0))
        split |= dict.fromkeys(_draw(free, count, [seed, 0]), "test")
    split |= {subject: "train" for subject in free if subject not in split}
    if "val" not in named:
        training = sorted(subject for subject, name in split.items() if name == "train")
        count = _count(val_fraction, len(training), len(training) - 1)
        split |= dict.fromkeys(_draw(training, count, [seed, 1]), "val")
    # a row given as train may have been drawn for val with its subject
    stays = table["split"].isin(["val", "test", "repro"])
    return table.assign(split=table["split"].where(stays, table["subject"].map(split)))


def subjects_alike(subjects: Sequence[str]) -> Iterator[Finding]:
    """A warning for ids that may be one woman, whose scans would then lie in several splits.

    They differ in leading zeros or in `-`, `_` and `.` alone (`007` and `7`, `A-2` and `A_2`), or in the number of a visit
    or scan (`P01_visit1` and `P01_visit2`).
    """
    names = pd.Series(sorted(set(subjects)))
    told: set[frozenset[str]] = set()
    for spelt, differ in (
        (_parts, "differ in leading zeros or signs alone"),
        (_woman_of_visit, "may be visits of one woman"),
        (_woman_of_scan, "may be scans of one woman"),
    ):
        keys = names.map(spelt)
        for _, group in names.groupby(keys):
            alike = frozenset(group)
            same_letters = len({name.lower() for name in alike}) == 1  # an error of the manifest
            if same_letters or alike in told or (spelt is _woman_of_scan and len(alike) > MOST_SCANS):
                continue
            told.add(alike)
            shown = ", ".join(sorted(alike)[:5]) + (f" and {len(alike) - 5} more" if len(alike) > 5 else "")
            message = f"{shown} {differ}: if so, give them one subject, since a subject never crosses splits"
            yield "", "subject spelling", "warning", message


def _parts(subject: str) -> str:
    """Letters and numbers of an id, without leading zeros, signs, or the `.0` that a spreadsheet adds."""
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=\d)\.0+$", "", subject.lower()))
    return " ".join(word.lstrip("0") or "0" if word.isdigit() else word for word in words)


def _woman_of_visit(subject: str) -> str:
    found = VISIT.fullmatch(subject.lower())
    return _parts(found["woman"] if found else subject)


def _woman_of_scan(subject: str) -> str:
    found = SCAN.fullmatch(subject.lower())
    return _parts(found["woman"] if found else subject)


def _given_splits(table: pd.DataFrame) -> dict[str, str]:
    """The split that a subject's rows name, first by name where they name test and repro.

    Raises CohortError if a subject is in train or val and another split.
    """
    given = table[table["split"] != ""].groupby("subject")["split"].agg(lambda split: sorted(set(split)))
    torn = {subject: names for subject, names in given.items() if len(names) > 1 and {"train", "val"} & set(names)}
    if torn:
        rows = [("", "subject in two splits", "error", f"subject {s} is in {' and '.join(n)}") for s, n in torn.items()]
        raise CohortError(as_findings(rows))
    return {str(subject): names[0] for subject, names in given.items()}


def _count(fraction: float, total: int, at_most: int) -> int:
    """How many subjects a fraction of `total` draws."""
    return min(max(round(fraction * total), 1), max(at_most, 0)) if fraction else 0


def _draw(subjects: Sequence[str], count: int, seed: Sequence[int]) -> list[str]:
    return np.random.default_rng(seed).permutation(np.array(subjects, dtype=object))[:count].tolist()
