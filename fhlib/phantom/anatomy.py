"""The fetal head as analytic signed distances, drawn from gestational age.

Head coordinates are in mm with the skull's centre as origin: x to the fetus's left, y to its back, z to its
vertex (the face looks towards -y). Skull size follows the INTERGROWTH-21st charts of the outer skull
(`fhlib.measures.growth`). Orbit and binocular distances follow Suh (2006), the nasal bone 4 mm at 14 to
12 mm at 35 weeks (unconfirmed). Positions inside the head are fractions of OFD or BPD read off general
anatomy. Numbers in this module without a named source are unconfirmed general knowledge.

Two solids carry the truth. The whole head to its outer skin, above the plane through lower jaw and C2, is
the paper's outline. The filled outer skull is what growth charts and HC18 outline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from fhlib.images.volume import Floats, Mask
from fhlib.measures import growth
from fhlib.phantom.fetus.brain import BrainDetail
from fhlib.phantom.fetus.face import Face
from fhlib.phantom.fetus.plates import Ossification
from fhlib.phantom.shapes import (
    TINY,
    Field,
    Points,
    Triple,
    Vector,
    capsule,
    divided,
    dot,
    ellipsoid,
    length,
    shifted,
    smooth_intersection,
    smooth_union,
    sphere,
    sum_of_waves,
    wave_vectors,
)
from fhlib.phantom.tissues import ID, Tissues

GA_MEAN_WEEKS, GA_SD_WEEKS, GA_RANGE_WEEKS = 25.0, 2.0, (20.0, 31.0)
CHART_FROM_WEEKS, ZERO_SIZE_WEEKS = 14.0, 7.2
SIZE_CORRELATION, TCD_CORRELATION = 0.6, 0.5
YOUNGEST_WEEKS, OLDEST_WEEKS = 11.0, 40.0
DETAILED_BELOW_WEEKS = 20.0
SCALP_MM_PER_OFD = 0.022


@dataclass(frozen=True)
class Subject:
    """One fetus: its measures and the parameters of its head's shape. Everything follows from `seed` and `ga_weeks`.

    `bpd_mm`, `ofd_mm` and `hc_mm` are exact measures of the outer skull: its extents along x and y and the
    perimeter of its section z = 0. The volumes are integrals of the two labels' solids. `axes_mm` and
    `deformation` shape the skull, `face_scale` and `scalp_mm` the rest. `plate_scale` multiplies the
    thickness of the calvarium; `suture_mm` is a suture's half width.
    """

    seed: int
    ga_weeks: float
    bpd_mm: float
    ofd_mm: float
    tcd_mm: float
    axes_mm: Triple
    deformation: tuple[float, ...]
    scalp_mm: float
    face_scale: float
    plate_scale: float
    suture_mm: float
    hc_mm: float = np.nan
    head_volume_ml: float = np.nan
    skull_volume_ml: float = np.nan


def draw_subject(seed: int, ga_weeks: float | None = None, detailed: bool = False) -> Subject:
    """Draw a fetus; its volumes are those of `Head(subject, detailed)`.

    Without `ga_weeks` the age is N(25, 2) weeks cut to 20-31, the mix calibrated to the paper's mean volume.

    BPD and OFD follow their charts' mean and SD with a correlation of 0.6. That is a compromise. The SDs of
    BPD, OFD and HC imply 0.69 when HC = pi / 2 (BPD + OFD). A cephalic index of +/- 0.045 would need about
    0.2. Below 14 weeks, where the charts end, sizes shrink linearly to zero at 7.2 weeks. So BPD is
    about 17 mm at 11 and 21 mm at 12 weeks (unconfirmed general knowledge).

    Raises ValueError for an age outside 11-40 weeks.
    """
    rng = np.random.default_rng([int(seed), 101])
    youngest, oldest = ((weeks - GA_MEAN_WEEKS) / GA_SD_WEEKS for weeks in GA_RANGE_WEEKS)
    drawn = GA_MEAN_WEEKS + GA_SD_WEEKS * _cut_normal(rng, youngest, oldest)
    weeks = float(drawn if ga_weeks is None else ga_weeks)
    if not YOUNGEST_WEEKS <= weeks <= OLDEST_WEEKS:
        raise ValueError(
            f"ga_weeks must lie in {YOUNGEST_WEEKS:g}-{OLDEST_WEEKS:g}, the ages the simulator covers, got {weeks}"
        )

    z_bpd, z_ofd, z_tcd = (_cut_normal(rng, -2.5, 2.5) for _ in range(3))
    bpd = _size("bpd", weeks, z_bpd)
    ofd = _size("ofd", weeks, _correlated(SIZE_CORRELATION, z_bpd, z_ofd))
    tcd = _size("tcd", weeks, _correlated(TCD_CORRELATION, z_bpd, z_tcd))
    egg, skew = rng.normal([0.035, 0.0], [0.02, 0.01])
    deformation = (float(egg), float(skew), *rng.normal(0, 0.012, 4).tolist())
    subject = Subject(
        seed=int(seed),
        ga_weeks=weeks,
        bpd_mm=bpd,
        ofd_mm=ofd,
        tcd_mm=tcd,
        axes_mm=_calibrated_axes(bpd, ofd, 0.395 * ofd * float(rng.normal(1, 0.03)), deformation),
        deformation=deformation,
        scalp_mm=float(SCALP_MM_PER_OFD * ofd * rng.uniform(0.85, 1.2)),
        face_scale=float(rng.normal(1, 0.03)) * _face_growth(weeks),
        plate_scale=float(rng.uniform(0.8, 1.2)),
        suture_mm=float(rng.uniform(0.8, 1.6)),
    )
    head = Head(subject, detailed)
    head_ml, skull_ml = head.volumes_ml(spacing_mm=ofd / 45)
    return replace(subject, hc_mm=head.circumference_mm(), head_volume_ml=head_ml, skull_volume_ml=skull_ml)


def _face_growth(weeks: float) -> float:
    """How large the face is against the skull: below 20 weeks it is still small (unconfirmed)."""
    return float(np.interp(weeks, (YOUNGEST_WEEKS, DETAILED_BELOW_WEEKS), (0.88, 1.0)))


def _cut_normal(rng: np.random.Generator, low: float, high: float) -> float:
    while not low <= (value := float(rng.normal())) <= high:
        pass
    return value


def _correlated(correlation: float, first: float, own: float) -> float:
    return correlation * first + np.sqrt(1 - correlation**2) * own


def _size(measure: str, weeks: float, z: float) -> float:
    mean, sd = growth.reference(measure, max(weeks, CHART_FROM_WEEKS))
    shrink = min(1.0, (weeks - ZERO_SIZE_WEEKS) / (CHART_FROM_WEEKS - ZERO_SIZE_WEEKS))
    return float(mean + z * sd) * shrink


def _mix(share: float, first: Vector, second: Vector) -> Floats:
    return (1 - share) * np.asarray(first) + share * np.asarray(second)


def _calibrated_axes(bpd: float, ofd: float, height: float, deformation: tuple[float, ...]) -> Triple:
    """Semi-axes that give the deformed skull exactly `bpd` across and `ofd` along; extents scale with their axis."""
    polar, azimuth = np.meshgrid(np.linspace(0.35, np.pi - 0.6, 200), np.linspace(0, 2 * np.pi, 400), indexing="ij")
    u = (np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar))
    radius = 1 + _deform(u, deformation)
    return bpd / float(np.ptp(radius * u[0])), ofd / float(np.ptp(radius * u[1])), height


def _deform(u: Points, deformation: tuple[float, ...]) -> Field:
    """Relative radius change in direction `u`: egg shape (wider at the back), skew, and four smooth irregularities."""
    egg, skew, a, b, c, d = (np.float32(value) for value in deformation)
    x, y, z = u
    xx, yy, zz = x * x, y * y, z * z
    return y * (xx * egg + zz * b) + x * (y * skew + z * a) + c * (xx * yy) * 4 + d * z * (yy - xx)


class Head:
    """The solids and tissues of one subject's head; every method takes points in head coordinates.

    With `detailed`, and always below 20 weeks, tissues and plates are those of `fhlib.phantom.fetus`, and the skin
    is wide enough at the temples to hold the orbits.
    """

    def __init__(self, subject: Subject, detailed: bool = False) -> None:
        self.subject = subject
        o, s = subject.ofd_mm, subject.face_scale
        self.o = o
        self.mean_ofd_mm = _size("ofd", subject.ga_weeks, 0.0)
        against_mean = o / self.mean_ofd_mm  # measures with an age formula scale with this head
        self.orbit_mm = max(0.654 * subject.ga_weeks - 0.856, 3.0) * against_mean
        self.binocular_mm = (1.679 * subject.ga_weeks + 0.510) * against_mean
        self.nasal_mm = max(4 + 8 * (subject.ga_weeks - 14) / 21, 1.5) * against_mean

        if subject.ga_weeks < DETAILED_BELOW_WEEKS:
            self._measure_early_face(against_mean)

        self.chin = self.mm(0, -0.40 * s, -0.56 * s)
        self.c2 = self.mm(0, 0.11, -0.465)
        jaw, neck = np.array([0, -0.42 * s, -0.615 * s]), np.array([0, 0.11, -0.50])
        normal = np.cross([1, 0, 0], jaw - neck)
        self.plane_normal = normal / np.linalg.norm(normal) * np.sign(normal[2])
        self.plane_offset = float(self.plane_normal @ (neck * o))

        rng = np.random.default_rng([subject.seed, 102])
        self.sulci = wave_vectors(rng, 0.13 * o, 4)
        self.midline_bend = rng.normal(0, 0.01, 2) * o
        # how much wider the right and left lateral ventricles are than usual
        self.ventricle_mm = rng.normal(0, 0.012, 2) * o
        # how much the brain is still that of the first trimester: 1 up to 13 weeks, 0 from 21
        self.early = float(np.clip((21 - subject.ga_weeks) / 8, 0, 1))

        self.detailed = detailed or subject.ga_weeks < DETAILED_BELOW_WEEKS
        self.jaw_angle = float(np.interp(subject.ga_weeks, (11, 20), (0.14, 0.18))) if self.detailed else 0.14
        if self.detailed:
            self.face, self.brain, self.ossification = Face(self), BrainDetail(self), Ossification(self)

    def _measure_early_face(self, against_mean: float) -> None:
        """Measures of the face below 20 weeks, where lines in age are not valid or wider than the face.

        Binocular distance follows the BPD (Sukonpan 2008, from 15 weeks; below it is extrapolated, and no more than
        0.62 of the OFD). The nasal bone is 2.18, 2.46 and 2.91 mm in the 12th, 13th and 14th week (means of 479
        fetuses, Clin Exp Obstet Gynecol 2014, 41:556).
        """
        weeks, o = self.subject.ga_weeks, self.o
        self.orbit_mm = min(self.orbit_mm, 0.21 * o)
        self.binocular_mm = min(3.893 + 0.568 * self.subject.bpd_mm, 0.62 * o)
        early = float(np.interp(weeks, (11.5, 12.5, 13.5, 15.0), (2.18, 2.46, 2.91, 4 + 8 / 21)))
        self.nasal_mm = min(self.nasal_mm, early * against_mean) if weeks < 15 else self.nasal_mm

    @property
    def mandible_mm(self) -> float:
        """Lower jaw from the chin's bone to the line between its angles, from front to back."""
        return (0.405 * self.subject.face_scale - self.jaw_angle + 0.026) * self.o

    def mm(self, *fractions: float) -> Floats:
        """A vector given in fractions of the OFD."""
        return np.array(fractions) * self.o

    # Solids

    def skull(self, p: Points) -> Field:
        """Outer skull, filled: a deformed ellipsoid cut by the sloping skull base."""
        axes = self.subject.axes_mm
        q = divided(p, axes)
        n = length(q) + TINY
        inverse = 1 / n
        radius = 1 + _deform(tuple(c * inverse for c in q), self.subject.deformation)
        slope = length(divided(q, axes)) + TINY
        return smooth_intersection((n - radius) * n / slope, self.base(p), 0.08 * self.o)

    def base(self, p: Points) -> Field:
        """Height below the skull base, a plane from the orbital roofs down to the occiput (negative above it)."""
        return dot(shifted(p, self.mm(0, -0.45, -0.25)), (0, -0.17, -0.9854))

    def skin(self, p: Points, skull: Field) -> Field:
        """Outer skin of head and neck: scalp over the skull, whose distance is given, and the soft parts of the face."""
        o, s = self.o, self.subject.face_scale
        side = _both_sides(p)
        scalp = skull - np.float32(self.subject.scalp_mm)
        face = ellipsoid(p, (0, -0.24 * o, -0.36 * o * s), (0.25 * o, 0.22 * o * s, 0.245 * o * s))
        cheeks = ellipsoid(side, (0.15 * o, -0.33 * o * s, -0.42 * o * s), (0.12 * o, 0.11 * o, 0.12 * o))
        chin = ellipsoid(p, self.chin * np.array([1, 0.94, 0.97]), (0.11 * o, 0.085 * o, 0.08 * o))
        lips = ellipsoid(p, (0, -0.475 * o * s, -0.475 * o * s), (0.085 * o, 0.055 * o, 0.045 * o))
        nose = ellipsoid(p, (0, -0.50 * o * s, -0.335 * o * s), (0.05 * o, 0.075 * o, 0.055 * o))
        neck = capsule(p, self.mm(0, 0.09, -0.25), self.mm(0, 0.12, -0.95), 0.175 * o)
        ears = ellipsoid(side, (0.43 * self.subject.bpd_mm, 0.09 * o, -0.23 * o), (0.05 * o, 0.06 * o, 0.09 * o))
        soft = smooth_union(smooth_union(face, cheeks, 0.06 * o), smooth_union(chin, neck, 0.08 * o), 0.10 * o)
        soft = smooth_union(soft, np.minimum(lips, nose), 0.04 * o)
        if self.detailed:
            temples = ellipsoid(side, (0.17 * o, -0.29 * o, -0.29 * o * s), (0.155 * o, 0.165 * o, 0.13 * o))
            soft = smooth_union(soft, temples, 0.06 * o)
        return smooth_union(smooth_union(scalp, soft, 0.08 * o), ears, 0.02 * o)

    def plane(self, p: Points) -> Field:
        """Height below the plane through lower jaw and C2; the head is where it is negative."""
        return -dot(p, self.plane_normal) + np.float32(self.plane_offset)

    def whole(self, p: Points, skull: Field | None = None) -> Field:
        """The paper's whole head: inside the outer skin and above the plane."""
        skull = self.skull(p) if skull is None else skull
        return np.maximum(self.skin(p, skull), self.plane(p))

    # Measures

    @cached_property
    def bounding(self) -> tuple[Floats, float]:
        """Centre and radius (mm) of a sphere that holds the whole head."""
        return self.mm(0, -0.06, -0.12), 0.74 * self.o

    def volumes_ml(self, spacing_mm: float) -> tuple[float, float]:
        """Volumes of head and skull by integration on a grid, voxels at the surface weighted by their distance to it."""
        low, high = self.mm(-0.52, -0.70, -0.74), self.mm(0.52, 0.60, 0.50)
        axes = [np.arange(a, b, spacing_mm, dtype=np.float32) for a, b in zip(low, high, strict=True)]
        head = skull = 0.0
        for start in range(0, len(axes[0]), 8):  # by slabs, for the memory
            p = (axes[0][start : start + 8, None, None], axes[1][None, :, None], axes[2][None, None, :])
            skull_mm = self.skull(p)
            skull += float(np.clip(0.5 - skull_mm / spacing_mm, 0, 1).sum())
            head += float(np.clip(0.5 - self.whole(p, skull_mm) / spacing_mm, 0, 1).sum())
        return head * spacing_mm**3 / 1000, skull * spacing_mm**3 / 1000

    def circumference_mm(self) -> float:
        """Perimeter of the outer skull in the plane z = 0, where BPD and OFD are measured."""
        t = np.linspace(0, 2 * np.pi, 2001)
        u = (np.cos(t), np.sin(t), np.zeros_like(t))
        radius = 1 + _deform(u, self.subject.deformation)
        x, y = (a * radius * c for a, c in zip(self.subject.axes_mm[:2], u[:2], strict=True))
        return float(np.hypot(np.diff(x), np.diff(y)).sum())

    def surface(self, count: int = 1500) -> Floats:
        """`count` points (count, 3) on the whole head's surface, by bisection along rays from its centre."""
        k = np.arange(count) + 0.5
        polar, azimuth = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
        u = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], 1)
        centre, radius = self.bounding
        low, high = np.zeros(count), np.full(count, 1.4 * radius)
        for _ in range(18):
            middle = (low + high) / 2
            at = (centre + u * middle[:, None]).astype(np.float32)
            outside = self.whole((at[:, 0], at[:, 1], at[:, 2])) > 0
            low, high = np.where(outside, low, middle), np.where(outside, middle, high)
        return centre + u * low[:, None]

    # Skull plates

    def plate(self, p: Points) -> tuple[Field, Field]:
        """Thickness (mm) of the calvarium and how far it is closed (1 bone, 0 suture or fontanelle).

        Thickness grows linearly to frontal 0.4, parietal 0.54 and occipital 1.65 mm at 40 weeks (Ohtsuki
        1977, at birth). The growth is unconfirmed, and so are the widths of sutures and fontanelles.
        """
        o = self.o
        front = np.clip(p[1] * np.float32(1 / (0.5 * o)), -1, 1)
        low = np.clip(p[2] * np.float32(-3 / o) + np.float32(0.2), 0, 1)
        thick = np.float32(0.54) + np.float32(0.14) * np.minimum(front, 0)
        thick += np.float32(1.11) * np.maximum(front - 0.5, 0) * 2 * low
        thick = thick * np.float32(self.subject.plate_scale * self.subject.ga_weeks / 40)

        half = np.float32(self.subject.suture_mm)
        closed = np.clip((self._to_suture(p) - half) * 2 + np.float32(0.5), 0, 1)
        if self.detailed:
            thick, closed = self.ossification.apply(p, thick, closed)
        return thick, closed * (self.base(p) < np.float32(-0.05 * o))

    def _to_suture(self, p: Points) -> Field:
        """Distance (mm) to the middle of the nearest suture; half a suture's width at a fontanelle's edge."""
        o, far = self.o, np.float32(99)
        upper = p[2] > np.float32(0.02 * o)
        coronal = dot(shifted(p, self.mm(0, -0.22, 0.33)), (0, 0.83, -0.56))
        lambdoid = dot(shifted(p, self.mm(0, 0.40, 0.22)), (0, 0.75, 0.66)) - np.abs(p[0]) * np.float32(0.35)
        fontanelle = ellipsoid(p, self.mm(0, -0.22, 0.36), self.mm(0.085, 0.12, 0.2))

        gap = np.where(upper & (lambdoid < 0), np.abs(p[0]), far)  # the sagittal suture
        gap = np.minimum(gap, np.where(upper, np.abs(coronal), far))
        gap = np.minimum(gap, np.where(p[2] > -0.1 * o, np.abs(lambdoid), far))
        return np.minimum(gap, fontanelle + np.float32(self.subject.suture_mm))

    # Tissues

    def paint_face(self, p: Points, tissue: Tissues, skin: Field, skull: Field) -> None:
        """Soft tissue of face, scalp and neck and the bones in them.

        Args:
            p: points in head coordinates.
            tissue: painted where the skin holds the points.
            skin: distance to the skin.
            skull: distance to the skull.
        """
        o = self.o
        side = _both_sides(p)
        inside = skin < 0
        tissue[inside] = ID["fetal soft tissue"]
        tissue[inside & (skull < self.subject.scalp_mm + 0.5)] = ID["scalp"]
        tissue[inside & (self._face_bones(p) < 0)] = ID["face bone" if self.detailed else "bone"]
        if self.detailed:
            self.face.paint(p, tissue, inside & (skull > 0))

        x = (self.binocular_mm - self.orbit_mm) / 2
        globe = sphere(side, (x, -0.37 * o, -0.285 * o), self.orbit_mm / 2)
        orbit = (globe < 0.03 * o) & (globe > 0) & (p[1] > -0.40 * o)
        tissue[inside & orbit] = ID["skull base"]
        tissue[inside & (globe < 0)] = ID["globe"]
        lens = sphere(side, (x, -0.37 * o - 0.32 * self.orbit_mm, -0.285 * o), self.orbit_mm * 0.14)
        tissue[(lens < 0) & (lens > -1.0)] = ID["lens"]

    def _face_bones(self, p: Points) -> Field:
        """Distance to upper jaw, lower jaw, nasal bone and the bony spots of the uppermost vertebrae."""
        o, s = self.o, self.subject.face_scale
        side = _both_sides(p)
        maxilla = ellipsoid(p, (0, -0.34 * o * s, -0.40 * o * s), (0.15 * o, 0.10 * o, 0.035 * o))
        angle = self.mm(0.18, -self.jaw_angle, -0.53)
        ramus = capsule(side, self.mm(0.20, -0.10, -0.42), angle, 0.022 * o)
        mandible = capsule(side, angle, (0.02 * o, -0.405 * o * s, -0.56 * o * s), 0.026 * o)
        top = self.mm(0, -0.475, -0.20)
        nasal = capsule(p, top, top + np.array([0, -0.35, -0.94]) * self.nasal_mm, 0.016 * o)
        vertebrae = (
            sphere(p, self.c2, 0.026 * o),
            sphere(side, self.c2 + self.mm(0.055, 0.05, 0), 0.02 * o),
            sphere(side, self.c2 + self.mm(0.055, 0.045, 0.075), 0.02 * o),
        )
        return reduce(np.minimum, (maxilla, ramus, mandible, nasal, *vertebrae))

    def paint_brain(self, p: Points, tissue: Tissues, skull: Field) -> Field:
        """What the skull holds; returns the distance to the nearest smooth wall (falx, ventricles), for echoes.

        Args:
            p: points in head coordinates.
            tissue: painted where the skull holds the points; what is painted later lies on top.
            skull: distance to the skull.
        """
        inside = skull < 0
        tissue[inside] = ID["brain"]
        fold = sum_of_waves(p, self.sulci)
        self._paint_cortex(p, tissue, skull, fold)
        ventricle = self._paint_ventricles(p, tissue, inside, fold)

        base = self.base(p)
        self._paint_base(p, tissue, inside, base)
        self._paint_posterior_fossa(p, tissue, inside & (base < -0.05 * self.o))
        return self._paint_midline(p, tissue, inside, ventricle)

    def _paint_cortex(self, p: Points, tissue: Tissues, skull: Field, fold: Field) -> None:
        """The fluid around the brain, and the sulci, which widen from 20 to 32 weeks."""
        o = self.o
        inside = skull < 0
        cortex = inside & (skull > -0.11 * o)
        tissue[cortex & (skull > -0.022 * o)] = ID["cerebrospinal fluid"]
        age = np.clip((self.subject.ga_weeks - 20) / 12, 0, 1)
        folded = np.abs(fold) < (0.05 + 0.20 * age) * (1 - self.early)
        tissue[cortex & folded & (skull < -0.015 * o)] = ID["sulcus"]
        insula = ellipsoid(_both_sides(p), self.mm(0.26, -0.06, -0.04), self.mm(0.03, 0.11, 0.07))
        tissue[inside & (np.abs(insula) < 0.012 * o)] = ID["sulcus"]

    def _paint_ventricles(self, p: Points, tissue: Tissues, inside: Mask, fold: Field) -> Field:
        """Thalami, lateral ventricles and choroid plexus; returns the distance to the ventricles.

        In the first trimester the lateral ventricles take up most of the hemispheres and the choroid plexus
        most of the ventricles. Towards 21 weeks both withdraw to the back (general knowledge; sizes
        unconfirmed).
        """
        o, early = self.o, self.early
        side = _both_sides(p)
        thalami = ellipsoid(side, self.mm(0.075, 0.03, -0.06), self.mm(0.065, 0.10, 0.075))
        tissue[inside & (thalami < 0)] = ID["thalamus"]

        centre = _mix(early, (0.135, 0.17, 0.0), (0.185, 0.03, 0.05)) * o
        radii = _mix(early, (0.05, 0.16, 0.06), (0.155, 0.36, 0.22)) * o
        front_horn = ellipsoid(side, self.mm(0.06, -0.20, 0.03), self.mm(0.025, 0.10, 0.035))
        ventricle = np.minimum(ellipsoid(side, centre, radii), front_horn)
        ventricle += fold * np.float32(0.01 * o) - np.where(p[0] < 0, *self.ventricle_mm.astype(np.float32))
        tissue[inside & (ventricle < 0)] = ID["cerebrospinal fluid"]

        centre = _mix(early, (0.14, 0.19, -0.005), (0.18, 0.06, 0.04)) * o
        radii = _mix(early, (0.037, 0.10, 0.05), (0.115, 0.25, 0.15)) * o
        choroid = ellipsoid(side, centre, radii) + fold * np.float32(0.012 * o * (1 + early))
        tissue[inside & (choroid < 0)] = ID["choroid plexus"]
        return ventricle

    def _paint_base(self, p: Points, tissue: Tissues, inside: Mask, base: Field) -> None:
        """The skull base with its petrous and sphenoid ridges; `base` is the height below its plane."""
        o = self.o
        side = _both_sides(p)
        petrous = capsule(side, self.mm(0.06, 0.02, -0.28), self.mm(0.30, 0.16, -0.25), 0.035 * o)
        sphenoid = capsule(side, self.mm(0.05, -0.16, -0.24), self.mm(0.32, -0.22, -0.13), 0.02 * o)
        tissue[inside & (base > -0.045 * o)] = ID["skull base"]
        tissue[inside & (np.minimum(petrous, sphenoid) < 0)] = ID["skull base"]

    def _paint_posterior_fossa(self, p: Points, tissue: Tissues, above_base: Mask) -> None:
        """Tentorium, cisterna magna, cerebellum and vermis."""
        o, t = self.o, self.subject.tcd_mm
        tentorium = dot(shifted(p, self.mm(0, 0.24, -0.12)), (0, -0.35, 0.94)) + np.abs(p[0]) * np.float32(0.25)
        posterior = above_base & (tentorium < 0) & (p[1] > np.float32(0.14 * o))
        tissue[posterior & (tentorium > -0.018 * o)] = ID["midline"]
        cisterna = ellipsoid(p, self.mm(0, 0.38, -0.24), self.mm(0.16, 0.075, 0.08))
        tissue[posterior & (cisterna < 0)] = ID["cerebrospinal fluid"]
        cerebellum = ellipsoid(_both_sides(p), (0.24 * t, 0.27 * o, -0.235 * o), (0.26 * t, 0.085 * o, 0.085 * o))
        tissue[posterior & (cerebellum < 0)] = ID["cerebellum"]
        vermis = ellipsoid(p, self.mm(0, 0.28, -0.225), self.mm(0.035, 0.075, 0.075))
        tissue[posterior & (vermis < 0)] = ID["vermis"]

    def _paint_midline(self, p: Points, tissue: Tissues, inside: Mask, ventricle: Field) -> Field:
        """The bent falx, broken by the cavum; returns the distance to the nearest of falx, cavum and ventricles."""
        o = self.o
        first, second = (np.float32(bend) for bend in self.midline_bend)
        bend = p[0] - first * np.sin(p[1] * np.float32(4 / o)) - second * p[2] / np.float32(o)
        falx = inside & (p[2] > np.float32(-0.08 * o)) & (np.abs(p[1] + np.float32(0.02 * o)) > 0.09 * o)
        tissue[falx & (np.abs(bend) < max(0.5, 0.010 * o))] = ID["midline"]
        formed = 1.0 - 0.8 * self.early if self.detailed else 1.0
        cavum = ellipsoid(p, self.mm(0, -0.15, 0.0), self.mm(0.035, 0.065, 0.04) * formed)
        tissue[inside & (cavum < 0)] = ID["cerebrospinal fluid"]

        wall = np.where(np.abs(ventricle) < np.abs(cavum), ventricle, cavum)
        return np.where(falx & (np.abs(bend) < np.abs(wall)), bend, wall)


def _both_sides(p: Points) -> Points:
    """The right half folded onto the left: a body drawn at the left is there at the right too."""
    return (np.abs(p[0]), p[1], p[2])
