"""Still pictures show the chosen slices at true aspect, maps at their own scale."""

from __future__ import annotations

import numpy as np

from fhlib.interpretability.choices import View
from fhlib.interpretability.layers import Layer
from fhlib.interpretability.panels import Overlay, Row, compose
from tests.interpretability.made import SHAPE, SPACING


def view(point: tuple[int, ...] = (0, 0, 0), **look: object) -> View:
    return View("case", "model", point=point, **look)


def overlay(values: np.ndarray, low: float = 0.0, high: float = 1.0, **more: object) -> Overlay:
    return Overlay(Layer(values, **more.pop("grid", {})), "", "", low, high, "viridis", **more)


def test_panels_show_the_slices_at_true_aspect() -> None:
    grey = np.zeros(SHAPE)
    grey[7, 4, 20] = 1  # one bright voxel
    picture = compose(Layer(grey), SPACING, view((7, 4, 20)), [Row("", None)], longest_px=480)  # 20 px a mm
    assert [(p.height, p.width) for p in picture.places] == [(390, 480), (200, 480), (200, 390)]
    d, h, w = 7 * 10 + 5, 4 * 30 + 15, 20 * 16 + 8  # the voxel's middle along each axis in pixels
    for place, (down, across) in zip(picture.places, ((h, w), (d, w), (d, h)), strict=True):
        at = picture.pixels[place.top + down, place.left + across]
        far = picture.pixels[place.top + 40, place.left + 30]
        assert at.min() > 200 and far.max() == 0


def test_a_map_covers_its_own_voxels_and_nothing_outside() -> None:
    values = np.zeros((5, 4, 8))  # a quarter of the image, a voxel of padding left out
    values[1, 1, 3] = 1.0  # voxels d 4-7, h 4-7, w 12-15
    quarter = {"scale": (0.25,) * 3, "offset": (-0.375,) * 3, "extent": (5.0, 3.25, 7.5)}
    shown = overlay(values, grid=quarter)
    for point, bright in (((5, 5, 13), True), ((8, 5, 13), False), ((5, 8, 13), False), ((5, 5, 16), False)):
        picture = compose(Layer(np.zeros(SHAPE)), SPACING, view(point, opacity=1.0, fading=False), [Row("", shown)])
        place = picture.places[0]
        row, column = int((point[1] + 0.25) / 13 * place.height), int((point[2] + 0.25) / 30 * place.width)
        assert (picture.pixels[place.top + row, place.left + column, 0] > 200) == bright  # viridis ends in yellow


def test_low_values_fade_signed_ones_about_zero_and_thresholds_hide() -> None:
    grey, plane = np.full((1, 4), 0.5, np.float32), np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)
    look = view(opacity=0.8, colours="gray")
    faded = overlay(plane).blend(grey, plane, look)[0, :, 0]
    np.testing.assert_allclose(faded, [0.5, 0.5, 0.2 * 0.5 + 0.8, 0.5], atol=5e-3)
    signed = overlay(plane, -1.0, signed=True).blend(grey, plane, look)[0, :, 0]
    np.testing.assert_allclose(signed, [0.5, 0.6 * 0.5 + 0.4 * 0.75, 0.2 * 0.5 + 0.8, 0.5], atol=5e-3)
    cut = view(opacity=0.8, colours="gray", fading=False, lower=0.2, upper=0.6)
    np.testing.assert_allclose(
        overlay(plane).blend(grey, plane, cut)[0, :, 0], [0.5, 0.2 * 0.5 + 0.4, 0.5, 0.5], atol=5e-3
    )


def test_a_logarithmic_scale_by_hand() -> None:
    shown = overlay(np.zeros((1, 1, 1)), 1e-4, 1.0, log=True)
    np.testing.assert_allclose(shown.shade(np.array([1e-6, 1e-4, 1e-2, 1.0, 2.0])), [0, 0, 0.5, 1, 1], atol=1e-6)


def test_outlines_run_between_a_maps_voxels() -> None:
    """Values of 0.1 and 0.7 along w, 4 voxels of the scan apart: 0.5 lies two thirds of the way."""
    values = np.full((5, 4, 8), 0.1, np.float32)
    values[:, :, 4:] = 0.7
    layer = Layer(values, (0.25,) * 3, (-0.375,) * 3)  # centres at 1.5, 5.5, 9.5, 13.5, 17.5, ...
    grey = Layer(np.zeros((20, 13, 30)))
    picture = compose(grey, (1.0, 1.0, 1.0), view((9, 6, 0)), [Row("", None)], [(layer, "#ff0000")], 300)
    place = picture.places[0]
    red = (picture.pixels[place.top : place.top + place.height, :300] == [255, 0, 0]).all(axis=2)
    first = np.flatnonzero(red.any(axis=0))[0]
    assert abs(first - 10 * (13.5 + 4 * 2 / 3 + 0.5)) <= 1.5
