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
