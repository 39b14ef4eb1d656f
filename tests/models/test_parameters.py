"""Parameters beside a level's weights: as saved, and as earlier versions saved them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fhlib.files import read_json, write_json
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from tests.small_cohort import parameters


def test_parameters_are_read_as_they_were_saved(tmp_path):
    saved = replace(parameters("p-USegNet", 1), execution=Execution("bf16", True, 2), fingerprint="ab", processes=2)
    saved.save(tmp_path / "parameters.json")
    assert SegmentorParameters.load(tmp_path / "parameters.json") == saved
    assert saved.patch == 16  # 64 voxels of 0.95 mm are 15 of 4 mm


def test_files_of_earlier_versions_are_read_where_a_retired_option_had_its_usual_value(tmp_path):
    path = tmp_path / "parameters.json"
    saved = parameters("USegNet-DS-HAS")
    saved.save(path)
    content = read_json(path)
    usual = {"attention_unit_mean": False, "attention_normalisation": False, "attention_learning_rate_factor": 1.0,
             "join": "sum"}  # fmt: skip
    write_json(content | {"training": content["training"] | usual}, path)
    assert SegmentorParameters.load(path) == saved
    for name, value in {
        **dict.fromkeys(usual, True),
        "attention_learning_rate_factor": 0.3,
        "join": "concatenation",
    }.items():
        write_json(content | {"training": content["training"] | usual | {name: value}}, path)
        with pytest.raises(ValueError, match=rf"trained with {name}={value!r}, which .* no longer has: see CHANGELOG"):
            SegmentorParameters.load(path)
    write_json(content | {"training": content["training"] | {"widht": 4}}, path)
    with pytest.raises(ValueError, match="widht"):
        SegmentorParameters.load(path)
