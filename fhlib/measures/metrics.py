"""Measures for one pair of masks: overlap, boundary distances, volume. 2D and 3D, spacing always given.

The paper's five (section 3.1, Eq. 6-8) are `dsc`, `conf`, `jacc`, `adb_mm` and `hdb_mm`. Distances are computed once,
between the two sets of surface voxels, and then reduced in several ways.

Conventions, since tools differ:

- A surface is the set of mask voxels with a face neighbour outside the mask; beyond the array's border is outside.
  Distances run between voxel centres, in mm. This is what MedPy does, and MONAI up to its edge detector, which agrees
  on solid bodies.
- `adb_mm` pools the points of both surfaces before it takes the mean (MONAI and current MedPy; older MedPy averaged
  two directed means, here `adb_directed_mm`).
- `hd95_mm` is the larger of the two directed 95th percentiles (MONAI); MedPy takes the percentile of the pooled set.
- `surface_dice_1mm` counts surface voxels within 1 mm; DeepMind's surface-distance weights surface elements by their
  area instead.

Degenerate masks: where both are empty they agree, so the three overlaps are 1, and no distance exists (NaN). Where
one is empty or the two do not meet, DSC and Jaccard are 0 and Conformity is minus infinity; distances are NaN if one
is empty. `hdb_penalised_mm` replaces a missing distance with the image diagonal, except where both are empty (0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from fhlib.images.volume import Floats, Mask

SURFACE_DICE_TOLERANCE_MM = 1.0


@dataclass(frozen=True)
class Scores:
    """Measures of a prediction against a reference. Fractions lie in 0 to 1, distances in mm, volumes in mL.

    In 2D the volumes in mL are NaN and the areas in mm2 are given; in 3D the other way round. `relative_volume_error`
    is (prediction - reference) / reference in voxels, so in 2D it is that of the area; it is NaN for an empty
    reference.
    """

    dsc: float
    """Dice similarity coefficient, Eq. 6."""
    conf: float
    """Conformity (3 DSC - 2) / DSC; minus infinity at DSC 0."""
    jacc: float
    """Jaccard index, Eq. 6."""
    adb_mm: float
    """Average distance of boundaries.

    Mean over the points of both surfaces of the distance to the other surface (not Eq. 7 as printed).
    """
    hdb_mm: float
    """Hausdorff distance of boundaries, Eq. 8."""
    hd95_mm: float
    """Larger of the two directed 95th percentiles of surface distance."""
    surface_dice_1mm: float
    """Share of the points of both surfaces that lie within 1 mm of the other surface."""
    adb_directed_mm: float
    """Mean of the two directed mean surface distances."""
    adb_filled_mm: float
    """As `adb_mm`, with distances measured to the other filled mask: zero for a point inside it."""
    adb_eq7_mm3: float
    """Eq. 7 as printed: each sum of distances (mm) divided by the volume of its object in mm3 (mm2 in 2D)."""
    adb_eq7_voxels: float
    """Eq. 7 as printed: each sum of distances (mm) divided by the number of voxels of its object."""
    hdb_penalised_mm: float
    """`hdb_mm`, or the image diagonal where exactly one mask is empty."""
    volume_ml: float
    reference_volume_ml: float
    volume_error_ml: float
    """Prediction minus reference."""
    relative_volume_error: float
    absolute_relative_volume_error: float
    """The paper's "averaged absolute relative error in voxel number" (section 3.2), of one case."""
    area_mm2: float
    reference_area_mm2: float

    def asdict(self) -> dict[str, float]:
        """The measures by name, in their order."""
        return asdict(self)


MEASURES = tuple(field.name for field in fields(Scores))


def evaluate(prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]) -> Scores:
    """Compare two masks of the same shape, (d, h, w) or (h, w).

    `spacing_mm` has one value an array axis, in the array's order. Raises ValueError if shapes differ, if the arrays
    are neither 2D nor 3D, if spacing does not fit or is not positive, or if the arrays hold anything but 0 and 1.
    """
    predicted, expected = _mask(prediction, "prediction"), _mask(reference, "reference")
    if predicted.shape != expected.shape:
        raise ValueError(
            f"prediction {predicted.shape} and reference {expected.shape} differ in shape: resample one to the other"
        )
    spacing = _spacing(spacing_mm, predicted.ndim)
    diagonal = image_diagonal_mm(predicted.shape, spacing)

    predicted, expected = _crop_to_joint_box(predicted, expected)
    sizes = int(np.count_nonzero(predicted)), int(np.count_nonzero(expected))
    common = int(np.count_nonzero(predicted & expected))
    distances = _SurfaceDistances.between(predicted, expected, spacing) if all(sizes) else None
    return Scores(
        **_overlap(common, *sizes),
        **_reduce(distances, sizes, float(spacing.prod()), diagonal),
        **_sizes(*sizes, spacing),
    )


def dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """DSC of two boolean masks of one shape, where no other measure is wanted; 1 for two empty ones, as in `evaluate`."""
    common, sizes = (
        np.count_nonzero(prediction & reference),
        (np.count_nonzero(prediction), np.count_nonzero(reference)),
    )
    return _overlap(int(common), int(sizes[0]), int(sizes[1]))["dsc"]


def missed_scores(reference: ArrayLike, spacing_mm: Sequence[float]) -> Scores:
    """The row of a case without a prediction: the scores of an empty prediction, except that Conformity is NaN.

    DSC and Jaccard are 0 and enter every mean; distances and Conformity are NaN, so that they are averaged over found
    cases, with the number missed beside them; `hdb_penalised_mm` is the image diagonal. The predicted volume is 0. An
    empty reference asks for nothing, so there nothing was missed: the scores are those of two empty masks.
    """
    expected = _mask(reference, "reference")
    if not expected.any():
        return evaluate(expected, expected, spacing_mm)
    scores = evaluate(np.zeros_like(expected), expected, spacing_mm).asdict()
    return Scores(**{**scores, "conf": math.nan})


def image_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float] | Floats) -> float:
    """Length of the diagonal of an image: the Hausdorff distance no prediction can exceed."""
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_mm, dtype=float)))


def surface_distances(
    prediction: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], Floats]:
    """Surface voxels of each mask and their distance to the other's surface, for maps as in Fig. 4 and 5.

    Returns (prediction points (n, ndim), mm (n,), reference points (m, ndim), mm (m,)), points as array indices.
    Raises ValueError if a mask is empty, and as `evaluate`.
    """
    predicted, expected = _mask(prediction, "prediction"), _mask(reference, "reference")
    if predicted.shape != expected.shape:
        raise ValueError(
            f"prediction {predicted.shape} and reference {expected.shape} differ in shape: resample one to the other"
        )
    if not (predicted.any() and expected.any()):
        raise ValueError("a surface distance needs two masks that are not empty")
    box = _joint_box(predicted, expected)
    corner = np.array([part.start for part in box])
    found = _SurfaceDistances.between(predicted[box], expected[box], _spacing(spacing_mm, predicted.ndim))
    return found.points + corner, found.to_reference, found.reference_points + corner, found.to_prediction


def conformity(dsc: float) -> float:
    """(3 DSC - 2) / DSC, minus infinity at 0 (section 3.1)."""
    return (3 * dsc - 2) / dsc if dsc > 0 else -math.inf


