"""What a network reads: resampled, scaled to [0, 1], flipped."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import rotate

from fhlib.images.volume import Volume
from fhlib.models.inputs import flips_of, label_to_network_grid, to_network_grid
from fhlib.presets import Preparation
from tests.small_cohort import PREPARATION, scan


def test_flips_and_half_turns_give_eight_distinct_volumes():
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    results = {np.flip(volume, axes).tobytes() for axes in flips_of(3)}
    planes = ((0, 1), (0, 2), (1, 2))
    composed = {np.rot90(np.flip(volume, axes), 2, plane).tobytes() for axes in flips_of(3) for plane in planes}
    assert len(results) == 8 and composed == results
    assert len(flips_of(2)) == 4
    assert np.allclose(rotate(volume, 180, axes=(0, 1)), np.flip(volume, (0, 1)))


def test_a_prepared_label_keeps_its_volume_on_a_coarser_grid():
    # ellipsoids of 26, 20 and 16 mm in 1.0 x 1.2 x 0.8 mm voxels, at random places; cut at one half they would lose 1.3 % on average
    for centre in np.random.default_rng(0).uniform(-2, 2, (6, 3)):
        p = np.meshgrid(
            *(
                (np.arange(n) - n / 2) * step - c
                for n, step, c in zip((64, 56, 72), (1, 1.2, 0.8), centre, strict=True)
            ),
            indexing="ij",
            sparse=True,
        )
        inside = sum((a / r) ** 2 for a, r in zip(p, (26, 20, 16), strict=True)) < 1
        prepared = label_to_network_grid(Volume(inside.astype(np.uint8), (1, 1.2, 0.8)), Preparation(spacing_mm=4.0))
        assert prepared.array.sum() * 64 == pytest.approx(4 / 3 * np.pi * 26 * 20 * 16, rel=0.005)
    anisotropic = Volume(np.zeros((50, 30, 20), np.uint8), (0.8, 1.5, 1.0))  # 40 x 45 x 20 mm
    by_size = to_network_grid(anisotropic, Preparation(spacing_mm=4.0, longest_voxels=30))
    assert by_size.shape == (27, 30, 13) and by_size.spacing_mm == pytest.approx((1.5, 1.5, 1.5))
    empty = Volume(np.zeros((20, 20, 20), np.uint8), (1, 1, 1))
    assert not label_to_network_grid(empty, Preparation(spacing_mm=4.0)).array.any()


def test_non_finite_intensities_are_refused_and_a_constant_image_is_zero():
    image, _ = scan(0)
    broken = image.array.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_network_grid(image.with_array(broken), PREPARATION)
    assert not to_network_grid(image.with_array(np.full(image.shape, 7.0)), PREPARATION).array.any()


def test_images_are_scaled_by_the_papers_factor():
    image = Volume(np.random.default_rng(0).random((100, 60)), (0.2, 0.1))
    prepared = to_network_grid(image, Preparation(spacing_mm=1, image_scale=0.4))
    assert prepared.shape == (40, 24) and prepared.spacing_mm == pytest.approx((0.5, 0.25))
    assert label_to_network_grid(image.with_array(np.ones(image.shape)), Preparation(spacing_mm=1)).array.all()


def test_single_images_of_any_size_come_to_one_grid():
    preparation = Preparation(spacing_mm=4.0, longest_voxels=40)
    for shape, spacing in (((108, 160), (0.2, 0.2)), ((54, 160), (0.4, 0.2)), ((27, 40), (0.8, 0.8))):
        image = to_network_grid(Volume(np.zeros(shape), spacing), preparation)
        # 32 mm in 40 pixels, and as fine down as across
        assert image.shape == (27, 40) and image.spacing_mm == pytest.approx((0.8, 0.8))
