"""Which part of a case a step reads, and where it is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fhlib.training.samples import CardSampler, Sampler, _halved, _random_patch
from tests.small_cohort import TRAINING, parameters


def test_a_patch_is_the_same_place_of_image_and_label():
    image = np.arange(20 * 16 * 33).reshape(1, 20, 16, 33)
    drawn = [_random_patch(image, image[0] % 7, 16, np.random.default_rng(seed)) for seed in range(20)]
    for part, label in drawn:
        corner = np.unravel_index(part.flat[0], image.shape[1:])
        box = tuple(slice(start, start + 16) for start in corner)
        assert (part[0] == image[0][box]).all() and (label == part[0] % 7).all() and label.shape == (16, 16, 16)
    assert len({part.flat[0] for part, _ in drawn}) > 10


@pytest.mark.parametrize("changes", [{}, {"symmetries": "all"}, {"batch_size": 2}, {"half_resolution_share": 0.5}])
def test_a_card_draws_what_the_processor_draws(cases, changes):
    training = TRAINING.model_copy(update={"steps": 12, "erasing_probability": 0.7, **changes})
    p = parameters("USegNet-DS", training=training)
    ours, cards = Sampler(cases, p), CardSampler(cases, p, torch.device("cpu"))
    given = np.random.default_rng(5)
    contexts = {name: given.random(cases.image(name).shape, np.float32) for name in ours.names}
    for step in range(12):
        for sampler in (ours, cards):
            sampler.contexts = contexts if step > 8 else {}
        (names, images, labels), (same, on_card, label_on_card) = ours.draw(step), cards.draw(step)
        assert names == same and torch.equal(labels, label_on_card)
        torch.testing.assert_close(images, on_card, rtol=0, atol=1e-6)


def test_a_card_keeps_whole_volumes_that_fit_and_are_only_flipped(cases):
    shape, count = cases.typical_shape, len(cases.cases("train"))
    needed = 2 * count * 5 * np.prod(shape)  # half of the memory holds a float and a byte a voxel
    plain = parameters("USegNet-DS")
    assert CardSampler.suits(cases, plain, needed + 2) and not CardSampler.suits(cases, plain, needed)
    for changes in ({"zoom_probability": 0.1}, {"intensity_probability": 0.1}):
        changed = parameters("USegNet-DS", training=TRAINING.model_copy(update=changes))
        assert not CardSampler.suits(cases, changed, 1e12)
    assert not CardSampler.suits(cases, parameters("2D-USegNet"), 1e12)
    assert not CardSampler.suits(cases, parameters("p-USegNet"), 1e12)


def test_half_the_resolution_is_the_mean_of_an_image_and_the_majority_of_a_label():
    image = torch.arange(2 * 2 * 5, dtype=torch.float32).reshape(1, 1, 2, 2, 5)
    label = torch.zeros(1, 2, 2, 5, dtype=torch.uint8)
    label[0, 0, :, 0] = label[0, 0, :, 1] = 1  # four of the first eight voxels, and none of the second
    small, majority = _halved(image, label)
    # 0 1 5 6 10 11 15 16 have the mean 8, the next block lies two further; the fifth plane is left out
    assert small.flatten().tolist() == [8.0, 10.0] and small.shape == (1, 1, 1, 1, 2)
    assert majority.flatten().tolist() == [1, 0] and majority.dtype == torch.uint8
