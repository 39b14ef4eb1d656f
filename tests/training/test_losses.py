"""Eq. 2 by hand, and the majority vote on labels."""

from __future__ import annotations

import math

import pytest
import torch

from fhlib.networks.usegnet import SegmentorOutput
from fhlib.training.losses import composite_loss, downscale_label


def test_loss_is_the_sum_of_three_cross_entropies_with_equal_weights():
    label = torch.zeros(1, 8, 8, 16, dtype=torch.uint8)
    label[:, :4] = 1
    # logit differences of 0, ln 3 and ln 9 for the head: probabilities 1/2, 3/4, 9/10, the same in every voxel
    logits = [torch.zeros(1, 2, 8 // f, 8 // f, 16 // f) for f in (1, 2, 4)]
    logits[1][:, 1], logits[2][:, 1] = math.log(3), math.log(9)
    loss, parts = composite_loss(SegmentorOutput(logits[0], tuple(logits[1:]), {}), label)
    by_hand = [math.log(2), -(math.log(0.75) + math.log(0.25)) / 2, -(math.log(0.9) + math.log(0.1)) / 2]
    assert list(parts.values()) == pytest.approx(by_hand)
    assert float(loss) == pytest.approx(sum(by_hand))
    assert list(parts) == ["main_loss", "side_2_loss", "side_4_loss"]


def test_a_dice_loss_is_added_to_each_part_by_its_weight():
    label = torch.zeros(1, 8, 8, 16, dtype=torch.uint8)
    label[:, :1] = 1  # 128 of 1024 voxels
    logits = [torch.zeros(1, 2, 8 // f, 8 // f, 16 // f) for f in (1, 2, 4)]
    output = SegmentorOutput(logits[0], tuple(logits[1:]), {})
    (_, plain), (_, both) = (composite_loss(output, label, weight) for weight in (0.0, 0.5))
    # probability 1/2 everywhere, smoothed with a thousandth of the voxels: 1 - (2 * 64 + 1.024) / (512 + 128 + 1.024);
    # at half size a tie is head, so 32 of 128; at a quarter none of 16
    by_hand = [1 - 129.024 / 641.024, 1 - (2 * 16 + 0.128) / (64 + 32 + 0.128), 1 - 0.016 / 8.016]
    assert [both[name] - plain[name] for name in plain] == pytest.approx([0.5 * value for value in by_hand], abs=1e-5)


def test_downscaled_label_is_a_majority_and_a_tie_is_head():
    label = torch.zeros(1, 8, 8, dtype=torch.uint8)
    label[0, 0, 0] = 1  # 1 of 4: background
    label[0, 0, 2:4] = 1  # 2 of 4: head
    label[0, 2:4, 0:2] = 1  # 4 of 4
    assert downscale_label(label, 2, (4, 4))[0].nonzero().tolist() == [[0, 1], [1, 0]]
    assert downscale_label(label, 4, (2, 2))[0].nonzero().tolist() == []  # 7 of 16


def test_downscaled_label_pads_with_background_and_keeps_the_volume():
    zyx = torch.meshgrid(*(torch.arange(n) - n / 2 + 0.5 for n in (50, 40, 60)), indexing="ij")
    ball = (sum(a**2 for a in zyx) < 15**2).to(torch.uint8)[None]
    half = downscale_label(ball, 2, (28, 20, 32))
    assert half.shape == (1, 28, 20, 32)
    # ties count as head, so the ball gains a little at its rim
    assert 1 < float(half.sum()) * 8 / float(ball.sum()) < 1.03
