"""Speckle, point spread, haze and losses, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fhlib.phantom import acoustics
from fhlib.phantom import probe as machines
from fhlib.phantom.probe import BeamGrid, Probe


def speckle_block():
    iq = acoustics.speckle_source(np.random.default_rng(1), (48, 96, 400))
    acoustics.point_spread(iq, tuple(acoustics.kernel(sigma) for sigma in (1.2, 1.5, 2.0)))
    return iq[8:-8, 8:-8, 8:-8]


def test_speckle_is_fully_developed():
    envelope = np.abs(speckle_block())
    assert (envelope**2).mean() == pytest.approx(1, rel=0.03)  # unit-energy kernels keep the mean power
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, abs=0.05)
    assert (20 * np.log10(envelope)).std() == pytest.approx(5.57, abs=0.3)


def test_autocovariance_width_is_the_point_spread():
    intensity = np.abs(speckle_block()) ** 2
    centred = intensity - intensity.mean()
    for axis, sigma in ((0, 1.2), (1, 1.5), (2, 2.0)):
        moved = np.moveaxis(centred, axis, 0)
        # A Gaussian amplitude of width sigma gives an intensity autocovariance exp(-lag^2 / (2 sigma^2)).
        lag = 2
        ratio = (moved[:-lag] * moved[lag:]).mean() / (moved**2).mean()
        assert np.sqrt(-(lag**2) / (2 * np.log(ratio))) == pytest.approx(sigma, rel=0.10)


def test_simulated_tissue_has_speckle_in_the_whole_chain():
    """A uniform medium through form_image without noise, smoothing and attenuation keeps the statistics of speckle."""
    site = dataclasses.replace(
        machines.Site(),
        noise_db=-200.0,
        smoothing=0.0,
        clutter_db=-200.0,
        tgc_db=0.0,
        top_db=25.0,
        dynamic_range_db=80.0,
    )
    grid = BeamGrid.build(site.probe, 60, 0.4, 0.02, 0.03)
    power, coherent, loss = (np.full(grid.shape, value, np.float32) for value in (1.0, 0.0, 0.0))
    beams = acoustics.form_image(acoustics.Beams(power, coherent, loss, grid, site), np.random.default_rng(2))
    level = (beams[4:-4, 4:-4, 4:-4].astype(float) - 255) * 80 / 254
    assert level.std() == pytest.approx(5.57, abs=0.3)
    assert 10 * np.log10((10 ** (level / 10)).mean()) == pytest.approx(-25, abs=0.3)


def test_the_beam_is_as_wide_as_its_source_says_and_focused_in_elevation():
    grid = BeamGrid.build(Probe(), 150, 0.5, 0.002, 0.002)
    planes, beams, ranges = acoustics.point_spread_kernels(grid, machines.Site())
    depth = grid.r - 45

    def width_mm(taps, at_mm, steps_mm):  # a Gaussian's variance is that of its taps
        taps = taps[:, np.abs(depth - at_mm).argmin()]
        lags = np.arange(len(taps))
        return 2.3548 * np.sqrt((2 * taps * lags**2).sum() / (taps[0] + 2 * taps[1:].sum())) * steps_mm

    for at, lateral, elevation in ((60, 1.2, 2.0), (100, 2.0, 3.3), (140, 2.7, 4.6)):
        assert width_mm(beams, at, grid.steps[1] * (45 + at)) == pytest.approx(lateral, rel=0.10)
        assert width_mm(planes, at, grid.steps[0] * (50 + at)) == pytest.approx(elevation, rel=0.10)
    assert width_mm(planes, 20, grid.steps[0] * 70) > 1.5 * width_mm(planes, 60, grid.steps[0] * 110)
    assert ranges[1] / ranges[0] == pytest.approx(2 ** -((0.5 / 0.3) ** 2), rel=0.02)  # half at half of 0.6 mm


@pytest.mark.parametrize("step_mm", [0.3, 0.6, 1.2])
def test_haze_behind_a_plate_does_not_depend_on_the_sampling(step_mm):
    site = dataclasses.replace(machines.Site(), noise_db=-200.0, clutter_db=-20.0, tgc_db=0.0, reverberation_db=-200.0)
    grid = BeamGrid.build(site.probe, 60, step_mm, 0.02, 0.03)
    coherent = np.zeros(grid.shape, np.float32)
    coherent[:] = 50 * np.clip(1 - np.abs(grid.r - 65) / 1.2, 0, 1)
    beams = acoustics.Beams(np.zeros_like(coherent), coherent, np.zeros_like(coherent), grid, site)
    level = acoustics.expected_level_db(beams)
    middle = tuple(n // 2 for n in grid.shape[:2])
    # by hand: 0.01 * 0.11 of the plate's energy, 2500 * 0.8 mm, spread over 7 mm and decayed over 10 mm
    expected = 10 * np.log10(0.0011 * 2500 * 0.8 / 7 * np.exp(-10 / 7))
    assert level[middle][np.abs(grid.r - 75).argmin()] == pytest.approx(expected, abs=0.8)


def test_skull_loss_grows_with_the_angle_of_incidence():
    skull = acoustics.Skull(normal_loss_db=5, oblique_loss_db=20, critical_degrees=40)
    loss = acoustics.skull_loss_db(np.cos(np.radians([0, 40, 80])).astype(np.float32), skull)
    # a logistic of slope 8 about cos 40 degrees = 0.766 has 0.133 at normal incidence and 0.991 at 80 degrees
    assert loss == pytest.approx([5, 5 + 20 * (0.5 - 0.133), 5 + 20 * (0.991 - 0.133)], abs=0.05)


def test_gain_with_depth_by_hand():
    site = dataclasses.replace(machines.Site(), tgc_db=0.5, frequency_mhz=4.0)
    assert acoustics.tgc_db(np.array([50.0, 500.0]), site) == pytest.approx([20, 42])  # 0.5 * 4 * 2 * 5 cm


def test_the_operators_gain_brings_tissue_to_its_grey_and_slope_by_hand():
    site = dataclasses.replace(machines.Site(), tissue_grey=128.0, tilt_db=10.0, top_db=10.0, dynamic_range_db=63.5)
    grid = BeamGrid.build(Probe(45, 20, near_mm=20), 100, 1.0, 0.05, 0.1)
    level = np.broadcast_to(-40 - 0.3 * grid.depth_mm, grid.shape) + acoustics.operators_gain_db(
        np.ascontiguousarray(np.broadcast_to(-40 - 0.3 * grid.depth_mm, grid.shape)), grid, site
    )
    # 127 grey levels below white at a quarter dB each: 10 - 31.75 at the middle; 10 dB more at the far end than at 20 mm
    assert level[0, 0, np.abs(grid.depth_mm - 60).argmin()] == pytest.approx(-21.75, abs=0.3)
    assert level[0, 0, -1] - level[0, 0, np.abs(grid.depth_mm - 20).argmin()] == pytest.approx(10, abs=0.3)


def test_echoes_come_again_as_often_as_the_machine_says():
    site = dataclasses.replace(quiet_site(), reverberation_mm=10.0, reverberation_db=-20.0, reverberations=3)
    grid = BeamGrid.build(site.probe, 60, 0.5, 0.02, 0.03)
    coherent = np.zeros(grid.shape, np.float32)
    coherent[..., 20] = 1000
    zeros = np.zeros_like(coherent)
    level = acoustics.expected_level_db(acoustics.Beams(zeros, coherent, zeros.copy(), grid, site))
    at = level[tuple(n // 2 for n in grid.shape[:2])][[20, 40, 60, 80]]
    assert np.diff(at) == pytest.approx([-20, -20, -20], abs=0.5)


def quiet_site():
    return dataclasses.replace(machines.Site(), noise_db=-200.0, clutter_db=-200.0, tgc_db=0.0)


def beams_of(power: np.ndarray, grid: BeamGrid) -> acoustics.Beams:
    return acoustics.Beams(power.copy(), np.zeros_like(power), np.zeros_like(power), grid, quiet_site())


def test_expected_level_of_a_uniform_medium_is_its_power():
    grid = BeamGrid.build(quiet_site().probe, 60, 0.4, 0.02, 0.03)
    level = acoustics.expected_level_db(beams_of(np.full(grid.shape, 0.01, np.float32), grid))
    assert level[5:-5, 8:-8, 10:-10] == pytest.approx(-20, abs=0.05)  # unit energy: speckle keeps its mean power


def test_expected_level_is_the_mean_intensity_of_many_speckle_patterns():
    grid = BeamGrid.build(quiet_site().probe, 30, 0.5, 0.03, 0.05)
    power = np.ones(grid.shape, np.float32)
    power[:, grid.shape[1] // 2 :] = 0.01
    kernels = acoustics.point_spread_kernels(grid, quiet_site())
    total, random = np.zeros(grid.shape), np.random.default_rng(0)
    for _ in range(150):
        iq = acoustics.speckle_source(random, grid.shape) * np.sqrt(power)
        acoustics.point_spread(iq, kernels)
        total += np.abs(iq) ** 2 / 150
    # averaged over planes and ranges too, across the step
    inner = (slice(4, -4), slice(None), slice(6, -6))
    measured = 10 * np.log10(total[inner].mean((0, 2)))
    expected = 10 * np.log10((10 ** (acoustics.expected_level_db(beams_of(power, grid))[inner] / 10)).mean((0, 2)))
    assert measured == pytest.approx(expected, abs=0.15)


def test_the_display_spreads_what_it_does_not_reject_by_hand():
    """60 dB below white to 254 levels: -30 dB is 128, and above a threshold of 64 it is (128 - 64) * 255 / 191 = 85.4."""
    site = dataclasses.replace(machines.SITES["paper-like"], dynamic_range_db=60.0, top_db=0.0)
    levels = np.array([0.0, -30.0, -45.2, -90.0])
    assert acoustics.compress(levels, site, ()).tolist() == [255, 128, 64, 1]
    rejecting = dataclasses.replace(site, reject_grey=64.0)
    assert acoustics.compress(levels, rejecting, ()).tolist() == [255, 85, 1, 1]  # 0 is kept for outside the sector
