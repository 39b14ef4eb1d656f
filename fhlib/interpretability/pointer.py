"""Mouse on a picture widget: press, drag and wheel reach the kernel without a package beyond ipywidgets.

A script in the reader's browser listens on the picture. It writes what happens into a hidden text field that the kernel
reads.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, NamedTuple

import ipywidgets as widgets

# The field's text: a count, so that each text is new; x and y; 1 for a press or drag; the turns of the wheel so far, since texts that
# come faster than the kernel reads are dropped.
SCRIPT = """
(function attach(mark, tries) {
  const root = mark.closest('.fhlib-pointed');
  const picture = root && root.querySelector('img.widget-image');
  const field = root && root.querySelector('.fhlib-pointer input');
  if (!picture || !field) { if (tries) setTimeout(() => attach(mark, tries - 1), 100); return; }
  let count = 0, turns = 0, held = false;
  const send = (event, pressed) => {
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    field.value = [++count, x, y, pressed, turns].join(' ');
    field.dispatchEvent(new Event('input', {bubbles: true}));
  };
  const scroll = event => { event.preventDefault(); turns += Math.sign(event.deltaY); send(event, 0); };
  picture.draggable = false;
  picture.style.cursor = 'crosshair';
  picture.style.touchAction = 'none';
  const press = event => { held = true; picture.setPointerCapture(event.pointerId); send(event, 1); };
  picture.addEventListener('pointerdown', press);
  picture.addEventListener('pointermove', event => { if (held) send(event, 1); });
  for (const end of ['pointerup', 'pointercancel']) picture.addEventListener(end, () => { held = false; });
  picture.addEventListener('wheel', scroll, {passive: false});
})(this, 100)
"""
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


class Pointed(NamedTuple):
    """Where the mouse is on the picture, whether it is pressed, and how far the wheel has turned since the last time.

    `x` and `y` are fractions of the picture's width and height from the upper left; `turned` counts steps.
    """

    x: float
    y: float
    pressed: bool
    turned: int


def pointed_picture(picture: widgets.Image, react: Callable[[Pointed], None]) -> widgets.VBox:
    """A box around `picture` that calls `react` on press, drag and wheel. Without JavaScript it is the picture alone."""
    field = widgets.Text(continuous_update=True, layout=widgets.Layout(display="none"))
    field.add_class("fhlib-pointer")
    mark = widgets.HTML(f'<img src="{PIXEL}" style="display:none" onload="{html.escape(SCRIPT)}">')
    box = widgets.VBox([picture, field, mark])
    box.add_class("fhlib-pointed")
    turns = 0

    def changed(change: Any) -> None:
        nonlocal turns
        _count, x, y, pressed, total = change["new"].split()
        turned, turns = int(total) - turns, int(total)
        react(Pointed(float(x), float(y), pressed == "1", turned))

    field.observe(changed, names="value")
    return box
