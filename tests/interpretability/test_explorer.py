"""The attention explorer without a browser: views, still pictures, and what the browser's questions are answered."""

from __future__ import annotations

import base64
import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from fhlib.figures.style import CONTOURS
from fhlib.images.volume import Volume
from fhlib.interpretability.browser.answers import answer
from fhlib.interpretability.cases import ExploredCase
from fhlib.interpretability.choices import ALL_PARTS, ALONE, ROLES
from fhlib.interpretability.explorer import KEPT_MAPS, AttentionExplorer
from fhlib.networks.features import Features
from tests.interpretability.made import SHAPE, features, head

PAPER_SHAPE, PAPER_CHANNELS = (160, 104, 176), 32


def reference(shape: tuple[int, ...] = SHAPE, shift: int = 2) -> Volume:
    spacing = features(shape).image.spacing_mm if shape == SHAPE else (1.0,) * len(shape)
    return Volume(np.roll(head(shape), shift, 0), spacing)


def explorer_of(*names: str, **more: object) -> AttentionExplorer:
    models = {name: features(seed=seed) for seed, name in enumerate(names)}
    return AttentionExplorer(ExploredCase("a", models, reference()), **more)


def without_attention() -> Features:
    case = features()
    return Features(case.image, case.probability, {})


def test_every_choice_changes_the_still_picture() -> None:
    explorer = explorer_of("USegNet-DS-HAS", "second")
    before = explorer.view
    pictures = [
        explorer._composed(explorer._asked_for(changes)).pixels.tobytes()
        for changes in (
            {}, {"point": (3, 4, 5)}, {"module": "SAM-3"}, {"summary": "entropy"}, {"summary": "maximum"}, {"summary": "top"},
            {"summary": "top", "strongest": 2}, {"summary": "3"}, {"overlay": "P"}, {"overlay": "T"}, {"colours": "magma"},
            {"opacity": 0.8}, {"fading": False}, {"smooth": True}, {"beside": "second"}, {"beside": ALL_PARTS},
            {"model": "second"}, {"outlines": ()}, {"window": (10.0, 100.0)}, {"overlay": "probability"}, {"overlay": "none"},
            {"summary": "1", "lower": 0.3}, {"summary": "1", "upper": 0.3},
        )
    ]  # fmt: skip
    assert len(set(pictures)) == len(pictures)
    assert explorer.view == before and explorer.widget.view == before.for_browser()


def test_static_takes_choices_and_changes_nothing() -> None:
    explorer = explorer_of("one", "two")
    before = explorer.view
    twin = explorer.static(beside="two", outlines=ROLES).axes[0].images[0].get_array()
    alone = explorer.static().axes[0].images[0].get_array()
    assert twin.std() > 20 and twin.shape[0] > 1.8 * alone.shape[0]
    assert explorer.view == before
    with pytest.raises(ValueError, match=r"beside 'three' is not offered; there are nothing, two"):
        explorer.static(beside="three")
    with pytest.raises(ValueError, match="a view has no colour; it has case, model"):
        explorer.static(colour="red")


def test_choose_changes_the_view_here_and_for_the_browser() -> None:
    explorer = explorer_of("one", "two")
    explorer.choose(module="SAM-2", summary="top", strongest=99, point=(50, 2, 3))
    assert explorer.widget.view["module"] == "SAM-2"
    assert (explorer.view.strongest, explorer.view.point) == (4, (19, 2, 3))  # four channels, 20 slices
    explorer.widget.view = {**explorer.widget.view, "model": "not there", "summary": "17"}  # a browser's old page
    assert (explorer.view.model, explorer.view.summary) == ("one", "boundary")


def test_contours_of_truth_and_of_two_models_have_their_colours() -> None:
    models = {name: features() for name in ("one", "two")}
    moved = models["two"].probability.with_array(np.roll(models["two"].probability.array, 3, 2))
    models["two"] = Features(models["two"].image, moved, models["two"].attention)
    explorer = AttentionExplorer(ExploredCase("a", models, reference(shift=-3)))
    view = explorer._asked_for({"overlay": "none", "beside": "two", "outlines": ROLES})
    pixels = explorer._composed(view).pixels.reshape(-1, 3)
    for colour, _ in CONTOURS[:3]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - np.array(rgb, int)).max(axis=1) <= 1).sum() > 300


def test_the_browser_gets_the_scan_its_maps_and_their_scales() -> None:
    explorer = explorer_of("USegNet-DS-HAS")
    hello, (scan,) = answer(explorer, {"kind": "hello"})
    np.testing.assert_array_equal(np.frombuffer(scan, np.uint8).reshape(SHAPE), explorer.scan.array)
    assert len(hello["luts"]["viridis"]) == 768 and hello["scan"]["spacing"] == [0.5, 1.5, 0.8]
    rows, _ = answer(explorer, {"kind": "rows", "choices": {"module": "SAM-1", "summary": "2", "beside": ALONE}})
    row = rows["rows"][0]
    assert list(row["values"]) == ["P", "A", "T", "probability"] and row["reading"] == "SAM-1, channel 2"
    grid, (numbers,) = answer(explorer, {"kind": "grid", "key": row["values"]["A"]})
    kept = explorer.models["USegNet-DS-HAS"].attention["SAM-1"][2][:5, :4, :8]  # 20 x 13 x 30 at a quarter
    np.testing.assert_array_equal(np.frombuffer(numbers, np.float16).reshape(5, 4, 8), kept)
    assert (grid["grid"]["unit"], grid["grid"]["extent"]) == ("0 to 1", [5.0, 3.25, 7.5])
    with pytest.raises(ValueError, match="does not know the question 'delete'"):
        answer(explorer, {"kind": "delete"})


