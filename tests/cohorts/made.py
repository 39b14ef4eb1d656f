"""Small cohorts: oblique, anisotropic, not cubic."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fhlib.cohorts.checks import check_cohort
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume

OBLIQUE = (-0.8660254037844386, 0.5, 0.0, 0.5, 0.8660254037844386, 0.0, 0.0, 0.0, 1.0)


def scan(seed, **change):
    """An image of random intensities in 9 x 13 x 17 voxels of 4 x 2 x 3 mm."""
    values = np.random.default_rng(seed).integers(0, 255, (9, 13, 17)).astype(np.float32)
    return Volume(**({"array": values, "spacing_mm": (4, 2, 3), "origin": (5, -6, 7), "direction": OBLIQUE} | change))


def head(place=0, **change):
    """A box of 5 x 7 x 9 voxels of 4 x 2 x 3 mm: 7.56 mL; in another place (0 to 7), since no two scans have one label."""
    mask = np.zeros((9, 13, 17), bool)
    h, w = 3 + place // 4, 4 + place % 4
    mask[2:7, h : h + 7, w : w + 9] = True
    return scan(0, **({"array": mask} | change))


def make(folder, count=3, **columns):
    """A sound cohort of `count` subjects; keyword lists replace columns."""
    for i in range(count):
        write_volume(scan(i), folder / "images" / f"c{i}.nrrd")
        write_volume(head(i), folder / "labels" / f"c{i}.nrrd")
    table = {
        "case": [f"c{i}" for i in range(count)],
        "subject": [f"s{i}" for i in range(count)],
        "image": [f"images/c{i}.nrrd" for i in range(count)],
        "label": [f"labels/c{i}.nrrd" for i in range(count)],
    }
    pd.DataFrame(table | columns).to_csv(folder / "cohort.csv", index=False)
    return folder


def checks(folder):
    """(case, check, severity) of every finding."""
    findings = check_cohort(folder, show_progress=False)
    assert list(findings.columns) == ["case", "check", "severity", "message"]
    return [tuple(row[:3]) for row in findings.itertuples(index=False)]


def pair(seed=0):
    """An image of bytes and the mask of a box in it."""
    rng = np.random.default_rng(seed)
    image = Volume(rng.integers(0, 255, (9, 13, 17)).astype(np.uint8), (4, 2, 3), (5, -6, 7), OBLIQUE)
    mask = np.zeros(image.shape, bool)
    mask[2:7, 3:10, 4 + seed % 4 : 13 + seed % 4] = True
    return image, image.with_array(mask)
