"""Weights on disk."""

from __future__ import annotations

import pytest

from fhlib.models.weights import load_cascade
from fhlib.training.contexts import copy_levels


def test_a_folder_with_a_level_missing_is_refused(cascade_folder, tmp_path):
    copy_levels(cascade_folder, tmp_path)
    (tmp_path / "level1" / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="needs 1 to 2"):
        load_cascade(tmp_path)
    with pytest.raises(FileNotFoundError, match="train the variant first"):
        load_cascade(tmp_path / "nothing")
