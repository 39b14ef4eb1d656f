"""Head biometry from a mask: volume, BPD, OFD, HC by the ellipse that a sonographer would place.

The mask decides what the numbers mean. Growth charts outline the outer **skull**: only `outline="skull"` gives
z-scores and centiles. From a mask of the whole head to its **skin**, the paper's label, the same measures are larger.
They are named `skin_...` and get no centile.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from fhlib.images.grids import bounding_box
from fhlib.images.volume import Array, Floats, Mask, Volume
from fhlib.measures import growth

Outline = Literal["skull", "skin"]

LENGTHS = ("bpd_mm", "ofd_mm", "hc_mm")

SECTION_STEP = 0.5
"""Sampling of the measuring plane, in units of the finest voxel spacing."""

FEWEST_ACROSS = 5
"""Voxels along BPD below which an outline's steps make up more than some per cent of its lengths."""

FEWEST_POINTS = 1000
"""Below it the head's pose is taken from every voxel."""

ALIKE_WIDTH, LOPSIDED = 1.06, 0.03
"""Ratio of widths below which the vertical is told by skewness, and by how much that must differ.

In 200 simulated skulls the skewness of the two axes differed by 0.06-0.09 where they were taken for each other. It
differed by at most 0.02 in all others.
"""


@dataclass(frozen=True)
class Biometry:
    """Measures of one mask. Volume in mL (NaN in 2D), area of the measured section in mm2, lengths in mm."""

    outline: Outline
    volume_ml: float
    area_mm2: float
    bpd_mm: float
    """Extent of the measured section along the ellipse's short axis, outer to outer, to a fraction of a voxel."""
    ofd_mm: float
    """Extent along the long axis, outer to outer."""
    hc_mm: float
    """Perimeter of the ellipse with the section's moments (Ramanujan's second formula, error below 1e-5 for heads)."""
    note: str = ""

    def asdict(self) -> dict[str, float | str]:
        """Numbers by name; those of a skin mask are called `skin_bpd_mm`, `skin_ofd_mm`, `skin_hc_mm`."""
        numbers = asdict(self)
        if self.outline == "skull":
            return numbers
        return {f"skin_{name}" if name in LENGTHS else name: value for name, value in numbers.items()}

    def growth(self, ga_weeks: float) -> dict[str, float]:
        """z-score and centile of BPD, OFD and HC by INTERGROWTH-21st: bpd_z, bpd_centile, ...

        Raises ValueError for a skin mask, and outside the charts' 14 to 40 weeks.
        """
        if self.outline != "skull":
            raise ValueError("growth charts outline the outer skull and this mask is of the skin: no centile is given")
        result = {}
        for name, value in (("bpd", self.bpd_mm), ("ofd", self.ofd_mm), ("hc", self.hc_mm)):
            result[f"{name}_z"] = float(growth.zscore(name, value, ga_weeks))
            result[f"{name}_centile"] = float(growth.centile(name, value, ga_weeks))
        return result


def biometry(mask: Volume, outline: Outline) -> Biometry:
    """Measure a filled mask, (d, h, w) or (h, w), that holds one value besides 0 for the head.

    `outline` says what the mask outlines: "skull" or "skin".

    2D: the axes and HC are those of the ellipse with the same first and second moments as the mask. BPD and OFD are the
    mask's extents along these axes, since a real head is not quite an ellipse. There its axes miss the extents by up to
    2 %, while its perimeter stays within 0.2 %.

    3D: the same in the largest section across the vertical axis. That axis is the direction of least width
    perpendicular to the long axis, since the skull is cut flat by its base. The section is taken with linear
    interpolation, so oblique and anisotropic masks keep sub-voxel accuracy.

    An empty mask, or one thinner than an ellipse, gives NaN and a note. A note tells, too, where BPD is of fewer than 5
    voxels, or longer than OFD. Raises ValueError for an unknown outline, and for probabilities, grey levels or labels of
    several structures.
    """
    if outline not in ("skull", "skin"):
        raise ValueError(f"outline is {outline!r}: expected 'skull' or 'skin', since charts hold for the skull only")
    array = _head(mask.array)
    spacing = np.asarray(mask.spacing_mm, dtype=float)
    count = int(np.count_nonzero(array))
    volume, area = math.nan, count * float(spacing.prod())
    stride = 1
    if array.ndim == 3:
        volume, area = area / 1000, math.nan
        # the head's pose needs no more than some 100000 voxels; the measures come from the full mask
        stride = max(1, round((count / 1e5) ** (1 / 3)))
    points = np.argwhere(array[(slice(None, None, stride),) * array.ndim]) * spacing * stride  # (n, ndim) mm
    if len(points) < FEWEST_POINTS < count:
        points = np.argwhere(array) * spacing
    spread = np.linalg.eigvalsh(np.cov(points.T)) if count > array.ndim + 1 else np.zeros(1)
    if spread.min() < (spacing.min() / 2) ** 2:
        return Biometry(outline, volume, area, *(math.nan,) * 3, note="the mask is too small for an ellipse")
    section = _Section(array.astype(float), spacing) if array.ndim == 2 else _largest_section(array, spacing, points)
    area, bpd, ofd, hc = section.measures()
    return Biometry(outline, volume, area, bpd, ofd, hc, note=_doubt(bpd, ofd, float(spacing.max())))


