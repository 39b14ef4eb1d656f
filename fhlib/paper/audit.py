"""The internal arithmetic of the paper's printed numbers, recomputed from `data/reference`.

Each line says what was recomputed, what follows and what cannot be known from means alone. None of it questions the
data; it tells a reader which definitions the numbers fit, so that a comparison with them is fair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from fhlib.images.volume import Array, Mask
from fhlib.measures.metrics import conformity, evaluate
from fhlib.paper.tables import printed_numbers, printed_table

HEAD_ML = 240.0
"""Head volume at which geometry is evaluated: the middle of the 235-250 mL that the printed errors imply."""
HALF_SIZE = (80, 56, 88)
"""The paper's volume at half its network's size, at which operations are counted."""
ENCODER_KERNELS = {1: 3, 2: 3, 3: 5, 4: 5}
PATH_KERNELS = {1: 3, 2: 5, 3: 5}
"""Kernels by level, 1 = full size, as in the authors' published graph; those of the up path also of its attention."""
EVERY = (1, 2, 3)
DEFINITIONS = ("symmetric", "filled", "eq7_mm3", "eq7_voxels")
"""Of Adb: the columns of `boundary_experiment`."""


class Row(NamedTuple):
    """One recomputed number."""

    check: str
    item: str
    printed: float
    recomputed: float
    unit: str
    finding: str
    unknown: str
    """What the printed numbers cannot tell."""


def audit() -> pd.DataFrame:
    """One row a recomputed number, with the fields of `Row` as columns."""
    parts = [_overlaps(), _boundaries(), _volumes(), _repeats(), _flips(), _overhead(), _sentences()]
    return pd.DataFrame(list(itertools.chain.from_iterable(parts)), columns=list(Row._fields))


def implied_dsc_sd(dsc: float, mean_conformity: float) -> float:
    """Case SD of DSC that turns `conformity(mean DSC)` into the printed mean Conformity, if DSC is normal about its mean.

    From the second-order expansion E[3 - 2/D] = 3 - 2/m - 2 s^2/m^3: s = sqrt((3 - 2/m - mean) m^3 / 2). Fractions in
    and out.
    """
    return math.sqrt(max(conformity(dsc) - mean_conformity, 0) * dsc**3 / 2)


def boundary_distance_from_dsc(dsc: float, volume_ml: float) -> float:
    """Mean surface distance (mm) of a shell error t on a sphere: 1 - DSC = 3 t / (2 R)."""
    return (1 - dsc) * 2 / 3 * sphere_radius_mm(volume_ml)


def sphere_radius_mm(volume_ml: float) -> float:
    """Radius of a sphere of this volume."""
    return (3000 * volume_ml / (4 * math.pi)) ** (1 / 3)


def largest_sd_chance(mean_sd: float, max_sd: float, groups: int, scans: int) -> tuple[float, float]:
    """How large the largest of several SDs (ddof 1) is by chance, if all groups share one normal spread.

    The common SD follows from the mean by c4 (0.886 for 3 scans). (scans - 1) s^2 / sigma^2 is chi-square, so both
    numbers are exact.

    Args:
        mean_sd: mean of the groups' SDs.
        max_sd: the largest of them.
        groups: how many.
        scans: values a group.

    Returns:
        The median of the largest SD, and the chance that it reaches `max_sd`.
    """
    sigma, freedom = mean_sd / c4(scans), scans - 1
    single = stats.chi2.sf(freedom * max_sd**2 / sigma**2, freedom)
    median = sigma * math.sqrt(stats.chi2.ppf(0.5 ** (1 / groups), freedom) / freedom)
    return median, float(-np.expm1(groups * np.log1p(-single)))


def c4(n: int) -> float:
    """E[s] / sigma for n normal values, ddof 1."""
    return math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def distinct_orientations() -> int:
    """Distinct results of combining flips along, and half turns about, three axes, by enumeration on a marked cube."""
    cube = np.arange(27).reshape(3, 3, 3)
    moves: list[Callable[[Array], Array]] = [partial(np.flip, axis=axis) for axis in range(3)]
    moves += [partial(np.rot90, k=2, axes=pair) for pair in itertools.combinations(range(3), 2)]
    found = {cube.tobytes(): cube}
    waiting = [cube]
    while waiting:
        here = waiting.pop()
        for move in moves:
            there = np.ascontiguousarray(move(here))
            if there.tobytes() not in found:
                found[there.tobytes()] = there
                waiting.append(there)
    return len(found)


