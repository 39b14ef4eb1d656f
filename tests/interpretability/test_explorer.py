"""The attention explorer: every control changes the picture; quick and within its memory at the paper's size."""

from __future__ import annotations

import base64
import io
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from fhlib.figures.style import CONTOURS
from fhlib.images.volume import Volume
from fhlib.interpretability.explorer import ALL_PARTS, ALONE, KEPT_MAPS, AttentionExplorer
from fhlib.interpretability.pointer import Pointed
from fhlib.interpretability.summaries import (
    attention_maps,
    before_and_after,
)
from fhlib.networks.features import Features
from tests.interpretability.made import features, head

PAPER_SHAPE, PAPER_CHANNELS = (160, 104, 176), 32


def without_attention(seed: int = 0) -> Features:
    case = features(seed=seed)
    return Features(case.image, case.probability, {})


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