def _head(array: Array) -> Mask:
    """Where the head is; ValueError if the array has more than one value besides 0."""
    if array.dtype == np.bool_:
        return array
    head = array != 0
    values = array[head]
    # NaN is unlike itself, so that it is refused too
    if values.size and not (values.min() == values.max() and np.isfinite(values[0])):
        raise ValueError(
            f"the mask holds {array.dtype} values from {values.min():g} to {values.max():g}: expected one besides 0; "
            "threshold it, or choose one structure"
        )
    return head


def _doubt(bpd_mm: float, ofd_mm: float, voxel_mm: float) -> str:
    """What makes the lengths doubtful; empty where nothing does."""
    if bpd_mm < FEWEST_ACROSS * voxel_mm:
        return f"{bpd_mm / voxel_mm:.1f} voxels across: lengths are good to a voxel only"
    if bpd_mm > ofd_mm:
        return "longer across than along: the mask has not the shape of a head"
    return ""


def ellipse_perimeter(a: float, b: float) -> float:
    """Perimeter of an ellipse with semi-axes a and b, by Ramanujan's second formula. Raises ValueError for negative ones."""
    if a < 0 or b < 0:
        raise ValueError(f"semi-axes are {a:g} and {b:g}: expected lengths of 0 and more")
    if a == b == 0:
        return 0.0
    h = ((a - b) / (a + b)) ** 2
    return float(math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h))))


@dataclass(frozen=True)
class _Section:
    """A plane through the head: how much of each sample is head, and the spacing of the samples."""

    weight: Floats  # (n, m) in 0 to 1
    step: Floats  # (2,) mm

    def measures(self) -> tuple[float, float, float, float]:
        """Area, BPD, OFD and HC, as `Biometry` has them."""
        rows, columns = (np.arange(size) * step for size, step in zip(self.weight.shape, self.step, strict=True))
        total = self.weight.sum()
        first, second = self.weight.sum(axis=1), self.weight.sum(axis=0)
        r, c = rows - first @ rows / total, columns - second @ columns / total
        cross = r @ self.weight @ c / total
        variance, axes = np.linalg.eigh([[first @ r**2 / total, cross], [cross, second @ c**2 / total]])
        # an ellipse's variance along an axis is a quarter of that semi-axis squared
        short, long = 2 * np.sqrt(variance)
        area = float(total * self.step.prod())
        return area, self._extent(r, c, axes[:, 0]), self._extent(r, c, axes[:, 1]), ellipse_perimeter(short, long)

    def _extent(self, r: Floats, c: Floats, axis: Floats) -> float:
        """Length along `axis`; r (n,) and c (m,) are the samples' positions from the centre, in mm.

        The squared chord across the axis falls as a parabola at each end (exactly so on an ellipse): its root is the
        end. This keeps a fraction of a voxel where the outermost voxel would not, and a stray voxel does not move it.
        """
        step = float(self.step.min())
        reach = float(np.hypot(np.abs(r).max(), np.abs(c).max()))
        line = np.arange(-reach, reach + step, step)
        row = (line[:, None] * axis[0] - line * axis[1] - r[0]) / self.step[0]
        column = (line[:, None] * axis[1] + line * axis[0] - c[0]) / self.step[1]
        chord = ndimage.map_coordinates(self.weight, [row, column], order=1).sum(axis=1)
        square = (chord / chord.max()) ** 2
        return sum(_end(side * line[line * side > 0], square[line * side > 0], step) for side in (-1, 1))


