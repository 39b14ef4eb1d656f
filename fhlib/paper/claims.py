"""The paper's quantitative claims against what a run obtains.

The ledger (`data/reference/claims.csv`) states, before any value is computed, what each claim says, how it is
computed (`quantity`) and the rule for its verdict. Here the rest is computed from a run's tables.

Quantities:

- `summary:V:measure`: mean over test cases;
- `difference:A:B:measure`: mean of the paired A - B;
- `relative:A:B:measure`: difference of means in per cent of B's;
- `improvements:A:B[:measures]`: how many measures have a better mean in A;
- `agreement:V:statistic`, `repeatability:V:statistic`, `untestable:reason`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from fhlib.files import REFERENCE_TABLES, read_csv
from fhlib.images.volume import Floats
from fhlib.measures.agreement import bland_altman
from fhlib.measures.intervals import Z, bootstrap_interval
from fhlib.measures.reliability import repeatability

CLAIMS = REFERENCE_TABLES / "claims.csv"
VERDICTS = REPRODUCED, LARGER, BETTER, SAME_DIRECTION, NOT_REPRODUCED, NOT_TESTABLE = (
    "reproduced",
    "larger, same direction",
    "better than printed",
    "same direction",
    "not reproduced",
    "not testable here",
)
KINDS = ("level", "difference", "bound", "count")
SIGNS = {"higher": 1, "lower": -1, "": 0}
"""Of the direction in which a claim goes."""
FIVE = ("dsc", "conf", "jacc", "adb_mm", "hdb_mm")
LOWER_IS_BETTER = ("adb_mm", "hdb_mm", "hd95_mm", "absolute_relative_volume_error")
FRACTIONS = ("dsc", "conf", "jacc", "surface_dice_1mm", "absolute_relative_volume_error")
REDUCERS: dict[str, Callable[..., float]] = {"mean_sd": np.mean, "min_sd": np.min, "max_sd": np.max}
"""Statistics of repeatability, over the subjects' SDs."""
COMPARES = ("difference:", "relative:", "improvements:")
"""How quantities begin that say which of two networks is better."""
ONE_TRAINING = "one training each"
"""The caveat of such a claim where each network was trained once: another training may order them otherwise."""
OWN_SEED = -1
"""In place of the seed with which a run was started, where nobody says which that is."""
RESAMPLES = 2000
PRINTED_GROUPS = 52