def forward_gflop(skip_attention: tuple[int, ...] = (), path_attention: tuple[int, ...] = (), width: int = 32) -> float:
    """Operations (GFLOP, 2 a multiply-add) of a forward pass at 80x56x88 with deep supervision, convolutions only.

    Channels and kernels are those of the authors' published graph.

    Args:
        skip_attention: levels with attention in the skip, 1 = full size.
        path_attention: levels with attention in the up path.
        width: channels of the first level.
    """
    voxels = {level: math.prod(HALF_SIZE) / 8 ** (level - 1) for level in ENCODER_KERNELS}
    channels = {level: width if level == 1 else 2 * width for level in ENCODER_KERNELS}
    total, given = 0.0, 1
    for level, kernel in ENCODER_KERNELS.items():
        total += voxels[level] * kernel**3 * (given + channels[level]) * channels[level]
        given = channels[level]

    for level in (3, 2, 1):
        kernel = PATH_KERNELS[level]
        # a deconvolution works on the voxels that it reads
        total += voxels[level + 1] * kernel**3 * given * channels[level]
        skip = channels[level]
        if level in skip_attention:
            total += voxels[level] * _attention_products(skip, ENCODER_KERNELS[level], width)
            skip = 2 * width
        given = channels[level] + skip
        if level in path_attention:
            total += voxels[level] * _attention_products(given, kernel, width)
            given = 2 * width
        total += voxels[level] * given * 2  # the head or side branch
    return 2 * total / 1e9


def _attention_products(channels: int, kernel: int, width: int) -> int:
    """Multiply-adds a voxel: shrink to the width, two convolutions that weigh, one of both together."""
    return channels * width + 2 * kernel**3 * width**2 + kernel**3 * (2 * width) ** 2


def boundary_experiment(
    volumes_ml: tuple[float, ...] = (120.0, 240.0),
    spacings_mm: tuple[float, ...] = (0.38, 0.95),
    error_mm: tuple[float, ...] = (0.8, 1.5),
    seed: int = 0,
) -> pd.DataFrame:
    """Which definition of Adb keeps the printed ratio to DSC? Smoothly displaced ellipsoids over size, spacing and error.

    Table 1 prints ratios of 0.46 to 0.55 at 240 mL.

    Args:
        volumes_ml: of the ellipsoids.
        spacings_mm: of the voxels.
        error_mm: SDs of the displacement.
        seed: of the displacements.

    Returns:
        A row a pair: volume_ml, spacing_mm, dsc, expected_mm (`boundary_distance_from_dsc`), and the ratio of each of
        `DEFINITIONS` to it.
    """
    rows = []
    for volume, spacing, error in itertools.product(volumes_ml, spacings_mm, error_mm):
        rng = np.random.default_rng([seed, int(volume), int(100 * spacing), int(100 * error)])
        prediction, reference = _displaced_ellipsoid(volume, spacing, error, rng)
        scores = evaluate(prediction, reference, (spacing,) * 3)
        expected = boundary_distance_from_dsc(scores.dsc, volume)
        distances = scores.adb_mm, scores.adb_filled_mm, scores.adb_eq7_mm3, scores.adb_eq7_voxels
        rows.append((volume, spacing, scores.dsc, expected, *np.divide(distances, expected)))
    return pd.DataFrame(rows, columns=["volume_ml", "spacing_mm", "dsc", "expected_mm", *DEFINITIONS])


def _displaced_ellipsoid(
    volume_ml: float, spacing_mm: float, error_mm: float, rng: np.random.Generator
) -> tuple[Mask, Mask]:
    """An ellipsoid whose surface is displaced by a smooth field with an SD of `error_mm`, and the ellipsoid itself."""
    radii = sphere_radius_mm(volume_ml) * np.array([0.93, 1.2, 1 / (0.93 * 1.2)])
    shape = tuple(int(2 * (radius + 6 * error_mm + 2) / spacing_mm) for radius in radii)
    axes = [(np.arange(n) - n / 2) * spacing_mm for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    level = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
    field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), 10 / spacing_mm, truncate=2.5)
    rim = np.abs(level - 1) < 0.1
    field = field / field[rim].std() * error_mm
    return (level - 1) * radii.mean() <= field, level <= 1


