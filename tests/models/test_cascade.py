"""Eq. 5: each level reads the image plus the probability of the level before; patches, slices, precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fhlib.models.cascade import head_probability, join
from fhlib.models.device import Execution
from fhlib.models.weights import load_cascade
from fhlib.networks.build import build_network
from fhlib.training.trainer import fit
from tests.small_cohort import parameters, scan


def test_join_is_the_sum_and_level_zero_adds_nothing():
    image = torch.rand(1, 1, 3, 4)
    assert join(image, None) is image
    assert torch.equal(join(image, torch.full_like(image, 0.25)), image + 0.25)


def test_head_probability_is_the_second_class():
    logits = torch.tensor([0.0, math.log(4)]).view(1, 2, 1, 1)
    assert float(head_probability(logits)) == pytest.approx(0.8)


def test_the_cascade_reads_image_plus_probability_of_the_level_before(cases, cascade_folder):
    cascade = load_cascade(cascade_folder)
    image = np.asarray(cases.image("c0"))
    nets = []
    for level, weights in enumerate(sorted(cascade_folder.glob("level*/weights.safetensors"))):
        net = build_network("USegNet-DS-HAS-Ctx", 4)
        net.load_state_dict(load_file(weights))
        nets.append(net.eval())
        assert level < 2
    with torch.no_grad():
        x = torch.from_numpy(image)[None, None]
        first = torch.softmax(nets[0](x).logits, 1)[:, 1:]
        second = torch.softmax(nets[1](x + first).logits, 1)[0, 1].numpy()
    assert np.allclose(cascade.probability(image), second, atol=1e-5)
    assert np.allclose(cascade.probability(image, upto=1), first[0, 0].numpy(), atol=1e-5)
    features = cascade.features(scan(0)[0])
    assert np.allclose(features.probability.array, second, atol=1e-5)
    assert features.attention["UAM-3"].shape[1:] == tuple(-(-n // 8) * 8 for n in image.shape)


def test_patches_train_and_their_overlap_is_averaged(cases, tmp_path):
    fit(cases, parameters("p-USegNet"), tmp_path / "level1")
    cascade = load_cascade(tmp_path)
    image = np.random.default_rng(0).random((24, 16, 16), np.float32)  # two patches of 16 voxels, half of each shared
    net, x = cascade.levels[0].eval(), torch.from_numpy(image)[None, None]
    with torch.no_grad():
        first, last = (net(x[:, :, start : start + 16]).logits[0] for start in (0, 8))
    logits = torch.cat([first[:, :8], (first[:, 8:] + last[:, :8]) / 2, last[:, 8:]], dim=1)
    assert (first[:, 8:] - last[:, :8]).abs().max() > 1e-3
    np.testing.assert_allclose(cascade.probability(image), torch.softmax(logits, 0)[1], atol=1e-5)
    shown = cascade.features(scan(0)[0])  # what an explorer shows is what is segmented
    assert np.array_equal(shown.probability.array, cascade.probability(shown.image.array)) and shown.attention == {}


def test_the_precision_of_a_segmentor_is_its_own(cases, tmp_path):
    fit(cases, parameters("USegNet-DS"), tmp_path / "level1")
    image = np.asarray(cases.image("c0"))
    alone = load_cascade(tmp_path, execution=Execution("bf16")).probability(image)
    first, second = (load_cascade(tmp_path, execution=Execution(precision)) for precision in ("bf16", "no"))
    assert np.array_equal(first.probability(image), alone)  # although the other was made last
    assert 0 < np.abs(second.probability(image) - alone).max() < 0.1