@dataclass(frozen=True)
class Obtained:
    """What a run gives for a claim.

    Value and 95 % CI in the claim's unit, number of cases, a remark or why there is none, and how many trainings of each network it is of.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""
    trainings: int = 1


class NotTestable(ValueError):
    """The run lacks what a claim needs; the message says what."""


def read_claims(path: Path | str = CLAIMS) -> pd.DataFrame:
    """The ledger.

    Id, where, statement, kind (level, difference, bound, count), quantity, printed_value, unit, direction, rule.
    """
    return pd.read_csv(path, keep_default_na=False).astype({"printed_value": float})


def evaluate_claims(ledger: pd.DataFrame, tables_folder: Path | str, seed: int = 0) -> pd.DataFrame:
    """The ledger with what a run obtains and the verdict on each claim.

    What is missing makes a claim "not testable here", and so does a level or difference from too few cases for an
    interval. Intervals are bootstraps over subjects, paired for differences. A missed case counts with DSC and Jaccard
    0. Distances, Conformity and agreement are over found cases, and the reason then gives the number missed. Scans
    without a head belong to no claim of the paper: they are left out and counted.

    Of several trainings a case counts with its mean over those that the networks share. The interval of a difference is then Student's
    over the trainings: what others may give. Where there is one, a claim about which of two networks is better has a caveat. Agreement and
    repeatability are of the run's own seed.

    Args:
        ledger: of `read_claims`.
        tables_folder: has `scores.csv` (of which the rows of the test split count, where there are any), of other seeds
            `scores_seed<k>.csv`, and `repeatability_points.csv`.
        seed: of the bootstrap.

    Returns:
        The ledger's rows and value_here, ci_low, ci_high, n, verdict, reason, caveat.
    """
    run = _Run.read(Path(tables_folder), seed)
    rows = []
    for claim in ledger.to_dict("records"):
        try:
            found = run.quantity(claim["quantity"], claim["unit"])
        except NotTestable as lacking:
            found = Obtained(reason=str(lacking))
        verdict = judge(claim["kind"], claim["printed_value"], claim["direction"], found)
        explained = _explain(verdict, claim["kind"], found)
        unsure = found.trainings < 2 and claim["quantity"].startswith(COMPARES) and verdict != NOT_TESTABLE
        caveat = ONE_TRAINING if unsure else ""
        rows.append((found.value, found.low, found.high, found.n, verdict, explained, caveat))
    columns = ["value_here", "ci_low", "ci_high", "n", "verdict", "reason", "caveat"]
    return pd.concat([ledger.reset_index(drop=True), pd.DataFrame(rows, columns=columns)], axis=1)


def scores_of_trainings(folder: Path, own_seed: int = OWN_SEED) -> pd.DataFrame:
    """Scores of all trainings of a run: `scores.csv`, and of other seeds `scores_seed<k>.csv`, with the column seed.

    Args:
        folder: of the tables.
        own_seed: of `scores.csv`, where it has no such column.
    """
    own = read_csv(folder / "scores.csv")
    frames = [own if "seed" in own else own.assign(seed=own_seed)]
    for path in sorted(folder.glob("scores_seed*.csv")):
        frames.append(read_csv(path).assign(seed=int(path.stem.removeprefix("scores_seed"))))
    return pd.concat(frames, ignore_index=True)


def judge(kind: str, printed: float, direction: str, found: Obtained) -> str:
    """Verdict by the ledger's rule for a kind of claim: one of `VERDICTS`.

    Args:
        kind: one of `KINDS`.
        printed: the paper's number.
        direction: in which the claim goes: higher, lower or nothing.
        found: what the run gives.

    Raises:
        ValueError: kind or direction is not known.
    """
    if kind not in KINDS or direction not in SIGNS:
        raise ValueError(
            f"kind {kind!r}, direction {direction!r}: "
            "expected level, difference, bound or count, and higher, lower or nothing"
        )
    needs_interval = kind in ("level", "difference")
    if not math.isfinite(found.value) or (needs_interval and not math.isfinite(found.low)):
        return NOT_TESTABLE
    sign = SIGNS[direction]
    if kind == "bound":
        return _judge_bound(printed, sign, found)
    if found.value == printed or found.low <= printed <= found.high:
        return REPRODUCED
    if sign * (found.value - printed) > 0:
        return BETTER if kind == "level" else LARGER
    same_sign = kind == "difference" and found.value * printed > 0
    more_than_half = kind == "count" and found.value > printed / 2
    return SAME_DIRECTION if same_sign or more_than_half else NOT_REPRODUCED


def is_testable(claims: pd.DataFrame) -> pd.Series:
    """Which claims this run could test, a truth value a row of `evaluate_claims`."""
    return claims["value_here"].notna() & (claims["verdict"] != NOT_TESTABLE)


def _judge_bound(printed: float, sign: int, found: Obtained) -> str:
    """A bound is reproduced where the whole interval lies beyond it."""
    near = found.low if sign > 0 else found.high
    if math.isfinite(near) and sign * (near - printed) > 0:
        return REPRODUCED
    return SAME_DIRECTION if sign * (found.value - printed) > 0 else NOT_REPRODUCED


def _explain(verdict: str, kind: str, found: Obtained) -> str:
    notes = [found.reason] if found.reason else []
    if kind != "count" and math.isfinite(found.value) and not math.isfinite(found.low):
        notes.append(f"{found.n} cases: too few for an interval")
    if verdict == NOT_TESTABLE:
        return "; ".join(notes) or "no finite value"
    if kind == "difference" and found.low <= 0 <= found.high:
        notes.append("the interval includes no difference")
    return "; ".join(notes)


@dataclass(frozen=True)
class _Run:
    """The tables of a run that claims are computed from; None where a table is missing."""

    scores: pd.DataFrame | None
    repeats: pd.DataFrame | None
    seed: int

    @classmethod
    def read(cls, folder: Path, seed: int) -> _Run:
        """The tables in a folder; of the scores those of the test split, where there are any."""
        repeats = _read(folder / "repeatability_points.csv")
        scores = scores_of_trainings(folder) if (folder / "scores.csv").exists() else None
        if scores is not None and "split" in scores and (scores["split"] == "test").any():
            scores = scores[scores["split"] == "test"]
        return cls(scores, repeats, seed)

    def quantity(self, quantity: str, unit: str) -> Obtained:
        """Compute one quantity in its unit.

        Raises NotTestable for want of a table, variant or case, ValueError for an unknown key.
        """
        kind, _, rest = quantity.partition(":")
        match kind, *rest.split(":"):
            case "untestable", *_:
                raise NotTestable(rest)
            case "summary", variant, measure:
                return self._mean([variant], measure, _mean_of_one, unit)
            case "difference", first, second, measure:
                return self._mean([first, second], measure, _mean_difference, unit)
            case "relative", first, second, measure:
                return self._mean([first, second], measure, _relative_difference, "")
            case "improvements", first, second:
                return self._improvements(first, second, FIVE)
            case "improvements", first, second, measures:
                return self._improvements(first, second, measures.split(","))
            case "agreement", variant, statistic:
                return self._agreement(variant, statistic)
            case "repeatability", variant, statistic:
                return self._repeatability(variant, statistic)
        raise ValueError(f"quantity {quantity!r} is not known: see this module's description for the forms")

    def _variant(self, variant: str) -> pd.DataFrame:
        if self.scores is None:
            raise NotTestable("this run has no scores.csv")
        rows = self.scores[self.scores["variant"] == variant]
        if rows.empty:
            raise NotTestable(f"variant {variant} is not part of this run")
        if "reference_area_mm2" in rows and rows["reference_area_mm2"].notna().any():
            raise NotTestable("the claim is about volumes; this cohort is of single images")
        return rows

    def _mean(self, variants: Sequence[str], measure: str, statistic: Callable[..., float], unit: str) -> Obtained:
        """A statistic of the measure's values, (cases, variants), over the cases where all of them are finite."""
        all_scans = [self._variant(variant) for variant in variants]
        frames = [scans[_has_head(scans)].set_index(["seed", "case"]) for scans in all_scans]
        table = pd.concat([frame[measure].astype(float) for frame in frames], axis=1, join="inner")
        infinite = int(np.isinf(table).any(axis=1).sum())
        table = table[np.isfinite(table).all(axis=1)]
        if table.empty:
            raise NotTestable(f"no case has {measure} in {' and '.join(variants)}")
        of_case, of_training = (table.groupby(level=level, sort=False) for level in ("case", "seed"))
        means = of_case.mean()
        names = pd.Series(means.index, means.index)  # without subjects each case is one
        subjects = frames[0].get("subject", names).groupby(level="case").first()[means.index]
        low, high = bootstrap_interval(means.to_numpy(), statistic, subjects, RESAMPLES, self.seed)
        value = float(statistic(means.to_numpy(), axis=0))
        if len(variants) > 1 and len(of_training) > 1:
            each = [statistic(part.to_numpy(), axis=0) for _, part in of_training]
            half_width = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
            low, high = np.mean(each) - half_width, np.mean(each) + half_width

        notes = (
            (sum(int(_is_missed(frame).sum()) for frame in frames), "predictions missed"),
            (infinite, f"cases with an infinite {measure} left out"),
            (len(all_scans[0]) - len(frames[0]), "scans without a head left out"),
            (len(of_training) if len(of_training) > 1 else 0, "trainings"),
        )
        reason = "; ".join(f"{count} {words}" for count, words in notes if count)
        scale = 100 if measure in FRACTIONS and unit in ("%", "points") else 1
        return Obtained(scale * value, scale * low, scale * high, len(means), reason, len(of_training))

    def _improvements(self, first: str, second: str, measures: Sequence[str]) -> Obtained:
        found = {measure: self._mean([first, second], measure, _mean_difference, "") for measure in measures}
        worse = []
        for measure, difference in found.items():
            gain = -difference.value if measure in LOWER_IS_BETTER else difference.value
            if gain <= 0:
                worse.append(measure)
        reason = f"not better in {', '.join(worse)}" if worse else ""
        once = found[measures[0]]
        return Obtained(float(len(measures) - len(worse)), n=once.n, reason=reason, trainings=once.trainings)

    def _agreement(self, variant: str, statistic: str) -> Obtained:
        rows = self._variant(variant)
        rows = rows[_has_head(rows) & (rows["seed"] == rows["seed"].iloc[0])]
        lost = _is_missed(rows)
        pairs = rows.loc[~lost, ["volume_ml", "reference_volume_ml"]].to_numpy(float)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs) < 3:
            raise NotTestable(f"{len(pairs)} cases have both volumes in mL; agreement needs at least 3")
        obtained = _agreement_of(pairs, statistic)
        if lost.any():
            obtained = replace(obtained, reason=f"{lost.sum()} missed heads have no volume and are left out")
        return obtained

    def _repeatability(self, variant: str, statistic: str) -> Obtained:
        if statistic not in REDUCERS:
            raise ValueError(f"repeatability statistic {statistic!r}: expected one of {', '.join(REDUCERS)}")
        if self.repeats is None:
            raise NotTestable("this run has no repeatability_points.csv: its cohort has no repeated scans")
        rows = self.repeats[self.repeats["variant"] == variant]
        if rows.empty:
            raise NotTestable(f"variant {variant} has no repeated scans in this run")
        found = repeatability(rows["volume_ml"], rows["subject"])
        if not found.subjects:
            raise NotTestable("no subject has two volumes")
        lost = int(rows["volume_ml"].isna().sum())
        reason = "SD with ddof 1" + (f"; {lost} missed scans left out" if lost else "")

        spread = found.per_subject["sd"].to_numpy(float)
        value = float(REDUCERS[statistic](spread))
        if statistic == "mean_sd":
            low, high = bootstrap_interval(spread, REDUCERS[statistic], None, RESAMPLES, self.seed)
            return Obtained(value, low, high, found.subjects, reason)
        # the more groups, the further out are the smallest and the largest
        if found.subjects != PRINTED_GROUPS:
            raise NotTestable(
                f"the extreme of {found.subjects} groups cannot be compared with that of {PRINTED_GROUPS}"
            )
        return Obtained(value, value, value, found.subjects, f"{reason}; an extreme has no interval")


