"""The paper's quantitative claims against what a run obtains.

The ledger (`data/reference/claims.csv`) states, before any value is computed, what each claim says, how it is
computed (`quantity`) and the rule for its verdict. Here the rest is computed from a run's tables.

Quantities: `summary:V:measure` (mean over test cases), `difference:A:B:measure` (mean of the paired A - B),
`relative:A:B:measure` (difference of means in per cent of B's), `improvements:A:B[:measures]` (how many measures have
a better mean in A), `agreement:V:statistic`, `repeatability:V:statistic`, `untestable:reason`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fhlib.files import REFERENCE_TABLES
from fhlib.measures.agreement import bland_altman
from fhlib.measures.intervals import Z, bootstrap_interval
from fhlib.measures.reliability import repeatability

CLAIMS = REFERENCE_TABLES / "claims.csv"
VERDICTS = ("reproduced", "same direction", "not reproduced", "not testable here")
FIVE = ("dsc", "conf", "jacc", "adb_mm", "hdb_mm")
LOWER_IS_BETTER = ("adb_mm", "hdb_mm", "hd95_mm", "absolute_relative_volume_error")
FRACTIONS = ("dsc", "conf", "jacc", "surface_dice_1mm", "absolute_relative_volume_error")
RESAMPLES = 2000
PRINTED_GROUPS = 52


@dataclass(frozen=True)
class Obtained:
    """What a run gives for a claim.

    Value and 95 % CI in the claim's unit, number of cases, and a remark or why there is none.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""


class NotTestable(ValueError):
    """The run lacks what a claim needs; the message says what."""


def read_claims(path: Path | str = CLAIMS) -> pd.DataFrame:
    """The ledger.

    Id, where, statement, kind (level, difference, bound, count), quantity, printed_value, unit, direction, rule.
    """
    return pd.read_csv(path, keep_default_na=False).astype({"printed_value": float})


def evaluate_claims(ledger: pd.DataFrame, tables_folder: Path | str, seed: int = 0) -> pd.DataFrame:
    """The ledger with value_here, ci_low, ci_high, n, verdict and reason.

    Reads `scores.csv` (rows of the test split, where there are any) and `repeatability_points.csv` from
    `tables_folder`; what is missing makes a claim "not testable here", and so does a level or difference from too few cases
    for an interval. CIs are bootstraps over subjects, paired for differences. A missed case counts with DSC and Jaccard 0;
    distances, Conformity and agreement are over found cases, and the reason then gives the number missed. Scans without a head
    belong to no claim of the paper and are left out and counted.
    """
    run = _Run.read(Path(tables_folder), seed)
    rows = []
    for claim in ledger.to_dict("records"):
        try:
            found = run.quantity(claim["quantity"], claim["unit"])
        except NotTestable as lacking:
            found = Obtained(reason=str(lacking))
        verdict = judge(claim["kind"], claim["printed_value"], claim["direction"], found)
        rows.append((found.value, found.low, found.high, found.n, verdict, _explain(verdict, claim["kind"], found)))
    columns = ["value_here", "ci_low", "ci_high", "n", "verdict", "reason"]
    return pd.concat([ledger.reset_index(drop=True), pd.DataFrame(rows, columns=columns)], axis=1)


def judge(kind: str, printed: float, direction: str, found: Obtained) -> str:
    """Verdict by the ledger's rule for this kind of claim. Raises ValueError for an unknown kind or direction."""
    if kind not in ("level", "difference", "bound", "count") or direction not in ("higher", "lower", ""):
        raise ValueError(
            f"kind {kind!r}, direction {direction!r}: expected level, difference, bound or count, and higher, lower or nothing"
        )
    if not math.isfinite(found.value) or (kind in ("level", "difference") and not math.isfinite(found.low)):
        return "not testable here"
    sign = {"higher": 1, "lower": -1, "": 0}[direction]
    beyond = sign != 0 and sign * (found.value - printed) >= 0
    if kind == "bound":
        near = found.low if sign > 0 else found.high
        if math.isfinite(near) and sign * (near - printed) > 0:
            return "reproduced"
        return "same direction" if sign * (found.value - printed) > 0 else "not reproduced"
    if beyond or (kind != "count" and found.low <= printed <= found.high):
        return "reproduced"
    if (kind == "difference" and found.value * printed > 0) or (kind == "count" and found.value > printed / 2):
        return "same direction"
    return "not reproduced"