def printed_ratios() -> pd.DataFrame:
    """Each row of Table 1: its DSC, and its Adb over the distance that the DSC implies at 240 mL.

    Columns variant, dsc (0-1), ratio.
    """
    table = printed_table(1)
    dsc = table["dsc_percent"] / 100
    ratio = table["adb_mm"] / boundary_distance_from_dsc(dsc, HEAD_ML)
    return pd.DataFrame({"variant": table["variant"], "dsc": dsc, "ratio": ratio})


def _overlaps() -> Iterator[Row]:
    unknown = "case values are not printed, so the SD is an estimate that leans on the last digit of two rounded means"
    for row in printed_table(1).itertuples():
        dsc, conf = row.dsc_percent / 100, row.conf_percent / 100
        spread = 100 * implied_dsc_sd(dsc, conf)
        finding = (
            f"a mean of ratios lies below the ratio at the mean; a case SD of DSC of {spread:.1f} points explains it"
        )
        yield Row("Conformity against DSC", row.variant, 100 * conf, 100 * conformity(dsc), "%", finding, unknown)
        jaccard = 100 * dsc / (2 - dsc)
        finding = "the mean lies slightly above the value at the mean DSC, as a convex function's must"
        yield Row("Jaccard against DSC", row.variant, row.jacc_percent, jaccard, "%", finding, unknown)


def _boundaries() -> Iterator[Row]:
    unknown = (
        "means alone do not say which definition was used: distances to the filled mask give about half, "
        "Eq. 7 with volumes in mm3 as denominators comes near too; head sizes are inferred"
    )
    adb_mm = _by_variant(1)["adb_mm"]
    for row in printed_ratios().itertuples():
        printed = adb_mm[row.variant]
        finding = (
            f"the printed Adb is {row.ratio:.2f} of the symmetric surface distance "
            f"that its DSC implies for a {HEAD_ML:.0f} mL sphere"
        )
        yield Row("Adb against DSC", row.variant, printed, printed / row.ratio, "mm", finding, unknown)


def _volumes() -> Iterator[Row]:
    numbers = printed_numbers()
    half, bias = numbers["volume_agreement_half_width"], numbers["volume_bias"]
    relative, r = numbers["relative_volume_error"], numbers["volume_correlation"]
    sd = half / 1.96
    check = "what +/- 19.5 mL means"
    note = "3.40 % is printed for USegNet-DS-HAS and 19.5 mL for USegNet-DS-HAS-Ctx, so the match is suggestive only"

    error = stats.foldnorm.mean(abs(bias) / sd, scale=sd)
    finding = f"mean |error| {error:.1f} mL is {relative} % of a plausible head"
    yield Row(check, "mean head if 19.5 is 1.96 SD", math.nan, 100 * error / relative, "mL", finding, note)

    as_sd = stats.foldnorm.mean(abs(bias) / half, scale=half)
    finding = "twice as large as the mean head of 20 to 31 weeks"
    yield Row(check, "mean head if 19.5 is one SD", math.nan, 100 * as_sd / relative, "mL", finding, note)

    between = sd / math.sqrt(2 * (1 - r))
    finding = f"follows from r = {r} and an error SD of {sd:.2f} mL if both spreads are equal"
    yield Row(check, "SD between subjects", math.nan, between, "mL", finding, "r is printed to three digits")


