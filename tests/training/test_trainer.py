"""Trainings on a small made cohort: resumed bit for bit, fingerprinted, learning."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fhlib.models.parameters import SegmentorParameters
from fhlib.models.weights import load_cascade
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.ship_weights import export_segmentor
from fhlib.training.prepared import prepare_cohort
from fhlib.training.trainer import TrainingDiverged, TrainingPaused, _Trainer, fingerprint_of, fit
from tests.small_cohort import PREPARATION, TRAINING, parameters, scan


def test_resumed_training_equals_uninterrupted_bit_for_bit(cases, tmp_path):
    p = parameters("USegNet-DS-HAS")
    whole = fit(cases, p, tmp_path / "whole")

    def stop(history):
        if len(history) >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(cases, p, tmp_path / "parts", watch=stop)
    assert (tmp_path / "parts" / "checkpoint.pt").exists() and not (tmp_path / "parts" / "weights.safetensors").exists()
    torch.manual_seed(99)
    resumed = fit(cases, p, tmp_path / "parts")
    pd.testing.assert_frame_equal(whole, resumed)
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    (tmp_path / "parts" / "weights.safetensors").unlink()
    fit(cases, p, tmp_path / "parts", watch=lambda history: pytest.fail("trained again"))
    again = load_file(tmp_path / "parts" / "weights.safetensors")
    assert all(torch.equal(a[name], again[name]) for name in a)


def test_a_paused_training_continues_to_the_same_weights_also_where_losses_are_read_seldom(
    cases, tmp_path, monkeypatch
):
    training = TRAINING.model_copy(update={"half_resolution_share": 0.5})
    p = parameters("USegNet-DS", training=training)
    whole = fit(cases, p, tmp_path / "whole")

    # as on a GPU: steps run ahead of their losses
    monkeypatch.setattr(_Trainer, "steps_ahead", property(lambda self: 3))
    asked = []
    with pytest.raises(TrainingPaused, match=rf"USegNet-DS stopped after \d of {training.steps} steps"):
        fit(cases, p, tmp_path / "parts", pause=lambda: asked.append(1) is None and len(asked) == 2)
    resumed = fit(cases, p, tmp_path / "parts")
    pd.testing.assert_frame_equal(whole, resumed)
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_a_killed_training_continues_to_the_same_weights(cohort, cases, tmp_path):
    training = TRAINING.model_copy(update={"steps": 40, "checkpoint_every": 1})
    p = parameters("USegNet-DS", training=training)
    fit(cases, p, tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path\n"
        "from fhlib.models.parameters import SegmentorParameters; from fhlib.training.prepared import PreparedCases\n"
        "from fhlib.training.trainer import fit\n"
        "fit(PreparedCases(Path(sys.argv[1])), SegmentorParameters.load(Path(sys.argv[2])), Path(sys.argv[3]))"
    )
    given = tmp_path / "whole" / "parameters.json"
    child = subprocess.Popen([sys.executable, "-c", code, str(cases.folder), str(given), str(tmp_path / "killed")])
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.kill()
    child.wait()
    assert checkpoint.exists() and not (tmp_path / "killed" / "weights.safetensors").exists()
    fit(cases, p, tmp_path / "killed")
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_complete_training_returns_at_once_and_other_parameters_start_anew(cases, tmp_path):
    p = parameters("USegNet-DS")
    fit(cases, p, tmp_path)
    before = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    fit(cases, p, tmp_path, watch=lambda history: pytest.fail("trained again"))
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before
    other = parameters("USegNet-DS", training=TRAINING.model_copy(update={"learning_rate": 5e-3}))
    assert fit(cases, other, tmp_path)["learning_rate"].max() <= 5e-3


def test_saving_and_watching_more_often_does_not_change_the_fingerprint(cases):
    often = TRAINING.model_copy(update={"validate_every": 1, "checkpoint_every": 1})
    plain = fingerprint_of(parameters("USegNet"), cases)
    assert plain == fingerprint_of(parameters("USegNet", training=often), cases)
    assert plain != fingerprint_of(parameters("USegNet-DS"), cases)


def test_a_diverged_training_names_the_case_and_keeps_its_checkpoint(cases, tmp_path):
    p = parameters("USegNet", training=TRAINING.model_copy(update={"steps": 50, "schedule": "constant"}))

    def spoil(history):
        if len(history) == 6:
            np.save(cases.folder / "bad.image.npy", np.full((13, 15, 13), np.nan, np.float32))
            spoiled[0] = True

    spoiled = [False]
    original = type(cases).image
    type(cases).image = lambda self, case, **options: (
        np.load(self.folder / "bad.image.npy") if spoiled[0] else original(self, case, **options)
    )
    try:
        with pytest.raises(TrainingDiverged, match=r"step 7 on c\d.*lower learning_rate"):  # step 6 was drawn ahead
            fit(cases, p, tmp_path, watch=spoil)
    finally:
        type(cases).image = original
        (cases.folder / "bad.image.npy").unlink(missing_ok=True)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6


def test_weights_that_are_not_finite_are_never_kept(cases, tmp_path, monkeypatch):
    step = _Trainer._train_step

    def spoil(self, *sample):
        row = step(self, *sample)
        if self.step == 6:  # the gradient of the last step, say: its loss was finite
            with torch.no_grad():
                next(self.net.parameters()).flatten()[0] = torch.nan
        return row

    monkeypatch.setattr(_Trainer, "_train_step", spoil)
    p = parameters("USegNet", training=TRAINING.model_copy(update={"steps": 7, "checkpoint_every": 6}))
    with pytest.raises(TrainingDiverged, match="no longer finite after step 7: lower learning_rate"):
        fit(cases, p, tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.slow
def test_a_2d_variant_learns_from_slices_and_stacks_them_at_the_original_resolution(cohort, tmp_path):
    few = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path / "few")
    training = TRAINING.model_copy(update={"steps": 60, "validate_every": 30})
    with pytest.raises(FileNotFoundError, match="run 02_prepare again"):
        fit(few, parameters("2D-USegNet", training=training), tmp_path / "none")
    slices = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path / "few", originals=True)
    assert slices.fingerprint == few.fingerprint  # the other variants do not become stale
    original = np.asarray(slices.image("c1", original=True), np.float32)
    image, label = scan(1)
    unit = (image.array - image.array.min()) / (image.array.max() - image.array.min())
    assert np.abs(original - unit).max() < 5e-4  # half precision
    assert np.array_equal(slices.label("c1", original=True), label.array)
    history = fit(slices, parameters("2D-USegNet", training=training), tmp_path / "model" / "level1")
    assert history["val_dsc"].iloc[-1] > 0.85
    segmentor = load_segmentor(tmp_path / "model")
    image, label = scan(4)
    result = segmentor.segment(image)
    assert result.probability.same_geometry(image)
    unit = ((image.array - image.array.min()) / (image.array.max() - image.array.min())).astype(np.float32)
    with torch.no_grad():  # 26 x 40 x 52 voxels are cut across their shortest side
        one = torch.softmax(segmentor.cascade.levels[0](torch.from_numpy(unit[11])[None, None]).logits, 1)[0, 1].numpy()
    assert np.allclose(result.probability.array[11], one, atol=1e-4)
    mask = result.mask.array > 0
    assert 2 * (mask & (label.array > 0)).sum() / (mask.sum() + label.array.sum()) > 0.85
    assert segmentor.cascade.features(image).attention == {}


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batch(cases, tmp_path, monkeypatch):
    alike = cases.without(["c3"])
    training = TRAINING.model_copy(update={"batch_size": 2, "learning_rate": 3e-3})
    one = fit(alike, parameters("USegNet-DS-HAS", training=training), tmp_path / "one")
    halves = training.model_copy(update={"batch_size": 1})
    parameters("USegNet-DS-HAS", training=halves).save(tmp_path / "given.json")
    code = (
        "import sys; from pathlib import Path\n"
        "from fhlib.models.parameters import SegmentorParameters; from fhlib.training.prepared import PreparedCases\n"
        "from fhlib.training.trainer import fit\n"
        "cases, p = PreparedCases(Path(sys.argv[1])).without(['c3']), SegmentorParameters.load(Path(sys.argv[2]))\n"
        "fit(cases, p, Path(sys.argv[3]))"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = [str(cases.folder), str(tmp_path / "given.json"), str(tmp_path / "two")]
    environment = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    environment |= {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, *given], env={**environment, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    two = pd.read_csv(tmp_path / "two" / "history.csv")
    assert (two["case"] == one["case"]).all()
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-3)
    assert one["loss"].iloc[-1] < 0.9 * one["loss"].iloc[0]  # there is a curve to compare

    # one process takes over what two have finished, also where only their checkpoint is left
    weights = load_file(tmp_path / "two" / "weights.safetensors")
    for name in ("weights.safetensors", "parameters.json", "history.csv"):
        (tmp_path / "two" / name).unlink()
    monkeypatch.setattr(_Trainer, "_train_step", None)
    pd.testing.assert_frame_equal(fit(alike, parameters("USegNet-DS-HAS", training=halves), tmp_path / "two"), two)
    again = load_file(tmp_path / "two" / "weights.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights | again)
    assert SegmentorParameters.load(tmp_path / "two" / "parameters.json").processes == 2


def test_training_goes_on_from_shipped_weights(cases, tmp_path, monkeypatch):
    monkeypatch.setattr("fhlib.files.DATA", tmp_path)
    first = TRAINING.model_copy(update={"steps": 30, "validate_every": 30})
    fit(cases, parameters("USegNet-DS", training=first), tmp_path / "model" / "level1")
    export_segmentor(tmp_path / "model", tmp_path / "weights" / "head")
    little = TRAINING.model_copy(update={"steps": 2, "learning_rate": 1e-4})
    on = little.model_copy(update={"start_from": "head"})
    scores = {
        name: fit(cases, parameters("USegNet-DS", training=t), tmp_path / name)["val_dsc"].iloc[-1]
        for name, t in (("anew", little), ("on", on))
    }
    assert scores["on"] > scores["anew"] + 0.2
    mixed = parameters("USegNet-DS", training=on.model_copy(update={"start_share": 0.25}))
    fit(cases, mixed, tmp_path / "mixed")
    places = tmp_path / "weights" / "head" / "level1", tmp_path / "on", tmp_path / "mixed"
    start, trained, between = (load_file(place / "weights.safetensors") for place in places)
    name = max(start, key=lambda key: start[key].numel())
    assert not torch.equal(trained[name], start[name].float())
    torch.testing.assert_close(between[name], 0.25 * start[name].float() + 0.75 * trained[name])
    before = fingerprint_of(parameters("USegNet-DS", training=on), cases)
    weights = tmp_path / "weights" / "head" / "level1" / "weights.safetensors"
    export_segmentor(tmp_path / "model", tmp_path / "weights" / "other")
    weights.write_bytes(weights.read_bytes()[:-2] + b"\x00\x01")
    assert fingerprint_of(parameters("USegNet-DS", training=on), cases) != before
    with pytest.raises(
        ValueError, match="weights 'other' have variant USegNet-DS, and this training has variant USegNet-DS-HAS: make"
    ):
        other = little.model_copy(update={"start_from": "other"})
        fit(cases, parameters("USegNet-DS-HAS", training=other), tmp_path / "wrong")


@pytest.mark.parametrize("variant", ["Attention-U-Net", "Residual-U-Net"])
def test_competitors_train_are_saved_and_predict(cases, tmp_path, variant):
    training = TRAINING.model_copy(update={"steps": 2})
    fit(cases, parameters(variant, training=training), tmp_path / "level1")
    first, again = (load_cascade(tmp_path).probability(np.asarray(cases.image("c0"))) for _ in range(2))
    assert first.shape == (13, 15, 13) and np.isfinite(first).all() and np.array_equal(first, again)
