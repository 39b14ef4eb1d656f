"""Calibrated intervals cover what they promise; damages are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fhlib.images.volume import Volume
from fhlib.segmentation.calibration import calibrate, changed, coverage, damaged, flag_rates, robustness
from fhlib.segmentation.quality import (
    Calibration,
    Evidence,
    intensity_features,
)
from fhlib.segmentation.segmentor import Segmentation


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


class Brightest(Guess):
    """Finds what is brighter than a level."""

    def segment(self, image, flips=None):
        mask = image.array > 0.4
        volume_ml = int(mask.sum()) * image.voxel_volume_ml
        evidence = Evidence(0.9, 0.9, (volume_ml,), intensity_features(image.array))
        flags = () if mask.any() else ("no head",)
        return Segmentation(image.with_array(mask), image, volume_ml, flags, (math.nan, math.nan), evidence, "skin")


def test_what_is_found_of_vault_and_face_is_told_apart():
    # along an axis of 2 mm: bone at 4, scalp and near parts at 2 to 6 (4 mm each way), face from 7 on
    label, skull, image = (np.zeros((4, 12, 4), np.float32) for _ in range(3))
    label[:, 2:11], skull[:, 4], image[:, 2:8] = 1, 1, 0.5
    geometry = {"spacing_mm": (9.0, 2.0, 9.0)}
    seen = coverage(Brightest(), [(Volume(image, **geometry), Volume(label, **geometry))], [Volume(skull, **geometry)])
    assert seen["found_vault"].tolist() == [1.0] and seen["found_face"].tolist() == [0.25]  # 7 of 7 to 10


def test_forms_of_a_scan_hold_the_same_head():
    label = np.zeros((30, 24, 40), np.uint8)
    label[10:18, 8:14, 10:26] = 1
    grey = np.linspace(0, 0.3, label.size).reshape(label.shape)
    scan = Volume(np.where(label, 0.8, grey), (1.0, 2.0, 0.5), origin=(1.0, 0.0, 0.0))
    forms = changed(scan, scan.with_array(label))
    for image, truth in forms.values():
        assert (truth.array > 0).sum() * truth.voxel_volume_ml == pytest.approx(768 * 0.001)
        assert ((image.array > 0.4) == (truth.array > 0)).all() and image.same_geometry(truth)
    assert forms["axes exchanged"][0].spacing_mm == (2.0, 0.5, 1.0)
    assert forms["cropped to 1.4 times the head"][0].shape == (12, 10, 24)  # 8, 6 and 16 voxels, 1.4 times, outwards
    black = forms["surroundings black"][0].array
    assert (black[0, :, 0] == 0).all() and (black[9, 8:14, 12] > 0).all()  # 0.5 mm from it is kept, 9 mm away is not

    table = robustness(Brightest(), [(scan, scan.with_array(label))] * 2).set_index("form")
    assert (table["dsc"] == 1).all() and (table["difference"] == 0).all() and (table["n"] == 2).all()
    assert table["volume_ratio"].tolist() == pytest.approx([1] * 4) and (table["no_head"] == 0).all()


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
    # doubled along one axis no voxel of the cubes has 1 mm any more
    assert table["any_flag"].to_dict() == dict.fromkeys(broken, 0.5) | {"spacing missing?": 1, "implausible shape": 0}
    assert table["false_alarm"].to_dict() == dict.fromkeys(broken, 0) | {"cut by the border": 0.5}
