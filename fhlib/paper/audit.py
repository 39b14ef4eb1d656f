"""The internal arithmetic of the paper's printed numbers, recomputed from `data/reference`.

Each line says what was recomputed, what follows and what cannot be known from means alone. None of it questions the
data; it tells a reader which definitions the numbers fit, so that a comparison with them is fair.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from fhlib.measures.metrics import conformity, evaluate
from fhlib.paper.tables import printed, printed_table

HEAD_ML = 240.0
"""Head volume at which geometry is evaluated: the middle of the 235-250 mL that the printed errors imply."""
FLOPS_SHAPE = (80, 56, 88)


def audit() -> pd.DataFrame:
    """One row a check.

    Check, item, printed, recomputed, unit, finding, unknown (what the printed numbers cannot tell).
    """
    parts = [_overlaps(), _boundaries(), _volumes(), _repeats(), _flips(), _overhead(), _sentences()]
    columns = ["check", "item", "printed", "recomputed", "unit", "finding", "unknown"]
    return pd.DataFrame(list(itertools.chain.from_iterable(parts)), columns=columns)


def implied_dsc_sd(dsc: float, mean_conformity: float) -> float:
    """Case SD of DSC that turns `conformity(mean DSC)` into the printed mean Conformity, if DSC is normal about its
    mean.

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
    """Median of the largest of `groups` SDs (ddof 1), and the chance that it reaches `max_sd`, if all share one
    normal spread.

    The common SD follows from the mean by c4 (0.886 for 3 scans); (scans - 1) s^2 / sigma^2 is chi-square, so both
    are exact.
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
    moves = [lambda x, a=axis: np.flip(x, a) for axis in range(3)]
    moves += [lambda x, a=pair: np.rot90(x, 2, a) for pair in itertools.combinations(range(3), 2)]
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
    """Operations (GFLOP, 2 a multiply-add) of one forward pass at 80x56x88 with deep supervision, convolutions only.

    Attention is placed by encoder level, 1 = full size. Channels and kernels are those of the authors' published graph.
    """
    one, two = width, 2 * width
    channels, kernels = {1: one, 2: two, 3: two}, {1: 3, 2: 3, 3: 5}
    path_kernels = {1: 3, 2: 5, 3: 5}
    voxels = {level: math.prod(FLOPS_SHAPE) / 8 ** (level - 1) for level in (1, 2, 3, 4)}

    def attention(level: int, channels_in: int, k: int) -> float:
        return voxels[level] * (channels_in * one + 2 * k**3 * one * one + k**3 * two * two)

    def block(level: int, channels_in: int, channels_out: int, k: int) -> float:
        return voxels[level] * k**3 * (channels_in * channels_out + channels_out**2)

    total = block(1, 1, one, 3) + block(2, one, two, 3) + block(3, two, two, 5) + block(4, two, two, 5)
    below = two
    for level in (3, 2, 1):
        out = channels[level]
        total += voxels[level + 1] * kernels[level if level == 1 else 3] ** 3 * below * out
        skip = channels[level]
        if level in skip_attention:
            total += attention(level, skip, kernels[level])
            skip = two
        joined = out + skip
        if level in path_attention:
            total += attention(level, joined, path_kernels[level])
            joined = two
        total += voxels[level] * joined * 2
        below = joined
    return 2 * total / 1e9


def boundary_experiment(
    volumes_ml: tuple[float, ...] = (120.0, 240.0),
    spacings_mm: tuple[float, ...] = (0.38, 0.95),
    error_mm: tuple[float, ...] = (0.8, 1.5),
    seed: int = 0,
) -> pd.DataFrame:
    """Which definition of Adb keeps the printed ratio to DSC? Smoothly displaced ellipsoids over size, spacing and
    error.

    One row a pair: volume_ml, spacing_mm, dsc, expected_mm (`boundary_distance_from_dsc`), and the ratio of each
    definition to it: symmetric, filled, eq7_mm3, eq7_voxels. Table 1 prints ratios of 0.46 to 0.55 at 240 mL.
    `error_mm` is the SD of the displacement.
    """
    rows = []
    for volume, spacing, error in itertools.product(volumes_ml, spacings_mm, error_mm):
        rng = np.random.default_rng([seed, int(volume), int(100 * spacing), int(100 * error)])
        radii = sphere_radius_mm(volume) * np.array([0.93, 1.2, 1 / (0.93 * 1.2)])
        shape = tuple(int(2 * (radius + 6 * error + 2) / spacing) for radius in radii)
        axes = [(np.arange(n) - n / 2) * spacing for n in shape]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        level = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
        field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), 10 / spacing, truncate=2.5)
        rim = np.abs(level - 1) < 0.1
        field = field / field[rim].std() * error
        reference = level <= 1
        prediction = (level - 1) * radii.mean() <= field
        scores = evaluate(prediction, reference, (spacing,) * 3)
        expected = boundary_distance_from_dsc(scores.dsc, volume)
        rows.append(
            {
                "volume_ml": volume,
                "spacing_mm": spacing,
                "dsc": scores.dsc,
                "expected_mm": expected,
                "symmetric": scores.adb_mm / expected,
                "filled": scores.adb_filled_mm / expected,
                "eq7_mm3": scores.adb_eq7_mm3 / expected,
                "eq7_voxels": scores.adb_eq7_voxels / expected,
            }
        )
    return pd.DataFrame(rows)


def printed_ratios() -> pd.DataFrame:
    """Table 1: each variant's DSC (0-1) and its Adb over `boundary_distance_from_dsc` at 240 mL (columns variant, dsc, ratio)."""
    table = _by_variant(1)
    dsc = table["dsc_percent"] / 100
    expected = boundary_distance_from_dsc(dsc, HEAD_ML)
    return pd.DataFrame(
        {"variant": table.index, "dsc": dsc.to_numpy(), "ratio": (table["adb_mm"] / expected).to_numpy()}
    )