def surface(mask: Mask) -> Mask:
    """Mask voxels with a face neighbour outside the mask, the array's border counting as outside."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            inner &= padded[tuple(shifted if other == axis else slice(1, -1) for other in range(mask.ndim))]
    return mask & ~inner


@dataclass(frozen=True)
class _SurfaceDistances:
    """Distances between two surfaces, and which surface points lie inside the other mask."""

    points: NDArray[np.int64]  # (n, ndim)
    reference_points: NDArray[np.int64]  # (m, ndim)
    to_reference: Floats  # (n,) mm
    to_prediction: Floats  # (m,) mm
    inside_reference: Mask  # (n,)
    inside_prediction: Mask  # (m,)

    @classmethod
    def between(cls, predicted: Mask, expected: Mask, spacing: Floats) -> _SurfaceDistances:
        points, reference_points = np.argwhere(surface(predicted)), np.argwhere(surface(expected))
        return cls(
            points,
            reference_points,
            _nearest(points * spacing, reference_points * spacing),
            _nearest(reference_points * spacing, points * spacing),
            expected[tuple(points.T)],
            predicted[tuple(reference_points.T)],
        )


def _nearest(points: Floats, others: Floats) -> Floats:
    """Distance of each point to the nearest of `others`.

    A tree without balancing is exact too, and faster on a regular grid.
    """
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    return tree.query(points, workers=-1)[0]


def _overlap(common: int, predicted: int, expected: int) -> dict[str, float]:
    total = predicted + expected
    dsc = 2 * common / total if total else 1.0
    return {"dsc": dsc, "conf": conformity(dsc), "jacc": common / (total - common) if total else 1.0}


def _reduce(found: _SurfaceDistances | None, sizes: tuple[int, int], voxel: float, diagonal: float) -> dict[str, float]:
    if found is None:
        names = ("adb_mm", "hdb_mm", "hd95_mm", "adb_directed_mm", "adb_filled_mm", "adb_eq7_mm3", "adb_eq7_voxels")
        both_empty = not any(sizes)
        penalised = (
            {"surface_dice_1mm": 1.0, "hdb_penalised_mm": 0.0}
            if both_empty
            else {"surface_dice_1mm": 0.0, "hdb_penalised_mm": diagonal}
        )
        return dict.fromkeys(names, math.nan) | penalised
    one_way, other_way = found.to_reference, found.to_prediction
    pooled = np.concatenate([one_way, other_way])
    filled = np.concatenate(
        [np.where(found.inside_reference, 0, one_way), np.where(found.inside_prediction, 0, other_way)]
    )
    equation_7 = 0.5 * (float(one_way.sum()) / sizes[0] + float(other_way.sum()) / sizes[1])
    hausdorff = float(pooled.max())
    return {
        "adb_mm": float(pooled.mean()),
        "hdb_mm": hausdorff,
        "hd95_mm": float(max(np.percentile(one_way, 95), np.percentile(other_way, 95))),
        "surface_dice_1mm": float(np.mean(pooled <= SURFACE_DICE_TOLERANCE_MM * (1 + 1e-9))),
        "adb_directed_mm": float(one_way.mean() + other_way.mean()) / 2,
        "adb_filled_mm": float(filled.mean()),
        "adb_eq7_mm3": equation_7 / voxel,
        "adb_eq7_voxels": equation_7,
        "hdb_penalised_mm": hausdorff,
    }


def _sizes(predicted: int, expected: int, spacing: Floats) -> dict[str, float]:
    voxel = float(spacing.prod())
    volumes = [size * voxel / 1000 if len(spacing) == 3 else math.nan for size in (predicted, expected)]
    areas = [size * voxel if len(spacing) == 2 else math.nan for size in (predicted, expected)]
    relative = (predicted - expected) / expected if expected else math.nan
    return {
        "volume_ml": volumes[0],
        "reference_volume_ml": volumes[1],
        "volume_error_ml": volumes[0] - volumes[1],
        "relative_volume_error": relative,
        "absolute_relative_volume_error": abs(relative),
        "area_mm2": areas[0],
        "reference_area_mm2": areas[1],
    }


def _mask(array: ArrayLike, name: str) -> Mask:
    values: NDArray[Any] = np.asarray(array)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ValueError(f"{name} has shape {values.shape}: expected (d, h, w) or (h, w) with at least one voxel")
    if values.dtype == np.bool_:
        return values
    mask = values == 1
    if not np.all(mask | (values == 0)):
        raise ValueError(f"{name} is {values.dtype} and holds values other than 0 and 1: threshold it first")
    return mask


def _spacing(spacing_mm: Sequence[float], ndim: int) -> Floats:
    spacing = np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (ndim,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(
            f"spacing_mm is {spacing_mm!r}: expected {ndim} positive numbers in mm, in the order of the array's axes"
        )
    return spacing


def _joint_box(first: Mask, second: Mask) -> tuple[slice, ...]:
    """Bounding box of both masks together; empty slices where both are empty."""
    box = []
    for axis in range(first.ndim):
        others = tuple(other for other in range(first.ndim) if other != axis)
        used = np.flatnonzero(first.any(axis=others) | second.any(axis=others))
        box.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0))
    return tuple(box)


def _crop_to_joint_box(first: Mask, second: Mask) -> tuple[Mask, Mask]:
    box = _joint_box(first, second)
    return np.ascontiguousarray(first[box]), np.ascontiguousarray(second[box])
