"""Image formation in beam space: from tissues along each beam to an 8-bit beam image.

Every sample holds scatterers and the coherent echo of smooth interfaces. Scatterers are a complex Gaussian
number times the square root of the echogenicity (fully developed speckle). The coherent echo falls as
|cos|^n of the angle between beam and normal. The baseband signal has no carrier: interference along a
smooth interface is replaced by that explicit power of the cosine.

Both are weakened by the two-way attenuation accumulated along the beam and joined by clutter. Both are
blurred by a separable Gaussian point spread function that widens with depth. Then come electronic noise,
amplification with depth (TGC) and log-compression.

Numbers in this module without a named source are unconfirmed: set by eye beside real images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from fhlib.phantom.probe import BeamGrid, Site, in_threads
from fhlib.phantom.shapes import Field
from fhlib.phantom.tissues import ATTENUATION_DB, ECHOGENICITY_DB, STREAK_DB, STREAK_FROM, TEXTURE_DB

Signal = NDArray[np.complex64] | Field
Fields = tuple[Field, Field, Field]
DB_TO_NEPER = np.float32(np.log(10) / 20)
FWHM_TO_SIGMA = 1 / (2 * np.sqrt(2 * np.log(2)))
SKULL_TURN = 8.0
COHERENT_CLUTTER = np.float32(0.11)  # a flat interface sends less aside than as much power from scatterers
GAIN_FROM_MM = 12.0  # the near field does not set the gain
FLUID_BELOW_DB = 5.0  # ranges whose brighter end lies lower hold fluid alone
INTERFACE_MM = 1.0  # how wide a smooth interface is drawn
TYPICAL_PLATE_MM = 0.36  # thinner than a wavelength: echo and loss grow in proportion to the thickness
WIDEST = 10.0  # samples: near a sweep axis just below the probe's face planes lie close together
NARROWEST = 0.35  # samples; below it a Gaussian kernel is one tap


@dataclass(frozen=True)
class Plates:
    """The calvarium at a block of beam samples.

    `skull_mm` is the signed distance to the outer skull, `closed` is 1 on bone and 0 in sutures.
    """

    skull_mm: Field
    thickness_mm: Field
    closed: Field


@dataclass(frozen=True)
class Sample:
    """What the scene holds at a block of beam samples, all arrays (planes, beams, ranges).

    `texture` (blobs) and `streak` (layers across the beam) have unit variance. `interface_mm` is the signed
    distance to the nearest smooth soft interface. `plates` is None where no calvarium is near.
    """

    tissue: NDArray[np.uint8]
    texture: Field
    streak: Field
    interface_mm: Field
    plates: Plates | None


@dataclass(frozen=True)
class Skull:
    """Acoustics of one scan's calvarium: echo (dB) at normal incidence, its power of the cosine, two-way losses (dB).

    One crossing costs about 5-20 dB two-way, and most is lost beyond a critical angle near 30 degrees
    (unconfirmed). Thin fetal plates let a part through, so the loss rises smoothly around
    `critical_degrees` by `oblique_loss_db`.

    `rough` is the share of the amplitude that is scattered in all directions, and so speckled; `texture_db`
    the SD of the echo along the plate; a plate is gone where its texture lies below `gap_below` SDs. `width`
    multiplies the line that a plate is drawn as.
    """

    echo_db: float = 34.0
    power: float = 4.5
    normal_loss_db: float = 7.0
    oblique_loss_db: float = 32.0
    critical_degrees: float = 34.0
    rough: float = 0.03
    texture_db: float = 5.0
    gap_below: float | None = None
    width: float = 1.0


def skull_loss_db(cosine: Field, skull: Skull) -> Field:
    """Two-way loss of one crossing of a plate of `TYPICAL_PLATE_MM`, by the cosine of the angle of incidence."""
    turn = np.float32(np.cos(np.radians(skull.critical_degrees)))
    oblique = 1 / (1 + np.exp((cosine - turn) * np.float32(SKULL_TURN)))
    normal = 1 / (1 + np.exp((1 - turn) * np.float32(SKULL_TURN)))
    return np.float32(skull.normal_loss_db) + np.float32(skull.oblique_loss_db) * (oblique - normal)


def local_response(sample: Sample, step_mm: float, site: Site, skull: Skull, gains_db: Field) -> Fields:
    """Scattered power, coherent amplitude, and two-way loss (dB a sample) of a block.

    Args:
        sample: what lies there.
        step_mm: between samples along the beam.
        site: the machine.
        skull: the scan's calvarium.
        gains_db: shifts each tissue's echogenicity.
    """
    above = np.maximum(sample.streak - np.float32(STREAK_FROM), 0)
    layers = above + np.minimum(sample.streak + np.float32(STREAK_FROM), 0)
    echo_db = (ECHOGENICITY_DB + gains_db)[sample.tissue] + TEXTURE_DB[sample.tissue] * sample.texture
    echo_db += STREAK_DB[sample.tissue] * layers
    power = np.exp(echo_db * np.float32(2) * DB_TO_NEPER)
    loss = ATTENUATION_DB[sample.tissue] * np.float32(2 * site.frequency_mhz * step_mm / 10)

    # Interfaces are seldom smooth over centimetres: their echo comes and goes.
    near = np.clip(1 - np.abs(sample.interface_mm) * np.float32(1 / max(step_mm, INTERFACE_MM / 2)), 0, 1)
    coherent = near * np.exp(sample.streak * np.float32(0.8))
    coherent *= _cosine(sample.interface_mm, step_mm) ** 6 * np.float32(10 ** (8 / 20))

    if sample.plates is not None:
        mottled = np.exp(sample.texture * (DB_TO_NEPER * np.float32(skull.texture_db)))
        if skull.gap_below is not None:
            mottled *= np.clip((sample.texture - np.float32(skull.gap_below)) * 2 + 1, np.float32(0.03), 1)
        scattered, reflected, lost = _plate_response(sample.plates, mottled, step_mm, site, skull)
        power += scattered
        coherent += reflected
        loss += lost
    return power, coherent, loss


def _plate_response(plates: Plates, mottled: Field, step_mm: float, site: Site, skull: Skull) -> Fields:
    """Like `local_response`, what the calvarium adds; `mottled` varies its echo."""
    cosine = np.maximum(_cosine(plates.skull_mm, step_mm), np.float32(0.05))
    thick = np.maximum(plates.thickness_mm, np.float32(0.1))
    solid = np.minimum(thick * np.float32(1 / TYPICAL_PLATE_MM), 1)
    # a plate may be thinner than a sample: it is drawn as a line at least as wide, and its loss spread over it
    half = np.maximum(np.float32(step_mm), np.float32(site.axial_mm * skull.width) * (1 + solid))
    line = np.clip(1 - np.abs(plates.skull_mm + half * np.float32(0.5)) / half, 0, 1) * plates.closed

    echo = np.float32(10 ** (skull.echo_db / 20)) * line * solid
    echo *= mottled
    crossing = skull_loss_db(cosine, skull) * thick * np.float32(1 / TYPICAL_PLATE_MM)
    loss = crossing * cosine * line * (np.float32(step_mm) / half)
    return (echo * np.float32(skull.rough)) ** 2, echo * cosine ** np.float32(skull.power), loss


def _cosine(distance: Field, step_mm: float) -> Field:
    """|cos| between beam and normal: the change of a signed distance along the beam; 0 where the distance jumps."""
    slope = np.empty_like(distance)
    slope[..., 1:-1] = (distance[..., 2:] - distance[..., :-2]) * np.float32(0.5 / step_mm)
    slope[..., 0] = (distance[..., 1] - distance[..., 0]) * np.float32(1 / step_mm)
    slope[..., -1] = (distance[..., -1] - distance[..., -2]) * np.float32(1 / step_mm)
    np.abs(slope, out=slope)
    slope[slope > 1.5] = 0
    return np.minimum(slope, 1)


def speckle_source(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """Complex Gaussian scatterers of unit mean power."""
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0] * np.float32(np.sqrt(0.5))


def kernel(sigma: float | Field) -> Field:
    """Half of a Gaussian kernel (taps 0, 1, ...) of unit energy, so that speckle keeps its mean power.

    `sigma` is in samples: a number, or one for each range (then the taps are (taps, ranges)).
    """
    sigma = np.maximum(np.asarray(sigma, np.float32), np.float32(NARROWEST))
    reach = max(1, int(np.ceil(2.7 * float(sigma.max()))))
    lags = np.arange(reach + 1, dtype=np.float32).reshape(-1, *[1] * sigma.ndim)
    taps = np.exp(-0.5 * (lags / sigma) ** 2)
    return taps / np.sqrt(taps[0] ** 2 + 2 * (taps[1:] ** 2).sum(0))


def kernel_sum(taps: Field) -> Field:
    """What a constant is multiplied by.

    Smooth interfaces are divided by it, so that their echo does not depend on the sampling.
    """
    return taps[0] + 2 * taps[1:].sum(0)


def blur(iq: Signal, axis: int, taps: Field) -> Signal:
    """Convolve one axis with a symmetric kernel; beyond the edges there is nothing.

    Args:
        iq: IQ data or any field.
        axis: which one.
        taps: half of the kernel, see `kernel`.
    """
    out = iq * taps[0]
    ahead, back = np.moveaxis(out, axis, 0), np.moveaxis(iq, axis, 0)
    for k in range(1, min(len(taps), iq.shape[axis])):
        ahead[k:] += back[:-k] * taps[k]
        ahead[:-k] += back[k:] * taps[k]
    return out


def point_spread_kernels(grid: BeamGrid, site: Site) -> Fields:
    """Kernels of the separable point spread function: across planes and beams for every depth, and along ranges."""
    phi_step, theta_step, range_step = grid.steps
    depth = grid.depth_mm
    lateral = np.maximum(site.lateral_share * depth, site.lateral_floor_mm) * FWHM_TO_SIGMA / (grid.r * theta_step)
    converging = site.elevation_aperture_mm * np.maximum(1 - depth / site.elevation_focus_mm, 0)
    focused = np.maximum(site.elevation_share * depth, site.elevation_floor_mm)
    elevation = np.hypot(focused, converging) * FWHM_TO_SIGMA
    elevation /= (grid.r - grid.probe.centre_distance_mm) * phi_step
    elevation = np.minimum(elevation, np.float32(WIDEST))
    return kernel(elevation), kernel(lateral), kernel(site.axial_mm * FWHM_TO_SIGMA / range_step)


def point_spread(iq: Signal, kernels: Fields, threads: int = 1) -> None:
    """Blur in place.

    Args:
        iq: IQ data, or any field (planes, beams, ranges).
        kernels: across planes, across beams and along ranges.
        threads: how many work on it.
    """

    def within_plane(plane: int) -> None:
        iq[plane] = blur(blur(iq[plane], 1, kernels[2]), 0, kernels[1])

    def across_planes(beam: int) -> None:
        iq[:, beam] = blur(iq[:, beam], 0, kernels[0])

    in_threads(within_plane, range(iq.shape[0]), threads)
    in_threads(across_planes, range(iq.shape[1]), threads)


def clutter(power: Field, grid: BeamGrid, site: Site, threads: int = 1) -> Field:
    """Power of haze: reverberation that trails every echo with depth, and side lobes that spread it sideways.

    Args:
        power: of the echoes (planes, beams, ranges).
        grid: the beams.
        site: the machine.
        threads: how many work on it.
    """
    gain, decay = np.float32(grid.steps[2] / 7.0), np.float32(np.exp(-grid.steps[2] / 7.0))
    wide = _beams_within(6.0, grid)
    share = np.float32(10 ** (site.clutter_db / 10))
    haze = np.empty_like(power)

    def within_plane(plane: int) -> None:
        ndimage.uniform_filter1d(power[plane], wide[1], axis=0, output=haze[plane], mode="constant")

    def across_planes(beam: int) -> None:
        lobes = ndimage.uniform_filter1d(haze[:, beam], wide[0], axis=0, mode="nearest")
        haze[:, beam] = np.maximum(lobes, 0) * np.float32(0.35)  # the filter's running sum can end below zero

    def trail(plane: int) -> None:
        haze[plane] += signal.lfilter([np.float32(0), gain], [np.float32(1), -decay], power[plane], axis=1)
        haze[plane] *= share

    in_threads(within_plane, range(len(power)), threads)
    in_threads(across_planes, range(power.shape[1]), threads)
    in_threads(trail, range(len(power)), threads)
    return haze


@dataclass(frozen=True)
class Beams:
    """What returns from every sample before speckle and noise.

    Scattered power, coherent amplitude and the two-way loss (dB) of each sample are (planes, beams, ranges).
    The functions that make an image of it overwrite the three.
    """

    power: Field
    coherent: Field
    loss_db: Field
    grid: BeamGrid
    site: Site
    gain_db: float = 0.0

    @property
    def amplification_db(self) -> Field:
        """TGC and gain at each range (dB)."""
        return tgc_db(self.grid.depth_mm, self.site) + np.float32(self.gain_db)


def _beams_within(degrees: float, grid: BeamGrid) -> tuple[int, int]:
    """How many planes and how many beams an angle spans, at least one."""
    phi_step, theta_step, _ = grid.steps
    angle = np.radians(degrees)
    return max(1, round(angle / phi_step)), max(1, round(angle / theta_step))


def _attenuate(beams: Beams, kernels: Fields, threads: int) -> None:
    """Apply the accumulated loss, reverberation and clutter, in place; divide `coherent` by the kernels' sum.

    Sound reaches a point and returns from it through the whole aperture, by paths of their own. So the
    one-way amplitude is averaged over neighbouring beams: shadows have soft edges, and that of a side wall
    reaches past it.
    """
    power, coherent, returned = beams.power, beams.coherent, beams.loss_db
    lag = max(1, round(beams.site.reverberation_mm / beams.grid.steps[2]))
    ghost = np.float32(10 ** (beams.site.reverberation_db / 20))
    wide = _beams_within(beams.site.shadow_degrees, beams.grid)

    def accumulate(plane: int) -> None:
        np.cumsum(returned[plane], axis=1, out=returned[plane])
        np.exp(returned[plane] * (DB_TO_NEPER * np.float32(-0.5)), out=returned[plane])
        ndimage.uniform_filter1d(returned[plane], wide[1], axis=0, output=returned[plane], mode="nearest")

    def spread(beam: int) -> None:
        ndimage.uniform_filter1d(returned[:, beam], wide[0], axis=0, output=returned[:, beam], mode="nearest")

    def weaken(plane: int) -> None:
        np.clip(returned[plane], 0, 1, out=returned[plane])
        np.square(returned[plane], out=returned[plane])  # there and back
        coherent[plane] *= returned[plane]
        first = coherent[plane].copy()
        for order in range(1, beams.site.reverberations + 1):
            coherent[plane][:, order * lag :] += first[:, : -order * lag] * ghost**order
        power[plane] *= np.square(returned[plane])

    in_threads(accumulate, range(power.shape[0]), threads)
    in_threads(spread, range(power.shape[1]), threads)
    in_threads(weaken, range(power.shape[0]), threads)
    power += clutter(power + COHERENT_CLUTTER * coherent * coherent, beams.grid, beams.site, threads)
    sums = [np.broadcast_to(kernel_sum(taps), power.shape[2]) for taps in kernels]
    coherent *= np.float32(1) / np.prod(sums, axis=0)


def form_image(beams: Beams, rng: np.random.Generator, threads: int = 1) -> NDArray[np.uint8]:
    """The 8-bit beam image (planes, beams, ranges).

    Args:
        beams: what returns; its arrays are overwritten.
        rng: speckle and noise are drawn from streams of their own that it spawns.
        threads: how many work on it; the result does not depend on it.
    """
    kernels = point_spread_kernels(beams.grid, beams.site)
    _attenuate(beams, kernels, threads)
    power, coherent = beams.power, beams.coherent
    iq, noise = in_threads(partial(speckle_source, shape=power.shape), rng.spawn(2), threads)

    def scatter(plane: int) -> None:
        iq[plane] = iq[plane] * np.sqrt(power[plane]) + coherent[plane]

    in_threads(scatter, range(len(iq)), threads)
    point_spread(iq, kernels, threads)
    gain = beams.amplification_db

    def detect(plane: int) -> None:
        received = np.abs(iq[plane] + noise[plane] * np.float32(10 ** (beams.site.noise_db / 20)))
        power[plane] = np.log(received + np.float32(1e-9)) / DB_TO_NEPER + gain

    in_threads(detect, range(len(iq)), threads)
    if beams.site.tissue_grey is not None:
        power += operators_gain_db(power, beams.grid, beams.site)
    return compress(power, beams.site, _smoothing_samples(beams.grid, beams.site))


def expected_level_db(beams: Beams, threads: int = 1) -> Field:
    """The level (dB) that speckle fluctuates about.

    It is the expected power after point spread, attenuation, clutter and noise, amplified.
    """
    kernels = point_spread_kernels(beams.grid, beams.site)
    _attenuate(beams, kernels, threads)
    power, coherent = beams.power, beams.coherent
    point_spread(coherent, kernels, threads)
    point_spread(power, (kernels[0] ** 2, kernels[1] ** 2, kernels[2] ** 2), threads)
    power += coherent * coherent + np.float32(10 ** (beams.site.noise_db / 10))
    return np.log(power) / (2 * DB_TO_NEPER) + beams.amplification_db


def tgc_db(depth_mm: Field, site: Site) -> Field:
    """Time gain compensation: linear in depth, at the two-way rate of `site.tgc_db` dB/cm/MHz, 42 dB at most."""
    rate = np.float32(0.2 * site.tgc_db * site.frequency_mhz)
    return np.minimum(np.asarray(depth_mm, np.float32) * rate, np.float32(42))


def operators_gain_db(level_db: Field, grid: BeamGrid, site: Site) -> Field:
    """Gain at each range (dB) that brings the picture to `site.tissue_grey` and `site.tilt_db`.

    A line over depth is fitted to the brighter end of each range's levels, where there is tissue; fluid and shadows lie
    below it. It is the same for all beams, so what lies behind fluid stays enhanced.

    Args:
        level_db: of every sample (planes, beams, ranges).
        grid: the beams.
        site: the machine.
    """
    depth = grid.depth_mm
    shown = np.flatnonzero(depth >= max(grid.probe.near_mm, min(GAIN_FROM_MM, depth[-1] / 2)))[::3]
    brighter = np.percentile(level_db[::4, ::4][:, :, shown], 92, axis=(0, 1))
    slope, start = np.polyfit(depth[shown], brighter, 1)
    tissue = brighter > slope * depth[shown] + start - FLUID_BELOW_DB
    slope, start = np.polyfit(depth[shown][tissue], brighter[tissue], 1)
    middle, span = float(depth[shown].mean()), float(np.ptp(depth[shown]))
    wanted = site.top_db - (255 - float(site.tissue_grey or 0)) * site.dynamic_range_db / 254
    tilted = (depth - middle) * (site.tilt_db / span)
    return np.asarray(wanted + tilted - start - slope * depth, np.float32)


def ring_down(grid: BeamGrid, site: Site) -> Field:
    """Amplitude at each range of the probe's own echo: bands that fade with depth."""
    if site.ring_down_db is None:
        return np.zeros_like(grid.r)
    bands = np.cos(np.pi * grid.depth_mm / site.ring_down_mm) ** 2
    fading = np.exp(-grid.depth_mm / (2 * site.ring_down_mm))
    return np.asarray(10 ** (site.ring_down_db / 20) * bands * fading, np.float32)