def _repeats() -> Iterator[Row]:
    numbers = printed_numbers()
    mean, largest = numbers["repeat_mean_sd"], numbers["repeat_max_sd"]
    groups, scans = int(numbers["repeat_subjects"]), int(numbers["repeat_scans"])
    unknown = "whether the SDs divide by n - 1 or n, and the groups' own values, are not printed"
    for ddof in (1, 0):
        within = mean / c4(scans) * math.sqrt(scans / (scans - 1)) ** (1 - ddof)
        item = f"repeatability coefficient, ddof {ddof}"
        finding = f"within-subject SD {within:.1f} mL if all groups share one spread and SDs have ddof {ddof}"
        yield Row("repeatability", item, math.nan, 1.96 * math.sqrt(2) * within, "mL", finding, unknown)
    median, chance = largest_sd_chance(mean, largest, groups, scans)
    finding = (
        f"one common spread gives {median:.0f} mL (median); the printed maximum has a chance of {chance:.0e}: "
        "one group at least differs from the rest"
    )
    yield Row("repeatability", f"largest SD of {groups} groups", largest, median, "mL", finding, unknown)


def _flips() -> Iterator[Row]:
    finding = (
        "flips and half turns about three axes combine to this many distinct volumes, so some of the copies coincide"
    )
    copies, unknown = printed_numbers()["flips_per_volume"], "the list of copies is not printed"
    yield Row("augmentation", "distinct copies a volume", copies, distinct_orientations(), "", finding, unknown)


def _overhead() -> Iterator[Row]:
    plain, full = forward_gflop(), forward_gflop(EVERY, EVERY)
    finding = (
        f"{full:.0f} against {plain:.0f} GFLOP a forward pass at 80x56x88: "
        "more than 'only little computation overhead' suggests; on the paper's GPU time grows less than operations do"
    )
    unknown = "the paper prints times, not operations"
    yield Row("computation", "USegNet-DS-HAS over USegNet-DS", math.nan, full / plain, "times", finding, unknown)

    times = _by_variant(2)["time_s"]
    finding = "the order of operations agrees with the order of times if module 1 sits at quarter size"
    unknown = "the paper does not say what the times include"
    for variant, levels in (("SAM-1", (3,)), ("SAM-12", (2, 3)), ("USegNet-DS-SAM", EVERY)):
        printed, recomputed = times[variant] / times["USegNet-DS"], forward_gflop(levels) / plain
        yield Row("computation", f"{variant} over USegNet-DS", printed, recomputed, "times", finding, unknown)


def _sentences() -> Iterator[Row]:
    one, two = (_by_variant(number).drop(columns="source") for number in (1, 2))
    rows_of_one = set(one.itertuples(name=None))
    repeated = sum(row in rows_of_one for row in two[one.columns].itertuples(name=None))
    names = ("USegNet", "USegNet-DS", "USegNet-DS-SAM", "USegNet-DS-UAM", "USegNet-DS-HAS")
    bare, plain, sam, uam, has = (one.loc[name] for name in names)
    drop = 100 * (1 - sam["adb_mm"] / plain["adb_mm"])
    points = uam["dsc_percent"] - sam["dsc_percent"]
    worst = has["hdb_mm"] - min(sam["hdb_mm"], uam["hdb_mm"])
    supervised = "deep supervision alone gains DSC and loses a little here"
    claim = "'UAM can bring higher improvements than SAM'"
    rounding = "rounding of the text, or another version of the table"
    chance = "no spread is printed: it may be chance"
    which = "the sentence names no measure"
    found = (
        ("SAM lowers Adb", 12, drop, "%", "the text says about 12 %, Table 1 gives more", rounding),
        ("UAM over SAM in DSC", math.nan, points, "points", f"{claim} does not hold by DSC", which),
        ("UAM over SAM in Adb", math.nan, uam["adb_mm"] - sam["adb_mm"], "mm", f"{claim} holds by Adb", which),
        ("HAS over SAM and UAM in Hdb", math.nan, worst, "mm", "the combination has a larger Hdb than either", chance),
        ("deep supervision in Adb", math.nan, plain["adb_mm"] - bare["adb_mm"], "mm", supervised, chance),
        ("deep supervision in Hdb", math.nan, plain["hdb_mm"] - bare["hdb_mm"], "mm", supervised, chance),
        ("rows of Table 2 that repeat Table 1", 3, repeated, "rows", "they agree in every digit", ""),
    )
    for row in found:
        yield Row("sentences against tables", *row)


def _by_variant(number: int) -> pd.DataFrame:
    return printed_table(number).set_index("variant")
