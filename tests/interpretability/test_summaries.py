"""Summaries of attention maps by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.interpretability import summaries as attention_summaries
from fhlib.interpretability.summaries import (
    SMALLEST,
    boundary_channel,
    colour_limits,
    log_limits,
    percent_of,
    slabs,
    summarise,
    summary_map,
    without_padding,
)
from tests.interpretability.made import features, head


def test_summaries_by_hand() -> None:
    weights = np.array([[0.5, 1.0], [0.3, 0.0], [0.2, 0.0]])  # three channels, two voxels
    np.testing.assert_allclose(summarise(weights, "maximum"), [0.5, 1.0])
    np.testing.assert_allclose(summarise(weights, "top-2"), [0.8, 1.0])
    np.testing.assert_allclose(summarise(weights, "mean"), [1 / 3, 1 / 3])
    np.testing.assert_allclose(summarise(weights, "1"), [0.3, 0.0])
    entropy = -(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)) / np.log(3)
    np.testing.assert_allclose(summarise(weights, "entropy"), [entropy, 0.0], atol=1e-6)
    features = np.array([[-3.0], [1.0]])  # P is signed: shares 3/4 and 1/4
    assert summarise(features, "maximum") == 3.0 and summarise(features, "mean") == 2.0
    assert summarise(features, "0") == -3.0
    np.testing.assert_allclose(summarise(features, "entropy"), 0.811278, atol=1e-5)  # bits of a 3:1 coin
    for wrong in ("median", "top-4", "top-0", "top-x"):
        with pytest.raises(ValueError, match="top-1 to top-3"):
            summarise(weights, wrong)
    with pytest.raises(IndexError, match="channels 0 to 2"):
        summarise(weights, 3)


def test_parts_are_read_in_slabs_and_t_is_p_times_a(monkeypatch: pytest.MonkeyPatch) -> None:
    case = features()
    monkeypatch.setattr(attention_summaries, "SLAB_VALUES", 4 * 16 * 32 * 7)  # seven slices of the 24 at a time
    places = [place for place, _ in slabs(case, "SAM-3", "T")]
    assert [place.start for place in places] == [0, 7, 14, 21]
    weights, shrunk = (np.asarray(maps["SAM-3"], np.float32) for maps in (case.attention, case.shrunk))
    done: list[float] = []
    found = summary_map(case, "SAM-3", "maximum", "T", done.append)
    np.testing.assert_allclose(found, np.abs(weights * shrunk).max(axis=0), rtol=2e-3)
    np.testing.assert_allclose(done, [7 / 24, 14 / 24, 21 / 24, 1])
    np.testing.assert_allclose(summary_map(case, "SAM-3", "2", "P"), shrunk[2], rtol=1e-3)


def test_boundary_channel_carries_weight_at_the_boundary() -> None:
    mask = head((32, 24, 40))
    edge = np.gradient(mask[::2, ::2, ::2].astype(float), axis=0) ** 2
    filled = mask[::2, ::2, ::2].astype(float)
    next_to_nothing = 1e-6 + 1e-3 * edge
    attention = np.stack([np.full(edge.shape, 0.2), 0.2 + edge, next_to_nothing, filled])
    assert boundary_channel(attention, mask) == 1
    assert boundary_channel(attention, np.zeros_like(mask)) == 0


def test_colour_limits_of_constant_and_signed_maps() -> None:
    assert colour_limits(np.full((4, 6, 5), 0.0004)) == pytest.approx((0, 0.0004))
    assert colour_limits(np.zeros((4, 6, 5))) == (0, 1e-6)
    assert colour_limits(np.linspace(-2, 1, 1000).reshape(10, 4, 25), signed=True) == pytest.approx(
        (-1.99, 1.99), rel=0.01
    )


def test_what_the_strongest_channel_leaves_keeps_its_digits() -> None:
    weights = np.array([[1.0, 0.5], [3e-6, 0.3], [5e-7, 0.2]], np.float16)  # 1 - maximum would be 0 in the first
    np.testing.assert_allclose(summarise(weights, "rest"), [3.5e-6, 0.5], rtol=0.02)
    assert summarise(np.array([[-3.0], [1.0]]), "rest") == 0.25
    assert log_limits(np.full(100, 1e-9)) == (SMALLEST, pytest.approx(1e-6))
    assert log_limits(np.full(100, 0.7)) == (0.1, 1.0)


def test_padding_is_left_out_of_maps() -> None:
    """An image of 20 x 13 x 30 is padded to 24 x 16 x 32."""
    assert without_padding(np.zeros((24, 16, 32)), (20, 13, 30)).shape == (20, 13, 30)
    assert without_padding(np.zeros((6, 4, 8)), (20, 13, 30)).shape == (5, 4, 8)
    shares = [percent_of(np.arange(1000) < count) for count in (0, 1, 300, 999, 1000)]
    numbers = ("0 %", "< 1 %", "30 %", "> 99 %", "100 %")
    assert shares == [f"{number} of voxels" for number in numbers]
