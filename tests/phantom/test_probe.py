"""The probe's geometry."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.phantom.probe import BeamGrid, Box, Probe, blocks, scan_convert


def test_beam_coordinates_invert():
    probe = Probe(45, 50)
    phi, theta, r = (np.array(values, np.float32) for values in ([0.3, -0.6, 0], [-0.5, 0.2, 0], [60, 170, 45]))
    x, y, z = probe.cartesian(phi, theta, r)
    # By hand for the last point: straight ahead at the probe's face.
    assert (x[2], y[2], z[2]) == pytest.approx((0, 0, 45))
    # By hand for the first: d = -5, reach = 60 cos 0.5 = 52.655.
    assert (x[0], y[0], z[0]) == pytest.approx(
        (-28.766, -np.sin(0.3) * 57.655, -5 * (1 - np.cos(0.3)) + 52.655 * np.cos(0.3)), abs=1e-3
    )
    assert np.allclose(probe.beam((x, y, z)), (phi, theta, r), atol=1e-4)


def test_a_toroid_whose_sweep_axis_lies_before_the_centre_of_curvature():
    probe = Probe(40, 13, 70, 80, fan_centre_degrees=4, sweep_centre_degrees=-6, near_mm=20)
    phi, theta, r = (np.array(values, np.float32) for values in ([0.4, -0.6, 0.1], [0.3, -0.5, 0], [80, 61, 100]))
    x, y, z = probe.cartesian(phi, theta, r)
    # By hand for the first point: d = 27, reach = 80 cos 0.3 = 76.427.
    assert (x[0], y[0], z[0]) == pytest.approx((23.642, -19.248, 72.525), abs=2e-3)
    assert np.allclose(probe.beam((x, y, z)), (phi, theta, r), atol=1e-4)

    # the region of interest: counted voxels give its volume and its edges
    low, high = probe.edges(90)
    box = Box.spanning(low, high, 1.0)
    inside = probe.sees(box.points(tuple(slice(0, n) for n in box.shape)), 90)
    assert inside.sum() == pytest.approx(probe.volume_mm3(90), rel=0.01)
    assert all(inside.any(tuple({0, 1, 2} - {axis}))[[1, -2]].all() for axis in range(3))


def test_scan_conversion_blanks_what_lies_nearer_than_the_region_of_interest():
    probe = Probe(40, 13, 60, 70, sweep_centre_degrees=5, near_mm=25)
    grid = BeamGrid.build(probe, 80, 1.0, 0.02, 0.03)
    box = Box.spanning(*probe.edges(80), 2.0)
    p = box.points(tuple(slice(0, n) for n in box.shape))
    shown = scan_convert(np.full(grid.shape, 9, np.uint8), grid, box) == 9
    assert grid.depth_mm[0] == 0 and np.degrees(grid.phi[[0, -1]]) == pytest.approx((-30, 40))
    assert (shown != probe.sees(p, 80)).mean() < 1e-3

    # the planes and beams towards a part of the box show it as all of them do
    part = Box((12, 9, 10), 2.0, (box.corner[0] + 30, box.corner[1] + 20, box.corner[2] + 40))
    ramp = np.add.outer(np.add.outer(np.arange(len(grid.phi)), np.arange(len(grid.theta))), np.arange(len(grid.r)))
    fewer = grid.towards(part, 4.0, 4.0)
    first = [int(np.flatnonzero(a == b[0])[0]) for a, b in ((grid.phi, fewer.phi), (grid.theta, fewer.theta))]
    cut = ramp[first[0] :, first[1] :][tuple(slice(0, n) for n in fewer.shape)].astype(np.uint8)
    assert np.prod(fewer.shape) < 0.6 * ramp.size
    assert (
        np.abs(scan_convert(cut, fewer, part) - scan_convert(ramp.astype(np.uint8), grid, part).astype(int)).max() <= 1
    )


def test_blocks_tile_an_array():
    counted = np.zeros((17, 40, 70), int)
    for block in blocks(counted.shape):
        counted[block] += 1
    assert (counted == 1).all()


def test_scan_conversion_reproduces_a_linear_field_and_blanks_the_outside():
    probe = Probe(45, 50, 60, 50)
    grid = BeamGrid.build(probe, 120, 1.0, 0.02, 0.03)
    beams = np.broadcast_to((grid.r - 45 + 50).astype(np.uint8), grid.shape)
    box = Box.build((120, 80, 130), 2.5, 37)
    image = scan_convert(np.ascontiguousarray(beams), grid, box)
    p = box.points(tuple(slice(0, n) for n in box.shape))
    expected, inside = probe.beam(p)[2] + 5, probe.sees(p, 119, margin_degrees=0.1)
    assert image.shape == (52, 32, 48)
    assert np.abs(image[inside] - expected[inside]).max() <= 1.6  # rounding of beams and of voxels
    assert (image[~probe.sees(p, 121, margin_degrees=-0.1)] == 0).all()