def _end(outward: Floats, square: Floats, step: float) -> float:
    """Where the squared chord reaches zero on one side of the centre.

    The outermost sample and half a step where a parabola does not fit.
    """
    inside = square > 0.02
    flank = inside & (square < 0.7)
    if not flank.any():  # cut off straight, by the field of view for instance
        return float(outward[inside].max(initial=0.0)) + step / 2
    outermost = float(outward[flank].max())
    if np.count_nonzero(flank) >= 6:
        roots = np.polynomial.Polynomial.fit(outward[flank], square[flank], 2).roots()
        near = roots.real[(np.abs(roots.imag) < 1e-9) & (np.abs(roots.real - outermost) < 0.1 * outermost)]
        if len(near):
            return float(near[np.argmin(np.abs(near - outermost))])
    return outermost + step / 2


def _largest_section(array: Mask, spacing: Floats, points: Floats) -> _Section:
    """The largest section across the vertical axis; points (n, 3) in mm are some of the head's voxels."""
    middle = points.mean(axis=0)
    long, vertical = _long_and_vertical(points - middle)
    basis = np.stack([long, np.cross(vertical, long)])  # (2, 3)

    step = float(spacing.min()) * SECTION_STEP
    reach = float(np.abs((points - middle) @ basis.T).max() + 2 * spacing.max())
    line = np.arange(-reach, reach + step, step)
    plane = line[:, None, None] * basis[0] + line[None, :, None] * basis[1]  # (n, n, 3) mm from the section's middle
    # with a voxel around, to interpolate to
    box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in bounding_box(array))
    starts = [side.start for side in box]
    values = array[box].astype(np.float32)
    sections = []
    for height in _candidate_heights((points - middle) @ vertical, float(spacing.min())):
        at = (middle + height * vertical + plane) / spacing - starts
        sections.append(ndimage.map_coordinates(values, np.moveaxis(at, -1, 0), order=1).astype(float))
    return _Section(max(sections, key=np.sum), np.array([step, step]))


def _long_and_vertical(points: Floats) -> tuple[Floats, Floats]:
    """Unit vectors of the head's long and vertical axis; points (n, 3) in mm from its middle.

    The vertical is the direction of least width perpendicular to the long axis. In a narrow head the width at a right
    angle to it is as small. The vertical is then the less symmetric of the two, since the skull's base is flat and its
    sides are alike.
    """
    _, axes = np.linalg.eigh(np.cov(points.T))
    long, across = axes[:, 2], axes[:, :2].T  # (3,), (2, 3)
    profile = points @ across.T
    hull = profile[ConvexHull(profile).vertices]
    angle = np.linspace(0, np.pi, 181)[:-1]
    directions = np.stack([np.cos(angle), np.sin(angle)])  # (2, 180)
    width = np.ptp(hull @ directions, axis=0)
    least = int(np.argmin(width))
    turned = (least + 90) % 180
    if width[turned] < ALIKE_WIDTH * width[least]:
        skewness, skewness_turned = (abs(_skewness(profile @ directions[:, i])) for i in (least, turned))
        if skewness_turned > skewness + LOPSIDED:
            least = turned
    return long, directions[:, least] @ across


def _skewness(values: Floats) -> float:
    """Third moment over the cube of the SD."""
    from_mean = values - values.mean()
    return float((from_mean**3).mean() / (from_mean**2).mean() ** 1.5)


def _candidate_heights(height: Floats, spacing: float) -> Floats:
    """Heights about the slab with most voxels, where the largest section must lie."""
    edges = np.arange(height.min(), height.max() + 2 * spacing, 2 * spacing)
    counts, _ = np.histogram(height, edges)
    smooth = ndimage.uniform_filter1d(counts.astype(float), 5, mode="constant")
    peak = float(edges[int(np.argmax(smooth))] + spacing)
    return peak + spacing * np.arange(-4, 5, 2.0)
