"""Presets: shipped ones are valid, mistyped ones are refused."""

from __future__ import annotations

import re

import pytest

from fhlib.models.inputs import patch_voxels
from fhlib.presets import Preparation, PresetError, load_preset, parse_preset


@pytest.mark.parametrize(
    "name", ["smoke", "quick", "desk", "paper", "gpu", "all-ages", "fine-tune", "sim-to-real", "desk-2d", "hc"]
)
def test_shipped_presets_are_valid(name):
    assert load_preset(name).name == name


def test_the_paper_preset_has_the_papers_settings():
    training = load_preset("paper").training
    assert (training.width, training.steps, training.learning_rate, training.beta1) == (32, 30 * 2112, 1e-5, 0.5)
    assert training.batch_size == 1 and training.schedule == "constant" and not training.start_from_previous_level
    assert load_preset("paper").preparation.spacing_mm == pytest.approx(0.38 / 0.4)
    assert load_preset("paper").val_fraction == 0


def test_mistyped_parameters_are_named_with_a_suggestion():
    content = load_preset("quick").model_dump()
    content["training"]["widht"] = 3
    content["variants"] = ["USegNet-DS-HASS"]
    with pytest.raises(PresetError) as caught:
        parse_preset(content)
    assert "training.widht: unknown parameter; did you mean 'width'?" in str(caught.value)
    assert "did you mean 'USegNet-DS-HAS'?" in str(caught.value)
    with pytest.raises(PresetError, match=r"tuning.step: unknown parameter; did you mean 'steps'"):
        load_preset("desk", {"tuning.step": 3})
    with pytest.raises(PresetError, match="did you mean 'quick'"):
        load_preset("quik")


def test_the_own_seed_is_one_of_those_that_every_network_is_trained_with():
    assert load_preset("smoke").further_seeds == () == load_preset("smoke", {"seeds": [0]}).further_seeds
    several = load_preset("smoke", {"seeds": [2, 0, 1]})
    assert several.further_seeds == (2, 1) and several.training.seed == 0
    other = several.with_seed(2)
    assert (other.training.seed, other.training_2d.seed) == (2, 2)
    assert other.training.steps == several.training.steps and other.seeds == several.seeds


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([0, 1, 1], "seeds: 1 is named twice: name it once"),
        ([0, -1], "seeds.1: Input should be greater than or equal to 0 (got -1)"),
        ([0, True], "seeds: true is no seed: name whole numbers, such as [0, 1, 2]"),
        ([0, 0.5], "seeds.1: Input should be a valid integer"),
        ([0, 2**32], "seeds.1: Input should be less than 4294967296"),
        (3, "seeds: Input should be a valid tuple (got 3)"),
        ([1, 2], "seeds are [1, 2], training.seed is 0 and training_2d.seed 0: make these two the same, and name it"),
    ],
)
def test_seeds_that_cannot_be_are_refused_in_words(seeds, said):
    with pytest.raises(PresetError, match=re.escape(said)):
        load_preset("smoke", {"seeds": seeds})


def test_a_preset_that_learns_from_few_cases_trains_once():
    with pytest.raises(
        PresetError, match=r"seeds are \[0, 1\], and a preset that learns on .* trains once: leave seeds out"
    ):
        load_preset("fine-tune", {"seeds": [0, 1]})
    assert load_preset("fine-tune", {"seeds": [0]}).further_seeds == ()


def test_patches_are_the_multiple_of_8_nearest_to_the_papers_millimetres_and_at_least_16():
    # 64 voxels of 0.95 mm are 60.8 mm: 26.4 voxels of 2.3 mm, 17.4 of 3.5 mm, 9.8 of 6.2 mm
    edges = {spacing: patch_voxels(Preparation(spacing_mm=spacing), 64) for spacing in (0.95, 2.3, 3.5, 6.2)}
    assert edges == {0.95: 64, 2.3: 24, 3.5: 16, 6.2: 16}
