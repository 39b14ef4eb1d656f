"""Contexts in sample and out of fold."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.models.weights import load_cascade
from fhlib.presets import Training
from fhlib.training.trainer import fit
from tests.small_cohort import TRAINING, parameters


def test_contexts_out_of_fold_come_from_models_that_have_not_seen_the_case(cases, cascade_folder, tmp_path):
    base = cascade_folder.parent / "USegNet-DS-HAS"
    training = TRAINING.model_copy(update={"context_folds": 3})
    p = parameters("USegNet-DS-HAS-Ctx", level=2, training=training)
    kept = {}

    def look(history):
        for path in (tmp_path / "contexts").glob("*.npy"):
            kept[path.name.split("-")[0]] = np.load(path)
        kept["folds"] = len(list((tmp_path / "contexts" / "folds").glob("*/level1/weights.safetensors")))

    fit(cases, p, tmp_path, base, watch=look)
    assert kept.pop("folds") == 3 and sorted(kept) == ["c0", "c1", "c2", "c3"]
    assert not (tmp_path / "contexts").exists()
    in_sample = load_cascade(base)
    assert np.allclose(kept["c3"], in_sample.probability(np.asarray(cases.image("c3"))), atol=1e-5)  # validation
    # by hand: the model that predicts c0 is trained on c1 and c2 alone
    others = cases.without(["c0"])
    assert others.cases("train") == ["c1", "c2"] and others.fingerprint != cases.fingerprint
    fit(others, parameters("USegNet-DS-HAS"), tmp_path / "by hand" / "level1")
    by_hand = load_cascade(tmp_path / "by hand").probability(np.asarray(cases.image("c0")))
    assert np.allclose(kept["c0"], by_hand, atol=1e-5)
    assert not np.allclose(kept["c0"], in_sample.probability(np.asarray(cases.image("c0"))), atol=1e-3)
    too_many = TRAINING.model_copy(update={"context_folds": 4})
    with pytest.raises(ValueError, match="4 and there are 3 training subjects"):
        fit(cases, parameters("USegNet-DS-HAS-Ctx", 2, too_many), tmp_path / "many", base)
    with pytest.raises(ValueError, match="one fold leaves no case out"):
        Training(width=4, steps=1, learning_rate=1e-3, context_folds=1)
