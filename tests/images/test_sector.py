"""Where the probe was, by the sector's shape."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from fhlib.images.sector import Probe, probe_of


def fan(shape=(60, 44, 36)):
    """A sector below a probe at depth 0 that ends in an arc, dark specks within it, and fluid that is as dark as the outside."""
    depth, across, along = (index.astype(float) for index in np.indices(shape))
    x, y = across - (shape[1] - 1) / 2, along - (shape[2] - 1) / 2
    inside = (abs(x) < 7 + 0.33 * depth) & (abs(y) < 6 + 0.3 * depth) & (np.hypot(depth + 20, x, y) < 78)
    array = np.where(inside, 90, 0)
    array[30:36, 18:26, 14:22] = 0
    array[np.random.default_rng(0).random(shape) < 0.02] = 0
    return array.astype(np.uint8)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_side_is_found_in_any_order_and_direction(order):
    for flipped in product((False, True), repeat=3):
        turned = np.transpose(fan(), order)
        turned = np.flip(turned, [axis for axis in range(3) if flipped[axis]])
        depth = order.index(0)
        assert probe_of(turned) == Probe(depth, not flipped[depth])


def test_a_box_without_a_sector_tells_nothing():
    whole = np.random.default_rng(0).integers(20, 200, (40, 44, 36)).astype(np.uint8)
    assert probe_of(whole) is None and probe_of(np.full((40, 44, 36), 7)) is None
    assert probe_of(fan()[:, :, 18]) is None and probe_of(fan()[:4]) is None


def test_a_cut_corner_or_a_ball_is_no_sector():
    ball = sum((index - 20.0) ** 2 for index in np.indices((41, 41, 41))) < 18**2
    assert probe_of(np.where(ball, 90, 0)) is None
    d, h, w = np.indices((40, 44, 36))
    assert probe_of(np.where(d + h + w > 40, 90, 0)) is None
