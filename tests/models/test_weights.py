"""Weights on disk."""

from __future__ import annotations

import pytest

from fhlib.models.weights import load_cascade, model_digest
from fhlib.training.contexts import copy_levels


def test_a_folder_with_a_level_missing_is_refused(cascade_folder, tmp_path):
    copy_levels(cascade_folder, tmp_path)
    (tmp_path / "level1" / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="needs 1 to 2"):
        load_cascade(tmp_path)
    with pytest.raises(FileNotFoundError, match="train the variant first"):
        load_cascade(tmp_path / "nothing")


def test_the_first_levels_alone_are_a_cascade_too(cascade_folder):
    whole, first = load_cascade(cascade_folder), load_cascade(cascade_folder, upto=1)
    assert (len(whole.levels), len(first.levels)) == (2, 1)
    assert (whole.parameters.variant, first.parameters.variant) == ("USegNet-DS-HAS-Ctx", "USegNet-DS-HAS")
    alone = model_digest(cascade_folder.parent / "USegNet-DS-HAS")
    assert model_digest(cascade_folder, upto=1) == alone != model_digest(cascade_folder)
