"""A level that locates: it learns from whole scans and from regions around their heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fhlib.images.formats import write_volume
from fhlib.models.boxes import faces_of
from fhlib.models.orientation import Turn, canonical
from fhlib.presets import Preparation, Training
from fhlib.training.augment import augment
from fhlib.training.looks import LOOKED_AT, prepare_looks
from fhlib.training.prepared import prepare_cohort
from fhlib.training.samples import Sampler
from fhlib.training.trainer import fit
from tests.small_cohort import PREPARATION, TRAINING, parameters, scan

GRID = Preparation(spacing_mm=4.0, longest_voxels=32)
CLOSER = Training(width=2, steps=1, learning_rate=1e-3, closer_look_probability=1.0)


@pytest.fixture(scope="module")
def looks(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks")
    return prepare_looks(cohort, cohort.table, GRID, prepare_cohort(cohort, cohort.table, GRID, folder), folder / "r")


def test_a_region_shows_the_head_larger_than_the_scan_does_and_in_its_shape(looks, cohort):
    whole = np.ptp(faces_of(looks.label("c0") > 0), axis=0)
    axes_mm = np.array([30, 36, 32])[list(canonical(cohort.read_image("c0")).axes)]
    seen = []
    for seed in range(20):
        image, label, context = looks.drawn("c0", np.random.default_rng(seed), CLOSER)
        assert context is None and image.shape == label.shape and max(image.shape) == 32
        assert (image.min(), image.max()) == (0, 1) and image[label > 0].mean() > 2 * image[label == 0].mean()
        if any(label.take(end, axis).any() for axis in range(3) for end in (0, -1)):
            continue  # regions are misplaced, and some of the narrow ones cut the head
        sides = np.ptp(faces_of(label > 0), axis=0)
        seen.append(sides.max() / whole.max())
        np.testing.assert_allclose(sides / sides.max(), axes_mm / 36, atol=0.13)
    # the scan's longest side is 60 mm: of 32 voxels the head has 19, and at most 32 / 1.3 in a region
    assert len(seen) >= 8 and 1.02 < max(seen) <= 1.05 * (32 / LOOKED_AT[0]) / (32 * 36 / 60)


def test_whole_scans_are_drawn_as_often_as_the_preset_says(looks):
    rare = CLOSER.model_copy(update={"closer_look_probability": 0.25})
    draws = [looks.drawn("c1", np.random.default_rng(seed), rare)[0] for seed in range(200)]
    whole = sum(np.array_equal(image, looks.image("c1")) for image in draws)
    assert 150 - 4 * 6.2 < whole < 150 + 4 * 6.2  # binomial of 200 with 3/4 has an SD of 6.1


def test_a_region_of_a_scan_without_a_head_is_some_part_of_it(cohort, tmp_path):
    image, label = scan(0)
    case = cohort.table.iloc[[0]].assign(split="train")
    for name, volume in ((case["image"].item(), image), (case["label"].item(), label.with_array(label.array * 0))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_volume(volume, tmp_path / name)
    empty = replace(cohort, folder=tmp_path)
    found = prepare_looks(empty, case, GRID, prepare_cohort(empty, case, GRID, tmp_path / "p"), tmp_path / "r")
    shapes = set()
    for seed in range(8):
        part, truth, _ = found.drawn("c0", np.random.default_rng(seed), CLOSER)
        assert max(part.shape) == 32 and not truth.any()
        shapes.add(part.shape)
    assert len(shapes) > 2


@pytest.mark.parametrize("turn", [Turn((2, 0, 1), (0, 2)), Turn((1, 2, 0), (1,))])
def test_a_scan_is_learnt_from_in_one_order_of_axes_whatever_its_file_has(looks, cohort, tmp_path, turn):
    case = cohort.table.iloc[[0]].assign(split="train")
    for kind, volume in zip(("image", "label"), scan(0), strict=True):
        path = tmp_path / case[kind].item()
        path.parent.mkdir(exist_ok=True)
        write_volume(turn.of(volume), path)
    turned = replace(cohort, folder=tmp_path)
    found = prepare_looks(turned, case, GRID, prepare_cohort(turned, case, GRID, tmp_path / "p"), tmp_path / "r")
    # the scan measures 52 x 60 x 52 mm: the longest side comes first
    assert found.image("c0").shape[0] == 32 == looks.image("c0").shape[0]
    np.testing.assert_allclose(found.image("c0"), looks.image("c0"), atol=1e-4)
    assert np.array_equal(found.label("c0"), looks.label("c0"))
    for seed in range(3):
        drawn, expected = (each.drawn("c0", np.random.default_rng(seed), CLOSER) for each in (found, looks))
        np.testing.assert_allclose(drawn[0], expected[0], atol=0.02)  # stored in steps of 1/255, of noise
        assert (drawn[1] != expected[1]).mean() < 1e-3


def test_a_level_is_trained_on_them_and_its_weights_depend_on_the_regions(looks, tmp_path):
    training = TRAINING.model_copy(update={"closer_look_probability": 0.5, "steps": 4})
    level = replace(parameters("USegNet-DS", training=training), preparation=GRID)
    assert len(fit(looks, level, tmp_path / "level1")) == 4
    names, images, _ = Sampler(looks, level).draw(0)
    assert names[0] in looks.cases("train") and max(images.shape) == 32
    assert looks.fingerprint != replace(looks, regions=looks.folder).fingerprint
    assert looks.without(["c0"]).cases("train") == looks.cases("train")[1:]


def test_a_grid_that_shows_a_region_no_finer_is_refused(cohort, tmp_path):
    with pytest.raises(ValueError, match="longest_voxels"):
        prepare_looks(cohort, cohort.table, PREPARATION, None, tmp_path)


def test_a_part_of_the_context_alone_is_erased():
    image, label = np.ones((12, 10, 14), np.float32), np.zeros((12, 10, 14), np.uint8)
    label[4:8, 3:7, 5:10] = 1
    plain = {"erasing_probability": 0.0}
    losing = CLOSER.model_copy(update={**plain, "context_erasing_probability": 1.0})
    shares = []
    for seed in range(30):
        x, _, context = augment(image, label, image.copy(), np.random.default_rng(seed), losing)
        assert (x == 1).all() and set(np.unique(context)) <= {0.0, 1.0}
        shares.append((context == 0).mean())
    assert min(shares) < 0.1 and max(shares) > 0.4
    keeping = CLOSER.model_copy(update=plain)
    assert all((augment(image, label, image, np.random.default_rng(s), keeping)[2] == 1).all() for s in range(5))
