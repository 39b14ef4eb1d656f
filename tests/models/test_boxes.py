"""Locate, then outline: boxes on oblique, anisotropic grids, and a cascade whose networks are thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fhlib.images.grids import crop_to_box, resample
from fhlib.images.volume import Volume
from fhlib.models.boxes import enlarged, faces_of, on_grid
from fhlib.models.cascade import Cascade
from fhlib.models.device import Execution
from fhlib.models.orientation import canonical
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.usegnet import SegmentorOutput
from fhlib.presets import Preparation, Training
from fhlib.segmentation.segmentor import Segmentor
from tests.small_cohort import OBLIQUE

PREPARATION = Preparation(spacing_mm=4.0, longest_voxels=24, box_voxels=40)
TRAINING = Training(width=2, steps=1, learning_rate=1e-3)


class Bright(nn.Module):
    """Calls head what is brighter than `level`; remembers the shapes that it was given."""

    spatial_dims = 3

    def __init__(self, level):
        super().__init__()
        self.level, self.seen = level, []

    def forward(self, x, with_attention=True):
        self.seen.append((tuple(x.shape[2:]), float(x.min()), float(x.max())))
        inside = 40 * (x - self.level)
        return SegmentorOutput(torch.cat([torch.zeros_like(inside), inside], 1), (), {})


def ball_scan(centre_mm, radius_mm, shape=(60, 50, 90), spacing=(1.5, 2.0, 1.0)):
    """A bright ball in grey, and its mask; oblique and flipped."""
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    inside = sum((a - c) ** 2 for a, c in zip(axes, centre_mm, strict=True)) < radius_mm**2
    geometry = {"spacing_mm": spacing, "origin": (5.0, -7.0, 11.0), "direction": OBLIQUE}
    image = Volume(np.where(inside, 200, 20).astype(np.uint8), **geometry)
    return image, image.with_array(inside.astype(np.uint8))


def zoom(locate=0.5, outline=0.5):
    parameters = SegmentorParameters("USegNet-DS-Zoom", 2, 3, PREPARATION, TRAINING, Execution())
    return Cascade([Bright(locate), Bright(outline)], parameters)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_a_box_is_enlarged_about_its_centre_and_stays_in_the_array():
    mask = np.zeros((20, 30, 40), bool)
    mask[4:8, 10:20, 36:40] = True
    mask[0, 0, 0] = True  # a smaller part
    faces = faces_of(mask)
    assert faces.tolist() == [[4, 10, 36], [8, 20, 40]]
    assert enlarged(faces, 2.0, mask.shape) == ((2, 10), (5, 25), (34, 40))
    assert enlarged(faces, 1.0, mask.shape) == ((4, 8), (10, 20), (36, 40))
    assert faces_of(np.zeros((3, 3), bool)) is None


def test_faces_move_between_grids_of_one_direction():
    fine, _ = ball_scan((40, 50, 40), 20)
    coarse = resample(fine, 5.0)
    # both cover the same box of 90 x 100 x 90 mm, up to rounding to whole voxels about the same centre
    faces = on_grid(np.array([[0.0, 0.0, 0.0], coarse.shape]), coarse, fine)
    assert faces == pytest.approx(np.array([[0, 0, 0], [60, 50, 90]]))
    cut, _ = crop_to_box(fine, [(10, 30), (5, 45), (20, 70)])
    assert on_grid(np.array([[0.0, 0.0, 0.0], cut.shape]), cut, fine) == pytest.approx(
        np.array([[10, 5, 20], [30, 45, 70]])
    )


def test_the_second_level_reads_the_box_of_the_first_ones_mask_and_adds_its_probability():
    image, _ = ball_scan((40, 50, 40), 15)
    cascade = zoom()
    reading = cascade.reading(image)
    # the ball spans 30 mm; enlarged 1.4 times it is 42 mm, and a voxel of either grid more at each side at most
    for (start, stop), step, middle in zip(reading.crop.box, image.spacing_mm, (40.75, 51.0, 40.5), strict=True):
        assert (stop - start) * step == pytest.approx(42, abs=6)
        assert (start + stop) / 2 * step == pytest.approx(middle, abs=3)
    assert max(reading.image.shape) == 40
    assert (reading.image.array.min(), reading.image.array.max()) == (0, 1)
    assert reading.context.array.min() < 0.01 < 0.99 < reading.context.array.max()
    locate, outline = cascade.levels
    # it located in the whole volume, and again in the region around the head, each time in four flipped copies
    assert len(locate.seen) == 8 and all(max(shape) == 24 for shape, *_ in locate.seen)
    cascade.probability(reading.image.array, context=reading.context.array)
    assert outline.seen[-1][2] == pytest.approx(2, abs=0.01)  # image 1 plus probability 1
    with pytest.raises(ValueError, match="reads a box"):
        cascade.probability(reading.image.array)


def test_masks_lie_where_the_head_is_for_every_order_of_the_axes_and_in_a_crop():
    image, truth = ball_scan((40, 50, 40), 15)
    found = Segmentor(zoom(outline=1.0)).segment(image)
    assert found.mask.same_geometry(image)
    assert dice(found.mask.array > 0, truth.array > 0) > 0.97

    for order in ((2, 0, 1), (1, 2, 0)):
        turned = Volume(np.transpose(image.array, order)[::-1].copy(), [image.spacing_mm[a] for a in order])
        again = Segmentor(zoom(outline=1.0)).segment(turned).mask.array[::-1]
        assert np.array_equal(again, np.transpose(found.mask.array, order))

    crop, undo = crop_to_box(image, zoom().reading(image).crop.box)
    inside = undo.undo(Segmentor(zoom(outline=1.0)).segment(crop).mask, outside=0)
    assert dice(inside.array > 0, found.mask.array > 0) > 0.98


def test_where_nothing_is_located_the_whole_volume_is_read():
    image, _ = ball_scan((40, 50, 40), 15)
    reading = zoom(locate=5.0).reading(image)
    assert reading.crop.box == tuple((0, count) for count in image.shape)
    assert not Segmentor(zoom(5.0, 5.0)).segment(image).mask.array.any()


def test_where_only_part_of_the_head_was_located_the_box_grows_or_is_flagged():
    image, truth = ball_scan((40, 50, 40), 25)
    brighter = image.array.copy()
    brighter[(truth.array > 0) & (np.arange(90) < 32)] = 255  # level 1 sees this part alone
    part = image.with_array(brighter)
    cascade = zoom(locate=0.9, outline=0.6)
    first = cascade.reading(part)
    assert (
        first.cut(np.ones(first.image.shape, bool)) is not None
        and zoom().reading(image).cut(np.zeros((9, 9, 9))) is None
    )

    found = Segmentor(cascade).segment(part)
    assert dice(found.mask.array > 0, truth.array > 0) > 0.95 and "cut by the box" not in found.flags
    once = Segmentor(cascade)
    box = first.crop.box
    as_it_is_read = cascade.reading(canonical(part).of(part))
    once.cascade.reading = lambda volume, around=None: as_it_is_read
    flat = once.segment(part)
    assert "cut by the box" in flat.flags and flat.volume_ml < 0.9 * found.volume_ml and box[2][1] < 60


def test_where_the_first_level_takes_all_for_head_the_last_one_looks_again_around_its_mask():
    image, truth = ball_scan((40, 50, 40), 15)
    segmentor = Segmentor(zoom(locate=-1.0, outline=1.5))
    assert segmentor.cascade.reading(image).crop.box == tuple((0, count) for count in image.shape)
    reading, _, found, cut = segmentor._looked(image, 1)
    for (start, stop), step in zip(reading.crop.box, image.spacing_mm, strict=True):
        assert (stop - start) * step == pytest.approx(42, abs=6)  # 30 mm, enlarged 1.4 times
    assert not cut and dice(resample(found, like=image).array >= 0.5, truth.array > 0) > 0.97
    assert segmentor.cascade.elsewhere(reading, found.array >= 0.5) is None
