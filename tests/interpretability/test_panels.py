"""Panels show the chosen slices at true aspect, maps at their own scale."""

from __future__ import annotations

import numpy as np

from fhlib.interpretability.panels import Overlay, Row, compose
from tests.interpretability.made import SHAPE, SPACING


def test_panels_show_the_slices_at_true_aspect() -> None:
    grey = np.zeros(SHAPE)
    grey[7, 4, 20] = 1  # one bright voxel
    picture = compose(grey, SPACING, (7, 4, 20), [Row("", None)], longest_px=480)  # 20 px a mm: 24 mm along w
    assert [(p.height, p.width) for p in picture.places] == [(390, 480), (200, 480), (200, 390)]
    d, h, w = 7 * 10 + 5, 4 * 30 + 15, 20 * 16 + 8  # the voxel's middle along each axis in pixels
    for place, (down, across) in zip(picture.places, ((h, w), (d, w), (d, h)), strict=True):
        at = picture.pixels[place.top + down, place.left + across]
        far = picture.pixels[place.top + 40, place.left + 30]
        assert at.min() > 200 and far.max() == 0
        x = (place.left + across) / picture.pixels.shape[1]
        y = (place.top + down) / picture.pixels.shape[0]
        under, cut = picture.locate(x, y)
        assert cut == place.cut and {**under, cut: (7, 4, 20)[cut]} == {0: 7, 1: 4, 2: 20}
    assert picture.locate(0.0, 0.0) is None  # the title


def test_overlay_takes_the_map_at_its_own_scale() -> None:
    values = np.zeros((6, 4, 8))  # a quarter of the padded (24, 16, 32)
    values[1, 1, 3] = 1.0  # voxels d 4-7, h 4-7, w 12-15
    overlay = Overlay(values, 0, 1, "viridis", opacity=1.0)
    for point, bright in (((5, 5, 13), True), ((8, 5, 13), False), ((5, 8, 13), False), ((5, 5, 16), False)):
        picture = compose(np.zeros(SHAPE), SPACING, point, [Row("", overlay)])
        place = picture.places[0]
        row, column = int((point[1] + 0.25) / 13 * place.height), int((point[2] + 0.25) / 30 * place.width)
        assert (picture.pixels[place.top + row, place.left + column, 0] > 200) == bright  # viridis ends in yellow


def test_low_values_fade_and_signed_ones_fade_about_zero() -> None:
    grey, plane = np.full((1, 3), 0.5, np.float32), np.array([[0.0, 0.5, 1.0]], np.float32)
    faded = Overlay(plane, 0, 1, "gray", 0.8, fading=True).blend(grey, plane)[0, :, 0]
    np.testing.assert_allclose(faded, [0.5, 0.5, 0.2 * 0.5 + 0.8], atol=5e-3)
    signed = Overlay(plane, -1, 1, "gray", 0.8, fading=True).blend(grey, plane)[0, :, 0]
    np.testing.assert_allclose(signed, [0.5, 0.6 * 0.5 + 0.4 * 0.75, 0.2 * 0.5 + 0.8], atol=5e-3)
