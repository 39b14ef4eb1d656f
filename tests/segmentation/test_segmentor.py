"""From a cascade's probability to mask, volume and flags."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.images.grids import resample
from fhlib.images.volume import Volume
from fhlib.models.boxes import largest_component
from fhlib.models.cascade import Cascade
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network
from fhlib.presets import Prediction, Preparation, Training
from fhlib.segmentation.segmentor import Segmentor, load_segmentor
from fhlib.training.trainer import fit
from tests.segmentation.made import head_in_box
from tests.small_cohort import TRAINING, parameters, scan


@pytest.mark.parametrize("kept", [True, False])
def test_a_second_part_is_flagged_and_only_the_largest_kept(kept):
    found = head_in_box().astype(np.float32)
    found[37:39, 10:40, 10:40] = 0.9  # 1800 voxels of 54000
    parameters = SegmentorParameters(
        "USegNet", 1, 3, Preparation(spacing_mm=1.0), Training(width=2, steps=1, learning_rate=1e-3), Execution(), ""
    )
    cascade = Cascade([build_network("USegNet", 2)], parameters)
    cascade.probability = lambda image, context=None: found
    segmentor = Segmentor(cascade, Prediction(largest_component=kept))
    volume = Volume(np.random.default_rng(0).random(found.shape, np.float32), (1.0, 1.0, 1.0), origin=(3.0, 2.0, 1.0))
    result = segmentor.segment(volume)
    assert result.flags == ("several components",)
    assert int(result.mask.array.sum()) == 54000 + (0 if kept else 1800)
    assert result.volume_ml == pytest.approx(54.0 if kept else 55.8)


@pytest.mark.parametrize("shape", [(1, 20, 24), (20, 1, 24), (2, 20, 24), (1, 1, 1)])
def test_a_volume_of_one_or_two_slices_is_segmented_with_all_flips(shape):
    preparation, training = Preparation(spacing_mm=4.0), Training(width=2, steps=1, learning_rate=1e-3)
    parameters = SegmentorParameters("USegNet-DS", 1, 3, preparation, training, Execution())
    segmentor = Segmentor(Cascade([build_network("USegNet-DS", 2)], parameters))
    volume = Volume(np.random.default_rng(0).random(shape, np.float32), (2.0, 1.5, 1.8))
    result = segmentor.segment(volume, flips=8)
    assert result.mask.same_geometry(volume) and len(result.evidence.copies_ml) == 8


def test_training_learns_and_predicts_in_native_geometry(cohort, cases, tmp_path):
    training = TRAINING.model_copy(update={"steps": 60, "validate_every": 30})
    model = tmp_path / "USegNet-DS"
    history = fit(cases, parameters("USegNet-DS", training=training), model / "level1")
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
    grid = segmentor.cascade.read(image).array
    first, second, third = (
        np.flip(segmentor.cascade.probability(np.flip(grid, axes).copy()), axes) for axes in ((), (0,), (1,))
    )
    assert several.evidence.copies_ml == tuple(
        pytest.approx(0.064 * int(largest_component(copy >= 0.5).sum())) for copy in (first, second, third)
    )
    mean = resample(segmentor.cascade.read(image).with_array((first + second + third) / 3), like=image)
    assert np.allclose(several.probability.array, mean.array, atol=1e-5)
    assert 0.8 < several.evidence.agreement <= 1 and result.evidence.agreement != result.evidence.agreement
    with pytest.raises(ValueError, match="flips is 9: there are 1 to 8"):
        segmentor.segment(image, flips=9)
