"""Quality flags and the interval of a volume: by hand, on anisotropic volumes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fhlib.images.volume import Volume
from fhlib.segmentation.quality import (
    Calibration,
    Evidence,
    Look,
    agreement_of,
    expected_volume_ml,
    intensity_features,
    quality_flags,
)
from tests.segmentation.made import head_in_box

FEATURES = (0.1, 0.4, 0.2, 0.0, 0.5)
SURE = Evidence(0.95, 0.97, (50.0, 51.0), FEATURES)
KNOWN = Calibration(30, 6, 4, 0.8, 0.7, 0.05, 0.02, 2.0, (0.0, 0.1, 0.1, -1.0, 0.2), (0.3, 0.7, 0.3, 1.0, 0.8))


def flags(mask, spacing=(1.0, 1.0, 1.0), image=None, evidence=SURE, **options):
    array = np.random.default_rng(0).integers(1, 255, mask.shape) if image is None else image
    volume = Volume(array, spacing, origin=(3.0, 2.0, 1.0))
    return quality_flags(Look(volume, mask, evidence, **options))


def test_flags_name_what_is_wrong():
    head = head_in_box()
    assert flags(head) == ()  # 54 mL
    assert flags(head, evidence=replace(SURE, confidence=0.7)) == ("low confidence",)
    assert flags(np.zeros_like(head)) == ("no head",)
    assert "no head" in flags(np.pad(np.ones((9, 9, 9), bool), 20))  # 0.7 mL
    early = np.pad(np.ones((16, 20, 19), bool), 80)  # 6.1 mL, a head of 12 weeks, are 0.1 % of this view
    assert flags(early) == () and "no head" in flags(early, spacing=(0.01,) * 3)
    assert flags(head, spacing=(0.01,) * 3) == ("implausible spacing",)
    assert flags(head, spacing=(2.9, 2.8, 2.9)) == ("implausible size",)  # 1272 mL
    assert flags(head, stray=1080) == () and flags(head, stray=1081) == ("several components",)  # 2 % of 54000
    assert flags(head, spacing=(2.5, 0.8, 0.8)) == ("implausible shape",)
    assert "implausible spacing" in flags(np.pad(head, 150))  # a view of 360 mm
    border = head.copy()
    border[:5, 20:30, 20:30] = True
    assert flags(border) == ("cut by the border",)


def test_a_head_that_ends_where_the_sector_ends_is_cut():
    head = head_in_box()
    image = np.random.default_rng(1).integers(1, 255, head.shape)
    image[:, :, 50:] = 0  # the sector ends at the head's last plane: 30 x 40 of 5800 surface voxels are 21 %
    assert flags(head, image=image) == ("cut by the sector",)
    image = np.random.default_rng(1).integers(1, 255, head.shape)
    image[:, :, 55:] = 0  # five voxels away
    assert flags(head, image=image) == ()
    image[10:30, 10:40, 12:40] = 0  # a shadow inside the head does not reach a corner
    assert flags(head, image=image) == ()


def test_a_size_is_judged_by_the_age():
    # BPD 67.6 and OFD 84.9 mm at 26 weeks: 1.3 pi / 6 x 67.6^2 x 84.9 = 264 mL
    assert expected_volume_ml(26) == pytest.approx(264, rel=0.005)
    head = head_in_box()
    assert flags(head, spacing=(1.7, 1.7, 1.7), ga_weeks=26) == ()  # 265 mL
    assert flags(head, ga_weeks=26) == ("implausible size",)  # 54 mL
    assert flags(head, ga_weeks=17) == () and flags(head, ga_weeks=None) == ()  # 17 weeks: 71 mL
    assert flags(head, ga_weeks=12) == ()  # outside of the charts


def test_a_calibration_tells_doubtful_results_and_strange_images():
    head = head_in_box()
    assert flags(head, calibration=KNOWN) == ()
    assert flags(head, evidence=replace(SURE, agreement=0.75), calibration=KNOWN) == ("no head",)
    assert flags(head, evidence=replace(SURE, confidence=0.65), calibration=KNOWN) == ("no head", "low confidence")
    bright = replace(SURE, intensities=(0.1, 0.71, 0.2, 0.0, 0.5))
    assert flags(head, evidence=bright, calibration=KNOWN) == ("unfamiliar intensities",)
    missing = quality_flags(Look(Volume(np.ones(head.shape), (1.0, 1.0, 1.0)), head, SURE))
    assert "spacing missing?" in missing


@pytest.mark.parametrize("share, raised", [(0.14, ()), (0.16, ("unfamiliar intensities",))])
def test_greys_are_inverted_where_much_lies_at_the_brightest_level(share, raised):
    head = head_in_box()
    random = np.random.default_rng(2)
    image = random.integers(1, 240, head.shape)  # 239 is not within 1/255 of 255
    image.ravel()[random.permutation(image.size)[: round(share * image.size)]] = 255
    assert flags(head, image=image, calibration=KNOWN) == raised
    assert flags(head, image=-image, calibration=KNOWN) == ()


def test_intensity_features_by_hand():
    image = np.array([[[0.0, 0.2, 0.4, 0.2], [0.0, 0.4, 0.2, 0.4]]])
    outside, mean, sd, skewness, roughness = intensity_features(image)
    assert (outside, mean, sd, skewness) == pytest.approx((0.25, 0.3, 0.1, 0.0))
    assert roughness == pytest.approx(0.2 / 0.1)  # steps of +0.2, -0.2, -0.2, +0.2
    assert intensity_features(np.zeros((3, 4, 5))) == (1.0, 0.0, 0.0, 0.0, 0.0)


def test_agreement_is_the_mean_dice_of_pairs():
    masks = [np.zeros((1, 2, 4), bool) for _ in range(3)]
    masks[0][0, 0, :4], masks[1][0, 0, :2], masks[2][0, 0, 2:4] = True, True, True
    assert agreement_of(masks) == pytest.approx((4 / 6 + 4 / 6 + 0) / 3)
    assert math.isnan(agreement_of(masks[:1])) and agreement_of([np.zeros(3, bool)] * 2) == 1.0


def test_interval_by_hand_and_on_disk(tmp_path):
    copies = (90.0, 100.0, 110.0)
    reach = 2.0 * (np.std(np.log(copies), ddof=1) + 0.02)
    assert KNOWN.interval(100.0, copies) == pytest.approx((100 * math.exp(0.05 - reach), 100 * math.exp(0.05 + reach)))
    assert KNOWN.interval(100.0, (2.0, 100.0, 5000.0)) == (2.0, 900.0)  # no head is outside
    assert KNOWN.interval(2000.0, copies)[1] > 2000
    assert all(map(math.isnan, KNOWN.interval(100.0, (0.0, 90.0)))) and all(
        map(math.isnan, KNOWN.interval(0.0, copies))
    )
    KNOWN.save(tmp_path)
    assert Calibration.load(tmp_path) == KNOWN and Calibration.load(tmp_path / "none") is None
