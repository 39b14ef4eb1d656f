"""Preparation, training, cascade and prediction on a small made cohort: oblique, anisotropic, not cubic."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fhlib.cohorts.manifest import load_cohort
from fhlib.images.formats import write_volume
from fhlib.images.grids import resample
from fhlib.images.volume import Volume
from fhlib.models import device
from fhlib.models.device import Execution, choose_execution
from fhlib.models.inputs import label_to_network_grid, to_network_grid
from fhlib.models.parameters import SegmentorParameters
from fhlib.models.weights import model_digest
from fhlib.networks.build import build_level, build_network
from fhlib.presets import Prediction, Preparation, Training, Tuning
from fhlib.segmentation.predictions import predict_cases, read_prediction
from fhlib.segmentation.quality import largest_component
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.ship_weights import export_segmentor
from fhlib.training.contexts import copy_levels
from fhlib.training.prepared import prepare_cohort
from fhlib.training.trainer import TrainingDiverged, _random_patch, _start_from, _Trainer, fingerprint_of, fit
from fhlib.training.tuning import tune
from fhlib.variants import levels_of

PREPARATION = Preparation(spacing_mm=4.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
TRAINING = Training(
    width=4, steps=7, learning_rate=1e-2, validate_every=3, checkpoint_every=2, start_from_previous_level=True
)


def scan(seed, noise=0.4):
    """A bright ellipsoid in noise, 2 x 1.5 x 1 mm, oblique and flipped."""
    rng = np.random.default_rng(seed)
    spacing, shape = (2.0, 1.5, 1.0), (26, 40, 52)
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    centre = np.array(shape) * spacing / 2 + rng.uniform(-4, 4, 3)
    label = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, (15, 18, 16), strict=True)) < 1
    image = (100 * label + 100 * noise * rng.random(shape)).astype(np.float32)
    geometry = {"spacing_mm": spacing, "origin": (5.0, -7.0, 11.0), "direction": OBLIQUE}
    return Volume(image, **geometry), Volume(label.astype(np.uint8), **geometry)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    rows = []
    for number, split in enumerate(["train", "train", "train", "val", "test", "test"]):
        image, label = scan(number)
        write_volume(image, folder / f"{number}.nrrd")
        write_volume(label, folder / f"{number}_label.nrrd")
        rows.append(
            {
                "case": f"c{number}",
                "subject": f"s{number}",
                "image": f"{number}.nrrd",
                "label": f"{number}_label.nrrd",
                "split": split,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    return load_cohort(folder)


@pytest.fixture(scope="module")
def cases(cohort, tmp_path_factory):
    return prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path_factory.mktemp("prepared"))


def parameters(variant, cases, level=1, training=TRAINING, previous=None):
    execution = Execution()
    fingerprint = fingerprint_of(variant, level, cases, training, execution, previous)
    return SegmentorParameters(variant, level, cases.spatial_dims, PREPARATION, training, execution, fingerprint)


def test_prepared_arrays_are_at_the_networks_resolution_and_in_zero_one(cases, cohort):
    # 52 x 60 x 52 mm at 4 mm
    assert cases.typical_shape == (13, 15, 13)
    image, label = np.asarray(cases.image("c0")), np.asarray(cases.label("c0"))
    assert (image.min(), image.max()) == (0, 1) and image.dtype == np.float32
    assert set(np.unique(label)) == {0, 1} and label.shape == image.shape
    assert cases.cases("train") == ["c0", "c1", "c2"] and cases.cases("test") == []


def test_a_prepared_label_keeps_its_volume_on_a_coarser_grid():
    # ellipsoids of 26, 20 and 16 mm in 1.0 x 1.2 x 0.8 mm voxels, at random places; cut at one half they would lose 1.3 % on average
    for centre in np.random.default_rng(0).uniform(-2, 2, (6, 3)):
        p = np.meshgrid(
            *(
                (np.arange(n) - n / 2) * step - c
                for n, step, c in zip((64, 56, 72), (1, 1.2, 0.8), centre, strict=True)
            ),
            indexing="ij",
            sparse=True,
        )
        inside = sum((a / r) ** 2 for a, r in zip(p, (26, 20, 16), strict=True)) < 1
        prepared = label_to_network_grid(Volume(inside.astype(np.uint8), (1, 1.2, 0.8)), Preparation(spacing_mm=4.0))
        assert prepared.array.sum() * 64 == pytest.approx(4 / 3 * np.pi * 26 * 20 * 16, rel=0.005)
    anisotropic = Volume(np.zeros((50, 30, 20), np.uint8), (0.8, 1.5, 1.0))  # 40 x 45 x 20 mm
    by_size = to_network_grid(anisotropic, Preparation(spacing_mm=4.0, longest_voxels=30))
    assert by_size.shape == (27, 30, 13) and by_size.spacing_mm == pytest.approx((1.5, 1.5, 1.5))
    empty = Volume(np.zeros((20, 20, 20), np.uint8), (1, 1, 1))
    assert not label_to_network_grid(empty, Preparation(spacing_mm=4.0)).array.any()


def test_preparing_again_writes_nothing_and_a_changed_image_is_redone(cohort, tmp_path):
    first = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    second = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")} == times
    assert second.fingerprint == first.fingerprint
    coarser = prepare_cohort(cohort, cohort.table, Preparation(spacing_mm=5.0), tmp_path)
    assert coarser.fingerprint != first.fingerprint and coarser.typical_shape == (10, 12, 10)


def test_non_finite_intensities_are_refused_and_a_constant_image_is_zero():
    image, _ = scan(0)
    broken = image.array.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_network_grid(image.with_array(broken), PREPARATION)
    assert not to_network_grid(image.with_array(np.full(image.shape, 7.0)), PREPARATION).array.any()


def test_images_are_scaled_by_the_papers_factor():
    image = Volume(np.random.default_rng(0).random((100, 60)), (0.2, 0.1))
    prepared = to_network_grid(image, Preparation(spacing_mm=1, image_scale=0.4))
    assert prepared.shape == (40, 24) and prepared.spacing_mm == pytest.approx((0.5, 0.25))
    assert label_to_network_grid(image.with_array(np.ones(image.shape)), Preparation(spacing_mm=1)).array.all()


@pytest.mark.parametrize(
    "factor", [1.0, 0.3]
)  # of the attention modules' learning rate: one group of parameters, and two
def test_resumed_training_equals_uninterrupted_bit_for_bit(cases, tmp_path, factor):
    training = TRAINING.model_copy(update={"attention_learning_rate_factor": factor})
    p = parameters("USegNet-DS-HAS", cases, training=training)
    whole = fit(cases, p, tmp_path / "whole")
    stopped = replace(p)

    def stop(history):
        if len(history) >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(cases, stopped, tmp_path / "parts", watch=stop)
    assert (tmp_path / "parts" / "checkpoint.pt").exists() and not (tmp_path / "parts" / "weights.safetensors").exists()
    torch.manual_seed(99)
    resumed = fit(cases, stopped, tmp_path / "parts")
    pd.testing.assert_frame_equal(whole, resumed)
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    (tmp_path / "parts" / "weights.safetensors").unlink()
    fit(cases, stopped, tmp_path / "parts", watch=lambda history: pytest.fail("trained again"))
    again = load_file(tmp_path / "parts" / "weights.safetensors")
    assert all(torch.equal(a[name], again[name]) for name in a)


def test_a_killed_training_continues_to_the_same_weights(cohort, cases, tmp_path):
    training = TRAINING.model_copy(update={"steps": 40, "checkpoint_every": 1})
    p = parameters("USegNet-DS", cases, training=training)
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
    p = parameters("USegNet-DS", cases)
    fit(cases, p, tmp_path)
    before = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    fit(cases, p, tmp_path, watch=lambda history: pytest.fail("trained again"))
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before
    other = parameters("USegNet-DS", cases, training=TRAINING.model_copy(update={"learning_rate": 5e-3}))
    assert fit(cases, other, tmp_path)["learning_rate"].max() <= 5e-3


def test_every_network_is_tuned_with_the_same_budget_and_the_best_pair_is_taken(cases, tmp_path, monkeypatch):
    tuning = Tuning(learning_rates=(1e-5, 1e-2), warm_ups=(1 / 3, 0.5), steps=5)
    table = tune(cases, parameters("USegNet-DS", cases), tuning, tmp_path / "tuning")
    assert len(table) == 4 and table["val_dsc"].is_monotonic_decreasing and table["learning_rate"].iloc[0] == 1e-2
    for rate, warm_up in table[["learning_rate", "warm_up"]].to_numpy():
        history = pd.read_csv(tmp_path / "tuning" / f"{rate:g}-{warm_up:g}" / "history.csv")
        assert len(history) == 5 and history["learning_rate"].max() <= rate
        assert int(history["learning_rate"].argmax()) == round(6 * warm_up) - 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")}
    tune(cases, parameters("USegNet-DS", cases), tuning, tmp_path / "tuning")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    step = _Trainer._train_step

    def diverge(self, *sample):
        if self.parameters.training.learning_rate > worst:
            raise TrainingDiverged("the loss became nan")
        return step(self, *sample)

    monkeypatch.setattr(_Trainer, "_train_step", diverge)
    worst = 1e-3
    table = tune(cases, parameters("USegNet-DS", cases), tuning, tmp_path / "partly")
    assert table["learning_rate"].tolist() == [1e-5, 1e-5, 1e-2, 1e-2] and table["val_dsc"].isna().sum() == 2
    worst = 1  # would go well now, and is not tried again
    assert tune(cases, parameters("USegNet-DS", cases), tuning, tmp_path / "partly").equals(table)
    mark = next((tmp_path / "partly").glob("*/diverged.json"))
    assert json.loads(mark.read_text())["processes"] == 1
    others = cases.without(["c0"])  # other data are tried
    assert tune(others, parameters("USegNet-DS", others), tuning, tmp_path / "partly")["val_dsc"].notna().all()
    worst = 0
    with pytest.raises(TrainingDiverged):
        tune(cases, parameters("USegNet-DS", cases), tuning, tmp_path / "wholly")
    with pytest.raises(ValueError, match="tuning needs validation cases"):
        tune(cases.without(["c3"]), parameters("USegNet-DS", cases), tuning, tmp_path / "none")


def test_attention_modules_have_a_learning_rate_of_their_own(cases, tmp_path):
    def moved(factor):  # Adam's first step moves every weight that has a gradient by the learning rate
        training = TRAINING.model_copy(
            update={"steps": 1, "schedule": "constant", "attention_learning_rate_factor": factor}
        )
        trainer = _Trainer(
            cases, parameters("USegNet-DS-HAS", cases, training=training), tmp_path / f"{factor}", None, None
        )
        before = {name: p.detach().clone() for name, p in trainer.net.named_parameters()}
        trainer.run(None)
        after = trainer.net.named_parameters()
        steps = {name: float((p.detach() - before[name]).abs().max()) for name, p in after}
        apart = {name for name in steps if "_attention." in name}
        return max(steps[name] for name in apart), max(step for name, step in steps.items() if name not in apart)

    assert moved(1.0) == pytest.approx((1e-2, 1e-2), rel=1e-3)
    assert moved(0.3) == pytest.approx((3e-3, 1e-2), rel=1e-3)
    training = TRAINING.model_copy(update={"attention_learning_rate_factor": 0.3})
    p = parameters("USegNet-DS-HAS", cases, training=training)
    trainer = _Trainer(cases, p, tmp_path / "cycle", None, None)
    rates = [group["initial_lr"] for group in trainer.optimiser.param_groups]
    assert [group["max_lr"] for group in trainer.optimiser.param_groups] == pytest.approx([1e-2, 3e-3])
    assert rates[1] == pytest.approx(0.3 * rates[0])


def test_saving_and_watching_more_often_does_not_change_the_fingerprint(cases):
    often = TRAINING.model_copy(update={"validate_every": 1, "checkpoint_every": 1})
    assert parameters("USegNet", cases).fingerprint == parameters("USegNet", cases, training=often).fingerprint
    assert parameters("USegNet", cases).fingerprint != parameters("USegNet-DS", cases).fingerprint


def test_a_diverged_training_names_the_case_and_keeps_its_checkpoint(cases, tmp_path):
    p = parameters("USegNet", cases, training=TRAINING.model_copy(update={"steps": 50, "schedule": "constant"}))

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
    p = parameters("USegNet", cases, training=TRAINING.model_copy(update={"steps": 7, "checkpoint_every": 6}))
    with pytest.raises(TrainingDiverged, match="no longer finite after step 7: lower learning_rate"):
        fit(cases, p, tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 6
    assert not (tmp_path / "weights.safetensors").exists()


def test_training_learns_and_predicts_in_native_geometry(cohort, cases, tmp_path):
    training = TRAINING.model_copy(update={"steps": 60, "validate_every": 30})
    model = tmp_path / "USegNet-DS"
    history = fit(cases, parameters("USegNet-DS", cases, training=training), model / "level1")
    assert history["val_dsc"].iloc[-1] > 0.85
    segmentor = load_segmentor(model)
    image, label = scan(4)
    result = segmentor.segment(image)
    assert result.mask.same_geometry(image) and result.probability.same_geometry(image)
    assert result.volume_ml == pytest.approx(result.mask.array.sum() * 0.003)
    mask, truth = result.mask.array > 0, label.array > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85
    with pytest.raises(ValueError, match="trained on 3D"):
        segmentor.segment(Volume(np.zeros((9, 9)), (1, 1)))
    # flipped copies: their mean, by hand, and what they say of each other
    several = segmentor.segment(image, flips=3)
    grid = segmentor.read(image).array
    first, second, third = (
        np.flip(segmentor.probability(np.flip(grid, axes).copy()), axes) for axes in ((), (0,), (1,))
    )
    assert several.evidence.copies_ml == tuple(
        pytest.approx(0.064 * int(largest_component(copy >= 0.5).sum())) for copy in (first, second, third)
    )
    mean = resample(segmentor.read(image).with_array((first + second + third) / 3), like=image)
    assert np.allclose(several.probability.array, mean.array, atol=1e-5)
    assert 0.8 < several.evidence.agreement <= 1 and result.evidence.agreement != result.evidence.agreement
    with pytest.raises(ValueError, match="flips is 9: there are 1 to 8"):
        segmentor.segment(image, flips=9)


@pytest.fixture(scope="module")
def cascade(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = folder / "USegNet-DS-HAS"
    fit(cases, parameters("USegNet-DS-HAS", cases), base / "level1")
    p = parameters("USegNet-DS-HAS-Ctx", cases, level=2, previous=base)
    fit(cases, p, folder / "USegNet-DS-HAS-Ctx" / "level2", base)
    copy_levels(base, folder / "USegNet-DS-HAS-Ctx")
    return folder / "USegNet-DS-HAS-Ctx"


def test_the_cascade_reads_image_plus_probability_of_the_level_before(cases, cascade):
    segmentor = load_segmentor(cascade)
    image = np.asarray(cases.image("c0"))
    nets = []
    for level, weights in enumerate(sorted(cascade.glob("level*/weights.safetensors"))):
        net = build_network("USegNet-DS-HAS-Ctx", 4)
        net.load_state_dict(load_file(weights))
        nets.append(net.eval())
        assert level < 2
    with torch.no_grad():
        x = torch.from_numpy(image)[None, None]
        first = torch.softmax(nets[0](x).logits, 1)[:, 1:]
        second = torch.softmax(nets[1](x + first).logits, 1)[0, 1].numpy()
    assert np.allclose(segmentor.probability(image), second, atol=1e-5)
    assert np.allclose(segmentor.probability(image, upto=1), first[0, 0].numpy(), atol=1e-5)
    features = segmentor.features(scan(0)[0])
    assert np.allclose(features.probability.array, second, atol=1e-5)
    assert features.attention["UAM-3"].shape[1:] == tuple(-(-n // 8) * 8 for n in image.shape)


def test_a_third_level_reads_the_second(cases, cascade, tmp_path):
    p = parameters("USegNet-DS-HAS-Ctx3", cases, level=3, previous=cascade)
    fit(cases, p, tmp_path / "level3", cascade)
    copy_levels(cascade, tmp_path)
    segmentor = load_segmentor(tmp_path)
    assert len(segmentor.levels) == 3 and len(load_segmentor(tmp_path, upto=2).levels) == 2
    image = np.asarray(cases.image("c0"))
    before = load_segmentor(cascade).probability(image)
    with torch.no_grad():
        last = torch.softmax(segmentor.levels[2](torch.from_numpy(image + before)[None, None]).logits, 1)[0, 1]
    assert np.allclose(segmentor.probability(image), last.numpy(), atol=1e-5)
    assert levels_of("USegNet-DS-HAS-Ctx3") == (
        ("USegNet-DS-HAS", 1),
        ("USegNet-DS-HAS-Ctx", 2),
        ("USegNet-DS-HAS-Ctx3", 3),
    )


def test_a_concatenated_context_is_a_second_channel_that_starts_with_no_weight(cases, cascade, tmp_path):
    training = TRAINING.model_copy(update={"join": "concatenation", "steps": 1})
    base = cascade.parent / "USegNet-DS-HAS"
    p = parameters("USegNet-DS-HAS-Ctx", cases, level=2, training=training, previous=base)
    first = fit(cases, p, tmp_path / "level2", base)["loss"].iloc[0]
    copy_levels(base, tmp_path)
    segmentor = load_segmentor(tmp_path)
    assert segmentor.levels[1].encoder[0][0][0].weight.shape[1] == 2
    # before its first update the second level is the first one, which ignores the context
    alone = fit(cases, parameters("USegNet-DS-HAS", cases, training=training), tmp_path / "alone")["loss"].iloc[0]
    assert np.isfinite(first) and np.isfinite(alone)
    wider = build_level("USegNet-DS-HAS-Ctx", 2, 3, training)
    with torch.no_grad():
        for parameter in wider.parameters():
            parameter.normal_()
    _start_from(wider, segmentor.levels[0])
    old, new = segmentor.levels[0].state_dict(), wider.state_dict()
    firsts = [name for name in new if new[name].shape != old[name].shape]
    assert firsts and all((new[n][:, 1] == 0).all() and torch.equal(new[n][:, :1], old[n]) for n in firsts)
    assert all(torch.equal(new[name], old[name]) for name in new if name not in firsts)
    image = np.asarray(cases.image("c0"))
    context = segmentor.probability(image, upto=1)
    x = torch.from_numpy(np.stack([image, context]))[None]
    with torch.no_grad():
        expected = torch.softmax(segmentor.levels[1](x).logits, 1)[0, 1].numpy()
    assert np.allclose(segmentor.probability(image), expected, atol=1e-5)
    assert segmentor.features(scan(0)[0]).probability.array.shape == image.shape


def test_the_trainings_of_a_tuning_share_their_contexts(cases, cascade, tmp_path, monkeypatch):
    base, saved, save = cascade.parent / "USegNet-DS-HAS", [], np.save
    monkeypatch.setattr("fhlib.training.contexts.np.save", lambda path, array: (saved.append(path), save(path, array)))
    p = parameters("USegNet-DS-HAS-Ctx", cases, level=2, previous=base)
    tune(cases, p, Tuning(learning_rates=(1e-3, 1e-2), steps=1), tmp_path, base)
    assert len(saved) == 4  # c0 to c3, once for both candidates
    assert len(list((tmp_path / "contexts").glob("*.npy"))) == 4


def test_contexts_out_of_fold_come_from_models_that_have_not_seen_the_case(cases, cascade, tmp_path):
    base = cascade.parent / "USegNet-DS-HAS"
    training = TRAINING.model_copy(update={"context_folds": 3})
    p = parameters("USegNet-DS-HAS-Ctx", cases, level=2, training=training, previous=base)
    kept = {}

    def look(history):
        for path in (tmp_path / "contexts").glob("*.npy"):
            kept[path.name.split("-")[0]] = np.load(path)
        kept["folds"] = len(list((tmp_path / "contexts" / "folds").glob("*/level1/weights.safetensors")))

    fit(cases, p, tmp_path, base, watch=look)
    assert kept.pop("folds") == 3 and sorted(kept) == ["c0", "c1", "c2", "c3"]
    assert not (tmp_path / "contexts").exists()
    in_sample = load_segmentor(base)
    assert np.allclose(kept["c3"], in_sample.probability(np.asarray(cases.image("c3"))), atol=1e-5)  # validation
    # by hand: the model that predicts c0 is trained on c1 and c2 alone
    others = cases.without(["c0"])
    assert others.cases("train") == ["c1", "c2"] and others.fingerprint != cases.fingerprint
    fit(others, parameters("USegNet-DS-HAS", others), tmp_path / "by hand" / "level1")
    by_hand = load_segmentor(tmp_path / "by hand").probability(np.asarray(cases.image("c0")))
    assert np.allclose(kept["c0"], by_hand, atol=1e-5)
    assert not np.allclose(kept["c0"], in_sample.probability(np.asarray(cases.image("c0"))), atol=1e-3)
    too_many = TRAINING.model_copy(update={"context_folds": 4})
    with pytest.raises(ValueError, match="4 and there are 3 training subjects"):
        fit(cases, parameters("USegNet-DS-HAS-Ctx", cases, 2, too_many, base), tmp_path / "many", base)
    with pytest.raises(ValueError, match="one fold leaves no case out"):
        Training(width=4, steps=1, learning_rate=1e-3, context_folds=1)


def test_a_2d_variant_learns_from_slices_and_stacks_them_at_the_original_resolution(cohort, tmp_path):
    few = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path / "few")
    training = TRAINING.model_copy(update={"steps": 60, "validate_every": 30})
    with pytest.raises(FileNotFoundError, match="run 02_prepare again"):
        fit(few, parameters("2D-USegNet", few, training=training), tmp_path / "none")
    slices = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path / "few", originals=True)
    assert slices.fingerprint == few.fingerprint  # the other variants do not become stale
    original = np.asarray(slices.image("c1", original=True), np.float32)
    image, label = scan(1)
    unit = (image.array - image.array.min()) / (image.array.max() - image.array.min())
    assert np.abs(original - unit).max() < 5e-4  # half precision
    assert np.array_equal(slices.label("c1", original=True), label.array)
    history = fit(slices, parameters("2D-USegNet", slices, training=training), tmp_path / "model" / "level1")
    assert history["val_dsc"].iloc[-1] > 0.85
    segmentor = load_segmentor(tmp_path / "model")
    image, label = scan(4)
    result = segmentor.segment(image)
    assert result.probability.same_geometry(image)
    unit = ((image.array - image.array.min()) / (image.array.max() - image.array.min())).astype(np.float32)
    with torch.no_grad():  # 26 x 40 x 52 voxels are cut across their shortest side
        one = torch.softmax(segmentor.levels[0](torch.from_numpy(unit[11])[None, None]).logits, 1)[0, 1].numpy()
    assert np.allclose(result.probability.array[11], one, atol=1e-4)
    mask = result.mask.array > 0
    assert 2 * (mask & (label.array > 0)).sum() / (mask.sum() + label.array.sum()) > 0.85
    assert segmentor.features(image).attention == {}


def test_two_processes_train_like_one_with_twice_the_batch(cases, tmp_path, monkeypatch):
    alike = cases.without(["c3"])
    training = TRAINING.model_copy(update={"batch_size": 2, "learning_rate": 3e-3})
    one = fit(alike, parameters("USegNet-DS-HAS", alike, training=training), tmp_path / "one")
    halves = training.model_copy(update={"batch_size": 1})
    parameters("USegNet-DS-HAS", alike, training=halves).save(tmp_path / "given.json")
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from fhlib.models.parameters import SegmentorParameters; from fhlib.training.prepared import PreparedCases\n"
        "from fhlib.training.trainer import fit\n"
        "cases, p = PreparedCases(Path(sys.argv[1])).without(['c3']), SegmentorParameters.load(Path(sys.argv[2]))\n"
        "mark = fingerprint_of(p.variant, p.level, cases, p.training, p.execution, None)\n"
        "fit(cases, replace(p, fingerprint=mark, processes=2), Path(sys.argv[3]))"
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
    pd.testing.assert_frame_equal(
        fit(alike, parameters("USegNet-DS-HAS", alike, training=halves), tmp_path / "two"), two
    )
    again = load_file(tmp_path / "two" / "weights.safetensors")
    assert all(torch.equal(weights[name], again[name]) for name in weights | again)
    assert SegmentorParameters.load(tmp_path / "two" / "parameters.json").processes == 2


def test_a_folder_with_a_level_missing_is_refused(cascade, tmp_path):
    copy_levels(cascade, tmp_path)
    (tmp_path / "level1" / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="needs 1 to 2"):
        load_segmentor(tmp_path)
    with pytest.raises(FileNotFoundError, match="train the variant first"):
        load_segmentor(tmp_path / "nothing")


def test_interrupted_prediction_continues_to_the_same_table(cohort, cascade, tmp_path):
    segmentor, digest = load_segmentor(cascade, Prediction(threshold=0.4)), model_digest(cascade)
    tests = cohort.table[cohort.table["split"] == "test"].to_dict("records")
    whole = predict_cases(segmentor, tests, cohort.folder, tmp_path / "whole", digest)
    predict_cases(segmentor, tests[:1], cohort.folder, tmp_path / "parts", digest)
    kept = (tmp_path / "parts" / "c4_mask.nrrd").stat().st_mtime_ns
    parts = predict_cases(segmentor, tests, cohort.folder, tmp_path / "parts", digest)
    pd.testing.assert_frame_equal(whole, parts)
    assert (tmp_path / "parts" / "c4_mask.nrrd").stat().st_mtime_ns == kept
    mask, probability = read_prediction(tmp_path / "whole", whole.iloc[0])
    result = segmentor.segment(cohort.read_image("c4"))
    assert np.array_equal(mask.array, result.mask.array > 0)
    assert np.abs(probability.array - result.probability.array).max() <= 0.5 / 255 + 1e-6
    again = predict_cases(segmentor, tests, cohort.folder, tmp_path / "parts", "another model")
    pd.testing.assert_frame_equal(whole, again)
    assert (tmp_path / "parts" / "c4_mask.nrrd").stat().st_mtime_ns != kept


def test_exported_weights_are_half_as_large_and_segment_alike(cohort, cases, tmp_path):
    fit(cases, parameters("USegNet-DS", cases), tmp_path / "whole" / "level1")
    with pytest.raises(FileNotFoundError, match="03_train"):
        export_segmentor(tmp_path / "nothing", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()
    for stale in ("level2/weights.safetensors", "coverage.csv", "flags.csv"):  # of a cascade that was shipped before
        (tmp_path / "shipped" / stale).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shipped" / stale).write_text("")
    export_segmentor(tmp_path / "whole", tmp_path / "shipped")
    files = {path.relative_to(tmp_path / "shipped").as_posix() for path in (tmp_path / "shipped").rglob("*.*")}
    assert files == {"level1/weights.safetensors", "level1/parameters.json"}
    sizes = [(tmp_path / name / "level1" / "weights.safetensors").stat().st_size for name in ("whole", "shipped")]
    assert sizes[1] < 0.6 * sizes[0]
    image = cohort.read_image("c4")
    first, second = (load_segmentor(tmp_path / name).segment(image).probability for name in ("whole", "shipped"))
    assert np.abs(first.array - second.array).max() < 0.01


def test_training_goes_on_from_shipped_weights(cases, tmp_path, monkeypatch):
    monkeypatch.setattr("fhlib.training.trainer.WEIGHTS_FOLDER", tmp_path / "weights")
    first = TRAINING.model_copy(update={"steps": 30, "validate_every": 30})
    fit(cases, parameters("USegNet-DS", cases, training=first), tmp_path / "model" / "level1")
    export_segmentor(tmp_path / "model", tmp_path / "weights" / "head")
    little = TRAINING.model_copy(update={"steps": 2, "learning_rate": 1e-4})
    on = little.model_copy(update={"start_from": "head"})
    scores = {
        name: fit(cases, parameters("USegNet-DS", cases, training=t), tmp_path / name)["val_dsc"].iloc[-1]
        for name, t in (("anew", little), ("on", on))
    }
    assert scores["on"] > scores["anew"] + 0.2
    before = parameters("USegNet-DS", cases, training=on).fingerprint
    weights = tmp_path / "weights" / "head" / "level1" / "weights.safetensors"
    export_segmentor(tmp_path / "model", tmp_path / "weights" / "other")
    weights.write_bytes(weights.read_bytes()[:-2] + b"\x00\x01")
    assert parameters("USegNet-DS", cases, training=on).fingerprint != before
    with pytest.raises(
        ValueError, match="weights 'other' have variant USegNet-DS, and this training has variant USegNet-DS-HAS: make"
    ):
        other = little.model_copy(update={"start_from": "other"})
        fit(cases, parameters("USegNet-DS-HAS", cases, training=other), tmp_path / "wrong")


def test_execution_is_measured_once_and_kept(tmp_path):
    built = []

    def build():
        built.append(1)
        return build_network("USegNet-DS", 4)

    first = choose_execution(tmp_path / "execution.json", build, (16, 8, 8))
    assert built and first.precision in ("no", "bf16", "fp16")
    built.clear()
    assert choose_execution(tmp_path / "execution.json", build, (16, 8, 8)) == first and not built


def test_patches_train_and_their_overlap_is_averaged(cases, tmp_path):
    fit(cases, parameters("p-USegNet", cases), tmp_path / "level1")
    segmentor = load_segmentor(tmp_path)
    image = np.random.default_rng(0).random((24, 16, 16), np.float32)  # two patches of 16 voxels, half of each shared
    net, x = segmentor.levels[0].eval(), torch.from_numpy(image)[None, None]
    with torch.no_grad():
        first, last = (net(x[:, :, start : start + 16]).logits[0] for start in (0, 8))
    logits = torch.cat([first[:, :8], (first[:, 8:] + last[:, :8]) / 2, last[:, 8:]], dim=1)
    assert (first[:, 8:] - last[:, :8]).abs().max() > 1e-3
    np.testing.assert_allclose(segmentor.probability(image), torch.softmax(logits, 0)[1], atol=1e-5)
    shown = segmentor.features(scan(0)[0])  # what an explorer shows is what is segmented
    assert np.array_equal(shown.probability.array, segmentor.probability(shown.image.array)) and shown.attention == {}


@pytest.mark.parametrize("variant", ["Attention-U-Net", "Residual-U-Net"])
def test_competitors_train_are_saved_and_predict(cases, tmp_path, variant):
    training = TRAINING.model_copy(update={"steps": 2})
    fit(cases, parameters(variant, cases, training=training), tmp_path / "level1")
    first, again = (load_segmentor(tmp_path).probability(np.asarray(cases.image("c0"))) for _ in range(2))
    assert first.shape == (13, 15, 13) and np.isfinite(first).all() and np.array_equal(first, again)


def test_a_patch_is_the_same_place_of_image_and_label():
    image = np.arange(20 * 16 * 33).reshape(1, 20, 16, 33)
    drawn = [_random_patch(image, image[0] % 7, 16, np.random.default_rng(seed)) for seed in range(20)]
    for part, label in drawn:
        corner = np.unravel_index(part.flat[0], image.shape[1:])
        box = tuple(slice(start, start + 16) for start in corner)
        assert (part[0] == image[0][box]).all() and (label == part[0] % 7).all() and label.shape == (16, 16, 16)
    assert len({part.flat[0] for part, _ in drawn}) > 10


def test_weights_run_as_the_machine_at_hand_wants(monkeypatch):
    trained = Execution("no", False, 2)
    assert trained.here() == Execution("no", False, 0)
    monkeypatch.setattr(device, "_has_bf16", lambda: False)
    assert Execution("bf16", True, 8).here() == Execution("no", True, 0)
    assert Execution("fp16", True, 0).here() == Execution("no", True, 0)  # a GPU's
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for computes, precision in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, it=computes: it)
        assert trained.here() == Execution(precision, True, 0)


def test_the_precision_of_a_segmentor_is_its_own(cases, tmp_path):
    fit(cases, parameters("USegNet-DS", cases), tmp_path / "level1")
    image = np.asarray(cases.image("c0"))
    alone = load_segmentor(tmp_path, execution=Execution("bf16")).probability(image)
    first, second = (load_segmentor(tmp_path, execution=Execution(precision)) for precision in ("bf16", "no"))
    assert np.array_equal(first.probability(image), alone)  # although the other was made last
    assert 0 < np.abs(second.probability(image) - alone).max() < 0.1
