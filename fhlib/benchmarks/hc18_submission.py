"""The file that the HC18 challenge takes: an ellipse for each image of its test set.

The challenge does not print its conventions. Here positions are mm from the centre of the first pixel, x to the right and y down,
`semi_axes_a_mm` is the longer one, and `angle_rad` its direction from x towards y, from 0 to below pi (as other groups' published code
has it).
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from fhlib.cohorts.tables import pixel_sizes
from fhlib.files import progress, write_csv
from fhlib.images.formats import read_volume
from fhlib.segmentation.head_circumference import SUBMISSION, ellipse_numbers, fitted
from fhlib.segmentation.segmentor import Segmentor
from fhlib.segmentation.sources import volumes_in

SHOWN = 5
HEADER = ",".join(("filename", *SUBMISSION)).encode()
"""How a file begins that may be written over."""


def write_submission(segmentor: Segmentor, folder: Path, path: Path) -> pd.DataFrame:
    """Segment every image of a folder and write the ellipses, all of them or nothing.

    Args:
        segmentor: of single images; it outlines the skull.
        folder: of the images. In it or beside it lies the table of pixel sizes (`pixel_sizes`). Beside it one whose name begins with the
            folder's goes first: `test_set_pixel_size.csv` beside `test_set/`.
        path: of the file.

    Returns the table: filename, and `SUBMISSION`'s columns. Raises FileNotFoundError for a folder without images, ValueError for images
    without a pixel size, rows without an image, a head that is not found, weights that outline something else, and a file that is there and
    is another one.
    """
    if (segmentor.parameters.spatial_dims, segmentor.outline) != (2, "skull"):
        raise ValueError("the challenge wants the skull in single images, and these weights are of others: use hc")
    if path.exists() and not path.read_bytes().startswith(HEADER):
        raise ValueError(f"{path.name} is there and is no submission: name another file")
    images = {source.name: source for source in volumes_in(folder) if isinstance(source, Path)}
    beside = folder.absolute().parent
    sizes = pixel_sizes(folder) or pixel_sizes(beside, folder.absolute().name) or pixel_sizes(beside)
    if unsized := sorted(images.keys() - sizes.keys()):
        raise ValueError(
            f"no pixel size for {_some(unsized)}: put a CSV file with the columns `filename` and `pixel size(mm)` beside the images"
        )
    if missing := sorted(sizes.keys() - images.keys()):
        raise ValueError(
            f"the table of pixel sizes names {_some(missing)}, and no such image is there: complete the folder"
        )
    rows, lost, doubtful = [], [], []
    for name, image in progress(sorted(images.items()), "submission", total=len(images)):
        result = segmentor.segment(read_volume(image, sizes[name]))
        ellipse = fitted(result)
        if "no head" in result.flags:
            doubtful.append(name)
        if ellipse is None:
            lost.append(name)
        else:
            rows.append({"filename": name, **ellipse_numbers(ellipse)})
    if lost:
        raise ValueError(
            f"no head is found in {_some(lost)}, and the challenge wants an ellipse for each: nothing is written"
        )
    if doubtful:
        warnings.warn(f"these may hold no head, look at them: {_some(doubtful)}", stacklevel=2)
    table = pd.DataFrame(rows)
    write_csv(table, path)
    return table


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