def test_a_question_that_fails_is_answered_in_words() -> None:
    explorer = explorer_of("one")
    sent: list[dict] = []
    explorer.widget.send = lambda content, buffers=None: sent.append(content)
    explorer.widget._asked(None, {"kind": "case", "case": "b", "number": 3}, [])
    explorer.widget._asked(None, {"kind": "ping", "number": 4}, [])
    assert sent[0] == {"kind": "error", "text": "scan 'b' is not offered; there are no others", "number": 3}
    assert sent[1] == {"kind": "pong", "number": 4}


def test_the_reader_changes_the_scan_and_sees_progress() -> None:
    heard: list[float] = []
    other = (16, 9, 12)

    def load(case: str, seen) -> ExploredCase:
        for _ in range(6):
            seen("module")
        return ExploredCase(case, {"HAS": features(other)}, reference(other))

    explorer = AttentionExplorer(ExploredCase("a", {"HAS": features()}, reference()), ["a", "b"], load, steps=6)
    explorer.choose(module="SAM-2", point=(19, 12, 29))
    hello, _ = answer(explorer, {"kind": "case", "case": "b"}, heard.append)
    np.testing.assert_allclose(heard, np.arange(1, 7) / 6)
    assert hello["scan"]["shape"] == list(other) and hello["view"]["case"] == "b"
    assert explorer.view.module == "SAM-2" and all(p < n for p, n in zip(explorer.view.point, other, strict=True))


def test_shown_output_is_a_picture_that_needs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict] = []
    monkeypatch.setattr("fhlib.interpretability.explorer.display", lambda bundle, raw: shown.append(bundle))
    explorer_of("HAS").show()
    picture = Image.open(io.BytesIO(base64.b64decode(shown[0]["image/png"])))
    assert np.asarray(picture.convert("L")).std() > 20
    assert set(shown[0]) == {"text/html", "image/png", "text/plain"}  # a widget's view would be "model not found" later
    assert "<script" not in shown[0]["text/html"] and 'alt="a: HAS: UAM-3' in shown[0]["text/html"]


def test_images_and_models_without_attention() -> None:
    flat = AttentionExplorer(ExploredCase("flat", {"flat": features((20, 30), (0.5, 0.8))}, reference((20, 30))))
    assert len(flat._composed(flat.view).places) == 1 and flat.view.point[0] == 0
    assert answer(flat, {"kind": "hello"})[0]["scan"]["flat"]
    plain = AttentionExplorer(ExploredCase("a", {"plain": without_attention()}))
    assert [kind for _, kind in plain.choices.options(plain.view)["overlay"]] == ["probability", "none"]
    both = AttentionExplorer(ExploredCase("a", {"plain": without_attention(), "HAS": features()}))
    assert both.view.model == "HAS" and len(both._composed(both._asked_for({"beside": "plain"})).places) == 6


def test_what_does_not_fit_is_an_error() -> None:
    small = Volume(head((4, 4, 4)), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="network resolution"):
        AttentionExplorer(ExploredCase("a", {"HAS": features()}, small))
    with pytest.raises(ValueError, match="at least one model"):
        AttentionExplorer(ExploredCase("a", {}))
    with pytest.raises(ValueError, match="on the scan's grid"):
        AttentionExplorer(ExploredCase("a", {"HAS": features()}, None, features().image, small))


def test_memory_is_bounded_while_a_map_of_187_mb_is_reduced(tmp_path) -> None:
    maps = np.memmap(tmp_path / "map", np.float16, "w+", shape=(PAPER_CHANNELS, *PAPER_SHAPE))
    maps[:, ::8] = np.float16(1 / PAPER_CHANNELS)
    image = Volume(np.zeros(PAPER_SHAPE, np.uint8), (0.95, 0.95, 0.95))
    case = Features(image, image.with_array(head(PAPER_SHAPE).astype(np.float32)), {"UAM-3": maps})
    explorer = AttentionExplorer(ExploredCase("a", {"HAS": case}))
    tracemalloc.start()
    try:
        answer(explorer, {"kind": "rows", "choices": {"summary": "top"}})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert maps.nbytes == 187_432_960 and peak < 120e6
    small = AttentionExplorer(ExploredCase("a", {"HAS": features(channels=20)}))
    for channel in range(20):
        small.overlay(f"A|HAS|SAM-1|{channel}")
    assert len(small._maps) == KEPT_MAPS