def _explain(verdict: str, kind: str, found: Obtained) -> str:
    notes = [found.reason] if found.reason else []
    if kind != "count" and math.isfinite(found.value) and not math.isfinite(found.low):
        notes.append(f"{found.n} cases: too few for an interval")
    if verdict == "not testable here":
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
        scores, repeats = (
            pd.read_csv(folder / name, dtype={"case": str, "subject": str}) if (folder / name).exists() else None
            for name in ("scores.csv", "repeatability_points.csv")
        )
        if scores is not None and "split" in scores and (scores["split"] == "test").any():
            scores = scores[scores["split"] == "test"]
        return cls(scores, repeats, seed)

    def quantity(self, quantity: str, unit: str) -> Obtained:
        """Compute one quantity in its unit.

        Raises NotTestable for want of a table, variant or case, ValueError for an unknown key.
        """
        kind, _, rest = quantity.partition(":")
        parts = rest.split(":")
        if kind == "untestable":
            raise NotTestable(rest)
        if kind == "summary" and len(parts) == 2:
            return self._mean([parts[0]], parts[1], lambda x, axis: x.mean(axis=axis)[0], unit)
        if kind == "difference" and len(parts) == 3:
            return self._mean(parts[:2], parts[2], lambda x, axis: np.subtract(*x.mean(axis=axis)), unit)
        if kind == "relative" and len(parts) == 3:
            return self._mean(parts[:2], parts[2], lambda x, axis: 100 * (np.divide(*x.mean(axis=axis)) - 1), "")
        if kind == "improvements" and len(parts) in (2, 3):
            return self._improvements(parts[0], parts[1], tuple(parts[2].split(",")) if len(parts) == 3 else FIVE)
        if kind == "agreement" and len(parts) == 2:
            return self._agreement(*parts)
        if kind == "repeatability" and len(parts) == 2:
            return self._repeatability(*parts)
        raise ValueError(f"quantity {quantity!r} is not known: see this module's description for the forms")

    def _variant(self, variant: str) -> pd.DataFrame:
        if self.scores is None:
            raise NotTestable("this run has no scores.csv")
        rows = self.scores[self.scores["variant"] == variant]
        if rows.empty:
            raise NotTestable(f"variant {variant} is not part of this run")
        if rows.get("reference_area_mm2", pd.Series(dtype=float)).notna().any():
            raise NotTestable("the claim is about volumes; this cohort is of single images")
        return rows

    def _mean(self, variants: list[str], measure: str, statistic: Callable[..., float], unit: str) -> Obtained:
        all_frames = [self._variant(variant) for variant in variants]
        frames = [frame[_has_head(frame)].set_index("case") for frame in all_frames]
        table = pd.concat([frame[measure].astype(float) for frame in frames], axis=1)
        infinite = int(np.isinf(table).any(axis=1).sum())
        table = table[np.isfinite(table).all(axis=1)]
        if table.empty:
            raise NotTestable(f"no case has {measure} in {' and '.join(variants)}")
        values, subjects = table.to_numpy(), frames[0].get("subject", pd.Series(table.index, table.index))[table.index]
        scale = 100 if measure in FRACTIONS and unit in ("%", "points") else 1
        low, high = bootstrap_interval(values, statistic, subjects, RESAMPLES, self.seed)
        missed = sum(int((frame["status"] == "missed").sum()) for frame in frames if "status" in frame)
        headless = len(all_frames[0]) - len(frames[0])
        notes = [f"{missed} predictions missed"] * bool(missed)
        notes += [f"{infinite} cases with an infinite {measure} left out"] * bool(infinite)
        notes += [f"{headless} scans without a head left out"] * bool(headless)
        return Obtained(
            scale * float(statistic(values, axis=0)), scale * low, scale * high, len(values), "; ".join(notes)
        )

    def _improvements(self, first: str, second: str, measures: tuple[str, ...]) -> Obtained:
        found = [self.quantity(f"difference:{first}:{second}:{measure}", "") for measure in measures]
        better = [(-1 if m in LOWER_IS_BETTER else 1) * f.value > 0 for m, f in zip(measures, found, strict=True)]
        worse = ", ".join(measure for measure, good in zip(measures, better, strict=True) if not good)
        return Obtained(float(sum(better)), n=found[0].n, reason=f"not better in {worse}" if worse else "")

    def _agreement(self, variant: str, statistic: str) -> Obtained:
        rows = self._variant(variant)
        rows = rows[_has_head(rows)]
        lost = int((rows["status"] == "missed").sum()) if "status" in rows else 0
        reason = f"{lost} missed heads have no volume and are left out" if lost else ""
        if lost:
            rows = rows[rows["status"] != "missed"]
        pairs = rows[["volume_ml", "reference_volume_ml"]].to_numpy(float)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs) < 3:
            raise NotTestable(f"{len(pairs)} cases have both volumes in mL; agreement needs at least 3")
        found, n = bland_altman(pairs[:, 0], pairs[:, 1]), len(pairs)
        if statistic == "bias":
            return Obtained(found.bias, found.bias_low, found.bias_high, n, reason)
        if statistic == "pearson":
            return Obtained(found.pearson, found.pearson_low, found.pearson_high, n, reason)
        if statistic == "half_width":
            low, high = (found.sd * math.sqrt((n - 1) / stats.chi2.ppf(q, n - 1)) for q in (0.975, 0.025))
            return Obtained(Z * found.sd, Z * low, Z * high, n, reason)
        raise ValueError(f"agreement statistic {statistic!r}: expected bias, half_width or pearson")

    def _repeatability(self, variant: str, statistic: str) -> Obtained:
        reducers: dict[str, Callable[..., Any]] = {"mean_sd": np.mean, "min_sd": np.min, "max_sd": np.max}
        if statistic not in reducers:
            raise ValueError(f"repeatability statistic {statistic!r}: expected one of {', '.join(reducers)}")
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
        if statistic != "mean_sd":
            if found.subjects != PRINTED_GROUPS:
                raise NotTestable(
                    f"the extreme of {found.subjects} groups cannot be compared with that of {PRINTED_GROUPS}"
                )
            extreme = float(reducers[statistic](spread))
            return Obtained(extreme, extreme, extreme, found.subjects, f"{reason}; an extreme has no interval")
        low, high = bootstrap_interval(spread, reducers[statistic], None, RESAMPLES, self.seed)
        return Obtained(float(reducers[statistic](spread)), low, high, found.subjects, reason)


def _has_head(rows: pd.DataFrame) -> pd.Series:
    """Rows whose reference holds a head."""
    return rows["reference_volume_ml"].fillna(0) > 0 if "reference_volume_ml" in rows else rows["case"].notna()
