"""Quality flags, the interval of a volume, and what they are calibrated with: by hand, on anisotropic volumes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fhlib.images.volume import Volume
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.build import build_network
from fhlib.presets import Prediction, Preparation, Training
from fhlib.segmentation.calibration import calibrate, coverage, damaged, flag_rates
from fhlib.segmentation.quality import (
    Calibration,
    Evidence,
    agreement_of,
    expected_volume_ml,
    intensity_features,
    quality_flags,
)
from fhlib.segmentation.segmentor import Segmentation, Segmentor

FEATURES = (0.1, 0.4, 0.2, 0.0, 0.5)
SURE = Evidence(0.95, 0.97, (50.0, 51.0), FEATURES)
KNOWN = Calibration(30, 6, 4, 0.8, 0.7, 0.05, 0.02, 2.0, (0.0, 0.1, 0.1, -1.0, 0.2), (0.3, 0.7, 0.3, 1.0, 0.8))


def head_in_box():
    head = np.zeros((40, 50, 60), bool)
    head[5:35, 5:45, 5:50] = True  # 54000 voxels
    return head


def flags(mask, spacing=(1.0, 1.0, 1.0), image=None, evidence=SURE, **options):
    array = np.random.default_rng(0).integers(1, 255, mask.shape) if image is None else image
    volume = Volume(array, spacing, origin=(3.0, 2.0, 1.0))
    return quality_flags(volume, mask, evidence, **options)


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
    border = head.copy()
    border[:5, 20:30, 20:30] = True
    assert flags(border) == ("cut by the border",)


@pytest.mark.parametrize("kept", [True, False])
def test_a_second_part_is_flagged_and_only_the_largest_kept(kept):
    found = head_in_box().astype(np.float32)
    found[37:39, 10:40, 10:40] = 0.9  # 1800 voxels of 54000
    parameters = SegmentorParameters(
        "USegNet", 1, 3, Preparation(spacing_mm=1.0), Training(width=2, steps=1, learning_rate=1e-3), Execution(), ""
    )
    segmentor = Segmentor([build_network("USegNet", 2)], parameters, Prediction(largest_component=kept))
    segmentor.probability = lambda image: found
    volume = Volume(np.random.default_rng(0).random(found.shape, np.float32), (1.0, 1.0, 1.0), origin=(3.0, 2.0, 1.0))
    result = segmentor.segment(volume)
    assert result.flags == ("several components",)
    assert int(result.mask.array.sum()) == 54000 + (0 if kept else 1800)
    assert result.volume_ml == pytest.approx(54.0 if kept else 55.8)


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
    missing = quality_flags(Volume(np.ones(head.shape), (1.0, 1.0, 1.0)), head, SURE)
    assert "spacing missing?" in missing


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
    assert KNOWN.interval(100.0, (2.0, 100.0, 5000.0)) == (4.0, 900.0)  # no head is outside
    assert KNOWN.interval(2000.0, copies)[1] > 2000
    assert all(map(math.isnan, KNOWN.interval(100.0, (0.0, 90.0)))) and all(
        map(math.isnan, KNOWN.interval(0.0, copies))
    )
    KNOWN.save(tmp_path)
    assert Calibration.load(tmp_path) == KNOWN and Calibration.load(tmp_path / "none") is None


class Guess:
    """A segmentor that finds the brightest voxels, with a volume that is off by a factor of its own for each scan."""

    calibration: Calibration | None = None

    def segment(self, image, flips=None):
        spacing = max(image.spacing_mm)
        raised = ("implausible spacing", "no head") if spacing > 10 else ("cut by the border",) if spacing == 1 else ()
        count = round(image.array[0, 0, 0] * 1000)
        flat = np.zeros(image.array.size, bool)
        flat[np.argsort(image.array.ravel())[::-1][:count]] = True
        mask = flat.reshape(image.shape)
        volume_ml = count * image.voxel_volume_ml
        spread = float(image.array[0, 0, 1])
        copies = (
            volume_ml * math.exp(-spread / math.sqrt(2)),
            volume_ml * math.exp(spread / math.sqrt(2)),
        )  # SD: spread
        evidence = Evidence(0.9, 0.9, copies, intensity_features(image.array))
        interval = self.calibration.interval(volume_ml, copies) if self.calibration else (math.nan, math.nan)
        return Segmentation(image.with_array(mask), image, volume_ml, raised, interval, evidence, "skin")


def scans(count, seed):
    """Scans of 1000 true voxels whose volume is found with a log error of SD 1.5 x the spread that the copies show."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        label = np.zeros((12, 14, 20), np.uint8)
        label.ravel()[random.permutation(label.size)[:1000]] = 1
        image = 0.1 * random.random(label.shape) + 0.5 * label
        spread = random.uniform(0.02, 0.08)
        image[0, 0, 0], image[0, 0, 1] = math.exp(1.5 * spread * random.normal() - 0.03), spread
        label[0, 0, :2] = 0
        geometry = {"spacing_mm": (1.0, 2.0, 0.5), "origin": (1.0, 0.0, 0.0)}
        yield Volume(image, **geometry), Volume(label, **geometry)


def test_calibrated_intervals_cover_what_they_promise():
    guess = Guess()
    guess.calibration = calibrate(guess, scans(200, 1), flips=2)
    assert guess.calibration.log_bias == pytest.approx(0.03, abs=0.02) and guess.calibration.cases == 200
    seen = coverage(guess, scans(300, 2))
    assert 0.91 < seen["covered"].mean() < 0.985
    width = np.log(seen["high_ml"] / seen["low_ml"])
    assert width.min() > 0 and width.max() / width.min() > 1.5  # wide where the copies disagree
    with pytest.raises(ValueError, match="at least 20 scans"):
        calibrate(guess, scans(10, 3))


def test_damages_are_what_they_say():
    image, label = next(scans(1, 5))
    broken = damaged(image, label)
    assert broken["implausible spacing"].spacing_mm == (10.0, 20.0, 5.0)
    assert broken["spacing missing?"].spacing_mm == (1.0, 1.0, 1.0)
    assert sorted(broken["no head"].array.ravel()) == sorted(image.array.ravel())
    cut, dark = broken["cut by the border"], broken["cut by the sector"]
    assert cut.array.size < 0.7 * image.array.size and 0.3 < (dark.array == image.array.min()).mean() < 0.7
    # two scans as they are, and two with voxels of 1 mm, in which Guess sees a border; each damage keeps that spacing but two
    thin = [(scan.with_array(scan.array), mask) for scan, mask in scans(2, 6)]
    cubes = [(Volume(scan.array, (1.0,) * 3), Volume(mask.array, (1.0,) * 3)) for scan, mask in scans(2, 7)]
    table = flag_rates(Guess(), [*thin, *cubes]).set_index("damage")
    assert set(table.index) == set(broken) and (table["n"] == 4).all()
    # at ten times the spacing the two thin scans have 20 mm, the cubes 10
    assert table["flagged"].to_dict() == dict.fromkeys(broken, 0) | {
        "cut by the border": 0.5,
        "implausible spacing": 0.5,
    }
    assert table["any_flag"].to_dict() == dict.fromkeys(broken, 0.5) | {"spacing missing?": 1}
    assert table["false_alarm"].to_dict() == dict.fromkeys(broken, 0) | {"cut by the border": 0.5}