Row = tuple[str, str, float, float, str, str, str]


def _overlaps() -> list[Row]:
    rows: list[Row] = []
    unknown = "case values are not printed, so the SD is an estimate that leans on the last digit of two rounded means"
    for variant, row in _by_variant(1).iterrows():
        dsc, conf = row["dsc_percent"] / 100, row["conf_percent"] / 100
        spread = 100 * implied_dsc_sd(dsc, conf)
        finding = (
            f"a mean of ratios lies below the ratio at the mean; a case SD of DSC of {spread:.1f} points explains it"
        )
        rows.append(("Conformity against DSC", str(variant), 100 * conf, 100 * conformity(dsc), "%", finding, unknown))
        jaccard = 100 * dsc / (2 - dsc)
        finding = "the mean lies slightly above the value at the mean DSC, as a convex function's must"
        rows.append(("Jaccard against DSC", str(variant), row["jacc_percent"], jaccard, "%", finding, unknown))
    return rows


def _boundaries() -> list[Row]:
    unknown = (
        "means alone do not say which definition was used: distances to the filled mask give about half, Eq. 7 with volumes in mm3 as "
        "denominators comes near too; head sizes are inferred"
    )
    rows: list[Row] = []
    for row in printed_ratios().itertuples():
        adb = _by_variant(1).loc[row.variant, "adb_mm"]
        finding = f"the printed Adb is {row.ratio:.2f} of the symmetric surface distance that its DSC implies for a {HEAD_ML:.0f} mL sphere"
        rows.append(("Adb against DSC", str(row.variant), adb, adb / row.ratio, "mm", finding, unknown))
    return rows


def _volumes() -> list[Row]:
    half, relative, r = (
        printed(name) for name in ("volume_agreement_half_width", "relative_volume_error", "volume_correlation")
    )
    bias = printed("volume_bias")
    sd = half / 1.96
    error = stats.foldnorm.mean(abs(bias) / sd, scale=sd)
    as_sd = stats.foldnorm.mean(abs(bias) / half, scale=half)
    between = sd / math.sqrt(2 * (1 - r))
    note = "3.40 % is printed for USegNet-DS-HAS and 19.5 mL for USegNet-DS-HAS-Ctx, so the match is suggestive only"
    check = "what +/- 19.5 mL means"
    return [
        (
            check,
            "mean head if 19.5 is 1.96 SD",
            math.nan,
            100 * error / relative,
            "mL",
            f"mean |error| {error:.1f} mL is {relative} % of a plausible head",
            note,
        ),
        (
            check,
            "mean head if 19.5 is one SD",
            math.nan,
            100 * as_sd / relative,
            "mL",
            "twice as large as the mean head of 20 to 31 weeks",
            note,
        ),
        (
            check,
            "SD between subjects",
            math.nan,
            between,
            "mL",
            f"follows from r = {r} and an error SD of {sd:.2f} mL if both spreads are equal",
            "r is printed to three digits",
        ),
    ]


