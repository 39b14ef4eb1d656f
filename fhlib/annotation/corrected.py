"""Corrected scans as a cohort: each scan with its label, where fine-tuning looks for them."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Mask, Volume

FEWEST_TO_LEARN_FROM = 2
"""One scan is held out, so that what the others taught can be scored."""


@dataclass(frozen=True)
class Corrected:
    """A folder of corrected scans: `X.nrrd` beside `X_Label.nrrd`, the second layout of `fhlib.cohorts.importers`."""

    folder: Path

    def label_path(self, name: str) -> Path:
        """Where the label of a scan lies."""
        return self.folder / f"{name}_Label.nrrd"

    @property
    def names(self) -> list[str]:
        """The scans that have a label."""
        labels = sorted(self.folder.glob("*_Label.nrrd"))
        return [path.name.removesuffix("_Label.nrrd") for path in labels]

    def name_of(self, name: str, image: Volume) -> str:
        """Under which name this very scan is saved: its own, or `X~2` where another scan is `X` already."""
        names = (name if number == 1 else f"{name}~{number}" for number in itertools.count(1))
        return next(one for one in names if self._is_of(one, image))

    def _is_of(self, name: str, image: Volume) -> bool:
        """Whether nothing else is saved under a name."""
        path = self.folder / f"{name}.nrrd"
        if not path.exists():
            return True
        scan = read_volume(path)
        return scan.same_geometry(image) and np.array_equal(scan.array, image.array)

    def saved(self, name: str, image: Volume) -> Volume | None:
        """The label saved of this very scan, None where there is none."""
        path = self.label_path(self.name_of(name, image))
        label = read_volume(path) if path.exists() else None
        return label if label is not None and label.same_geometry(image) else None

    def save(self, name: str, image: Volume, mask: Mask) -> Path:
        """Write a scan and its corrected label, the label last; returns the label's path.

        Another scan of the same name stays: this one is then `X~2`.

        Args:
            name: of the scan, without folder or suffix.
            image: the scan in its own geometry.
            mask: (d, h, w), of the same shape.

        Raises ValueError for a mask of another shape, or an empty one: it teaches that there is no head.
        """
        if mask.shape != image.shape:
            raise ValueError(
                f"the mask of {name} has {mask.shape} voxels and its scan {image.shape}: they must be the same"
            )
        if not mask.any():
            raise ValueError(f"nothing is drawn in {name}: draw the head before you save it")
        name = self.name_of(name, image)
        write_volume(image, self.folder / f"{name}.nrrd")
        write_volume(image.with_array(mask.astype(np.uint8)), self.label_path(name))
        return self.label_path(name)

    def learning_on(self, run: str) -> list[str]:
        """The command that learns on from the shipped weights with these scans, as a list of arguments.

        Raises ValueError while there are too few.
        """
        if len(self.names) < FEWEST_TO_LEARN_FROM:
            raise ValueError(
                f"{len(self.names)} scan(s) are corrected, and learning on takes {FEWEST_TO_LEARN_FROM}, of two subjects: "
                "one is held out to be scored"
            )
        return [
            *(sys.executable, "-m", "fhlib", "study"),
            *("--preset", "fine-tune", "--cohort", str(self.folder), "--run", run),
        ]


def coarse_steps(shape: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """By how many voxels to step along each axis so that none has more than `longest`."""
    return tuple(-(-count // longest) for count in shape)


def carried_over(drawn: Mask, shown: Mask, mask: Mask, steps: tuple[int, ...]) -> Mask:
    """A mask at full resolution after what was drawn on every `steps`-th voxel of it.

    Only where the drawing was changed does the mask change: there each drawn voxel stands for the block that it was taken from. So what
    nobody touched stays as fine as it was.

    Args:
        drawn: the drawing now.
        shown: the drawing as it began, `mask` at every `steps`-th voxel.
        mask: at full resolution.
        steps: along each axis.
    """
    changed = drawn != shown
    for axis, step in enumerate(steps):
        changed, drawn = (np.repeat(array, step, axis) for array in (changed, drawn))
    part = tuple(slice(0, count) for count in mask.shape)
    return np.where(changed[part], drawn[part], mask)