def _read(path: Path) -> pd.DataFrame | None:
    return read_csv(path) if path.exists() else None


def _mean_of_one(values: Floats, axis: int) -> float:
    return values.mean(axis=axis)[0]


def _mean_difference(values: Floats, axis: int) -> float:
    first, second = values.mean(axis=axis)
    return first - second


def _relative_difference(values: Floats, axis: int) -> float:
    """In per cent of the second mean."""
    first, second = values.mean(axis=axis)
    return 100 * (first / second - 1)


def _agreement_of(pairs: Floats, statistic: str) -> Obtained:
    """A number of `bland_altman` of (measured, reference) pairs with its interval."""
    found, n = bland_altman(pairs[:, 0], pairs[:, 1]), len(pairs)
    if statistic == "bias":
        return Obtained(found.bias, found.bias_low, found.bias_high, n)
    if statistic == "pearson":
        return Obtained(found.pearson, found.pearson_low, found.pearson_high, n)
    if statistic == "half_width":
        # (n - 1) s^2 / sigma^2 is chi-square
        low, high = found.sd * np.sqrt((n - 1) / stats.chi2.ppf((0.975, 0.025), n - 1))
        return Obtained(Z * found.sd, Z * low, Z * high, n)
    raise ValueError(f"agreement statistic {statistic!r}: expected bias, half_width or pearson")


def _is_missed(rows: pd.DataFrame) -> pd.Series:
    """Cases in which no head was found; none where no status is known."""
    return rows["status"] == "missed" if "status" in rows else pd.Series(False, rows.index)


def _has_head(rows: pd.DataFrame) -> pd.Series:
    """Rows whose reference holds a head."""
    return rows["reference_volume_ml"].fillna(0) > 0 if "reference_volume_ml" in rows else rows["case"].notna()
