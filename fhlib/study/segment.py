"""10: volumes outside the study, and what segments them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fhlib.images.dicom import Source
from fhlib.images.formats import write_volume
from fhlib.phantom.scan import simulate_scan
from fhlib.presets import SUBJECTS_A_SEED
from fhlib.segmentation.own_volumes import volumes_in
from fhlib.segmentation.quality import MEANINGS
from fhlib.segmentation.rows import Found, picture
from fhlib.segmentation.segmentor import Segmentor, load_segmentor
from fhlib.study.run import Study, open_cohort

UNSEEN_SEED = 990001
"""No cohort has this subject, but that of seed 99, whose numbers begin at 990000: it takes one further on."""


def choose_segmentor(study: Study, variant: str = "", weights: str = "") -> Segmentor:
    """A segmentor with the run's settings of prediction.

    Args:
        study: the run.
        variant: one that the run has trained; by default the last of its preset.
        weights: a folder of data/weights, in place of a trained variant.
    """
    trained = study.model_folder(variant or study.preset.variants[-1])
    return load_segmentor(weights or trained, study.preset.prediction)


def shipped_segmentor(weights: str) -> Segmentor | None:
    """The segmentor of a folder of data/weights, None for an empty name."""
    return load_segmentor(weights) if weights else None


def sources_of(study: Study, volumes: Path | str) -> Sequence[Source]:
    """The volumes in a file or folder; where none is given a scan outside the study."""
    return volumes_in(volumes) if volumes else unseen_example(study)


def unseen_example(study: Study) -> list[Path]:
    """A simulated subject of its own, so that there is something to segment.

    A 2D cohort has no simulated counterpart: it gives one of its test images, which were not trained on.
    """
    cohort, table = open_cohort(study)
    if cohort.spatial_dims == 2:
        row = table[table["split"] == "test"].iloc[0]
        if not row.get("spacing_mm"):
            return [cohort.path(row["case"])]
        path = (
            study.folder / "unseen" / f"{row['case']}.nrrd"
        )  # carries the size of a pixel that the file does not state
        write_volume(cohort.read_image(row["case"]), path)
        return [path]
    spacing = min(study.preset.simulated_cohort.spacing_mm, 2.0)
    number = UNSEEN_SEED + (
        SUBJECTS_A_SEED if study.preset.simulated_cohort.seed == UNSEEN_SEED // SUBJECTS_A_SEED else 0
    )
    path = study.folder / "unseen" / f"simulated-{number}.nrrd"
    write_volume(simulate_scan(number, spacing_mm=spacing).image, path)
    return [path]


def in_words(segmentor: Segmentor) -> str:
    """Variant of a segmentor, and whether it is calibrated."""
    calibrated = "calibrated" if segmentor.calibration else "not calibrated: no intervals, fewer flags"
    return f"{segmentor.parameters.variant} ({calibrated})"


def flags_in_words() -> str:
    """Each flag and its meaning, as a list in Markdown."""
    return "\n".join(f"- `{flag}`: {meaning}" for flag, meaning in MEANINGS.items())


def pictures(results: Mapping[str, Found]) -> dict[str, Figure]:
    """Each result with its contours, by name of the figure."""
    return {f"10_{name}": picture(found, name) for name, found in results.items()}


def segmentation_findings(rows: pd.DataFrame) -> list[str]:
    """What 10 found, in sentences; `rows` is of `segment_files`."""
    count = rows["status"].value_counts()
    flagged = rows["flags"].fillna("").ne("").sum()
    said = [
        f"{len(rows)} volume(s): a head in {count.get('found', 0)}, {flagged} flagged, "
        f"{count.get('failed', 0)} that could not be read."
    ]
    if uncertain := count.get("uncertain", 0):
        said.append(f"In {uncertain} what is outlined may be no head: no sizes are given there.")
    volumes = rows["volume_ml"].dropna()
    if len(volumes):
        said.append("Volumes " + ", ".join(f"{volume:.0f} mL" for volume in volumes) + ".")
    return said
