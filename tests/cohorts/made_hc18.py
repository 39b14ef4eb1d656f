"""A folder like HC18's, drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume

CSV = "training_set_pixel_size_and_HC.csv"


def ellipse(shape, centre, axes, angle):
    """Signed value of an ellipse at pixel centres, negative inside."""
    y, x = np.indices(shape) - np.reshape(centre, (2, 1, 1))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 - 1


def draw(shape, centre, axes, angle):
    """Outline through the centres of the pixels nearest to the curve."""
    t = np.linspace(0, 2 * np.pi, 20000)
    x = axes[0] * np.cos(t) * np.cos(angle) - axes[1] * np.sin(t) * np.sin(angle) + centre[1]
    y = axes[0] * np.cos(t) * np.sin(angle) + axes[1] * np.sin(t) * np.cos(angle) + centre[0]
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    seen = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    outline = np.zeros(shape, bool)
    outline[row[seen], column[seen]] = True
    return outline


def circumference(a, b):
    """Perimeter of an ellipse by summing short chords."""
    t = np.linspace(0, 2 * np.pi, 100001)
    return np.hypot(np.diff(a * np.cos(t)), np.diff(b * np.sin(t))).sum()


HEADS = {  # name: pixel size mm, centre, semi-axes in pixels, angle
    "000_HC.png": (0.1, (60, 80), (55, 42), 0.3),
    "010_HC.png": (0.25, (62.4, 83.7), (50, 37), -0.8),
    "010_2HC.png": (0.3, (61, 79), (52, 40), 1.2),
    "011_HC.png": (0.2, (30, 80), (60, 45), 0.0),  # leaves the picture at the top
}


def make_hc18(folder, layout):
    """A folder with HC18's names and numbers: ellipses in noise, 130 x 170 pixels."""
    images, annotations, table = {
        "subfolders": ("image", "annotation", "."),
        "side by side": (".", ".", "."),
        "public download": ("training_set", "training_set", "."),
    }[layout]
    rng = np.random.default_rng(0)
    rows = []
    for name, (pixel_mm, centre, axes, angle) in HEADS.items():
        scan = rng.integers(0, 120, (130, 170)) + 100 * (ellipse((130, 170), centre, axes, angle) < 0)
        write_volume(Volume(scan.astype(np.uint8), (1, 1)), folder / images / name)
        outline = draw((130, 170), centre, axes, angle).astype(np.uint8) * 255
        write_volume(Volume(outline, (1, 1)), folder / annotations / name.replace(".png", "_Annotation.png"))
        rows.append((name, pixel_mm, circumference(*axes) * pixel_mm))
    header = ["filename", "pixel size(mm)", "head circumference (mm)"]
    pd.DataFrame(rows, columns=header).to_csv(folder / table / CSV, index=False)
    return folder
