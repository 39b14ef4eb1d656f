"""Assign every case to train, val, test or repro, subject by subject."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fhlib.cohorts.manifest import CohortError, as_findings


def assign_splits(
    table: pd.DataFrame, seed: int, test_fraction: float = 0.2, val_fraction: float = 0.2
) -> pd.DataFrame:
    """A copy of a manifest's table in which every row has a split; a subject is never divided and given splits stay.

    Rows without a split follow their subject's other rows. Subjects without any go to train; where the table names no
    test case, `test_fraction` of all subjects outside repro go to test first. Where it names no val case, `val_fraction`
    of the training subjects, those given as train included, go to val (the paper trains on all 50 and selects nothing:
    give 0 to follow it). Subjects with a case that has no label are for prediction only and go to test, on top of the
    fraction. Fractions are rounded, but draw at least one subject and leave at least one. The draw depends on the seed
    and the set of subjects alone.

    Raises ValueError for fractions outside [0, 1), CohortError if a subject is in train or val and another split.
    """
    if not (0 <= test_fraction < 1 and 0 <= val_fraction < 1):
        raise ValueError(f"fractions must lie in [0, 1), got test {test_fraction} and val {val_fraction}")
    given = table[table["split"] != ""].groupby("subject")["split"].agg(lambda split: sorted(set(split)))
    torn = {subject: names for subject, names in given.items() if len(names) > 1 and {"train", "val"} & set(names)}
    if torn:
        rows = [("", "subject in two splits", "error", f"subject {s} is in {' and '.join(n)}") for s, n in torn.items()]
        raise CohortError(as_findings(rows))
    split = {str(subject): names[0] for subject, names in given.items()}
    named = {name for names in given for name in names}
    unlabelled = table.loc[(table["label"] == "") & (table["has_head"] != "false"), "subject"]
    split |= {subject: "test" for subject in unlabelled if subject not in split}
    free = sorted(set(table["subject"]) - set(split))
    if "test" not in named:
        others = sum(name in ("train", "val") for name in split.values())
        drawn = _draw(free, _count(test_fraction, len(free) + others, len(free) - (others == 0)), [seed, 0])
        split |= dict.fromkeys(drawn, "test")
    split |= {subject: "train" for subject in free if subject not in split}
    if "val" not in named:
        training = sorted(subject for subject, name in split.items() if name == "train")
        split |= dict.fromkeys(
            _draw(training, _count(val_fraction, len(training), len(training) - 1), [seed, 1]), "val"
        )
    stays = table["split"].isin(["val", "test", "repro"])
    return table.assign(split=table["split"].where(stays, table["subject"].map(split)))


def _count(fraction: float, total: int, at_most: int) -> int:
    return min(max(round(fraction * total), 1), max(at_most, 0)) if fraction else 0


def _draw(subjects: list[str], count: int, seed: list[int]) -> list[str]:
    return np.random.default_rng(seed).permutation(np.array(subjects, dtype=object))[:count].tolist()
