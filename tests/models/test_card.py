"""What is said of weights: their hash, what they learnt from, and errors derived by hand from a table of measured scans."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from fhlib.files import SHIPPED, write_json
from fhlib.models.card import NEVER_REAL, NOT_RECORDED, Card, card_of, sentences
from fhlib.models.weights import model_digest

SKULL = SHIPPED / "weights" / "skull"


@pytest.fixture
def copied(tmp_path):
    """The skull's weights alone, in a folder `mine`."""
    for level in SKULL.glob("level*"):
        shutil.copytree(level, tmp_path / "mine" / level.name)
    return tmp_path / "mine"


def test_weights_alone_say_that_nothing_is_recorded(copied):
    card = card_of(copied)
    assert card == Card("mine", model_digest(copied))
    assert (card.trained_on, card.measured_on, card.errors, card.real) == (NOT_RECORDED, NOT_RECORDED, {}, "")
    assert card.version == f"mine {model_digest(SKULL)[:8]}"


def test_errors_of_hc_are_between_the_ends_of_their_middle_95_percent(copied):
    """Errors of -20, -19 ... 20 mm: 2.5 % of the way from the smallest to the largest is -19, 97.5 % is 19."""
    errors = list(range(-20, 21))
    rows = {"has_head": True, "dsc": 0.9, "true_ml": 100.0, "volume_ml": 100.0, "true_hc_mm": 200.0, "flags": None}
    table = pd.DataFrame([rows | {"hc_mm": 200.0 + error} for error in errors])
    table.to_csv(copied / "coverage.csv", index=False)
    assert card_of(copied).hc_error_mm == pytest.approx((-19.0, 19.0))
    table.head(39).to_csv(copied / "coverage.csv", index=False)
    assert card_of(copied).hc_error_mm is None


def test_errors_are_of_heads_without_a_flag(copied):
    """Volumes that err by -10, +4, 0 and +19 %; a flagged one errs by +100 %, and a scan without a head counts nowhere."""
    rows = {
        "has_head": [True, True, True, True, True, False],
        "dsc": [0.9, 0.8, 0.7, 0.6, 0.5, 1.0],
        "true_ml": [100.0, 200.0, 50.0, 10.0, 100.0, 0.0],
        "volume_ml": [90.0, 208.0, 50.0, 11.9, 200.0, 0.0],
        "flags": [None, None, None, None, "no head", "no head"],
    }
    pd.DataFrame(rows).to_csv(copied / "coverage.csv", index=False)
    card = card_of(copied)
    assert card.overlap == "mean DSC 70 % of 5 heads" and card.real == NEVER_REAL
    # sizes 0, 4, 10, 19: their median is 7, and 95 % of the way 10 + 0.85 x 9; the signed ones -10, 0, 4, 19 have 2
    assert card.errors == {"volume": "median +2 %, half within 7 %, 95 % within 18 % (4 heads without a flag)"}


def test_lengths_come_before_the_volume(copied):
    rows = {"dsc": [0.9, 0.9], "true_hc_mm": [200.0, 100.0], "hc_mm": [204.0, 98.0], "flags": [None, None]}
    pd.DataFrame(rows).to_csv(copied / "coverage.csv", index=False)
    assert card_of(copied).errors == {"HC": "median +1 mm, half within 3 mm, 95 % within 4 mm (2 heads without a flag)"}


def test_shipped_weights_say_what_they_are():
    cards = {name: card_of(SHIPPED / "weights" / name) for name in ("head", "skull", "hc")}
    assert all(card.trained_on != NOT_RECORDED != card.measured_on and card.overlap for card in cards.values())
    assert set(cards["head"].errors) == {"volume"} and set(cards["skull"].errors) == {"HC", "BPD", "OFD"}
    assert sentences([cards["head"], cards["skull"]]) == [NEVER_REAL] and sentences([cards["hc"]]) == []
    assert "HC18" in cards["hc"].measured_on


def test_about_that_is_no_text_is_refused(copied):
    write_json({"trained_on": 5}, copied / "about.json")
    with pytest.raises(ValueError, match=r"mine/about\.json must be texts by the names trained_on"):
        card_of(copied)
