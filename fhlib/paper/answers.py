"""What the published runs answer of the paper's questions: each effect with its interval over scans and over trainings."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from scipy import stats

from fhlib.measures.comparison import compare_trainings
from fhlib.paper.claims import evaluate_claims, is_testable, read_claims, scores_of_trainings
from fhlib.paper.ledger import cells_of
from fhlib.paper.tables import printed_table

QUESTIONS = (
    ("Does it help to see the whole volume instead of patches?", "USegNet", "p-USegNet"),
    ("Do the skip connections help?", "USegNet", "3D-DeconvNet"),
    ("Does deep supervision (DS) help?", "USegNet-DS", "USegNet"),
    ("Does attention in the skips (SAM) help?", "USegNet-DS-SAM", "USegNet-DS"),
    ("Does attention in the decoder (UAM) help?", "USegNet-DS-UAM", "USegNet-DS"),
    ("Does hybrid attention (HAS) help?", "USegNet-DS-HAS", "USegNet-DS"),
    ("Does Auto-Context (Ctx) help?", "USegNet-DS-HAS-Ctx", "USegNet-DS-HAS"),
    ("Does a residual U-Net do better than USegNet-DS?", "Residual-U-Net", "USegNet-DS"),
)
"""Each with the network that has it and the one that lacks it."""
RUNS = "answered_by.csv"
"""The runs in the order in which they are shown: run, data, voxel, width, steps, source."""
COLUMNS = (
    "question", "variant", "baseline", "run", "data", "voxel", "width", "steps", "n", "difference", "low", "high", "seeds",
    "trainings_low", "trainings_high", "paper_points", "answer",
)  # fmt: skip


def answers(results: Path) -> pd.DataFrame:
    """What each published run says to each of `QUESTIONS`, in mean DSC.

    A row a question and run that trained both networks, with `COLUMNS`: `difference` with `low` and `high` over scans and
    `trainings_low` and `trainings_high` over trainings (`fhlib.measures.comparison.compare_trainings`); `paper_points`, what the paper
    prints (Tables 1 and 2); and `answer` in words (`answer_of`, against `between_trainings` of the run).

    Args:
        results: folder of the published runs, with `RUNS` and the scores of each (`fhlib.paper.claims.scores_of_trainings`).
    """
    runs = pd.read_csv(results / RUNS)
    scores = {run: scores_of_trainings(results / run) for run in runs["run"]}
    spread = {run: between_trainings(frame) for run, frame in scores.items()}
    printed = pd.concat([printed_table(1), printed_table(2)]).drop_duplicates("variant").set_index("variant")
    rows = []
    for question, variant, baseline in QUESTIONS:
        paper_points = printed["dsc_percent"].get(variant) if baseline in printed.index else None
        if paper_points is not None:
            paper_points -= printed["dsc_percent"][baseline]
        for run in runs.to_dict("records"):
            both = scores[run["run"]]
            both = both[both["variant"].isin([variant, baseline])]
            if both["variant"].nunique() < 2:
                continue
            (compared,) = compare_trainings(both, "dsc", baseline).to_dict("records")
            asked = {
                "question": question,
                "paper_points": paper_points,
                "answer": answer_of(compared, spread[run["run"]]),
            }
            rows.append(run | compared | asked)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def published_claims(results: Path) -> pd.DataFrame:
    """The paper's claims (`evaluate_claims`), each by the published run in which its first network does best.

    A run that cannot test a claim has no say in it. Can none, the first one's reason stands. Added columns: run, and in words printed, here
    and said (`fhlib.paper.ledger.cells_of`).

    Args:
        results: as in `answers`.
    """
    found = {}
    for run in pd.read_csv(results / RUNS)["run"]:
        reached = scores_of_trainings(results / run).groupby("variant")["dsc"].mean()
        claims = evaluate_claims(read_claims(), results / run).assign(run=run)
        first = claims["quantity"].str.split(":").str[1]
        found[run] = claims.assign(reached=first.map(reached).where(is_testable(claims), -1.0).fillna(-1.0))
    pooled = pd.concat(found.values(), ignore_index=True)
    best = pooled.groupby("id", sort=False)["reached"].idxmax()
    claims = pooled.loc[best].drop(columns="reached").reset_index(drop=True)
    # a true minus sign: text that begins with a hyphen could be a spreadsheet's formula, and is quoted
    shown = [(*map(_minus, cells[:2]), cells[2]) for cells in map(cells_of, claims.to_dict("records"))]
    claims[["printed", "here", "said"]] = shown
    return claims


def answer_of(compared: dict[str, float], spread: float = math.nan) -> str:
    """One row of `compare_trainings` in words.

    Only what other trainings would show too is an answer: an interval over trainings that leaves out zero, or of one training a difference
    beyond `spread`.

    >>> answer_of({"difference": 0.02, "low": 0.01, "high": 0.03, "seeds": 1}, spread=0.028)
    'open: ahead in one training'
    """
    gain, seeds = compared["difference"], int(compared["seeds"])
    if seeds < 2:
        if abs(gain) > spread:
            return f"{_verdict(gain)}: by more than trainings differ"
        leads = compared["low"] > 0 or compared["high"] < 0
        return f"open: {('ahead' if gain > 0 else 'behind') if leads else 'level'} in one training"
    if compared["trainings_low"] > 0 or compared["trainings_high"] < 0:
        return f"{_verdict(gain)}: over {seeds} trainings"
    return f"open: {seeds} trainings allow both"


def between_trainings(scores: pd.DataFrame) -> float:
    """How far two trainings of one network may differ in mean DSC (95 %, Student's t), by the network whose trainings differ most.

    NaN where no network has two. `scores`: variant, seed and dsc, a row a scan.
    """
    means = scores.groupby(["variant", "seed"])["dsc"].mean().groupby("variant").agg(["std", "size"])
    several = means[means["size"] > 1]
    reach = stats.t.ppf(0.975, several["size"] - 1) * 2**0.5 * several["std"]
    return float(reach.max())


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _verdict(gain: float) -> str:
    return "yes" if gain > 0 else "no, it harms"
