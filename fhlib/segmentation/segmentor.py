"""Segment volumes in their own geometry (section 3.2): mask, volume, interval and quality flags from a cascade's probability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fhlib.images.grids import crop_to_box, resample
from fhlib.images.volume import Volume
from fhlib.models.boxes import largest_component
from fhlib.models.cascade import Cascade, Reading
from fhlib.models.device import Execution
from fhlib.models.inputs import flips_of
from fhlib.models.orientation import AS_IT_IS, canonical
from fhlib.models.parameters import SegmentorParameters, shown
from fhlib.models.weights import load_cascade, model_digest, weights_folder
from fhlib.presets import Prediction
from fhlib.segmentation.quality import (
    CALIBRATION,
    Calibration,
    Evidence,
    Look,
    agreement_of,
    intensity_features,
    quality_flags,
    too_small,
)

LOOKS = 3
"""How often a box around the head is read at most."""


@dataclass(frozen=True)
class Segmentation:
    """Result in the volume's own geometry: `mask` (uint8), `probability` of the head (float32, 0-1), volume (nan in 2D), quality flags.

    `interval_ml`: 95 % interval of the volume (NaN without a calibration). `evidence`: what the flags rest on. `outline`: of what the mask
    is, skin or skull.

    >>> from fhlib import load_segmentor, simulate_scan
    >>> result = load_segmentor("skull").segment(simulate_scan(3, ga_weeks=26, spacing_mm=4.0).image)
    >>> low_ml, high_ml = result.interval_ml
    >>> low_ml < result.volume_ml < high_ml, result.outline, float(result.probability.array.max()) <= 1
    (True, 'skull', True)
    """

    mask: Volume
    probability: Volume
    volume_ml: float
    flags: tuple[str, ...]
    interval_ml: tuple[float, float]
    evidence: Evidence
    outline: str


class Segmentor:
    """A cascade with what turns its probability into a result: threshold, calibration, flags.

    >>> from fhlib import load_segmentor, simulate_scan
    >>> scan = simulate_scan(3, ga_weeks=26, spacing_mm=4.0)
    >>> result = load_segmentor("head").segment(scan.image, ga_weeks=26)
    >>> result.mask.shape == scan.image.shape, 100 < result.volume_ml < 400
    (True, True)
    """

    def __init__(
        self, cascade: Cascade, prediction: Prediction | None = None, calibration: Calibration | None = None
    ) -> None:
        self.cascade, self.calibration = cascade, calibration
        self.prediction = prediction or Prediction()

    @property
    def parameters(self) -> SegmentorParameters:
        """Those of the cascade's last level."""
        return self.cascade.parameters

    @property
    def outline(self) -> str:
        """What it outlines, skin or skull."""
        return self.parameters.outline

    def segment(self, volume: Volume, flips: int | None = None, ga_weeks: float | None = None) -> Segmentation:
        """Segment one volume (or single image) of any size and geometry.

        The probability is resampled to the volume's grid and thresholded there: the coarse mask would be rougher. With a calibration a
        mask too small for a head is emptied.

        Args:
            volume: the scan.
            flips: the probability is the mean over so many flipped copies, whose masks also tell how far the result can be trusted. By
                default as calibrated, else 1: the scan as it is. Of a cascade that reads boxes all copies are of one box.
            ga_weeks: gestational age; a size that is implausible for it is flagged.

        Raises ValueError where the volume's dimensions are not the segmentor's, or its intensities are not finite.
        """
        if volume.ndim != self.parameters.spatial_dims:
            raise ValueError(
                f"this segmentor was trained on {self.parameters.spatial_dims}D images, the image is {volume.ndim}D: "
                "choose another model"
            )
        # one order of axes whatever the file's; what reads whole grids keeps the paper's
        turn = canonical(volume) if self.cascade.reads_box else AS_IT_IS[volume.ndim]
        turned = turn.of(volume)
        reading, copies, found, cut = self._looked(turned, flips or (self.calibration.flips if self.calibration else 1))
        image = reading.image
        in_turn = found if self.cascade.slices else _in_volume(found, reading, turned)
        probability = volume.with_array(turn.undo(in_turn.array))
        foreground = probability.array >= self.prediction.threshold
        largest = largest_component(foreground)
        mask = largest if self.prediction.largest_component else foreground
        if self.calibration is not None and too_small(volume, mask):
            mask = np.zeros_like(mask)
        masks = [copy >= self.prediction.threshold for copy in copies]
        if self.prediction.largest_component:
            masks = [largest_component(copy) for copy in masks]
        evidence = Evidence(
            confidence=float(probability.array[mask].mean()) if mask.any() else math.nan,
            agreement=agreement_of(masks),
            copies_ml=tuple(int(copy.sum()) * image.voxel_volume_ml for copy in masks),
            intensities=intensity_features(image.array),
        )
        outline, volume_ml = self.parameters.outline, int(mask.sum()) * volume.voxel_volume_ml
        stray = int(foreground.sum()) - int(largest.sum())
        flags = quality_flags(Look(volume, mask, evidence, stray, self.calibration, ga_weeks, outline, cut))
        calibration = self.calibration
        interval = calibration.interval(volume_ml, evidence.copies_ml) if calibration else (math.nan, math.nan)
        result = volume.with_array(mask.astype(np.uint8))
        return Segmentation(result, probability, volume_ml, flags, interval, evidence, outline)

    def _looked(self, volume: Volume, flips: int) -> tuple[Reading, list[NDArray[np.float32]], Volume, bool]:
        """What was read, the copies' probabilities, their mean, and whether its mask ends where the box that was read does.

        Where the box does not fit the mask that is found in it, the volume is read around that mask, at most `LOOKS` times in all. The
        copies are of the last box.
        """
        reading = self.cascade.reading(volume)
        for _ in range(LOOKS - 1 if self.cascade.reads_box else 0):
            (copy,) = self.copies(reading, 1)
            around = self.cascade.elsewhere(reading, copy >= self.prediction.threshold)
            if around is None:
                break
            reading = self.cascade.reading(volume, around)
        copies = self.copies(reading, flips)
        found = reading.image.with_array(np.asarray(np.mean(copies, axis=0, dtype=np.float32)))
        return reading, copies, found, reading.cut(found.array >= self.prediction.threshold) is not None

    def copies(self, reading: Reading, count: int) -> list[NDArray[np.float32]]:
        """Probability of what is read and of flipped copies of it, flipped back: as it is, then about single axes, then about more.

        Raises ValueError for more copies than there are.
        """
        flips = flips_of(reading.image.ndim)
        if not 1 <= count <= len(flips):
            raise ValueError(f"flips is {count}: there are 1 to {len(flips)} in {reading.image.ndim}D")

        def copy(axes: tuple[int, ...]) -> NDArray[np.float32]:
            # copies: an axis of one voxel keeps its negative stride otherwise, which torch refuses
            context = None if reading.context is None else np.flip(reading.context.array, axes).copy()
            return np.flip(self.cascade.probability(np.flip(reading.image.array, axes).copy(), context=context), axes)

        return [copy(axes) for axes in flips[:count]]


