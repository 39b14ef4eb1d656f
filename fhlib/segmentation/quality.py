"""Is a result to be trusted: quality flags, and the interval of a volume.

Both rest on two looks at the result that need no truth: how sure the network is inside its mask, and how well the masks of flipped
copies of the scan agree. What is normal for them is measured once for a segmentor, on scans that it was not trained on
(`fhlib.segmentation.calibration`). It is kept beside the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from scipy import ndimage

from fhlib.files import write_json
from fhlib.images.volume import Mask, Volume
from fhlib.measures.growth import reference, valid_weeks
from fhlib.measures.metrics import dice
from fhlib.models.parameters import read_beside_weights, validated

CALIBRATION = "calibration.json"
FEATURES = 5
"""How many numbers `intensity_features` gives."""
Share = Annotated[float, Field(ge=0, le=1)]
Features = Annotated[tuple[float, ...], Field(min_length=FEATURES, max_length=FEATURES)]

# Reasoned, not measured: a head of 11 to 40 weeks, and what voxels and fields of view an ultrasound machine exports.
SMALLEST_HEAD_ML, LARGEST_HEAD_ML = 2.0, 900.0
SMALLEST_HEAD_SHARE = 0.004
SPACING_MISSING = "spacing missing?"
STRAY_SHARE = 0.02
LEAST_CONFIDENCE = 0.8
PLAUSIBLE_SPACING_MM = (0.03, 3.0)
PLAUSIBLE_VIEW_MM = (15.0, 350.0)
"""Longest side of a volume."""
LONGEST_SHAPE = 1.9
"""Longest over shortest principal axis of a head. Sixty simulated ones of 12 to 40 weeks have 1.2 to 1.5; a head moulded at term more."""
BRIGHTEST_SHARE = 0.15
"""Of the voxels at the brightest level: 317 simulated scans have at most 0.145, ten HC18 images 0.015; nine of ten scans with inverted
greys more, by what lies outside of the sector."""
OUTSIDE_SHARE = 0.05
"""Share of the mask's surface that touches the outside of the sector beyond which the head is called cut."""
SIZE_FOR_AGE = (0.5, 1.8)
"""Whole-head volume over what the charts of BPD and OFD imply at that age: beyond it is implausible (three SD of the head's size are a
factor of about 1.5)."""
WHOLE_HEAD_FACTOR = 1.3
"""Whole head over the ellipsoid through BPD and OFD; calibrated to the mean volume that the paper implies."""


