"""Assign every case to train, val, test or repro, subject by subject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fhlib.cohorts.manifest import CohortError, as_findings


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
