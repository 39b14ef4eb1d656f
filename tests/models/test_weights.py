"""Weights on disk."""

from __future__ import annotations

import pytest

from fhlib.files import SHIPPED
from fhlib.models.weights import load_cascade, model_digest, weights_folder
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


def test_a_bare_name_means_weights_and_a_folder_only_where_it_holds_some(cascade_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "head").mkdir()
    assert weights_folder("head") == SHIPPED / "weights" / "head"
    copy_levels(cascade_folder, tmp_path / "head")
    assert weights_folder("head").resolve() == tmp_path / "head"
    assert weights_folder(cascade_folder) == cascade_folder
    with pytest.raises(
        FileNotFoundError, match=r"no weights 'heda'; did you mean 'head'\?; give a folder, or one of hc, head, skull"
    ):
        weights_folder("heda")
