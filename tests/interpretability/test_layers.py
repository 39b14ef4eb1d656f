"""Maps lie where their voxels are in mm: by hand on anisotropic, oblique grids, and against the volumes' own positions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fhlib.images.volume import Volume
from fhlib.interpretability.layers import (
    Layer,
    handedness,
    layer_over,
    position_matrix,
    scan_layer,
    surface_of,
)
from tests.interpretability.made import oblique


def network_image() -> Volume:
    """A grid of 2 mm over `oblique`, its first voxel's centre 1 mm along d, 0.5 along h and 0.75 along w from the scan's."""
    scan = oblique()
    turn = np.array(scan.direction).reshape(3, 3)
    origin = np.array(scan.origin) + turn @ np.array([0.75, 0.5, 1.0])
    return Volume(np.zeros((6, 9, 5), np.float32), (2.0, 2.0, 2.0), tuple(origin), scan.direction)


def test_a_place_of_the_scan_leads_to_the_maps_voxel_by_hand() -> None:
    image = network_image()
    values = np.arange(6 * 9 * 5, dtype=np.float32).reshape(image.shape)
    layer = layer_over(oblique(), image, values)
    # d: (1.0 i - 1) / 2; h: (2.5 i - 0.5) / 2; w: (0.5 i - 0.75) / 2
    np.testing.assert_allclose(layer.scale, (0.5, 1.25, 0.25))
    np.testing.assert_allclose(layer.offset, (-0.5, -0.25, -0.375))
    assert layer.at((5, 2, 10)) == values[2, 2, 2]  # at 2.0, 2.25 and 2.125
    assert np.isnan(layer.at((0, 3, -1)))  # w: -0.625


def test_nearest_voxels_agree_with_positions_in_mm() -> None:
    scan, image = oblique(), network_image()
    values = np.random.default_rng(0).random(image.shape).astype(np.float32)
    layer = layer_over(scan, image, values)
    centres = {index: np.array(image.position(index)) for index in np.ndindex(image.shape)}
    for index in [(1, 1, 3), (5, 2, 7), (9, 5, 12), (3.3, 4.2, 9.1)]:
        here = np.array(scan.position(index))
        nearest = min(centres, key=lambda place: float(np.linalg.norm(centres[place] - here)))
        assert layer.at(index) == values[nearest]


def test_a_modules_map_spans_its_blocks_and_padding_is_left_out() -> None:
    image = Volume(np.zeros((10, 6, 9)), (1.0, 2.0, 0.5))  # padded to 16 x 8 x 16
    values = np.arange(4 * 2 * 4, dtype=np.float16).reshape(4, 2, 4)  # a quarter
    layer = layer_over(image, image, values)
    assert layer.values.shape == (3, 2, 3) and layer.extent == (2.5, 1.5, 2.25)
    for index in np.ndindex(image.shape):
        assert layer.at(index) == values[tuple(place // 4 for place in index)]
    assert np.isnan(layer.at((10, 0, 0))) and np.isnan(layer.at((0, 6, 0)))  # padding of the map's last voxels


def test_the_scans_own_numbers_and_positions_go_to_the_browser() -> None:
    scan = oblique()
    layer = scan_layer(scan)
    numbers = np.frombuffer(layer.numbers(), np.dtype(layer.header()["dtype"])).reshape(layer.header()["shape"])
    np.testing.assert_array_equal(numbers, scan.array)
    matrix = np.array(position_matrix(scan))
    # by hand: x = 10 + 0.5 w cos 30 - 2.5 h sin 30, y = -20 + 0.5 w sin 30 + 2.5 h cos 30, z = 5 + d
    np.testing.assert_allclose(matrix @ [3, 2, 4, 1], (10 + 1.7320508 - 2.5, -20 + 1 + 4.3301270, 8), atol=1e-6)
    np.testing.assert_allclose(matrix @ [3, 2, 4, 1], scan.position((3, 2, 4)))
    assert handedness(scan) == 1 and handedness(replace(scan, direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1))) == -1
    flat = Volume(np.zeros((4, 6)), (0.5, 2.0), (1.0, 2.0))
    np.testing.assert_allclose(np.array(position_matrix(flat)) @ [0, 3, 2, 1], (5.0, 3.5))
    assert scan_layer(flat.with_array(np.ones((4, 6), bool))).values.dtype == np.uint8


def test_a_scan_with_other_axes_is_refused() -> None:
    straight = Volume(np.zeros((6, 9, 5)), (2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="give the scan that the network read"):
        layer_over(oblique(), straight, straight.array)


def test_a_surface_lies_where_the_ball_does() -> None:
    index = np.indices((60, 80, 100))
    ball = sum(((axis - centre) / radius) ** 2 for axis, centre, radius in zip(index, (30, 41, 52), (20, 25, 30))) <= 1
    layer = Layer(ball.astype(np.uint8), (0.5, 1.0, 2.0), (1.0, 0.0, -4.0))
    vertices, faces = surface_of(layer)
    middle = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
    np.testing.assert_allclose(middle, ((30 - 1) / 0.5, 41, (52 + 4) / 2), atol=0.6)
    np.testing.assert_allclose(np.ptp(vertices, axis=0), (40 / 0.5, 50, 60 / 2), rtol=0.06)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()  # closed
    assert len(surface_of(Layer(np.zeros((4, 5, 6), np.uint8)))[0]) == 0
