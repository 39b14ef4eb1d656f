"""Segment every case of a cohort, and read what was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fhlib.files import progress, read_json, write_csv, write_json
from fhlib.fingerprints import code_digest, digest, file_digest
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume
from fhlib.segmentation.segmentor import Segmentor

PROBABILITY_STEPS = 255


def predict_cases(
    segmentor: Segmentor, cases: Iterable[Mapping[str, Any]], root: Path, folder: Path, model_digest: str
) -> pd.DataFrame:
    """Segment every case of a manifest and write mask and probability beside a row a case; predictions.csv comes last.

    `cases`: manifest rows (case, subject, split, image relative to `root`). The probability is stored as 0-255 (steps of 0.004), in the
    image's own geometry. A case that is complete for the same model, parameters and image is kept, so a killed prediction
    continues. A mask without a voxel has status `missed`.
    """
    code = code_digest("fhlib.segmentation.predictions")
    rows = []
    cases = list(cases)
    for case in progress(cases, "segment"):
        source = root / case["image"]
        content = (
            file_digest(source) if source.is_file() else digest([file_digest(f) for f in sorted(source.iterdir())])
        )
        fingerprint = digest(code, model_digest, segmentor.prediction.model_dump(), content)
        stamp = folder / f"{case['case']}.json"
        known = read_json(stamp) if stamp.exists() else {}
        files = [folder / known["row"][kind] for kind in ("mask", "probability")] if known else []
        if known.get("fingerprint") != fingerprint or not all(file.exists() for file in files):
            stamp.unlink(missing_ok=True)
            known = {"fingerprint": fingerprint, "row": _predict_case(segmentor, case, source, folder)}
            write_json(known, stamp)
        rows.append({**{key: case[key] for key in ("case", "subject", "split")}, **known["row"]})
    frame = pd.DataFrame(
        rows, columns=["case", "subject", "split", "status", "volume_ml", "flags", "mask", "probability"]
    )
    write_csv(frame, folder / "predictions.csv")
    return frame


def _predict_case(segmentor: Segmentor, case: Mapping[str, Any], source: Path, folder: Path) -> dict[str, Any]:
    result = segmentor.segment(read_volume(source))
    names = {kind: f"{case['case']}_{kind}.nrrd" for kind in ("mask", "probability")}
    write_volume(result.mask, folder / names["mask"])
    steps = np.rint(result.probability.array * PROBABILITY_STEPS).astype(np.uint8)
    write_volume(result.probability.with_array(steps), folder / names["probability"])
    return {
        "status": "found" if result.mask.array.any() else "missed",
        "volume_ml": None if np.isnan(result.volume_ml) else round(result.volume_ml, 4),
        "flags": "; ".join(result.flags),
        **names,
    }


def read_prediction(folder: Path, row: Mapping[str, Any]) -> tuple[Volume, Volume]:
    """Mask (bool) and probability (float32, 0-1) of a row of predictions.csv."""
    mask, steps = read_volume(folder / row["mask"]), read_volume(folder / row["probability"])
    probability = steps.with_array(steps.array.astype(np.float32) / PROBABILITY_STEPS)
    return mask.with_array(mask.array > 0), probability
