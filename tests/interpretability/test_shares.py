"""Shares of attention against chance: regions, shares and summaries by hand on non-cubic, anisotropic volumes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fhlib.images.volume import Volume
from fhlib.interpretability.shares import (
    MEASURES,
    REGIONS,
    attention_shares,
    beside_paper,
    head_regions,
    measured_maps,
    shares,
    shares_figure,
    summarise_shares,
)
from fhlib.networks.features import Features

SPACING = (1.0, 2.0, 1.5)


def box(shape: tuple[int, ...] = (24, 16, 20)) -> np.ndarray:
    """A head of 12 x 8 x 10 voxels in the middle."""
    mask = np.zeros(shape, bool)
    mask[6:18, 4:12, 5:15] = True
    return mask


def test_regions_of_a_box() -> None:
    """3 mm are three voxels along d, one along h (2 mm), two along w (1.5 mm)."""
    mask = box()
    regions = head_regions(Volume(mask.astype(np.float32), SPACING), mask)
    assert regions["inside"].sum() == 6 * 6 * 6 and regions["inside"][9:15, 5:11, 7:13].all()
    along = {axis: regions["boundary"][index] for axis, index in
             {"d": (slice(None), 8, 10), "h": (12, slice(None), 10), "w": (12, 8, slice(None))}.items()}  # fmt: skip
    assert np.flatnonzero(along["d"]).tolist() == [3, 4, 5, 6, 7, 8, 15, 16, 17, 18, 19, 20]
    assert np.flatnonzero(along["h"]).tolist() == [3, 4, 11, 12]
    assert np.flatnonzero(along["w"]).tolist() == [3, 4, 5, 6, 13, 14, 15, 16]
    parts = np.stack([regions[name] for name in ("inside", "boundary", "outside")])
    assert (parts.sum(axis=0) == 1).all()


def test_shadowed_is_where_the_outline_shows_no_edge() -> None:
    mask = box()
    grey = np.where(mask, 1.0, 0.2)
    grey[:, :, 10:] = 0.0  # beyond the middle of w the scan is dark: head and surroundings alike
    regions = head_regions(Volume(grey.astype(np.float32), SPACING), mask)
    shadowed = regions["shadowed boundary"]
    assert not (shadowed & ~regions["boundary"]).any()
    # the faces across w, away from the box's rims
    assert shadowed[8:16, 6:10, 13:17].all() and not shadowed[8:16, 6:10, 4:6].any()


def test_a_head_that_fills_the_image_or_is_not_there_is_an_error() -> None:
    image = Volume(np.zeros((8, 9, 10), np.float32), SPACING)
    for reference in (np.zeros(image.array.shape, bool), np.ones(image.array.shape, bool)):
        with pytest.raises(ValueError, match="empty or fills"):
            head_regions(image, reference)


def test_share_chance_and_shifts_by_hand() -> None:
    values = np.zeros((2, 4, 5))
    values[0, 0] = 1  # five voxels of 1, all others 0
    region = np.zeros(values.shape, bool)
    region[0, 0:2] = True  # a quarter of the voxels, holding all five
    row = shares(values, {"region": region})[0]
    assert row["share"] == pytest.approx(1.0) and row["chance"] == pytest.approx(0.25)
    # of the 8 shifts along d and h two hold the five; the shifts along w change nothing
    assert (
        row["p_high"] == pytest.approx(2 / 8)
        and row["shift_low"] == pytest.approx(0)
        and row["shift_high"] == pytest.approx(1)
    )
    region[0, 0, 0:3] = False  # 7 of 40 voxels: two of the five
    assert shares(values, {"region": region})[0]["share"] == pytest.approx(0.4)
    empty = shares(values, {"region": np.zeros_like(region)})[0]
    assert np.isnan(empty["share"]) and np.isnan(empty["chance"])


def features(mask: np.ndarray, seed: int) -> Features:
    """Channel 1 of UAM-3 weighs 0.7 at the outline and 0.1 elsewhere; SAM-1 knows nothing. P is 1 everywhere in all channels."""
    rng = np.random.default_rng(seed)
    image = Volume((0.2 + 0.6 * mask + 0.01 * rng.random(mask.shape)).astype(np.float32), SPACING)
    edge = head_regions(image, mask)["boundary"]
    second = np.where(edge, 0.7, 0.1)
    fine = np.zeros((3, 24, 16, 24), np.float16)
    fine[:, :, :, :20] = np.stack([(1 - second) / 2, second, (1 - second) / 2])
    coarse = np.full((3, 6, 4, 6), 1 / 3, np.float16)
    return Features(
        image,
        image.with_array(mask.astype(np.float32)),
        {"UAM-3": fine, "SAM-1": coarse},
        {"UAM-3": np.ones_like(fine), "SAM-1": np.ones_like(coarse)},
    )


def test_measured_maps_by_hand() -> None:
    mask = box()
    case = features(mask, 0)
    case.shrunk["UAM-3"][1] *= -8  # |P| is 1, 8 and 1
    maps = measured_maps(case, "UAM-3", 1)
    edge = head_regions(case.image, mask)["boundary"]
    assert all(values.shape == mask.shape for values in maps.values())
    np.testing.assert_allclose(maps["boundary channel"], np.where(edge, 0.7, 0.1), atol=1e-3)
    np.testing.assert_allclose(maps["strongest weight"], np.where(edge, 0.7, 0.45), atol=1e-3)
    np.testing.assert_allclose(maps["passed features"], np.where(edge, (0.3 + 5.6) / 10, (0.9 + 0.8) / 10), atol=1e-3)


def test_table_summary_and_verdict_over_cases() -> None:
    mask = box()
    cases = {name: (features(mask, seed), Volume(mask.astype(np.uint8), SPACING)) for seed, name in enumerate("abc")}
    table = pd.DataFrame(
        {"case": list("abc"), "subject": ["p", "q", "r"], "split": ["test", "test", "val"], "label": "x"}
    )

    def read(case: str) -> SimpleNamespace:
        return SimpleNamespace(models={"HAS": cases[case][0]}, reference=cases[case][1])

    reader = SimpleNamespace(table=table, test_cases=["a", "b"], read=read)
    found = attention_shares(reader)
    assert len(found) == 2 * 2 * len(MEASURES) * len(REGIONS) and set(found["subject"]) == {"p", "q"}
    assert set(found.loc[(found["module"] == "UAM-3") & (found["measure"] == "boundary channel"), "channel"]) == {1}

    summary = summarise_shares(found).set_index(["module", "measure", "region"])
    band = head_regions(cases["a"][0].image, mask)["boundary"].mean()
    by_hand = 0.7 / (0.7 * band + 0.1 * (1 - band))  # weight at the boundary, divided by the mean weight
    row = summary.loc["UAM-3", "boundary channel", "boundary"]
    assert row["ratio"] == pytest.approx(by_hand, rel=0.01) and row["n"] == 2 and row["above"] == 1
    outside = summary.loc["UAM-3", "boundary channel", "outside"]
    assert outside["ratio"] == pytest.approx(by_hand / 7, rel=0.01) and outside["below"] == 1
    assert summary.loc["SAM-1", :, "boundary"]["ratio"].to_numpy() == pytest.approx(np.ones(3), abs=1e-3)

    verdicts = beside_paper(summary.reset_index(), "boundary channel")
    assert "above chance in 1 of 2 modules (UAM-3; beyond shifted masks: UAM-3)" in verdicts["here"][0]
    assert "below chance in 1 of 2 (UAM-3; beyond shifted masks: UAM-3)" in verdicts["here"][0]
    assert "with higher a" in verdicts["the paper"][0] and "severely occluded" in verdicts["the paper"][1]
    assert len(shares_figure(summary.reset_index()).axes) == 3


def test_ratio_is_that_of_the_means_and_its_interval_stays_between_the_cases() -> None:
    rows = [{"model": "m", "module": "UAM-3", "measure": "passed features", "region": "boundary", "share": share, "chance": 0.1,
             "shift_low": 0.05, "shift_high": 0.3} for share in (0.2, 0.4, np.nan)]  # fmt: skip
    row = summarise_shares(pd.DataFrame(rows)).iloc[0]
    assert row["n"] == 2 and row["ratio"] == pytest.approx(3.0) and row["above"] == 0.5 and row["below"] == 0
    assert (row["ratio_low"], row["ratio_high"]) == pytest.approx((2.0, 4.0))
