"""Simulated single images."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.phantom.plane import simulate_plane
from fhlib.phantom.realism import (
    plane_measures,
)


@pytest.fixture(scope="module")
def plane():
    return simulate_plane(3, ga_weeks=21, pixel_mm=0.3, shape=(360, 480))


def test_a_plane_shows_the_section_of_its_subjects_skull(plane):
    assert plane.image.shape == plane.label.shape == (360, 480) and plane.image.spacing_mm == (0.3, 0.3)
    area = plane.label.array.sum() * 0.09
    # tilted by degrees and at most a tenth of the OFD off the standard plane, whose section is nearly an ellipse
    ellipse = np.pi / 4 * plane.subject.bpd_mm * plane.subject.ofd_mm
    assert 0.85 < area / ellipse < 1.05
    measures = plane_measures(plane.image, plane.label)
    assert measures["skull_minus_brain"] > 30


def test_a_plane_is_the_same_for_the_same_seed_and_refuses_other_ages(plane):
    again = simulate_plane(3, ga_weeks=21, pixel_mm=0.3, shape=(360, 480))
    assert (again.image.array == plane.image.array).all()
    with pytest.raises(ValueError, match="11-40"):
        simulate_plane(3, ga_weeks=41)
