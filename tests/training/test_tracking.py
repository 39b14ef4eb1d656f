"""Trainings that are followed: what a tracker is told, and that it changes nothing."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from accelerate.tracking import GeneralTracker
from safetensors.torch import load_file

from fhlib.presets import PresetError, load_preset
from fhlib.training import tracking
from fhlib.training.tracking import Tracking, require_tracker, told
from fhlib.training.trainer import TrainingPaused, fit
from tests.small_cohort import parameters


class Kept(GeneralTracker):
    """A tracker that keeps what it is told."""

    name = "kept"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__(_blank=True)
        self.settings, self.steps, self.finished = [], [], 0

    @property
    def tracker(self):
        return self

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict) -> None:
        self.settings.append(values)

    def log(self, values: dict, step: int | None = None, **_: object) -> None:
        self.steps.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_a_tracker_is_told_each_step_once_across_a_pause_and_changes_no_weight(cases, tmp_path):
    p = parameters("USegNet-DS")
    alone = fit(cases, p, tmp_path / "alone")
    kept = Kept()
    track = Tracking(kept, tmp_path / "tracking", "a", "USegNet-DS-level1")
    with pytest.raises(TrainingPaused):
        fit(cases, p, tmp_path / "followed", track=track, pause=lambda: True)
    before = len(kept.steps)
    assert before > 0 and kept.finished == 1
    followed = fit(cases, p, tmp_path / "followed", track=track)
    pd.testing.assert_frame_equal(alone, followed)
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("alone", "followed"))
    assert all(torch.equal(a[name], b[name]) for name in a)

    assert [step for step, _ in kept.steps] == list(range(1, p.training.steps + 1)) and kept.finished == 2
    assert len(kept.settings) == 1 and kept.settings[0]["variant"] == "USegNet-DS" and kept.settings[0]["seed"] == 0
    assert kept.settings[0]["box_drawn"] == "(1.2, 1.8)"  # trackers take plain values
    last = kept.steps[-1][1]
    written = alone.iloc[-1]  # with ten digits
    assert (last["val_dsc"], last["loss"]) == pytest.approx((written["val_dsc"], written["loss"]), rel=1e-9)
    assert (
        fit(cases, p, tmp_path / "followed", track=track).equals(followed) and kept.finished == 2
    )  # nothing was left to do


def test_a_row_tells_its_numbers():
    row = {"step": 3, "case": "a; b", "loss": 0.5, "cross_entropy": float("inf"), "val_dsc": float("nan")}
    assert told(row) == {"loss": 0.5}


def test_a_tracker_that_is_not_installed_or_not_known_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    require_tracker("")
    said = (
        "tracker is 'mlflow', and that package is not installed: python -m pip install mlflow, or set tracker to \"\""
    )
    with pytest.raises(ValueError, match=said):
        require_tracker("mlflow")
    with pytest.raises(PresetError, match=r"tracker: Input should be '', 'tensorboard' or 'mlflow' \(got 'wandb'\)"):
        load_preset("smoke", {"tracker": "wandb"})


def test_tensorboard_shows_the_losses_of_a_training(cases, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    p = parameters("USegNet-DS")
    history = fit(cases, p, tmp_path / "level1", track=Tracking("tensorboard", tmp_path / "tracking", "a", "V-level1"))
    events = reader.EventAccumulator(str(tmp_path / "tracking" / "V-level1")).Reload()
    losses = events.Scalars("loss")
    assert [event.step for event in losses] == history["step"].tolist()
    assert [event.value for event in losses] == pytest.approx(history["loss"].tolist(), rel=1e-6)
