"""Planes, galleries and maps show what they were given: scale, slices, contours."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.figures import planes
from fhlib.images.volume import Volume
from tests.figures.made import SPACING, ball, smallest_letters, texts


def test_planes_have_true_aspect_and_the_slices_of_the_crosshair(scan: Volume) -> None:
    figure = planes.planes(scan, {"expert": ball(12)}, crosshair=(10, 20, 5))
    images = [axis.images[0] for axis in figure.axes[:3]]
    assert [tuple(image.get_extent()) for image in images] == [
        (0, 44, 42, 0),
        (0, 44, 40, 0),
        (0, 42, 40, 0),
    ]  # mm: w, h, d = 44, 42, 40
    for image, expected in zip(images, (scan.array[10], scan.array[:, 20], scan.array[:, :, 5]), strict=True):
        np.testing.assert_array_equal(image.get_array(), expected)
    assert all(axis.get_aspect() == 1 for axis in figure.axes[:3])
    assert "d = 10 of 80" in texts(figure) and "expert" in texts(figure)
    assert figure.axes[0].lines[0].get_ydata()[0] == 20.5  # h = 20 of 1 mm, voxel centre


def test_planes_of_an_image_and_default_point_in_the_mask(scan: Volume) -> None:
    image = Volume(scan.array[:, 20], (0.5, 2.0))
    figure = planes.planes(image, {"sonographer": ball(12)[:, 20]}, probability=np.full((80, 22), 0.5))
    assert len(figure.axes) == 2 and figure.axes[0].images[0].get_extent() == [0, 44, 40, 0]
    box = np.zeros((8, 6, 12), bool)
    box[2:5, 1:4, 6:9] = True
    assert planes.centre_of(box) == (3, 2, 7)
    label = Volume(box.astype(np.uint8), (1.0, 1.0, 1.0))  # labels on disk are integers
    assert "d = 3 of 8" in texts(planes.planes(label, {"expert": label}))
    assert planes.centre_of(np.zeros((4, 6, 8), bool)) == (2, 3, 4)


def test_a_contour_of_another_shape_is_an_error(scan: Volume) -> None:
    with pytest.raises(ValueError, match="resample one to the other's grid"):
        planes.planes(scan, {"expert": np.ones((4, 4, 4), bool)})


def test_gallery_states_n_and_shows_all(scan: Volume) -> None:
    figure = planes.gallery([scan] * 5, list("abcde"), masks=[ball(10)] * 4 + [None], title="Cohort")
    assert texts(figure).split()[-4:] == ["Cohort:", "n", "=", "5"]
    assert sum(bool(axis.images) for axis in figure.axes) == 5 and smallest_letters(figure) >= 7
    with pytest.raises(ValueError, match="one label for each volume"):
        planes.gallery([scan], [])


def test_the_bar_of_a_gallery_lies_on_its_slice(scan: Volume) -> None:
    wide = Volume(np.ones((120, 42, 40)), SPACING)  # its frame is larger than the first slice, and as white as the bar
    bar = planes.gallery([scan, wide], ["a", "b"]).axes[0].lines[-1]
    assert np.ptp(bar.get_xdata()) == 10 and max(bar.get_xdata()) < 44 and max(bar.get_ydata()) < 40


def test_fig6_fig7_and_augmentation_in_2d_and_3d(scan: Volume) -> None:
    mask, image, flat = ball(12), Volume(scan.array[:, 20], (0.5, 2.0)), ball(12)[:, 20]
    probability = mask.astype(np.float32)
    assert len(planes.probability_comparison(scan, mask, {"A": probability, "B": probability}).axes) == 3 * 3 + 1
    assert len(planes.probability_comparison(image, flat, {"A": flat.astype(float)}).axes) == 2 + 1
    assert len(planes.augmentation_grid([(scan.array, mask)] * 4, SPACING, list("abcd")).axes) == 12
    batch = image.array[None, None]
    assert len(planes.augmentation_grid([(batch, flat[None])], (0.5, 2.0), ["original"]).axes) == 1
