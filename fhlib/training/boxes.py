"""What a level that reads boxes learns from: each scan around its head at the box's resolution, with the first level's probability.

Training draws boxes out of it: enlarged by a drawn factor, and misplaced as the first level misplaces them on scans that it has not learnt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from fhlib.files import atomic_path
from fhlib.fingerprints import code_digest, digest, kept_or_made
from fhlib.images.grids import crop_to_box, resample
from fhlib.images.volume import Volume
from fhlib.models.boxes import REGION_ENLARGED, Edges, Faces, enlarged, faces_of, on_grid
from fhlib.models.cascade import LOCATED, Cascade
from fhlib.models.inputs import in_unit_range, label_to_spacing, min_max
from fhlib.models.orientation import canonical
from fhlib.presets import Preparation, Training
from fhlib.training.prepared import PreparedCases, prepare_each, sources_of

if TYPE_CHECKING:
    from fhlib.cohorts.manifest import Cohort

STEPS = 255
FEWEST_ERRORS, USUAL_ERROR = 10, 0.05
"""With fewer validation cases than that errors are drawn, with this SD as a share of a side (an assumption)."""
ONE_AT_A_TIME = Lock()
"""Cases are prepared in threads, and a network has one mode."""
Read = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]
"""Image in [0, 1], label and context of a box, (d, h, w) or (h, w)."""


@dataclass(frozen=True)
class BoxCases(PreparedCases):
    """Cases around their heads. `box_voxels` and `box_enlarged` are the preparation's."""

    box_voxels: int = 80
    box_enlarged: float = 1.4

    @property
    def typical_shape(self) -> tuple[int, ...]:
        """Of what the network reads: a cube, the largest there can be."""
        return (self.box_voxels,) * self.spatial_dims

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(super().typical_shape)

    @cached_property
    def _faces(self) -> dict[str, Faces]:
        return {row.case: faces_from(row.faces) for row in self.index.itertuples()}

    @cached_property
    def _errors(self) -> list[Faces]:
        """How far the first level's boxes were off on validation cases, in shares of their sides."""
        measured = self.index[self.index["errors"].notna() & (self.index["split"] == "val")]
        return [faces_from(text) for text in measured["errors"]]

    def drawn(self, case: str, rng: np.random.Generator, training: Training) -> Read:
        """A box as a training step reads it.

        Args:
            case: its name.
            rng: what draws.
            training: how far the box is enlarged.
        """
        faces, errors = self._faces[case], self._errors
        off = (
            errors[rng.integers(len(errors))]
            if len(errors) >= FEWEST_ERRORS
            else rng.normal(0, USUAL_ERROR, faces.shape)
        )
        faces = np.sort(faces + off * (faces[1] - faces[0]), axis=0)
        return self._box(case, enlarged(faces, rng.uniform(*training.box_drawn), self.image(case).shape))

    def located(self, case: str) -> Read:
        """The box as it is read in prediction."""
        return self._box(case, enlarged(self._faces[case], self.box_enlarged, self.image(case).shape))

    def _box(self, case: str, edges: Edges) -> Read:
        part = tuple(slice(*edge) for edge in edges)
        sides = np.array([stop - start for start, stop in edges])
        shape = np.maximum(1, np.round(sides * self.box_voxels / sides.max())).astype(int).tolist()
        arrays = self.image(case)[part], self.label(case)[part], self._array(case, "context", False)[part]
        image, label, context = (_resized(array, shape) for array in arrays)
        return min_max(image), (label >= 0.5).astype(np.uint8), context / np.float32(STEPS)


def _resized(array: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float32]:
    mode = "trilinear" if array.ndim == 3 else "bilinear"
    tensor = torch.from_numpy(np.asarray(array, np.float32))[None, None]
    return F.interpolate(tensor, shape, mode=mode, align_corners=False)[0, 0].numpy()


