"""Network-resolution copies of a cohort (section 3.1): resample, normalise to [0, 1], store for memory-mapped reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fhlib.files import atomic_path, progress, read_csv, require_free_space, write_csv
from fhlib.fingerprints import code_digest, digest, kept_or_made
from fhlib.images.parts import volume_digest
from fhlib.models.inputs import at_original_resolution, label_to_network_grid, to_network_grid
from fhlib.presets import Preparation

if TYPE_CHECKING:
    from fhlib.cohorts.manifest import Cohort

TRAINED_ON = ("train", "val")
KEPT = ("case", "subject", "split")
AT_ONCE = 2
"""Cases that are prepared together: while one is read, another is computed."""


@dataclass(frozen=True)
class PreparedCases:
    """Prepared training and validation cases: arrays are memory-mapped, read only. `left_out` are not among them."""

    folder: Path
    left_out: frozenset[str] = frozenset()

    @cached_property
    def index(self) -> pd.DataFrame:
        """case, subject, split, shape, fingerprint; one row a case."""
        index = read_csv(self.folder / "index.csv")
        return index[~index["case"].isin(self.left_out)]

    def cases(self, split: str) -> list[str]:
        """Cases of one split, in the index's order."""
        return self.index.loc[self.index["split"] == split, "case"].tolist()

    def without(self, cases: Iterable[str]) -> PreparedCases:
        """The same, some cases left out."""
        return replace(self, left_out=self.left_out | frozenset(cases))

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
        sides = self.index["shape"].str.split("x", expand=True).astype(int)
        return tuple(sides.max().tolist())

    @property
    def fingerprint(self) -> str:
        """Hash of everything that training reads from here."""
        return digest(self.index[["case", "split", "fingerprint"]].to_dict("records"))


def prepare_cohort(
    cohort: Cohort, table: pd.DataFrame, preparation: Preparation, folder: Path, originals: bool = False
) -> PreparedCases:
    """Write the network-resolution copies of the training and validation cases, and index.csv at last.

    A case whose files, parameters and code have not changed is kept, so an interrupted run continues. Other splits are read at their own
    resolution when they are predicted.

    Args:
        cohort: where images and labels lie.
        table: its manifest with every split assigned.
        preparation: what the network reads.
        folder: for the copies.
        originals: write copies at the volumes' own resolution too, for 2D variants (3 bytes a voxel).

    Raises OSError where the disk is too small for the originals.
    """
    code = code_digest("fhlib.training.prepared")
    kinds = ("image", "label", "original_image", "original_label") if originals else ("image", "label")

    def prepared(row: dict[str, Any]) -> dict[str, Any]:
        case = row["case"]
        fingerprint = digest(code, preparation.model_dump(), *sources_of(cohort, row))
        arrays = [folder / f"{case}.{kind}.npy" for kind in kinds]
        make = partial(_prepare_case, cohort, case, preparation, arrays)
        made = kept_or_made(folder / f"{case}.json", fingerprint, arrays, make)
        return {"shape": "x".join(map(str, made["shape"])), "fingerprint": fingerprint}

    prepare_each(prepared, table, "prepare", folder)
    return PreparedCases(folder)


def sources_of(cohort: Cohort, row: Mapping[str, Any]) -> tuple[list[str], str]:
    """Digests of the files of a manifest's row, and the spacing that it states: what a prepared case depends on."""
    paths = [cohort.folder / row[name] for name in ("image", "label") if row[name]]
    return [volume_digest(path) for path in paths], row.get("spacing_mm", "")


def prepare_each(
    prepared: Callable[[dict[str, Any]], dict[str, Any]], table: pd.DataFrame, description: str, folder: Path
) -> None:
    """Prepare the training and validation cases of a manifest, two at a time, and write index.csv.

    Args:
        prepared: prepares the case of a row, and returns what the index holds of it beyond case, subject and split.
        table: the manifest with every split assigned.
        description: for the progress bar.
        folder: of the index.
    """
    wanted = table[table["split"].isin(TRAINED_ON)].to_dict("records")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(progress(pool.map(prepared, wanted), description, total=len(wanted)))
    rows = [{name: row[name] for name in KEPT} | found for row, found in zip(wanted, made, strict=True)]
    write_csv(pd.DataFrame(rows), folder / "index.csv")


def _prepare_case(cohort: Cohort, case: str, preparation: Preparation, arrays: list[Path]) -> dict[str, Any]:
    """Write image and label, and where four arrays are wanted both at the original resolution too."""
    volume, truth = cohort.read_image(case), cohort.read_label(case)
    image, label = to_network_grid(volume, preparation), label_to_network_grid(truth, preparation)
    contents: list[NDArray[Any]] = [image.array, label.array]
    if len(arrays) > 2:
        require_free_space(arrays[0].parent, 3 * volume.array.size)
        contents += [at_original_resolution(volume).array.astype(np.float16), (truth.array > 0).astype(np.uint8)]
    for path, array in zip(arrays, contents, strict=True):
        with atomic_path(path) as temporary:
            np.save(temporary, array)
    return {"shape": list(image.shape)}