@dataclass(frozen=True)
class Calibration:
    """What is normal for one segmentor, from `cases` scans with a head and `headless` without.

    `flips`: how many flipped copies are segmented. `least_agreement` (mean DSC of their masks, two by two) and `least_confidence` (mean
    probability inside the mask): below one of them is no head, or a doubtful one. The interval of a volume V is
    V exp(`log_bias` +- `quantile` (s + `floor`)), s the SD of the copies' log volumes. `intensity_low` and `intensity_high` bound what is
    familiar of each of `intensity_features`. `weights_digest`: of the weights that it was measured with (`model_digest`), empty where an
    earlier version wrote none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    cases: Annotated[int, Field(ge=1)]
    headless: Annotated[int, Field(ge=0)]
    flips: Annotated[int, Field(ge=1, le=8)]
    least_agreement: Share
    least_confidence: Share
    log_bias: Annotated[float, Field(ge=-5, le=5)]
    floor: Annotated[float, Field(ge=0)]
    quantile: Annotated[float, Field(ge=0)]
    intensity_low: Features
    intensity_high: Features
    weights_digest: str = ""

    def save(self, folder: Path) -> None:
        """Write beside the weights."""
        write_json(asdict(self), folder / CALIBRATION)

    @classmethod
    def load(cls, folder: Path) -> Calibration | None:
        """What `save` wrote, None where the segmentor was not calibrated. Raises ValueError for a file that cannot be used."""
        path = folder / CALIBRATION
        return validated(cls, read_beside_weights(path), path) if path.exists() else None

    def interval(self, volume: float, copies: Sequence[float]) -> tuple[float, float]:
        """95 % interval of a volume in mL from the volumes of the flipped copies; NaN where a copy has none.

        That of a plausible volume ends where heads of 11 to 40 weeks do (`SMALLEST_HEAD_ML`, `LARGEST_HEAD_ML`).
        """
        reach = self.quantile * (log_spread(copies) + self.floor)
        if not volume > 0 or not math.isfinite(reach):
            return math.nan, math.nan
        low, high = (volume * math.exp(self.log_bias + sign * reach) for sign in (-1, 1))
        if SMALLEST_HEAD_ML <= volume <= LARGEST_HEAD_ML:
            low, high = np.clip((low, high), SMALLEST_HEAD_ML, LARGEST_HEAD_ML).tolist()
        return low, high


@dataclass(frozen=True)
class Evidence:
    """What a result shows of itself. `confidence`: mean probability inside the mask (NaN without one); `agreement`: mean DSC of the
    flipped copies' masks, two by two (NaN for fewer than two); `copies_ml`: their volumes; `intensities`: `intensity_features`.
    """

    confidence: float
    agreement: float
    copies_ml: tuple[float, ...]
    intensities: tuple[float, ...]


def log_spread(copies: Sequence[float]) -> float:
    """SD of the log volumes of the flipped copies; infinite for fewer than two, or where a copy has none."""
    return float(np.std(np.log(copies), ddof=1)) if len(copies) > 1 and min(copies) > 0 else math.inf


def agreement_of(masks: Sequence[Mask]) -> float:
    """Mean DSC of the masks two by two; two empty ones agree. NaN for fewer than two."""
    scores = [dice(first, second) for first, second in combinations(masks, 2)]
    return float(np.mean(scores)) if scores else math.nan


def intensity_features(image: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    """What a prepared image in [0, 1] looks like, in five numbers.

    The share of the darkest level (outside of the sector); of the other voxels mean, SD and skewness, and the SD of the difference between
    neighbours over the SD (roughness).
    """
    inside = image > 1 / 255
    values = image[inside].astype(float)
    if values.size < 2 or not values.std() > 0:
        return 1.0 - values.size / image.size, 0.0, 0.0, 0.0, 0.0
    sd = float(values.std())
    both = inside[..., 1:] & inside[..., :-1]
    steps = np.diff(image.astype(float), axis=-1)[both]
    skewness = float(((values - values.mean()) ** 3).mean()) / sd**3
    return (
        1.0 - values.size / image.size,
        float(values.mean()),
        sd,
        skewness,
        float(steps.std()) / sd if steps.size else 0.0,
    )


@dataclass(frozen=True)
class Look:
    """What the flags of one result are decided by: the volume, its mask, and what is known about both.

    `stray`: voxels of other parts than the largest. `outline`: of what the mask is, skin or skull. `cut_by_box`: whether the mask ends
    where the box ends in which it was outlined.
    """

    volume: Volume
    mask: Mask
    evidence: Evidence
    stray: int = 0
    calibration: Calibration | None = None
    ga_weeks: float | None = None
    outline: str = "skin"
    cut_by_box: bool = False

    @cached_property
    def size(self) -> int:
        """Voxels of the mask."""
        return int(self.mask.sum())

    @property
    def spacing_is_plausible(self) -> bool:
        """Whether an ultrasound machine exports such voxels, and so large a view."""
        (low, high), (least, most) = PLAUSIBLE_SPACING_MM, PLAUSIBLE_VIEW_MM
        view = max(self.volume.size_mm)
        return all(low <= step <= high for step in self.volume.spacing_mm) and least <= view <= most


def quality_flags(look: Look) -> tuple[str, ...]:
    """Reasons to look at a result before using it, the gravest first (`FLAGS`); an empty tuple where there is none."""
    return tuple(flag.name for flag in FLAGS if flag.is_raised(look))


def _no_head(look: Look) -> bool:
    if too_small(look.volume, look.mask):
        return True
    normal, evidence = look.calibration, look.evidence
    if normal is None:
        return False
    return evidence.agreement < normal.least_agreement or evidence.confidence < normal.least_confidence


def _implausible_size(look: Look) -> bool:
    if look.volume.ndim == 2 or not look.spacing_is_plausible or _no_head(look):
        return False
    volume_ml = look.size * look.volume.voxel_volume_ml
    return volume_ml > LARGEST_HEAD_ML or _unlike_age(volume_ml, look.ga_weeks, look.outline)


def _implausible_shape(look: Look) -> bool:
    some = np.flatnonzero(look.mask)[:: max(1, look.size // 20_000)]
    places = np.stack(np.unravel_index(some, look.mask.shape), -1) * np.array(look.volume.spacing_mm)
    if len(places) <= look.volume.ndim or _no_head(look):
        return False
    shortest, *_, longest = np.linalg.eigvalsh(np.cov(places.T)).tolist()
    return bool(longest > LONGEST_SHAPE**2 * shortest)


def _cut_by_the_border(look: Look) -> bool:
    # views: to take a plane across all axes of a turned mask copies it slowly
    return any(np.moveaxis(look.mask, axis, 0)[edge].any() for axis in range(look.mask.ndim) for edge in (0, -1))


def _unfamiliar_intensities(look: Look) -> bool:
    normal = look.calibration
    if normal is None:
        return False
    if _brightest_share(look.volume.array) > BRIGHTEST_SHARE:
        return True
    bounds = zip(normal.intensity_low, look.evidence.intensities, normal.intensity_high, strict=True)
    return not all(least <= value <= most for least, value, most in bounds)


def _brightest_share(image: NDArray[Any]) -> float:
    """Of the voxels, how many lie within 1/255 of the range below its end."""
    low, high = float(image.min()), float(image.max())
    return float((image >= high - (high - low) / 255).mean())


def _spacing_missing(look: Look) -> bool:
    """1 mm and no position: what stands for no geometry in a file."""
    return set(look.volume.spacing_mm) == {1.0} and not any(look.volume.origin)


@dataclass(frozen=True)
class Flag:
    """A reason to look at a result before using it."""

    name: str
    meaning: str
    is_raised: Callable[[Look], bool]


FLAGS = (
    Flag("no head", "nothing found, too small for a head, or less certain than nearly all scans with one", _no_head),
    Flag(
        "implausible size",
        "larger than a head of 11 to 40 weeks, or far from the charts at this age",
        _implausible_size,
    ),
    Flag(
        "implausible shape",
        "longer than a head can be: cut, or the spacing along one axis is wrong",
        _implausible_shape,
    ),
    Flag(
        "several components", "stray parts besides the largest", lambda look: look.stray > STRAY_SHARE * look.size > 0
    ),
    Flag(
        "cut by the box",
        "the mask ends where the box ends in which it was outlined: the head may be larger",
        lambda look: look.size > 0 and look.cut_by_box,
    ),
    Flag("cut by the border", "the mask reaches the edge of the volume", _cut_by_the_border),
    Flag(
        "cut by the sector",
        "the mask reaches the end of what the probe saw",
        lambda look: look.size > 0 and _touches_outside(look.volume.array, look.mask),
    ),
    Flag(
        "low confidence",
        "the network is unsure inside its mask",
        lambda look: look.size > 0 and look.evidence.confidence < LEAST_CONFIDENCE,
    ),
    Flag("unfamiliar intensities", "unlike the scans the segmentor was calibrated on", _unfamiliar_intensities),
    Flag(
        "implausible spacing",
        "voxels, or a field of view, that no ultrasound machine exports: volumes are wrong",
        lambda look: not look.spacing_is_plausible,
    ),
    Flag(
        SPACING_MISSING,
        "exactly 1 mm and no position: the file may hold no spacing, and volumes are then wrong",
        _spacing_missing,
    ),
)
"""Every flag, the gravest first. Two need a calibration: `unfamiliar intensities`, and of `no head` the second half."""
MEANINGS = {flag.name: flag.meaning for flag in FLAGS}


def too_small(volume: Volume, mask: Mask) -> bool:
    """Whether a mask is smaller than a head can be: under 2 mL, or, in 2D and where voxels are implausible, under 0.4 % of the image."""
    size, (low, high) = int(mask.sum()), PLAUSIBLE_SPACING_MM
    if volume.ndim == 3 and all(low <= s <= high for s in volume.spacing_mm):
        return size * volume.voxel_volume_ml < SMALLEST_HEAD_ML
    return size < SMALLEST_HEAD_SHARE * mask.size


def expected_volume_ml(ga_weeks: float) -> float:
    """Whole-head volume that the charts of BPD and OFD imply at an age; raises ValueError outside their weeks."""
    bpd, ofd = (float(reference(name, ga_weeks)[0]) for name in ("bpd", "ofd"))
    return WHOLE_HEAD_FACTOR * math.pi / 6 * bpd**2 * ofd / 1000


def _unlike_age(volume_ml: float, ga_weeks: float | None, outline: str) -> bool:
    if ga_weeks is None or not math.isfinite(volume_ml):
        return False
    low, high = valid_weeks("bpd")
    if not low <= ga_weeks <= high:
        return False
    expected = expected_volume_ml(ga_weeks) / (1 if outline == "skin" else WHOLE_HEAD_FACTOR)
    return not SIZE_FOR_AGE[0] <= volume_ml / expected <= SIZE_FOR_AGE[1]


def _touches_outside(image: NDArray[Any], mask: Mask) -> bool:
    """Whether more than OUTSIDE_SHARE of the mask's surface lies beside darkness that reaches the image's corners."""
    step = tuple(slice(None, None, max(1, n // 96)) for n in image.shape)  # a coarse look is enough
    image, mask = image[step], mask[step]
    dark = ndimage.binary_opening(np.pad(image <= image.min(), 2, mode="edge"))[(slice(2, -2),) * mask.ndim]
    labels, _ = ndimage.label(dark)
    corners = labels[np.ix_(*[(0, -1)] * mask.ndim)]
    outside = (labels > 0) & np.isin(labels, corners)
    surface = mask & ~ndimage.binary_erosion(mask, border_value=1)
    beside = surface & ndimage.binary_dilation(outside, iterations=2)
    return bool(surface.any()) and int(beside.sum()) > OUTSIDE_SHARE * int(surface.sum())
