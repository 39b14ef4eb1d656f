"""What the published runs say to the paper's questions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fhlib.paper.answers import answer_of, answers, between_trainings, published_claims
from fhlib.workflow.publish import ANSWERS, CLAIMS, RESULTS


def scored(means):
    """Scores of three scans around each mean: {(variant, seed): mean}."""
    rows = []
    for (variant, seed), mean in means.items():
        for scan, off in enumerate((-0.01, 0.0, 0.01)):
            rows.append(
                {"variant": variant, "seed": seed, "case": f"c{scan}", "subject": f"s{scan}", "dsc": mean + off}
            )
    return pd.DataFrame(rows)


def test_trainings_of_one_network_differ_by_students_reach_times_the_root_of_two():
    frame = scored({("A", 0): 0.90, ("A", 1): 0.92, ("B", 0): 0.90, ("B", 1): 0.901, ("C", 0): 0.5})
    # two trainings: an SD of 0.02 / sqrt(2), and t(0.975, 1 degree of freedom) = 12.706
    assert between_trainings(frame) == pytest.approx(12.706 * 2**0.5 * 0.02 / 2**0.5, rel=1e-4)
    assert math.isnan(between_trainings(scored({("A", 0): 0.9, ("B", 0): 0.8})))


@pytest.mark.parametrize(
    ("gain", "over_scans", "seeds", "over_trainings", "spread", "said"),
    [
        (0.14, (0.12, 0.16), 1, (math.nan, math.nan), 0.028, "yes: by more than trainings differ"),
        (-0.14, (-0.16, -0.12), 1, (math.nan, math.nan), 0.028, "no, it harms: by more than trainings differ"),
        (0.02, (0.01, 0.03), 1, (math.nan, math.nan), 0.028, "open: ahead in one training"),
        (-0.02, (-0.03, -0.01), 1, (math.nan, math.nan), math.nan, "open: behind in one training"),
        (0.02, (-0.01, 0.05), 1, (math.nan, math.nan), 0.028, "open: level in one training"),
        (0.02, (0.01, 0.03), 3, (-0.01, 0.05), 0.028, "open: 3 trainings allow both"),
        (0.02, (-0.01, 0.05), 5, (0.01, 0.03), 0.028, "yes: over 5 trainings"),
        (-0.02, (-0.03, 0.01), 2, (-0.03, -0.01), 0.028, "no, it harms: over 2 trainings"),
    ],
)
def test_only_what_other_trainings_would_show_is_an_answer(gain, over_scans, seeds, over_trainings, spread, said):
    low, high = over_scans
    compared = {"difference": gain, "low": low, "high": high, "seeds": seeds}
    compared |= dict(zip(("trainings_low", "trainings_high"), over_trainings, strict=True))
    assert answer_of(compared, spread) == said


def test_a_run_answers_what_it_has_trained_with_the_seeds_that_both_have(tmp_path):
    runs = pd.DataFrame([{"run": name, "data": "d", "voxel": "v", "width": 2, "steps": "s"} for name in ("one", "two")])
    runs.to_csv(tmp_path / "answered_by.csv", index=False)
    means = {("USegNet", 0): 0.9, ("USegNet", 1): 0.8, ("p-USegNet", 0): 0.7, ("USegNet-DS", 0): 0.85}
    for name in runs["run"]:
        (tmp_path / name).mkdir()
    frame = scored(means)
    frame[frame["seed"] == 0].drop(columns="seed").to_csv(tmp_path / "one" / "scores.csv", index=False)
    frame[frame["seed"] == 1].drop(columns="seed").to_csv(tmp_path / "one" / "scores_seed1.csv", index=False)
    scored({("USegNet-DS", 0): 0.9}).to_csv(tmp_path / "two" / "scores.csv", index=False)

    found = answers(tmp_path)
    assert found["run"].tolist() == ["one", "one"] and found["seeds"].tolist() == [1, 1]
    np.testing.assert_allclose(found["difference"], [0.9 - 0.7, 0.85 - 0.9], atol=1e-12)
    # Table 1 prints 93.31 for p-USegNet, 94.83 for USegNet and 94.95 for USegNet-DS
    np.testing.assert_allclose(found["paper_points"], [1.52, 0.12], atol=1e-9)


def test_published_answers_are_those_of_the_published_scores():
    kept, found = pd.read_csv(RESULTS / ANSWERS), answers(RESULTS)
    assert kept["answer"].tolist() == found["answer"].tolist()
    np.testing.assert_allclose(kept["difference"], found["difference"], rtol=1e-8)


def test_published_claims_are_of_the_run_in_which_the_network_does_best():
    kept, found = pd.read_csv(RESULTS / CLAIMS), published_claims(RESULTS)
    assert kept["said"].tolist() == found["said"].tolist() and kept["id"].is_unique
    best = {}
    for run in ("gpu", "desk", "quick"):
        scores = pd.read_csv(RESULTS / run / "scores.csv").groupby("variant")["dsc"].mean()
        if "USegNet-DS" in scores:
            best[run] = scores["USegNet-DS"]
    (level,) = found[found["quantity"] == "summary:USegNet-DS:dsc"].to_dict("records")
    assert level["run"] == max(best, key=best.get)
    # of three trainings: the interval of attention's gain is that of the answers
    (gain,) = found[found["quantity"] == "difference:USegNet-DS-HAS:USegNet-DS:dsc"].to_dict("records")
    (answer,) = answers(RESULTS).query("variant == 'USegNet-DS-HAS' and run == @gain['run']").to_dict("records")
    assert gain["ci_low"] == pytest.approx(100 * answer["trainings_low"])
    assert gain["ci_high"] == pytest.approx(100 * answer["trainings_high"])
