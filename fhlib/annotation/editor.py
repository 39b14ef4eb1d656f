"""Correct a mask in JupyterLab: three planes and a 3D view (NiiVue), a pen, undo, filling between planes, saving, learning on.

The scan is shown along its own axes, without its position in the scanner's room: those are the planes that the probe swept. What is saved
has the scan's geometry again.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from threading import Thread
from typing import Any

import ipywidgets as widgets
import numpy as np
from ipyniivue import NiiVue, SliceType
from IPython.display import display
from scipy import ndimage

from fhlib.annotation.between import fill_between
from fhlib.annotation.corrected import Corrected, carried_over, coarse_steps
from fhlib.figures.notebook import show
from fhlib.files import shown_folder
from fhlib.images.formats import write_volume
from fhlib.images.volume import Mask, Volume
from fhlib.presets import suggestion
from fhlib.segmentation.rows import Found

SESSION = "JPY_SESSION_NAME"
"""Environment variable that a Jupyter server sets for its kernels."""
LONGEST = 192
"""Voxels along an axis of what is shown: a drawing is sent after each stroke."""
PENS = {"look": -1, "draw": 1, "erase": 0}
LOOK = PENS["look"]
PROBE_UP = np.s_[::-1]
"""The viewer draws the first plane at the bottom, and the probe belongs at the top."""
AXES = ("depth", "elevation", "lateral")
SHOWN_LINES = 12
HOW_TO = "The wheel turns planes, the right button zooms; drawing shows in all planes and in 3D."
"""The first message. An empty line would grow with the next one, and move the view under the pen."""


class _Viewer(NiiVue):
    """NiiVue that hands over the drawing when it is asked for: of itself it keeps strokes in the browser."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._waiting: list[Callable[[], object]] = []

    def with_drawing(self, action: Callable[[], object]) -> None:
        """Call an action once `draw_bitmap` is what the reader sees."""
        self._waiting.append(action)
        # the answer to this message carries the drawing
        self.send({"type": "set_drawing_enabled", "data": [bool(self.opts.drawing_enabled)]})

    def set_state(self, state: dict[str, Any]) -> None:
        """What the browser sends; the last part of a drawing lets those act that wait for it."""
        super().set_state(state)
        arrived = "draw_bitmap" in state or any(key.startswith("chunk_draw_bitmap") for key in state)
        if arrived and "draw_bitmap" not in self._data_handlers:
            waiting, self._waiting = self._waiting, []
            for action in waiting:
                action()


