"""Weights as a user names them."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from fhlib.files import SHIPPED, write_json
from fhlib.models import chosen
from fhlib.models.card import NEVER_REAL
from fhlib.models.chosen import choose

HEAD = SHIPPED / "weights" / "head"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with a run `mine` of preset fine-tune that has learnt from two of somebody's scans."""
    monkeypatch.setattr(chosen, "DATA", tmp_path)
    run = tmp_path / "runs" / "mine"
    for level in ("level1", "level2"):
        shutil.copytree(HEAD / level, run / "models" / "USegNet-DS-Zoom" / level)
    write_json({"preset": "fine-tune", "cohort": "/home/somebody/ward 7"}, run / "run.json")
    (run / "tables").mkdir()
    pd.DataFrame({"case": list("abc"), "split": ["train", "train", "test"]}).to_csv(run / "tables" / "cohort.csv")
    return tmp_path


def test_a_run_stands_for_what_it_has_trained(data):
    for given in ("mine", data / "runs" / "mine"):
        found = choose(given)
        assert found.folder == data / "runs" / "mine" / "models" / "USegNet-DS-Zoom" and found.of_heads
        card = found.card
        assert card.name == "mine" and card.trained_on == "2 scans of the cohort ward 7, from the weights head on"
        assert card.real == "Tried on 1 held-out scans of the cohort ward 7 alone." and "somebody" not in str(card)
        assert "one of their own takes 25 validation scans, and run mine has 0" in card.uncalibrated


def test_what_a_run_has_measured_stands_beside_the_shipped_weights(data):
    rows = [(count, case, dsc) for count, dsc in ((0, 0.8), (2, 0.9)) for case in "cd"]
    curve = pd.DataFrame(rows, columns=["training_cases", "case", "dsc"])
    curve.to_csv(data / "runs" / "mine" / "tables" / "learning_curve.csv", index=False)
    expected = "2 held-out scans of the cohort ward 7: mean DSC 90.0 %; the weights it began with: 80.0 %"
    assert choose("mine").card.measured_on == expected


def test_a_simulated_run_says_that_nothing_was_real(data):
    write_json({"preset": "fine-tune", "cohort": ""}, data / "runs" / "mine" / "run.json")
    assert choose("mine").card.real == NEVER_REAL


def test_names_and_folders(data, tmp_path):
    shipped = choose("head")
    assert shipped.folder == HEAD and not shipped.card.uncalibrated and not shipped.said
    assert not choose("skull").of_heads and not choose("hc").of_heads
    for level in ("level1", "level2"):
        shutil.copytree(HEAD / level, tmp_path / "elsewhere" / level)
    own = choose(tmp_path / "elsewhere")
    assert own.card.name == "elsewhere" and "no calibration.json lies beside them" in own.card.uncalibrated


def test_of_weights_and_a_run_of_one_name_the_weights_are_taken_and_that_is_said(data):
    (data / "runs" / "mine").rename(data / "runs" / "head")
    (said,) = choose("head").said
    assert said.startswith("head is taken for") and "for the run of that name give" in said


def test_a_wrong_name_meets_what_there_is(data):
    with pytest.raises(FileNotFoundError, match="no weights and no run 'mien'; did you mean 'mine'"):
        choose("mien")
    shutil.rmtree(data / "runs" / "mine" / "models")
    with pytest.raises(FileNotFoundError, match="run 'mine' has trained nothing yet"):
        choose("mine")
    with pytest.raises(FileNotFoundError, match="weights 'nowhere' are not there"):
        choose(data / "nowhere")