def prepare_boxes(
    cohort: Cohort, table: pd.DataFrame, cascade: Cascade, model: str, preparation: Preparation, folder: Path
) -> BoxCases:
    """Write each training and validation case around its head, with what the first level finds there, and index.csv at last.

    Stored are image, context (both in steps of 1/255) and label, cut about twice as large as the head, at a spacing that gives its box
    `box_voxels`, in the order of axes of prediction (`fhlib.models.orientation`). A training case is cut around the true head, a
    validation case around what the first level finds, as in prediction.

    Args:
        cohort: where images and labels lie.
        table: its manifest with every split assigned.
        cascade: the first level.
        model: digest of its weights.
        preparation: of the run.
        folder: for the copies. A case whose files, parameters, weights and code have not changed is kept.
    """
    code = code_digest("fhlib.training.boxes")

    def prepared(row: dict[str, Any]) -> dict[str, Any]:
        case, split = row["case"], row["split"]
        fingerprint = digest(code, model, preparation.model_dump(), split, *sources_of(cohort, row))
        arrays = [folder / f"{case}.{kind}.npy" for kind in ("image", "label", "context")]
        make = partial(_prepare_box, cohort, case, split, cascade, preparation, arrays)
        return kept_or_made(folder / f"{case}.json", fingerprint, arrays, make) | {"fingerprint": fingerprint}

    prepare_each(prepared, table, "boxes", folder)
    return BoxCases(folder, box_voxels=preparation.box_voxels, box_enlarged=preparation.box_enlarged)


def _prepare_box(
    cohort: Cohort, case: str, split: str, cascade: Cascade, preparation: Preparation, arrays: list[Path]
) -> dict[str, Any]:
    scan = cohort.read_image(case)
    turn = canonical(scan)
    volume, truth = turn.of(scan), turn.of(cohort.read_label(case))
    head = faces_of(truth.array > 0)
    if split == "train" and head is not None:
        region, _ = crop_to_box(volume, enlarged(head, REGION_ENLARGED, volume.shape))
        image = cascade.read(region)
        with ONE_AT_A_TIME:
            probability = image.with_array(cascade.probability(image.array, upto=1))
    else:
        with ONE_AT_A_TIME:
            region, probability = cascade.locate(volume)

    found = faces_of(probability.array >= LOCATED)
    whole = np.array([np.zeros(region.ndim), region.shape])
    located = whole if found is None else on_grid(found, probability, region)
    true = None if head is None else on_grid(head, volume, region)
    box = true if split == "train" and true is not None else located
    longest_mm = preparation.box_enlarged * max((box[1] - box[0]) * region.spacing_mm)

    # what is found can be a speck in the whole volume, which would be huge at the speck's resolution
    part, _ = crop_to_box(region, enlarged(box, REGION_ENLARGED, region.shape))
    stored = in_unit_range(resample(part, longest_mm / preparation.box_voxels, smooth=True))
    label = label_to_spacing(_within(truth, part), stored.spacing_mm)
    context = resample(probability, like=stored)
    steps = [np.rint(volume.array * STEPS).astype(np.uint8) for volume in (stored, context)]
    for path, array in zip(arrays, (steps[0], label.array, steps[1]), strict=True):
        with atomic_path(path) as temporary:
            np.save(temporary, array)
    errors = None if true is None or found is None else faces_text((located - true) / (true[1] - true[0]))
    return {
        "shape": "x".join(map(str, stored.shape)),
        "faces": faces_text(on_grid(box, region, stored)),
        "errors": errors,
    }


def _within(truth: Volume, region: Volume) -> Volume:
    """The part of a label that lies in a region cut from its scan."""
    start = on_grid(np.array([np.zeros(region.ndim), region.shape]), region, truth)[0].round().astype(int).tolist()
    return crop_to_box(truth, [(low, low + count) for low, count in zip(start, region.shape, strict=True)])[0]


def faces_text(faces: Faces) -> str:
    """Faces as a cell of an index."""
    return json.dumps(faces.round(4).tolist())


def faces_from(text: str) -> Faces:
    """Faces of what `faces_text` gave."""
    return np.array(json.loads(text), float)
