"""Scores of a run, summed up."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd

from fhlib.measures.metrics import MEASURES
from fhlib.study.accuracy import read_scores, summarise


def test_a_summary_counts_what_entered(tmp_path):
    study = SimpleNamespace(
        table=lambda name: tmp_path / f"{name}.csv", tables=tmp_path, model_folder=tmp_path.joinpath
    )
    scores = pd.DataFrame({"variant": "V", "status": ["found", "found", "found", "missed", "no head", "found"]})
    scores = scores.assign(**dict.fromkeys(MEASURES, 1.0)).assign(conf=[1.0, -math.inf, 0.5, math.nan, 1, 1])
    summary = summarise(study, scores)
    assert summary.loc[0, ["n", "missed", "conf_n", "dsc_n"]].tolist() == [6, 1, 4, 6]


def test_names_stay_as_they_were_written(tmp_path):
    names = ["NA", "nan", "007", "None"]
    pd.DataFrame({"case": names, "subject": names, "dsc": [0.9, 0.8, math.nan, 0.7]}).to_csv(
        tmp_path / "scores.csv", index=False
    )
    scores = read_scores(SimpleNamespace(table=lambda name: tmp_path / f"{name}.csv"))
    assert scores["case"].tolist() == names and scores["subject"].tolist() == names and scores["dsc"].count() == 3