class MaskEditor:
    """A widget over one scan and its mask; `show()` displays it.

    Draw with the left button, scroll with the wheel, zoom with the right button. `mask` is the drawing at the scan's resolution at any
    time. `widget`, the controls and `message` are public for tests and for who wants another arrangement.

    Args:
        image: the scan, 3D.
        mask: the outline to correct, in the scan's geometry.
        name: of the scan, under which it is saved.
        corrected: the folder of corrected scans.
        run: the run that `learn on` makes.
        height_px: of the view.

    Raises ValueError for a single image, or a mask of another shape.
    """

    def __init__(
        self, image: Volume, mask: Volume, name: str, corrected: Corrected, run: str = "mine", height_px: int = 560
    ) -> None:
        if image.ndim != 3 or mask.shape != image.shape:
            raise ValueError(
                f"a 3D scan and its mask are needed, got {image.shape} and {mask.shape}: correct images elsewhere"
            )
        self.image, self.name, self.corrected, self.run = image, name, corrected, run
        self._mask: Mask = mask.array > 0
        self.steps = coarse_steps(image.shape, LONGEST)
        self._shown = self._mask[self._every]
        self._folder = tempfile.TemporaryDirectory(prefix="fhlib-editor-")
        self.viewer = self._viewer(height_px)

        self.pen = widgets.ToggleButtons(
            options=PENS,
            style={"button_width": "70px"},
            tooltips=["move the crosshair", "add to the mask", "take from the mask"],
        )
        self.filled = widgets.Checkbox(True, description="fill what I circle", indent=False, layout={"width": "150px"})
        self.undo, self.between, self.save, self.learn = (
            widgets.Button(description=text, icon=icon, tooltip=tip, layout={"width": "auto"})
            for text, icon, tip in (
                ("undo", "undo", "take back the last stroke"),
                ("fill between", "bars", "draw the planes between those that you corrected"),
                ("save", "save", f"write scan and label to {shown_folder(corrected.folder)}/"),
                ("learn on", "graduation-cap", "train the shipped weights on with the saved scans"),
            )
        )
        self.message, self.log = widgets.HTML(HOW_TO), widgets.HTML()
        controls = widgets.HBox(
            [self.pen, self.filled, self.undo, self.between, self.save, self.learn], layout={"flex_flow": "row wrap"}
        )
        self.widget = widgets.VBox([controls, self.message, self.viewer, self.log])
        self._listen()

    @property
    def mask(self) -> Mask:
        """What is drawn now, at the scan's resolution, (d, h, w)."""
        return carried_over(self._drawn, self._shown, self._mask, self.steps)

    def show(self) -> None:
        """Display the widget."""
        display(self.widget)

    def fill(self) -> int:
        """Fill between the planes that were corrected; returns how many planes it filled."""
        filled, axis, count = fill_between(self._shown, self._drawn, self._spacing_mm)
        self._draw(filled)
        self.say(
            f"{count} plane(s) filled along {AXES[axis]}"
            if count
            else "correct two planes with some between them first"
        )
        return count

    def write(self) -> Path | None:
        """Save scan and corrected label; returns the label's path, None where nothing is drawn (the message says so)."""
        try:
            path = self.corrected.save(self.name, self.image, self.mask)
        except ValueError as error:
            self.say(str(error))
            return None
        changed = int((self.mask != self._mask).sum()) * self.image.voxel_volume_ml
        self.say(
            f"saved {shown_folder(path)}: {changed:.1f} mL changed; {len(self.corrected.names)} scan(s) are corrected"
        )
        return path

    def learn_on(self) -> Thread | None:
        """Start fine-tuning in a process of its own, whose last lines are shown; None where there are too few scans."""
        try:
            command = self.corrected.learning_on(self.run)
        except ValueError as error:
            self.say(str(error))
            return None
        self.learn.disabled = True
        self.say(f"learning on as run {self.run}, in minutes; its steps stand below the view")
        follower = Thread(target=self._follow, args=(command,), daemon=True)
        follower.start()
        return follower

    def say(self, text: str) -> None:
        """Show one sentence above the view."""
        self.message.value = text

    @property
    def _every(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, step) for step in self.steps)

    @property
    def _spacing_mm(self) -> tuple[float, ...]:
        return tuple(step * size for step, size in zip(self.steps, self.image.spacing_mm, strict=True))

    @property
    def _drawn(self) -> Mask:
        bitmap = self.viewer.draw_bitmap
        if bitmap is None:
            return self._shown
        return np.asarray(bitmap).reshape(self._shown.shape)[PROBE_UP] > 0

    def _viewer(self, height_px: int) -> _Viewer:
        viewer = _Viewer(
            height=height_px,
            is_orientation_text_visible=False,
            multiplanar_show_render=1,
            crosshair_width=0.3,
            crosshair_color=(0.3, 0.8, 1.0, 0.8),
        )
        viewer.draw_opacity = 0.35  # the edge under the mask is what one corrects by
        smooth = ndimage.uniform_filter(self.image.array.astype(np.float32), self.steps)
        self._store("scan", smooth[self._every])
        self._store("mask", self._shown.astype(np.uint8))
        viewer.load_volumes([{"path": self._path("scan"), "colormap": "gray"}])
        viewer.set_slice_type(SliceType.MULTIPLANAR)
        return viewer

    def _path(self, kind: str) -> Path:
        return Path(self._folder.name) / f"{kind}.nii"

    def _store(self, kind: str, array: Any) -> None:
        # ITK's axes to the left and back are NIfTI's to the right and front: turned twice, the drawing keeps the array's order
        turned = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
        up = np.ascontiguousarray(array[PROBE_UP])
        write_volume(Volume(up, self._spacing_mm, (0.0, 0.0, 0.0), turned), self._path(kind))

    def _draw(self, mask: Mask) -> None:
        self._store("mask", mask.astype(np.uint8))
        if self.viewer._canvas_attached:  # else it is loaded with the scan
            self.viewer.load_drawing(str(self._path("mask")))
        self.viewer.draw_bitmap = mask[PROBE_UP].astype(np.uint8).ravel()

    def _listen(self) -> None:
        self.viewer.on_image_loaded(lambda volume: self._draw(self._drawn))
        self.pen.observe(lambda change: self._take_pen(), "value")
        self.filled.observe(lambda change: self._take_pen(), "value")
        self.undo.on_click(lambda button: self.viewer.draw_undo())
        self.between.on_click(lambda button: self.viewer.with_drawing(self.fill))
        self.save.on_click(lambda button: self.viewer.with_drawing(self.write))
        self.learn.on_click(lambda button: self.learn_on())

    def _take_pen(self) -> None:
        self.viewer.set_drawing_enabled(self.pen.value != LOOK)
        if self.pen.value != LOOK:
            self.viewer.set_pen_value(self.pen.value, self.filled.value)

    def _follow(self, command: list[str]) -> None:
        """Show the last lines of a command while it runs; the last one is its verdict."""
        lines: list[str] = []
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        )
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            self.log.value = _preformatted(lines[-SHOWN_LINES:])
        self.say(
            "learnt on: the last lines say whether it helped"
            if process.wait() == 0
            else "learning on ended in an error, see below"
        )
        self.learn.disabled = False


def correct(results: Mapping[str, Found], folder: Path, case: str = "", run: str = "mine") -> MaskEditor | None:
    """Show the editor of one segmented scan; None, and a sentence, in a batch run and where there is none to correct.

    A scan that was corrected before goes on with the label that was saved.

    Args:
        results: of `fhlib.segmentation.own_volumes.segment_files`, by name.
        folder: for corrected scans.
        case: which of them; the first without it.
        run: the run that `learn on` makes.

    Raises ValueError for a case that is not among them.
    """
    volumes = {name: found for name, found in results.items() if found.volume.ndim == 3}
    if case and case not in volumes:
        raise ValueError(
            f"{case!r} is no volume that was segmented here{suggestion(case, volumes)}: {', '.join(volumes)}"
        )
    if not volumes:
        show("There is no volume to correct here: single images are corrected in a drawing program.")
        return None
    if (
        SESSION not in os.environ
    ):  # a batch run: no browser talks to its kernel, and the notebook would keep the viewer's 5 MB
        show("Open this notebook in JupyterLab and run this cell to correct the outline with a pen.")
        return None
    name = case or next(iter(volumes))
    corrected, scan = Corrected(folder), volumes[name].volume
    saved = corrected.saved(name, scan)
    editor = MaskEditor(scan, saved or volumes[name].head.mask, name, corrected, run)
    if saved:
        editor.say(
            f"{shown_folder(corrected.label_path(corrected.name_of(name, scan)))} goes on: this scan was corrected before"
        )
    editor.show()
    return editor


def _preformatted(lines: list[str]) -> str:

    return f"<pre style='font-size:12px;line-height:1.35'>{escape(chr(10).join(lines))}</pre>"
