"""Presets: shipped ones are valid, mistyped ones are refused."""

from __future__ import annotations

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


def test_patches_are_the_multiple_of_8_nearest_to_the_papers_millimetres_and_at_least_16():
    # 64 voxels of 0.95 mm are 60.8 mm: 26.4 voxels of 2.3 mm, 17.4 of 3.5 mm, 9.8 of 6.2 mm
    edges = {spacing: patch_voxels(Preparation(spacing_mm=spacing), 64) for spacing in (0.95, 2.3, 3.5, 6.2)}
    assert edges == {0.95: 64, 2.3: 24, 3.5: 16, 6.2: 16}
