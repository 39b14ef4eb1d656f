"""Figures of attention maps: a scale for each module, saturation in words, no padding."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm

from fhlib.interpretability.map_figures import attention_maps, before_and_after
from fhlib.networks.features import Features
from tests.figures.made import smallest_letters
from tests.interpretability.made import features, head


def saturated() -> Features:
    """SAM-1 of two channels: one has all but 1e-5 in the image, and half of the weight in the padding."""
    case = features(channels=2)
    weights = np.empty((2, 6, 4, 8), np.float32)
    weights[0], weights[1] = 1 - 1e-5, 1e-5
    weights[:, 5:] = 0.5  # of d only 20 of 24 are image
    return Features(case.image, case.probability, {"SAM-1": weights.astype(np.float16)}, {})


def test_a_saturated_module_is_called_so_and_its_padding_does_not_count() -> None:
    figure = attention_maps(saturated(), reference=head())
    first, shown = figure.axes[0], figure.axes[1]
    assert first.get_title() == "image"
    assert shown.get_title() == "SAM-1 (1/4 size)\na channel > 99%\nin 100 % of voxels"
    drawn = shown.images[-1]
    assert isinstance(drawn.norm, LogNorm) and drawn.get_array().max() < 1.1e-5
    assert drawn.get_interpolation() == "nearest"


def test_letters_can_be_read_in_print_and_planes_stand_beside_each_other() -> None:
    figure = attention_maps(features((42, 25, 37), (4, 4, 4)), reference=head((42, 25, 37)))
    assert smallest_letters(figure) >= 7
    rows = [[axis.get_position().y0 for axis in figure.axes[7 * row : 7 * row + 7]] for row in range(3)]
    assert all(np.ptp(row) < 1e-6 for row in rows)


def test_each_module_has_a_scale_of_its_own_and_smoothness_is_said() -> None:
    figure = attention_maps(features(), summary="boundary", reference=head(), smooth=True)
    maps = [axis for axis in figure.axes if "drawn smooth" in axis.get_title()]
    assert len(maps) == 6 and len({axis.images[-1].norm.vmax for axis in maps}) == 6
    assert {axis.images[-1].get_interpolation() for axis in maps} == {"bilinear"}
    assert len(figure.axes) == 3 * 7 + 6  # planes, and a colour bar for each module


def test_a_map_lies_where_its_voxels_are() -> None:
    figure = attention_maps(features(), modules=["SAM-2"], reference=head())
    axis, drawn = figure.axes[1], figure.axes[1].images[-1]
    # across d: 13 of 16 rows of 1.5 mm, 30 of 32 columns of 0.8 mm; a voxel of SAM-2 spans two
    np.testing.assert_allclose(drawn.get_extent(), (0, 15 * 2 * 0.8, 7 * 2 * 1.5, 0))
    np.testing.assert_allclose((axis.get_xlim(), axis.get_ylim()), ((0, 24.0), (19.5, 0)))


def test_p_and_t_share_a_scale_and_images_are_drawn_too() -> None:
    figure = before_and_after(features(), "UAM-2", 3, head())
    before, attention, after = (figure.axes[number].images[-1].norm for number in (1, 2, 3))
    assert (before.vmin, before.vmax) == (after.vmin, after.vmax) == (-before.vmax, before.vmax)
    assert attention.vmax <= 1 and len(figure.axes) == 3 * 4 + 3
    flat = features((20, 30), (0.5, 0.8))
    assert len(attention_maps(flat, modules=["SAM-1", "UAM-3"]).axes) == 3 + 2
