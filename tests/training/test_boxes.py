"""A level that reads boxes: what it learns from, and that it is trained, kept and loaded like any other."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from fhlib.images.formats import write_volume
from fhlib.models.cascade import Cascade
from fhlib.models.device import Execution
from fhlib.models.orientation import Turn, canonical
from fhlib.models.weights import load_cascade, model_digest
from fhlib.presets import Preparation, Training
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.training.boxes import prepare_boxes
from fhlib.training.contexts import copy_levels
from fhlib.training.trainer import fit
from tests.models.test_boxes import PREPARATION as BOXES
from tests.models.test_boxes import Bright
from tests.small_cohort import parameters, scan

# at this resolution the scans' heads of 30 x 36 x 32 mm are at most 36 x 1.4 / 40 = 1.26 mm a voxel
PREPARATION = BOXES.model_copy(update={"spacing_mm": 4.0, "longest_voxels": None})


def test_a_scan_without_a_head_is_read_where_something_was_found_or_whole(cohort, tmp_path):
    table = cohort.table.assign(split=["train", "train", "val", "", "", ""])
    level = replace(parameters("USegNet-DS"), preparation=PREPARATION)
    empty = replace(cohort, folder=tmp_path)
    for name in cohort.table["image"]:
        shutil.copy(cohort.folder / name, tmp_path)
    for name in cohort.table["label"]:
        write_volume(scan(0)[1].with_array(np.zeros_like(scan(0)[1].array)), tmp_path / name)
    for threshold, most in ((0.5, 1.3), (2.0, 1.01)):
        cascade = Cascade([Bright(threshold)], level, Execution())
        boxes = prepare_boxes(empty, table, cascade, f"m{threshold}", PREPARATION, tmp_path / f"boxes{threshold}")
        image, label, _ = boxes.located("c0")
        assert max(image.shape) == 40 and not label.any()
        sides = np.array(boxes.image("c0").shape) / image.shape
        assert sides.max() < most * PREPARATION.box_enlarged
        drawn, label, _ = boxes.drawn("c0", np.random.default_rng(0), Training(width=2, steps=1, learning_rate=1e-3))
        assert max(drawn.shape) == 40 and not label.any()


class Once(Bright):
    """Finds what is bright at its first look alone."""

    def forward(self, x, with_attention=True):
        self.level = 0.5 if not self.seen else 9.0
        return super().forward(x, with_attention)


def test_a_speck_in_the_whole_volume_is_stored_without_the_volume(cohort, tmp_path):
    """Where the second look finds nothing the region is the volume; at the speck's resolution it would have 300 voxels a side."""
    volume, truth = scan(0)
    speck = np.zeros_like(volume.array)
    speck[8:12, 8:12, 8:12] = 200
    case = cohort.table.iloc[[0]].assign(split="val")
    for name, array in ((case["image"].item(), speck), (case["label"].item(), np.zeros_like(truth.array))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_volume(volume.with_array(array), tmp_path / name)
    cascade = Cascade([Once(0.5)], replace(parameters("USegNet-DS"), preparation=PREPARATION), Execution())
    found = prepare_boxes(replace(cohort, folder=tmp_path), case, cascade, "m", PREPARATION, tmp_path / "boxes")
    image, label, _ = found.located("c0")
    assert max(image.shape) == 40 and not label.any()
    assert max(found.image("c0").shape) <= 40 * 2 / 1.4 + 8  # twice as large as the speck, in whole voxels of the scan


@pytest.fixture(scope="module")
def boxes(cohort, tmp_path_factory):
    """The small cohort around its heads, located by a threshold between noise (up to 40) and head (100 to 140)."""
    level = replace(parameters("USegNet-DS"), preparation=PREPARATION)
    cascade = Cascade([Bright(0.5)], level, Execution())
    return prepare_boxes(cohort, cohort.table, cascade, "m", PREPARATION, tmp_path_factory.mktemp("boxes"))


def test_a_box_is_drawn_around_the_head_and_wholly_holds_it(boxes, cohort):
    truth = cohort.read_label("c0")
    true_ml = (truth.array > 0).sum() * truth.voxel_volume_ml
    training = Training(width=2, steps=1, learning_rate=1e-3)
    longest = []
    for seed in range(12):
        image, label, context = boxes.drawn("c0", np.random.default_rng(seed), training)
        assert image.shape == label.shape == context.shape and max(image.shape) == 40
        assert (image.min(), image.max()) == (0, 1) and 0 <= context.min() <= context.max() <= 1
        assert context[label > 0].mean() > 0.8 > 0.2 > context[label == 0].mean()
        edges = [side for axis in range(3) for side in (label.take(0, axis), label.take(-1, axis))]
        if any(side.any() for side in edges):
            continue  # boxes are misplaced, and some of the narrow ones cut the head
        # a mask in a box of n voxels has the head's shape: its share of the longest side tells how far the box was enlarged
        sides = [np.ptp(np.flatnonzero(label.any(tuple(a for a in range(3) if a != axis)))) + 1 for axis in range(3)]
        longest.append(40 / max(sides))
        # 36 mm of head take `sides` voxels, so its volume in voxels follows
        assert label.sum() * (36 / max(sides)) ** 3 / 1000 == pytest.approx(true_ml, rel=0.17)
    assert len(longest) >= 6 and 1.05 < min(longest) < 1.5 < max(longest) < 2.1


def test_validation_boxes_are_those_of_prediction(boxes, cohort):
    cascade = Cascade([Bright(0.5), Bright(0.5)], replace(parameters("USegNet-DS-Zoom", 2), preparation=PREPARATION))
    volume = cohort.read_image("c3")
    read = cascade.reading(canonical(volume).of(volume))
    image, _, context = boxes.located("c3")
    # the scan's own voxels have 2 mm, and a box in them is up to one larger at each side
    assert np.abs(np.subtract(image.shape, read.image.shape)).max() <= 3
    assert context.mean() == pytest.approx(read.context.array.mean(), abs=0.03)
    assert image.mean() == pytest.approx(read.image.array.mean(), abs=0.03)


def test_a_box_is_cut_in_one_order_of_axes_whatever_the_file_has(boxes, cohort, tmp_path):
    turn, case = Turn((2, 0, 1), (0, 2)), cohort.table.iloc[[0]].assign(split="train")
    for kind, volume in zip(("image", "label"), scan(0), strict=True):
        path = tmp_path / case[kind].item()
        path.parent.mkdir(exist_ok=True)
        write_volume(turn.of(volume), path)
    cascade = Cascade([Bright(0.5)], replace(parameters("USegNet-DS"), preparation=PREPARATION), Execution())
    found = prepare_boxes(replace(cohort, folder=tmp_path), case, cascade, "m", PREPARATION, tmp_path / "boxes")
    for here, there in zip(found.located("c0"), boxes.located("c0"), strict=True):
        np.testing.assert_allclose(here, there, atol=0.02)


def test_it_is_trained_kept_and_loaded_like_any_level(boxes, cases, cohort, tmp_path):
    base, whole = tmp_path / "USegNet-DS", tmp_path / "USegNet-DS-Zoom"
    fit(cases, parameters("USegNet-DS"), base / "level1")
    level = parameters("USegNet-DS-Zoom", 2)
    found = prepare_boxes(
        cohort, cohort.table, load_cascade(base), model_digest(base), level.preparation, tmp_path / "boxes"
    )
    history = fit(found, level, whole / "level2", base)
    assert len(history) == 7 and history["val_dsc"].notna().sum() == 3
    copy_levels(base, whole)
    assert fit(found, level, whole / "level2", base).equals(history)  # complete: returns at once

    scan = cohort.read_image("c4")
    result = load_segmentor(whole).segment(scan)
    assert result.mask.same_geometry(scan)
    features = load_cascade(whole).features(scan)
    assert max(features.image.shape) == Preparation(spacing_mm=4).box_voxels