def _in_volume(probability: Volume, reading: Reading, volume: Volume) -> Volume:
    """A probability on the network's grid in the geometry of the volume, 0 outside the box that was read."""
    if reading.crop is None:
        return resample(probability, like=volume)
    box, _ = crop_to_box(volume, reading.crop.box)
    return reading.crop.undo(resample(probability, like=box), outside=0)


def load_segmentor(
    folder: Path | str, prediction: Prediction | None = None, execution: Execution | None = None
) -> Segmentor:
    """Load a trained variant's folder with all its context levels, or weights by name.

    Args:
        folder: the folder; or a name, of one's own weights in `data/weights` or of those that come with fhlib (`"head"`, `"skull"`).
        prediction: threshold and choice of the mask; by default one half, largest component.
        execution: how to run; without it as the weights were trained, adapted to this machine.

    Raises FileNotFoundError for a folder without weights, ValueError where a level is missing, and for files that are damaged or do not
    belong together.

    >>> load_segmentor("head").parameters.variant
    'USegNet-DS-Zoom'
    """
    folder = weights_folder(folder)
    segmentor = Segmentor(load_cascade(folder, execution), prediction, Calibration.load(folder))
    known = segmentor.calibration.weights_digest if segmentor.calibration else ""
    if known not in ("", model_digest(folder)):
        raise ValueError(
            f"{shown(folder / CALIBRATION)} was measured with other weights, and its intervals are wrong for these: "
            "copy the one that came with them, or move it away"
        )
    return segmentor
