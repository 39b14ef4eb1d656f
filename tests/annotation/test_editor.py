"""The editor without a browser: what is drawn in the viewer's order lies where it belongs in the scan, coarse or fine."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fhlib import files
from fhlib.annotation import editor as module
from fhlib.annotation.corrected import Corrected
from fhlib.annotation.editor import MaskEditor, correct
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def scan() -> Volume:
    array = np.random.default_rng(0).integers(0, 255, (6, 8, 10), np.uint8)
    return Volume(array, (1.0, 0.5, 0.75), (3.0, -4.0, 5.0), OBLIQUE)


def editor_of(scan: Volume, folder) -> MaskEditor:
    mask = np.zeros(scan.shape, np.uint8)
    mask[2:5, 2:6, 3:8] = 1
    return MaskEditor(scan, scan.with_array(mask), "a", Corrected(folder))


def draw(editor: MaskEditor, *voxels: tuple[int, int, int]) -> None:
    """Set voxels (z, y, x) in the viewer's drawing, whose first plane is the deepest."""
    depth = editor._shown.shape[0]
    drawing = editor._drawn[::-1].astype(np.uint8)
    for z, y, x in voxels:
        drawing[depth - 1 - z, y, x] = 1
    editor.viewer.draw_bitmap = drawing.ravel()


def test_a_voxel_lies_where_it_was_drawn(scan, tmp_path):
    editor = editor_of(scan, tmp_path)
    before = editor.mask
    assert before.sum() == 3 * 4 * 5
    draw(editor, (0, 7, 9))
    assert np.argwhere(editor.mask & ~before).tolist() == [[0, 7, 9]]
    label = read_volume(editor.write())
    assert label.same_geometry(scan) and label.array[0, 7, 9] == 1 and label.array.sum() == 61
    assert "saved a_Label.nrrd: 0.0 mL changed; 1 scan(s) are corrected" in editor.message.value


def test_the_pen_that_is_held_is_shown(scan, tmp_path):
    editor = editor_of(scan, tmp_path)
    assert editor.pen.label == "look" and not editor.viewer.opts.drawing_enabled
    for name, value in (("draw", 1), ("erase", 0)):
        editor.pen.label = name
        assert editor.viewer.opts.drawing_enabled and editor.viewer.opts.pen_value == value
    editor.pen.label = "look"
    assert editor.pen.index == 0 and not editor.viewer.opts.drawing_enabled


def test_a_message_says_in_which_folder_a_label_lies(scan, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    editor = editor_of(scan, tmp_path / "data" / "corrected")
    assert editor.message.value  # an empty line grows, and moves the view under the pen
    editor.write()
    assert editor.message.value.startswith("saved data/corrected/a_Label.nrrd: ")


def test_a_large_scan_is_shown_coarsely_and_saved_finely(scan, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 5)
    editor = editor_of(scan, tmp_path)
    assert editor.steps == (2, 2, 2) and editor._shown.shape == (3, 4, 5)
    before = editor.mask
    assert np.array_equal(before, editor._mask)
    draw(editor, (0, 0, 4))
    assert np.argwhere(editor.mask & ~before).min(0).tolist() == [0, 0, 8]
    assert (editor.mask & ~before).sum() == 8


def test_planes_between_two_corrected_ones_are_filled(scan, tmp_path):
    editor = editor_of(scan, tmp_path)
    draw(editor, *((z, y, x) for z in (0, 4) for y in range(8) for x in range(9)))
    assert editor.fill() == 3
    assert editor.mask[2, :, :9].all() and not editor.mask[5].any()
    assert editor.message.value == "3 plane(s) filled along depth"


def test_what_cannot_be_done_is_said(scan, tmp_path):
    editor = editor_of(scan, tmp_path)
    assert editor.learn_on() is None and "learning on takes 2" in editor.message.value
    assert editor.fill() == 0 and "correct two planes" in editor.message.value
    editor.viewer.draw_bitmap = np.zeros(scan.array.size, np.uint8)
    assert editor.write() is None and "nothing is drawn" in editor.message.value
    with pytest.raises(ValueError, match="a 3D scan and its mask are needed"):
        MaskEditor(scan, Volume(np.ones((2, 2, 2), np.uint8), (1.0, 1.0, 1.0)), "a", Corrected(tmp_path))
    with pytest.raises(ValueError, match="'b' is no volume that was segmented here"):
        correct({}, tmp_path, case="b")
    assert correct({}, tmp_path) is None


def test_learning_on_says_where_its_steps_stand(scan, tmp_path, monkeypatch):
    script = "print('a verdict')"
    monkeypatch.setattr(Corrected, "learning_on", lambda self, run: [sys.executable, "-c", script])
    editor = editor_of(scan, tmp_path)
    said = []
    editor.message.observe(lambda change: said.append(change["new"]), "value")
    follower = editor.learn_on()
    follower.join(30)
    assert said == [
        "learning on as run mine, in minutes; its steps stand below the view",
        "learnt on: the last lines say whether it helped",
    ]
    assert "a verdict" in editor.log.value and not editor.learn.disabled


def test_a_batch_run_gets_a_sentence_and_no_viewer(scan, tmp_path, monkeypatch):
    found = SimpleNamespace(volume=scan, head=SimpleNamespace(mask=scan.with_array(np.ones(scan.shape, np.uint8))))
    monkeypatch.delenv(module.SESSION, raising=False)
    assert correct({"a": found}, tmp_path) is None
    monkeypatch.setenv(module.SESSION, "10_segment.ipynb")
    assert correct({"a": found}, tmp_path).name == "a"


def test_a_correction_goes_on_where_it_was_saved(scan, tmp_path, monkeypatch):
    monkeypatch.setenv(module.SESSION, "10_segment.ipynb")
    found = SimpleNamespace(volume=scan, head=SimpleNamespace(mask=scan.with_array(np.ones(scan.shape, np.uint8))))
    editor = correct({"a": found}, tmp_path)
    editor.viewer.draw_bitmap = np.arange(scan.array.size).reshape(scan.shape)[::-1].ravel() < 3
    editor.write()
    again = correct({"a": found}, tmp_path)
    assert again.mask.sum() == 3 and "was corrected before" in again.message.value
    found.volume = scan.with_array(255 - scan.array)  # another scan of this name
    assert correct({"a": found}, tmp_path).mask.all()
