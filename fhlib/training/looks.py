"""What a level learns from that locates: whole scans, and closer looks at the region around the head (`Cascade.locate`).

A level that has seen whole scans alone is at a loss in the region, where the head is several times as large. What it misses there, the
level after it misses too: it reads this level's probability. All are in the order of axes in which a scan is predicted
(`fhlib.models.orientation`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fhlib.files import atomic_path, read_csv
from fhlib.fingerprints import code_digest, digest, kept_or_made
from fhlib.images.grids import crop_to_box, resample
from fhlib.images.volume import Volume
from fhlib.models.boxes import Edges, Faces, enlarged, faces_of, on_grid
from fhlib.models.inputs import in_unit_range, label_to_network_grid, label_to_spacing, to_network_grid
from fhlib.models.orientation import Turn, canonical
from fhlib.presets import Preparation, Training
from fhlib.training.boxes import STEPS, USUAL_ERROR, faces_from, faces_text
from fhlib.training.prepared import PreparedCases, prepare_each, sources_of

if TYPE_CHECKING:
    from fhlib.cohorts.manifest import Cohort

LOOKED_AT = (1.3, 2.6)
"""How many times as large as the head a region is; `REGION_ENLARGED` lies between, of a first mask that may be too large or too small."""
HEADLESS = (0.4, 1.0)
"""Share of each side of a scan without a head."""


@dataclass(frozen=True)
class LookCases(PreparedCases):
    """Prepared cases with the regions around their heads, which lie in `regions`, for the grid of `preparation`."""

    regions: Path = Path()
    preparation: Preparation | None = None

    @cached_property
    def _regions(self) -> pd.DataFrame:
        return read_csv(self.regions / "index.csv")

    @cached_property
    def _faces(self) -> dict[str, Faces | None]:
        rows = self._regions.itertuples()
        return {row.case: faces_from(row.faces) if isinstance(row.faces, str) else None for row in rows}

    @cached_property
    def _turns(self) -> dict[str, Turn]:
        return {row.case: Turn(*map(tuple, json.loads(row.turn))) for row in self._regions.itertuples()}

    @property
    def fingerprint(self) -> str:
        """Hash of everything that training reads from here."""
        return digest(super().fingerprint, self._regions[["case", "fingerprint"]].to_dict("records"))

    def _array(self, case: str, kind: str, original: bool) -> NDArray[Any]:
        return self._turns[case].of_array(super()._array(case, kind, original))

    def drawn(
        self, case: str, rng: np.random.Generator, training: Training
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], None]:
        """Image and label as a training step reads them: the whole scan or a region, and no context.

        Args:
            case: its name.
            rng: what draws.
            training: how often it is a region.
        """
        if rng.random() >= training.closer_look_probability:
            return self.image(case), self.label(case), None
        assert self.preparation is not None
        image, label = (np.load(path, mmap_mode="r") for path in _arrays(self.regions, case))
        part = tuple(slice(*edge) for edge in self._region(case, image.shape, rng))
        spacing_mm = (1.0,) * image.ndim
        read = to_network_grid(Volume(np.asarray(image[part], np.float32), spacing_mm), self.preparation)
        truth = label_to_network_grid(Volume(np.asarray(label[part]), spacing_mm), self.preparation)
        return read.array, truth.array, None

    def _region(self, case: str, shape: tuple[int, ...], rng: np.random.Generator) -> Edges:
        faces = self._faces[case]
        if faces is None:
            sides = rng.uniform(*HEADLESS, len(shape)) * shape
            start = rng.uniform(0, shape - sides)
            return enlarged(np.stack([start, start + sides]), 1.0, shape)
        off = rng.normal(0, USUAL_ERROR, faces.shape)
        faces = np.sort(faces + off * (faces[1] - faces[0]), axis=0)
        return enlarged(faces, rng.uniform(*LOOKED_AT), shape)


def prepare_looks(
    cohort: Cohort, table: pd.DataFrame, preparation: Preparation, cases: PreparedCases, folder: Path
) -> LookCases:
    """Write the region around the head of each training and validation case, and index.csv at last.

    Stored are image (in steps of 1/255) and label, `LOOKED_AT` at most as large as the head, as fine as the smallest region is read, in
    the order of axes of prediction.

    Args:
        cohort: where images and labels lie.
        table: its manifest with every split assigned.
        preparation: of the run.
        cases: the prepared ones, of whole scans.
        folder: for the regions. One whose files, parameters and code have not changed is kept.

    Raises ValueError where the grid has no `longest_voxels`: a region is then seen no finer than the whole.
    """
    if not preparation.longest_voxels:
        raise ValueError(
            "training.closer_look_probability is for grids of preparation.longest_voxels, which show a region more finely: "
            "set that, or the probability to 0"
        )
    code = code_digest("fhlib.training.looks")

    def prepared(row: dict[str, Any]) -> dict[str, Any]:
        case = row["case"]
        fingerprint = digest(code, preparation.model_dump(), *sources_of(cohort, row))
        arrays = _arrays(folder, case)
        make = partial(_prepare_look, cohort, case, preparation, arrays)
        return kept_or_made(folder / f"{case}.json", fingerprint, arrays, make) | {"fingerprint": fingerprint}

    prepare_each(prepared, table, "regions", folder)
    return LookCases(cases.folder, cases.left_out, regions=folder, preparation=preparation)


def _arrays(folder: Path, case: str) -> list[Path]:
    return [folder / f"{case}.{kind}.npy" for kind in ("image", "label")]


def _prepare_look(cohort: Cohort, case: str, preparation: Preparation, arrays: list[Path]) -> dict[str, Any]:
    scan = cohort.read_image(case)
    turn = canonical(scan)
    volume, truth = turn.of(scan), turn.of(cohort.read_label(case))
    head = faces_of(truth.array > 0)
    region, finest_mm = volume, HEADLESS[0] * max(volume.size_mm)
    if head is not None:
        region, crop = crop_to_box(volume, enlarged(head, LOOKED_AT[1], volume.shape))
        truth, _ = crop_to_box(truth, crop.box)
        finest_mm = LOOKED_AT[0] * max((head[1] - head[0]) * volume.spacing_mm)

    assert preparation.longest_voxels is not None
    stored = in_unit_range(resample(region, finest_mm / preparation.longest_voxels, smooth=True))
    label = label_to_spacing(truth, stored.spacing_mm)
    for path, array in zip(arrays, (np.rint(stored.array * STEPS).astype(np.uint8), label.array), strict=True):
        with atomic_path(path) as temporary:
            np.save(temporary, array)
    faces = "" if head is None else faces_text(on_grid(head, volume, stored))
    return {"shape": "x".join(map(str, stored.shape)), "faces": faces, "turn": json.dumps([turn.axes, turn.flipped])}