def _smoothing_samples(grid: BeamGrid, site: Site) -> tuple[float, float, float]:
    """Sigma of the display's filter in samples of each axis, from the point spread at the middle of what is shown."""
    middle = (len(grid.r) + round(grid.probe.near_mm / grid.steps[2])) // 2
    r = float(grid.r[middle])
    depth = r - grid.probe.probe_radius_mm
    widths = (
        max(site.elevation_share * depth, site.elevation_floor_mm),
        max(site.lateral_share * depth, site.lateral_floor_mm),
        site.axial_mm,
    )
    steps = grid.steps[0] * (r - grid.probe.centre_distance_mm), grid.steps[1] * r, grid.steps[2]
    first, second, third = (site.smoothing * FWHM_TO_SIGMA * w / s for w, s in zip(widths, steps, strict=True))
    return first, second, third


def compress(level_db: Field, site: Site, smoothing_samples: tuple[float, ...]) -> NDArray[np.uint8]:
    """Map the top `dynamic_range_db` below `top_db` to 1-255, smooth slightly and reject what is dark, as machines do.

    Args:
        level_db: of every sample (planes, beams, ranges).
        site: the machine.
        smoothing_samples: sigma of the filter along each axis.

    0 is kept for outside the sector.
    """
    grey = (level_db - np.float32(site.top_db)) * np.float32(254 / site.dynamic_range_db) + np.float32(255)
    for axis, sigma in enumerate(smoothing_samples):
        if sigma > 0.1:
            grey = ndimage.gaussian_filter1d(np.clip(grey, -60, 255), sigma, axis=axis, truncate=2.5, mode="nearest")
    if site.reject_grey:
        grey = (grey - np.float32(site.reject_grey)) * np.float32(255 / (255 - site.reject_grey))
    return np.rint(np.clip(grey, 1, 255)).astype(np.uint8)
