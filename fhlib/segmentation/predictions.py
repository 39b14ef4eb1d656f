"""Segment every case of a cohort, and read what was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fhlib.files import progress, write_csv
from fhlib.fingerprints import code_digest, digest, kept_or_made
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.parts import volume_digest
from fhlib.images.volume import Volume, parse_spacing
from fhlib.segmentation.segmentor import Segmentor
from fhlib.variants import VARIANTS

PROBABILITY_STEPS = 255


def predict_cases(
    segmentor: Segmentor, cases: Iterable[Mapping[str, Any]], root: Path, folder: Path, model_digest: str
) -> pd.DataFrame:
    """Segment every case of a manifest and write mask and probability beside a row a case; predictions.csv comes last.

    The probability is stored as 0-255 (steps of 0.004), in the image's own geometry. A mask without a voxel has status `missed`. A case
    that is complete for the same model, parameters and image is kept, so a killed prediction continues.

    Args:
        segmentor: what segments.
        cases: manifest rows: case, subject, split, image (relative to `root`) and, where it is given, spacing_mm.
        root: the cohort's folder.
        folder: for masks, probabilities and the table.
        model_digest: of the segmentor's weights.
    """
    network = VARIANTS[segmentor.parameters.variant].modules
    code = code_digest("fhlib.segmentation.predictions", *network)
    rows = []
    cases = list(cases)
    for case in progress(cases, "segment"):
        source, name = root / case["image"], case["case"]
        spacing = case.get("spacing_mm", "")
        fingerprint = digest(code, model_digest, segmentor.prediction.model_dump(), volume_digest(source), spacing)
        files = {kind: f"{name}_{kind}.nrrd" for kind in ("mask", "probability")}
        make = partial(_predict_case, segmentor, source, parse_spacing(spacing), folder, files)
        made = kept_or_made(folder / f"{name}.json", fingerprint, [folder / file for file in files.values()], make)
        rows.append({key: case[key] for key in ("case", "subject", "split")} | made)
    frame = pd.DataFrame(
        rows, columns=["case", "subject", "split", "status", "volume_ml", "flags", "mask", "probability"]
    )
    write_csv(frame, folder / "predictions.csv")
    return frame


def _predict_case(
    segmentor: Segmentor, source: Path, spacing_mm: Sequence[float] | None, folder: Path, files: Mapping[str, str]
) -> dict[str, Any]:
    result = segmentor.segment(read_volume(source, spacing_mm))
    write_volume(result.mask, folder / files["mask"])
    write_volume(in_steps(result.probability), folder / files["probability"])
    return {
        "status": "found" if result.mask.array.any() else "missed",
        "volume_ml": None if np.isnan(result.volume_ml) else round(result.volume_ml, 4),
        "flags": "; ".join(result.flags),
        **files,
    }


def in_steps(probability: Volume) -> Volume:
    """A probability as it is written: uint8, in steps of 1/255."""
    steps = np.empty(probability.shape, np.uint8)
    for plane, written in zip(probability.array, steps, strict=True):  # no copy of the whole in float32
        written[...] = np.rint(plane * PROBABILITY_STEPS)
    return probability.with_array(steps)


def read_prediction(folder: Path, row: Mapping[str, Any]) -> tuple[Volume, Volume]:
    """Mask (bool) and probability (float32, 0-1) of a row of predictions.csv."""
    mask, steps = read_volume(folder / row["mask"]), read_volume(folder / row["probability"])
    probability = steps.with_array(steps.array.astype(np.float32) / PROBABILITY_STEPS)
    return mask.with_array(mask.array > 0), probability
