"""Scores of a run, summed up."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd

from fhlib.measures.metrics import MEASURES
from fhlib.study.accuracy import summarise


def test_a_summary_counts_what_entered(tmp_path):
    study = SimpleNamespace(tables=tmp_path, model_folder=tmp_path.joinpath)
    scores = pd.DataFrame({"variant": "V", "status": ["found", "found", "found", "missed", "no head", "found"]})
    scores = scores.assign(**dict.fromkeys(MEASURES, 1.0)).assign(conf=[1.0, -math.inf, 0.5, math.nan, 1, 1])
    summary = summarise(study, scores)
    assert summary.loc[0, ["n", "missed", "conf_n", "dsc_n"]].tolist() == [6, 1, 4, 6]
