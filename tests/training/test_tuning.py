"""Learning rate and warm-up, chosen with one budget."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fhlib.presets import Tuning
from fhlib.training.trainer import TrainingDiverged, _Trainer
from fhlib.training.tuning import tune
from tests.small_cohort import parameters


def test_every_network_is_tuned_with_the_same_budget_and_the_best_pair_is_taken(cases, tmp_path, monkeypatch):
    tuning = Tuning(learning_rates=(1e-5, 1e-2), warm_ups=(1 / 3, 0.5), steps=5)
    table = tune(cases, parameters("USegNet-DS"), tuning, tmp_path / "tuning")
    assert len(table) == 4 and table["val_dsc"].is_monotonic_decreasing and table["learning_rate"].iloc[0] == 1e-2
    for rate, warm_up in table[["learning_rate", "warm_up"]].to_numpy():
        history = pd.read_csv(tmp_path / "tuning" / f"{rate:g}-{warm_up:g}" / "history.csv")
        assert len(history) == 5 and history["learning_rate"].max() <= rate
        assert int(history["learning_rate"].argmax()) == round(6 * warm_up) - 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")}
    tune(cases, parameters("USegNet-DS"), tuning, tmp_path / "tuning")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    step = _Trainer._train_step

    def diverge(self, *sample):
        if self.parameters.training.learning_rate > worst:
            raise TrainingDiverged("the loss became nan")
        return step(self, *sample)

    monkeypatch.setattr(_Trainer, "_train_step", diverge)
    worst = 1e-3
    table = tune(cases, parameters("USegNet-DS"), tuning, tmp_path / "partly")
    assert table["learning_rate"].tolist() == [1e-5, 1e-5, 1e-2, 1e-2] and table["val_dsc"].isna().sum() == 2
    worst = 1  # would go well now, and is not tried again
    assert tune(cases, parameters("USegNet-DS"), tuning, tmp_path / "partly").equals(table)
    mark = next((tmp_path / "partly").glob("*/diverged.json"))
    assert json.loads(mark.read_text())["processes"] == 1
    others = cases.without(["c0"])  # other data are tried
    assert tune(others, parameters("USegNet-DS"), tuning, tmp_path / "partly")["val_dsc"].notna().all()
    worst = 0
    with pytest.raises(TrainingDiverged):
        tune(cases, parameters("USegNet-DS"), tuning, tmp_path / "wholly")
    with pytest.raises(ValueError, match="tuning needs validation cases"):
        tune(cases.without(["c3"]), parameters("USegNet-DS"), tuning, tmp_path / "none")


def test_the_trainings_of_a_tuning_share_their_contexts(cases, cascade_folder, tmp_path, monkeypatch):
    base, saved, save = cascade_folder.parent / "USegNet-DS-HAS", [], np.save
    monkeypatch.setattr("fhlib.training.contexts.np.save", lambda path, array: (saved.append(path), save(path, array)))
    p = parameters("USegNet-DS-HAS-Ctx", level=2)
    tune(cases, p, Tuning(learning_rates=(1e-3, 1e-2), steps=1), tmp_path, base)
    assert len(saved) == 4  # c0 to c3, once for both candidates
    assert len(list((tmp_path / "contexts").glob("*.npy"))) == 4
