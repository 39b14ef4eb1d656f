"""The attention explorer: what it shows is the chosen slice of the chosen map; every control changes the picture."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fhlib.explorer import AttentionExplorer, attention_maps, boundary_channel, on_image_grid, summarise
from fhlib.volume import Volume

SHAPE, SPACING = (20, 13, 30), (0.5, 1.5, 0.8)


def features(
    shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING, channels: int = 4, seed: int = 0
) -> SimpleNamespace:
    """What inference gives: maps at 1/4, 1/2 and full size of the image padded to a multiple of 8; channel 2 lights up at the boundary."""
    rng = np.random.default_rng(seed)
    mask = head(shape)
    padded = tuple(-(-n // 8) * 8 for n in shape)
    attention = {}
    for number, factor in ((1, 4), (2, 2), (3, 1)):
        for kind in ("SAM", "UAM"):
            weights = rng.normal(size=(channels, *(n // factor for n in padded)))
            attention[f"{kind}-{number}"] = (np.exp(weights) / np.exp(weights).sum(0)).astype(np.float16)
    volume = Volume(rng.integers(0, 255, shape).astype(np.uint8), spacing)
    return SimpleNamespace(
        image=volume, probability=volume.with_array(mask.astype(np.float32) * 0.9), attention=attention
    )


def head(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return sum(axis**2 for axis in grid) < 0.4


def test_summaries_by_hand() -> None:
    weights = np.array([[0.5, 1.0], [0.5, 0.0]])  # two channels, two voxels
    np.testing.assert_allclose(summarise(weights, "maximum"), [0.5, 1.0])
    np.testing.assert_allclose(summarise(weights, "entropy"), [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(summarise(weights, "mean"), [0.5, 0.5])
    np.testing.assert_allclose(summarise(weights, "1"), [0.5, 0.0])
    with pytest.raises(ValueError, match="not known"):
        summarise(weights, "median")
    with pytest.raises(IndexError, match="channels 0 to 1"):
        summarise(weights, 2)


def test_a_map_is_repeated_to_the_image_and_its_padding_cut_off() -> None:
    quarter = np.arange(2 * 2 * 4).reshape(2, 2, 4)  # an image of (7, 5, 13) is padded at the end to (8, 8, 16)
    full = on_image_grid(quarter, (7, 5, 13))
    assert full.shape == (7, 5, 13)
    assert full[0, 0, 0] == quarter[0, 0, 0] and full[3, 3, 3] == quarter[0, 0, 0]
    assert full[4, 4, 12] == quarter[1, 1, 3] and full[6, 0, 8] == quarter[1, 0, 2]
    with pytest.raises(ValueError, match="whole fraction"):
        on_image_grid(np.zeros((3, 2, 4)), (7, 5, 13))


def test_boundary_channel_finds_the_channel_at_the_boundary() -> None:
    mask = head((32, 32, 32))
    attention = np.full((3, 16, 16, 16), 0.2)
    attention[1] += np.gradient(mask[::2, ::2, ::2].astype(float), axis=0) ** 2
    assert boundary_channel(attention, mask) == 1


def test_panel_shows_the_chosen_slice_at_true_aspect() -> None:
    explorer = AttentionExplorer(features(), names=("HAS",))
    explorer.overlay.value = "none"
    explorer.sliders[0].value = 7
    panel = explorer._panel("HAS", 1)
    assert panel.shape[0] / panel.shape[1] == pytest.approx(20 * 0.5 / (30 * 0.8), rel=0.02)  # d by w in mm
    low, high = explorer.window.value
    grey = 255 * np.clip((explorer.grey[:, explorer.point[1]] - low) / (high - low), 0, 1)
    inner = panel[panel.shape[0] // 40 :: panel.shape[0] // 20][
        : len(grey), panel.shape[1] // 60 :: panel.shape[1] // 30, 0
    ]
    assert (
        np.corrcoef(inner[: grey.shape[0], : grey.shape[1]].ravel(), grey[: inner.shape[0], : inner.shape[1]].ravel())[
            0, 1
        ]
        > 0.7
    )


def test_overlay_takes_the_map_at_its_own_scale() -> None:
    case = features()
    case.attention["UAM-1"][:] = 0.1
    case.attention["UAM-1"][2, 1, 1, 3] = 0.9  # voxels d 4-7, h 4-7, w 12-15
    explorer = AttentionExplorer(case, names=("HAS",))
    explorer.module.value, explorer.opacity.value = "UAM-1", 1.0
    explorer._summaries.clear()
    assert explorer._values("HAS")[0].max() == pytest.approx(0.9, abs=1e-3)
    explorer._summaries[("HAS", "UAM-1", "maximum")] = (explorer._values("HAS")[0], (0.1, 0.9))
    for place, bright in (((5, 5, 13), True), ((8, 5, 13), False), ((5, 8, 13), False), ((5, 5, 16), False)):
        for slider, value in zip(explorer.sliders, place, strict=True):
            slider.value = value
        panel = explorer._panel("HAS", 0)
        rows, columns = panel.shape[:2]
        crosshair_off = panel[int((place[1] + 0.25) / 13 * rows), int((place[2] + 0.25) / 30 * columns)]
        assert (crosshair_off[0] > 200) == bright  # viridis ends in yellow, begins in dark violet


def test_every_control_changes_the_picture() -> None:
    explorer = AttentionExplorer(
        features(), reference=head(), second=features(seed=1), names=("USegNet-DS-HAS", "second")
    )
    seen = {explorer.picture.value}
    changes = (
        *((slider, "value", 3) for slider in explorer.sliders), (explorer.module, "value", "UAM-3"), (explorer.summary, "value", "entropy"),
        (explorer.summary, "value", "boundary"), (explorer.summary, "value", "3"), (explorer.opacity, "value", 0.8),
        (explorer.outlines, "value", False),
        (explorer.window, "value", (10.0, 100.0)), (explorer.overlay, "value", "probability"), (explorer.overlay, "value", "none"),
    )  # fmt: skip
    for control, name, value in changes:
        setattr(control, name, value)
        seen.add(explorer.picture.value)
    assert len(seen) == 1 + len(changes)
    picture = Image.open(io.BytesIO(explorer.png()))
    assert picture.format == "PNG" and picture.size[1] > 2 * 200  # two models, one below the other


def test_static_twin_in_2d_and_3d_and_maps_of_all_modules() -> None:
    three = AttentionExplorer(features(), reference=head(), second=features(seed=1)).static()
    assert sum(bool(axis.images) and not axis.get_label() for axis in three.axes) == 6
    flat = features((20, 30), (0.5, 0.8))
    explorer = AttentionExplorer(flat, reference=head((20, 30)))
    assert explorer.sliders == [] and len(explorer.static().axes) == 2
    assert len(attention_maps(features(), reference=head()).axes) == 3 * 7 + 1
    assert len(attention_maps(flat, modules=["SAM-1", "UAM-3"], summary="entropy").axes) == 3 + 1


def test_a_model_without_attention_can_be_shown_alone_and_as_second() -> None:
    plain = SimpleNamespace(**{**vars(features()), "attention": {}})
    alone = AttentionExplorer(plain, reference=head())
    assert alone.overlay.options == ("probability", "none") and len(alone.png()) > 1000
    beside = AttentionExplorer(features(), second=plain, names=("USegNet-DS-HAS", "USegNet-DS"))
    assert "SAM-1" in beside.module.options and len(beside.static().axes) == 6 + 1


def test_shapes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match="network resolution"):
        AttentionExplorer(features(), reference=head((4, 4, 4)))
