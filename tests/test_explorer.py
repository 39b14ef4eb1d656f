"""The attention explorer: what it shows is the chosen slice of the chosen map; every control changes the picture."""

from __future__ import annotations

import base64
import io
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fhlib.figures.style import CONTOURS
from fhlib.images.volume import Volume
from fhlib.interpretability import summaries as attention_summaries
from fhlib.interpretability.explorer import ALL_PARTS, ALONE, KEPT_MAPS, AttentionExplorer
from fhlib.interpretability.panels import Overlay, Row, compose
from fhlib.interpretability.pointer import Pointed
from fhlib.interpretability.summaries import (
    attention_maps,
    before_and_after,
    boundary_channel,
    colour_limits,
    slabs,
    summarise,
    summary_map,
)
from fhlib.networks.build import build_network
from fhlib.networks.features import Features, on_image_grid, recording

SHAPE, SPACING = (20, 13, 30), (0.5, 1.5, 0.8)
PAPER_SHAPE, PAPER_CHANNELS = (160, 104, 176), 32


def features(
    shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING, channels: int = 4, seed: int = 0
) -> Features:
    """What inference gives: maps at 1/4, 1/2 and full size of the image padded to a multiple of 8."""
    rng = np.random.default_rng(seed)
    padded = tuple(-(-n // 8) * 8 for n in shape)
    attention, shrunk = {}, {}
    for number, factor in ((1, 4), (2, 2), (3, 1)):
        for kind in ("SAM", "UAM"):
            weights = rng.normal(size=(channels, *(n // factor for n in padded)))
            attention[f"{kind}-{number}"] = (np.exp(weights) / np.exp(weights).sum(0)).astype(np.float16)
            shrunk[f"{kind}-{number}"] = rng.normal(size=weights.shape).astype(np.float16)
    volume = Volume(rng.integers(0, 255, shape).astype(np.uint8), spacing)
    return Features(volume, volume.with_array(head(shape).astype(np.float32) * 0.9), attention, shrunk)


def without_attention(seed: int = 0) -> Features:
    case = features(seed=seed)
    return Features(case.image, case.probability, {})


def head(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return sum(axis**2 for axis in grid) < 0.4


# --- maps ------------------------------------------------------------------------------------------------------------------------


def test_summaries_by_hand() -> None:
    weights = np.array([[0.5, 1.0], [0.3, 0.0], [0.2, 0.0]])  # three channels, two voxels
    np.testing.assert_allclose(summarise(weights, "maximum"), [0.5, 1.0])
    np.testing.assert_allclose(summarise(weights, "top-2"), [0.8, 1.0])
    np.testing.assert_allclose(summarise(weights, "mean"), [1 / 3, 1 / 3])
    np.testing.assert_allclose(summarise(weights, "1"), [0.3, 0.0])
    entropy = -(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)) / np.log(3)
    np.testing.assert_allclose(summarise(weights, "entropy"), [entropy, 0.0], atol=1e-6)
    features = np.array([[-3.0], [1.0]])  # P is signed: shares 3/4 and 1/4
    assert summarise(features, "maximum") == 3.0 and summarise(features, "mean") == 2.0
    assert summarise(features, "0") == -3.0
    np.testing.assert_allclose(summarise(features, "entropy"), 0.811278, atol=1e-5)  # bits of a 3:1 coin
    for wrong in ("median", "top-4", "top-0", "top-x"):
        with pytest.raises(ValueError, match="top-1 to top-3"):
            summarise(weights, wrong)
    with pytest.raises(IndexError, match="channels 0 to 2"):
        summarise(weights, 3)


def test_parts_are_read_in_slabs_and_t_is_p_times_a(monkeypatch: pytest.MonkeyPatch) -> None:
    case = features()
    monkeypatch.setattr(attention_summaries, "SLAB_VALUES", 4 * 16 * 32 * 7)  # seven slices of the 24 at a time
    places = [place for place, _ in slabs(case, "SAM-3", "T")]
    assert [place.start for place in places] == [0, 7, 14, 21]
    weights, shrunk = (np.asarray(maps["SAM-3"], np.float32) for maps in (case.attention, case.shrunk))
    done: list[float] = []
    found = summary_map(case, "SAM-3", "maximum", "T", done.append)
    np.testing.assert_allclose(found, np.abs(weights * shrunk).max(axis=0), rtol=2e-3)
    np.testing.assert_allclose(done, [7 / 24, 14 / 24, 21 / 24, 1])
    np.testing.assert_allclose(summary_map(case, "SAM-3", "2", "P"), shrunk[2], rtol=1e-3)


def test_a_map_is_repeated_to_the_image_and_its_padding_cut_off() -> None:
    quarter = np.arange(2 * 2 * 4).reshape(2, 2, 4)  # an image of (7, 5, 13) is padded at the end to (8, 8, 16)
    full = on_image_grid(quarter, (7, 5, 13))
    assert full.shape == (7, 5, 13)
    assert full[0, 0, 0] == quarter[0, 0, 0] and full[3, 3, 3] == quarter[0, 0, 0]
    assert full[4, 4, 12] == quarter[1, 1, 3] and full[6, 0, 8] == quarter[1, 0, 2]
    with pytest.raises(ValueError, match="whole fraction"):
        on_image_grid(np.zeros((3, 2, 4)), (7, 5, 13))


def test_boundary_channel_carries_weight_at_the_boundary() -> None:
    mask = head((32, 24, 40))
    edge = np.gradient(mask[::2, ::2, ::2].astype(float), axis=0) ** 2
    filled = mask[::2, ::2, ::2].astype(float)
    next_to_nothing = 1e-6 + 1e-3 * edge
    attention = np.stack([np.full(edge.shape, 0.2), 0.2 + edge, next_to_nothing, filled])
    assert boundary_channel(attention, mask) == 1
    assert boundary_channel(attention, np.zeros_like(mask)) == 0


def test_colour_limits_of_constant_and_signed_maps() -> None:
    assert colour_limits(np.full((4, 6, 5), 0.0004)) == pytest.approx((0, 0.0004))
    assert colour_limits(np.zeros((4, 6, 5))) == (0, 1e-6)
    assert colour_limits(np.linspace(-2, 1, 1000).reshape(10, 4, 25), signed=True) == pytest.approx(
        (-1.99, 1.99), rel=0.01
    )


@pytest.mark.parametrize("mapped", [False, True])
def test_recorded_maps_are_those_of_the_network(tmp_path: Path, mapped: bool) -> None:
    """A is what the network returns; the softmax of the weighed P gives it again (Eq. 3 and 4)."""
    torch.manual_seed(0)
    net = build_network("USegNet-DS-HAS", width=4).eval()
    x = torch.rand(1, 1, 13, 8, 18)
    seen: list[str] = []
    with torch.inference_mode():
        expected = net(x).attention
        with recording(net, tmp_path if mapped else None, seen.append) as (attention, shrunk):
            assert net(x, with_attention=False).attention == {}
        weighed = net.decoder[2].path_attention.weigh(torch.from_numpy(np.array(shrunk["UAM-3"])).float()[None])
    assert seen == ["SAM-1", "UAM-1", "SAM-2", "UAM-2", "SAM-3", "UAM-3"] == list(expected)
    for name, weights in expected.items():
        assert attention[name].dtype == shrunk[name].dtype == np.float16
        np.testing.assert_allclose(attention[name], weights[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(torch.softmax(weighed, 1)[0].numpy(), attention["UAM-3"], atol=5e-3)
    assert isinstance(attention["SAM-3"], np.memmap) == mapped and not list(tmp_path.iterdir())  # nameless files
    with torch.inference_mode():
        net(x)
    assert len(seen) == 6  # the hooks are gone


# --- pictures --------------------------------------------------------------------------------------------------------------------


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


# --- the widget ------------------------------------------------------------------------------------------------------------------


def test_every_control_changes_the_picture() -> None:
    models = {"USegNet-DS-HAS": features(), "second": features(seed=1)}
    explorer = AttentionExplorer(models, reference=np.roll(head(), 2, 0))
    changes = (
        *((slider, 3) for slider in explorer.sliders), (explorer.module, "SAM-3"), (explorer.summary, "entropy"),
        (explorer.summary, "maximum"), (explorer.summary, "top"), (explorer.strongest, 2), (explorer.summary, "3"),
        (explorer.overlay, "P"), (explorer.overlay, "T"), (explorer.colours, "magma"), (explorer.opacity, 0.8),
        (explorer.fading, False), (explorer.beside, "second"), (explorer.beside, ALL_PARTS), (explorer.beside, ALONE),
        (explorer.model, "second"), *((box, not box.value) for role, box in explorer.outlines.items() if role != "beside"),
        (explorer.window, (10.0, 100.0)), (explorer.overlay, "probability"), (explorer.overlay, "none"),
    )  # fmt: skip
    for control, value in changes:
        before = bytes(explorer.picture.value)
        control.value = value
        assert explorer.picture.value != before, f"{control} changed nothing"
    assert explorer.strongest.layout.display == "none" != explorer.model.layout.display


def test_contours_of_truth_and_of_two_models_have_their_colours() -> None:
    models = {name: features() for name in ("one", "two")}
    moved = models["two"].probability.with_array(np.roll(models["two"].probability.array, 3, 2))
    models["two"] = Features(models["two"].image, moved, models["two"].attention)
    explorer = AttentionExplorer(models, reference=np.roll(head(), -3, 2))
    explorer.overlay.value, explorer.beside.value, explorer.outlines["beside"].value = "none", "two", True
    pixels = np.asarray(Image.open(io.BytesIO(explorer.png())).convert("RGB")).reshape(-1, 3)
    for colour, _ in CONTOURS[:3]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - np.array(rgb)).max(axis=1) <= 1).sum() > 300
    assert explorer.caption.value.count('<span style="border-bottom') == 3


def test_click_moves_the_crosshair_and_the_wheel_scrolls_the_plane_below() -> None:
    explorer = AttentionExplorer({"HAS": features()})
    place = explorer._picture.places[1]  # cuts h, shows d down and w across
    height, width = explorer._picture.pixels.shape[:2]
    explorer.point = (3, 4, 5)
    x, y = (place.left + (22.5 / 30) * place.width) / width, (place.top + (11.5 / 20) * place.height) / height
    explorer._pointed(Pointed(x, y, pressed=True, turned=0))
    assert explorer.point == (11, 4, 22)
    explorer._pointed(Pointed(x, y, pressed=False, turned=3))
    assert explorer.point == (11, 7, 22)
    explorer._pointed(Pointed(x, y, pressed=False, turned=-90))
    assert explorer.point == (11, 0, 22)
    before = explorer.picture.value
    explorer._pointed(Pointed(1.0, 1.0, pressed=True, turned=0))  # beside the planes
    assert explorer.picture.value == before


def test_the_reader_changes_the_scan_and_sees_progress() -> None:
    heard: list[float] = []
    other = (16, 9, 12)

    def load(case: str, seen) -> tuple:
        assert case == "b" and explorer.progress.layout.visibility == "visible"
        for _ in range(6):
            seen("module")
            heard.append(explorer.progress.value)
        return {"HAS": features(other)}, head(other)

    explorer = AttentionExplorer({"HAS": features()}, head(), "a", ["a", "b"], load, steps=6)
    before = explorer.picture.value
    explorer.case.value = "b"
    np.testing.assert_allclose(heard, np.arange(1, 7) / 6)
    assert explorer.progress.layout.visibility == "hidden" and explorer.picture.value != before
    assert [slider.max for slider in explorer.sliders] == [15, 8, 11] and explorer.grey.shape == other


def test_static_twins_in_2d_and_3d_and_maps_of_all_modules() -> None:
    explorer = AttentionExplorer({"one": features(), "two": features(seed=1)}, reference=head())
    explorer.beside.value = "two"
    twin = explorer.static().axes[0].images[0].get_array()
    assert twin.std() > 20 and twin.shape[0] > 1.8 * explorer._picture.pixels.shape[0]
    flat = features((20, 30), (0.5, 0.8))
    image = AttentionExplorer({"flat": flat}, reference=head((20, 30)))
    assert image.sliders == [] and len(image._picture.places) == 1
    assert len(attention_maps(features(), reference=head()).axes) == 3 * 7 + 1
    assert len(attention_maps(flat, modules=["SAM-1", "UAM-3"], summary="boundary").axes) == 3 + 1
    assert len(before_and_after(features(), "UAM-2", 3, head()).axes) == 3 * 4 + 1


def test_shown_output_carries_a_picture_for_readers_without_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict] = []
    monkeypatch.setattr("fhlib.interpretability.explorer.display", lambda bundle, raw: shown.append(bundle))
    AttentionExplorer({"HAS": features()}, reference=head()).show()
    picture = Image.open(io.BytesIO(base64.b64decode(shown[0]["image/png"])))
    assert "application/vnd.jupyter.widget-view+json" in shown[0] and np.asarray(picture.convert("L")).std() > 20


def test_a_model_without_attention_can_be_shown_alone_and_beside() -> None:
    alone = AttentionExplorer({"plain": without_attention()}, reference=head())
    assert [kind for _, kind in alone.overlay.options] == ["probability", "none"] and len(alone.png()) > 1000
    beside = AttentionExplorer({"plain": without_attention(), "HAS": features()})
    assert beside.model.value == "HAS" and "SAM-1" in beside.module.options
    beside.beside.value = "plain"
    assert len(beside._picture.places) == 6


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="network resolution"):
        AttentionExplorer({"HAS": features()}, reference=head((4, 4, 4)))
    with pytest.raises(ValueError, match="at least one model"):
        AttentionExplorer({})


# --- speed and memory ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper_size(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Made-up features of the paper's size: 160 x 104 x 176 voxels, six modules of 32 channels, memory-mapped."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("features")
    attention = {}
    for number, factor in ((1, 4), (2, 2), (3, 1)):
        for kind in ("SAM", "UAM"):
            shape = tuple(n // factor for n in PAPER_SHAPE)
            maps = np.memmap(folder / f"{kind}{number}", np.float16, "w+", shape=(PAPER_CHANNELS, *shape))
            base = (rng.random(shape, np.float32) * 2 / PAPER_CHANNELS).astype(np.float16)
            for channel in range(PAPER_CHANNELS):
                maps[channel] = np.roll(base, 3 * channel, axis=0)
            attention[f"{kind}-{number}"] = maps
    image = Volume(rng.random(PAPER_SHAPE, np.float32), (0.95, 0.95, 0.95))
    probability = image.with_array(head(PAPER_SHAPE).astype(np.float32))
    return Features(image, probability, attention)


def test_a_slice_change_answers_in_about_100_ms_at_the_papers_size(
    paper_size: Features, record_property: Callable[[str, object], None]
) -> None:
    """Processor time, so that a busy machine does not change the figure; the bound leaves room for a slow one."""
    models = {"HAS": paper_size, "second": Features(paper_size.image, paper_size.probability, paper_size.attention)}
    explorer = AttentionExplorer(models, reference=head(PAPER_SHAPE))
    explorer.summary.value, explorer.module.value = "3", "UAM-3"
    milliseconds = {}
    for beside in (ALONE, "second"):
        explorer.beside.value = beside
        times = []
        for step in range(9):
            start = time.process_time()
            explorer.sliders[step % 3].value += 1
            times.append(time.process_time() - start)
        milliseconds[beside] = round(1000 * float(np.median(times)))
    record_property("slice_change_ms", milliseconds)
    print(f"slice change: {milliseconds[ALONE]} ms for one model, {milliseconds['second']} ms for two")
    assert milliseconds[ALONE] < 250


def test_memory_is_bounded_while_a_map_of_187_mb_is_reduced(paper_size: Features) -> None:
    voxels = int(np.prod(PAPER_SHAPE))
    assert paper_size.size_bytes == 2 * PAPER_CHANNELS * voxels * 2 * (64 + 8 + 1) // 64  # 428 MB: A alone
    explorer = AttentionExplorer({"HAS": paper_size})
    tracemalloc.start()
    try:
        explorer.summary.value = "top"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert paper_size.attention["UAM-3"].nbytes == 2 * PAPER_CHANNELS * voxels and peak < 120e6
    small = AttentionExplorer({"HAS": features(channels=20)})
    for channel in range(20):
        small.summary.value = str(channel)
    assert len(small._maps) == KEPT_MAPS