def _repeats() -> list[Row]:
    mean, largest = printed("repeat_mean_sd"), printed("repeat_max_sd")
    groups, scans = int(printed("repeat_subjects")), int(printed("repeat_scans"))
    factor, unknown = (
        1.96 * math.sqrt(2),
        "whether the SDs divide by n - 1 or n, and the groups' own values, are not printed",
    )
    rows: list[Row] = []
    for ddof in (1, 0):
        within = mean / c4(scans) * (1 if ddof else math.sqrt(scans / (scans - 1)))
        finding = f"within-subject SD {within:.1f} mL if all groups share one spread and SDs have ddof {ddof}"
        rows.append(
            (
                "repeatability",
                f"repeatability coefficient, ddof {ddof}",
                math.nan,
                factor * within,
                "mL",
                finding,
                unknown,
            )
        )
    median, chance = largest_sd_chance(mean, largest, groups, scans)
    finding = (
        f"one common spread gives {median:.0f} mL (median); the printed maximum has a chance of {chance:.0e}: "
        "one group at least differs from the rest"
    )
    return [*rows, ("repeatability", f"largest SD of {groups} groups", largest, median, "mL", finding, unknown)]


def _flips() -> list[Row]:
    finding = (
        "flips and half turns about three axes combine to this many distinct volumes, so some of the copies coincide"
    )
    return [
        (
            "augmentation",
            "distinct copies a volume",
            printed("flips_per_volume"),
            distinct_orientations(),
            "",
            finding,
            "the list of copies is not printed",
        )
    ]


def _overhead() -> list[Row]:
    every = (1, 2, 3)
    plain, full = forward_gflop(), forward_gflop(every, every)
    text = (
        f"{full:.0f} against {plain:.0f} GFLOP a forward pass at 80x56x88: more than 'only little computation overhead' "
        "suggests; on the paper's GPU time grows less than operations do"
    )
    rows: list[Row] = [
        (
            "computation",
            "USegNet-DS-HAS over USegNet-DS",
            math.nan,
            full / plain,
            "times",
            text,
            "the paper prints times, not operations",
        )
    ]
    times = _by_variant(2)["time_s"]
    for variant, levels in (("SAM-1", (3,)), ("SAM-12", (2, 3)), ("USegNet-DS-SAM", every)):
        ratio = times[variant] / times["USegNet-DS"]
        text = "the order of operations agrees with the order of times if module 1 sits at quarter size"
        rows.append(
            (
                "computation",
                f"{variant} over USegNet-DS",
                ratio,
                forward_gflop(levels) / plain,
                "times",
                text,
                "the paper does not say what the times include",
            )
        )
    return rows


def _sentences() -> list[Row]:
    one, two = (_by_variant(number).drop(columns="source").to_dict("index") for number in (1, 2))
    names = ("USegNet", "USegNet-DS", "USegNet-DS-SAM", "USegNet-DS-UAM", "USegNet-DS-HAS")
    bare, plain, sam, uam, has = (one[name] for name in names)
    repeated = sum(one[name].items() <= two[name].items() for name in one.keys() & two.keys())
    drop = 100 * (1 - sam["adb_mm"] / plain["adb_mm"])
    points = uam["dsc_percent"] - sam["dsc_percent"]
    worst = has["hdb_mm"] - min(sam["hdb_mm"], uam["hdb_mm"])
    supervised = "deep supervision alone gains DSC and loses a little here"
    claim = "'UAM can bring higher improvements than SAM'"
    rounding, chance, which = (
        "rounding of the text, or another version of the table",
        "no spread is printed: it may be chance",
        "the sentence names no measure",
    )
    rows = [
        ("SAM lowers Adb", 12, drop, "%", "the text says about 12 %, Table 1 gives more", rounding),
        ("UAM over SAM in DSC", math.nan, points, "points", f"{claim} does not hold by DSC", which),
        ("UAM over SAM in Adb", math.nan, uam["adb_mm"] - sam["adb_mm"], "mm", f"{claim} holds by Adb", which),
        ("HAS over SAM and UAM in Hdb", math.nan, worst, "mm", "the combination has a larger Hdb than either", chance),
        ("deep supervision in Adb", math.nan, plain["adb_mm"] - bare["adb_mm"], "mm", supervised, chance),
        ("deep supervision in Hdb", math.nan, plain["hdb_mm"] - bare["hdb_mm"], "mm", supervised, chance),
        ("rows of Table 2 that repeat Table 1", 3, repeated, "rows", "they agree in every digit", ""),
    ]
    return [("sentences against tables", *row) for row in rows]


def _by_variant(number: int) -> pd.DataFrame:
    return printed_table(number).set_index("variant")
