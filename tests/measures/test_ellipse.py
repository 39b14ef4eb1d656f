"""The ellipse of a mask: drawn ones are recovered, in mm and by the angle from x towards y."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fhlib.images.volume import Volume
from fhlib.measures.biometry import biometry
from fhlib.measures.ellipse import Ellipse, ellipse_of
from tests.cohorts.made_hc18 import circumference, ellipse

SPACING = (0.2, 0.3)  # down, across


def drawn(centre, axes, angle, shape=(340, 400)):
    """A mask of pixels of 0.2 x 0.3 mm, an ellipse with these mm; drawn on pixels of 0.1 mm, of which every second and third is taken."""
    fine = ellipse((2 * shape[0], 3 * shape[1]), np.array(centre) / 0.1, np.array(axes) / 0.1, angle) <= 0
    return Volume(fine[::2, ::3].astype(np.uint8), SPACING)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.4])
def test_a_drawn_ellipse_is_recovered(angle):
    found = ellipse_of(drawn((33, 58), (24, 19), angle))
    assert (found.x_mm, found.y_mm) == pytest.approx((58, 33), abs=0.02)
    assert (found.a_mm, found.b_mm) == pytest.approx((24, 19), abs=0.03)
    # half a turn is the same ellipse
    assert (found.angle_rad - angle + 1) % math.pi == pytest.approx(1, abs=0.01) and 0 <= found.angle_rad < math.pi
    assert found.hc_mm == pytest.approx(circumference(24, 19), rel=2e-3)


def test_hc_is_biometrys_and_the_inside_is_the_mask():
    mask = drawn((33, 58), (24, 19), 2.4)
    assert ellipse_of(mask).hc_mm == pytest.approx(biometry(mask, "skull").hc_mm, rel=1e-9)
    exact = Ellipse(58, 33, 24, 19, 2.4).inside(mask)
    assert np.count_nonzero(exact != mask.array) <= 4  # on the very edge
    assert np.count_nonzero(exact) * 0.06 == pytest.approx(math.pi * 24 * 19, rel=2e-3)


def test_what_is_no_ellipse_is_refused():
    line = np.zeros((30, 40), np.uint8)
    line[12, 5:30] = 1
    for mask in (np.zeros((30, 40), np.uint8), line):
        with pytest.raises(ValueError, match="expected the area of a head"):
            ellipse_of(Volume(mask, SPACING))
    with pytest.raises(ValueError, match="3 dimensions: give one plane"):
        ellipse_of(Volume(np.ones((3, 4, 5), np.uint8), (1, 1, 1)))
