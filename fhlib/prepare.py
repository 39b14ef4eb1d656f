"""Network-resolution copies of a cohort (section 3.1): resample, normalise to [0, 1], store for memory-mapped reading."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fhlib.cohort import Cohort
from fhlib.files import atomic_path, digest, file_digest, progress, read_json, require_free_space, write_csv, write_json
from fhlib.presets import Preparation
from fhlib.reach import code_digest
from fhlib.volume import Volume, resample

TRAINED_ON = ("train", "val")


def to_network_grid(volume: Volume, preparation: Preparation) -> Volume:
    """What the network reads of an image: resampled with smoothing, intensities min-max scaled to [0, 1] (float32).

    Volumes go to `spacing_mm` or to `longest_voxels` along their longest side, single images to `image_scale` times their size. A
    constant image becomes 0.
    Raises ValueError for non-finite intensities.
    """
    _require_finite(volume)
    return _min_max(resample(volume, _target_spacing(volume, preparation), smooth=True))


def at_original_resolution(volume: Volume) -> Volume:
    """What a 2D network reads of a volume, slice by slice ("slices of the volume in original resolution", section 3.2): intensities
    min-max scaled to [0, 1] over the whole volume (float32). Raises ValueError for non-finite intensities.
    """
    _require_finite(volume)
    return _min_max(volume)


def _require_finite(volume: Volume) -> None:
    if not np.isfinite(volume.array).all():
        raise ValueError("the image holds NaN or infinite intensities: repair or exclude it")


def _min_max(volume: Volume) -> Volume:
    array = volume.array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    return volume.with_array((array - low) / (high - low) if high > low else np.zeros_like(array))


def label_to_network_grid(label: Volume, preparation: Preparation) -> Volume:
    """A binary label on the network's grid (uint8): smoothed and resampled like the image, then cut where its volume is kept.

    Cutting at one half instead would draw a convex outline inwards by about sigma^2 / R (sigma as in `resample`): of a 240 mL head
    1.4 % of the volume between 2 and 6.4 mm.
    """
    inside = label.array > 0
    coarse = resample(label.with_array(inside.astype(np.float32)), _target_spacing(label, preparation), smooth=True)
    count = round(int(inside.sum()) * math.prod(label.spacing_mm) / math.prod(coarse.spacing_mm))
    ranked = np.sort(coarse.array, axis=None)[::-1]
    level = ranked[min(count, ranked.size) - 1] if count else np.inf
    return coarse.with_array((coarse.array >= level).astype(np.uint8))


def _target_spacing(volume: Volume, preparation: Preparation) -> tuple[float, ...]:
    if volume.ndim == 3:
        return (preparation.volume_spacing_mm(volume.size_mm),) * 3
    return tuple(spacing / preparation.image_scale for spacing in volume.spacing_mm)


@dataclass(frozen=True)
class PreparedCases:
    """Prepared training and validation cases: arrays are memory-mapped, read only. `left_out` are not among them."""

    folder: Path
    left_out: frozenset[str] = frozenset()

    @cached_property
    def index(self) -> pd.DataFrame:
        """case, subject, split, shape, fingerprint; one row a case."""
        index = pd.read_csv(self.folder / "index.csv", dtype={"case": str, "subject": str})
        return index[~index["case"].isin(self.left_out)]

    def cases(self, split: str) -> list[str]:
        """Cases of one split, in the index's order."""
        return self.index.loc[self.index["split"] == split, "case"].tolist()

    def without(self, cases: Iterable[str]) -> PreparedCases:
        """The same, some cases left out."""
        return PreparedCases(self.folder, self.left_out | frozenset(cases))

    def image(self, case: str, original: bool = False) -> NDArray[np.floating[Any]]:
        """(d, h, w) or (h, w) in [0, 1], float32; at the volume's `original` resolution float16."""
        return self._array(case, "image", original)

    def label(self, case: str, original: bool = False) -> NDArray[np.uint8]:
        """Same shape, uint8, 0 or 1."""
        return self._array(case, "label", original)

    def _array(self, case: str, kind: str, original: bool) -> NDArray[Any]:
        path = self.folder / f"{case}.{f'original_{kind}' if original else kind}.npy"
        if original and not path.exists():
            raise FileNotFoundError(
                f"{case} is not prepared at its original resolution, which 2D variants read: "
                "run 02_prepare again with the variant in the preset"
            )
        return np.load(path, mmap_mode="r")

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.typical_shape)

    @property
    def typical_shape(self) -> tuple[int, ...]:
        """The largest prepared shape along each axis."""
        shapes = [[int(n) for n in shape.split("x")] for shape in self.index["shape"]]
        return tuple(np.max(shapes, axis=0).tolist())

    @property
    def fingerprint(self) -> str:
        """Hash of everything that training reads from here."""
        return digest(self.index[["case", "split", "fingerprint"]].to_dict("records"))


def prepare_cohort(
    cohort: Cohort, table: pd.DataFrame, preparation: Preparation, folder: Path, originals: bool = False
) -> PreparedCases:
    """Write the network-resolution copies of `table`'s training and validation cases to `folder`, and index.csv at last.

    With `originals` also copies at the volumes' own resolution, for 2D variants (3 bytes a voxel). Raises OSError where the disk is
    too small for these.

    A case whose files, parameters and code have not changed is kept, so an interrupted run continues. `table` is the manifest with
    its splits assigned. Other splits are read at their own resolution when they are predicted.
    """
    code = code_digest("fhlib.prepare")
    rows = []
    wanted = table[table["split"].isin(TRAINED_ON)]
    for row in progress(wanted.to_dict("records"), "prepare", total=len(wanted)):
        sources = [cohort.folder / row[name] for name in ("image", "label") if row[name]]
        fingerprint = digest(code, preparation.model_dump(), [_content(path) for path in sources])
        shape = _prepare_case(cohort, row["case"], preparation, folder, fingerprint, originals)
        rows.append(
            {
                "case": row["case"],
                "subject": row["subject"],
                "split": row["split"],
                "shape": "x".join(map(str, shape)),
                "fingerprint": fingerprint,
            }
        )
    write_csv(pd.DataFrame(rows), folder / "index.csv")
    return PreparedCases(folder)


def _content(path: Path) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return digest([file_digest(file) for file in files])


def _prepare_case(
    cohort: Cohort, case: str, preparation: Preparation, folder: Path, fingerprint: str, originals: bool
) -> list[int]:
    stamp = folder / f"{case}.json"
    names = ("image", "label", "original_image", "original_label") if originals else ("image", "label")
    arrays = [folder / f"{case}.{name}.npy" for name in names]
    if all(path.exists() for path in (stamp, *arrays)) and (known := read_json(stamp))["fingerprint"] == fingerprint:
        return known["shape"]
    stamp.unlink(missing_ok=True)
    volume, truth = cohort.read_image(case), cohort.read_label(case)
    image, label = to_network_grid(volume, preparation), label_to_network_grid(truth, preparation)
    contents: list[NDArray[Any]] = [image.array, label.array]
    if originals:
        require_free_space(folder, 3 * volume.array.size)
        contents += [at_original_resolution(volume).array.astype(np.float16), (truth.array > 0).astype(np.uint8)]
    for path, array in zip(arrays, contents, strict=True):
        with atomic_path(path) as temporary:
            np.save(temporary, array)
    write_json({"fingerprint": fingerprint, "shape": list(image.shape)}, stamp)
    return list(image.shape)
