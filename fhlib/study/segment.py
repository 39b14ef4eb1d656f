"""10: volumes outside the study, and what segments them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fhlib.files import DATA, blank_gaps, given_path, write_csv
from fhlib.images.dicom import Source
from fhlib.images.formats import write_volume
from fhlib.models.card import Card, card_of
from fhlib.models.chosen import choose
from fhlib.phantom.scan import simulate_scan
from fhlib.presets import SUBJECTS_A_SEED
from fhlib.segmentation.own_volumes import volumes_in
from fhlib.segmentation.page import picture
from fhlib.segmentation.quality import MEANINGS
from fhlib.segmentation.rows import Found, rounded
from fhlib.segmentation.segmentor import Segmentor, load_segmentor
from fhlib.segmentation.sources import plain_name
from fhlib.study.run import Study, open_cohort

UNSEEN_SEED = 990001
"""No cohort has this subject, but that of seed 99, whose numbers begin at 990000: it takes one further on."""


def choose_segmentor(study: Study, variant: str = "", weights: str = "") -> Segmentor:
    """A segmentor with the run's settings of prediction.

    Args:
        study: the run.
        variant: one that the run has trained; by default the last of its preset.
        weights: in place of a trained variant, by name, folder or run (`fhlib.models.chosen.choose`).

    Raises FileNotFoundError for a variant that is not trained.
    """
    folder = choose(weights).folder if weights else _trained(study, variant)
    return load_segmentor(folder, study.preset.prediction)


def _trained(study: Study, variant: str) -> Path:
    name = variant or study.preset.variants[-1]
    folder = study.model_folder(name)
    if not folder.exists():
        raise FileNotFoundError(
            f'run {study.name!r} has not trained {name!r}: take the weights that ship, `weights = "head"`, or train it first (03_train)'
        )
    return folder


def shipped_segmentor(weights: str) -> Segmentor | None:
    """The segmentor of some weights, None for an empty name."""
    return load_segmentor(choose(weights).folder) if weights else None


def cards_of(study: Study, variant: str = "", weights: str = "", skull_weights: str = "") -> dict[str, Card]:
    """What is known of the segmentors of `choose_segmentor` and `shipped_segmentor`, for `segment_files`."""
    trained = (
        replace(card_of(_trained(study, variant)), trained_on=f"the training cases of run {study.name}")
        if not weights
        else None
    )
    cards = {"head": trained or choose(weights).card}
    return cards | ({"skull": choose(skull_weights).card} if skull_weights else {})


def results_folder(study: Study, volumes: Path | str) -> Path:
    """Where results go: of one's own volumes to a folder of their own, which has their name; else to the run's."""
    return DATA / "segmented" / plain_name(given_path(volumes).absolute()) if volumes else study.folder / "segmented"


def figures_folder(study: Study, volumes: Path | str) -> Path:
    """Where pictures go: beside the results of one's own volumes, else to the run's figures."""
    return results_folder(study, volumes) / "figures" if volumes else study.figures


def corrected_folder(study: Study, volumes: Path | str) -> Path:
    """Where corrected scans gather: of one's own in `data/corrected`, whatever call they came from; else with the run."""
    return DATA / "corrected" if volumes else study.folder / "corrected"


def keep_table(study: Study, rows: pd.DataFrame, volumes: Path | str) -> None:
    """Write the run's tables/segment.csv; one's own volumes leave it as it is."""
    if not volumes:
        write_csv(rounded(rows), study.tables / "segment.csv")


def sources_of(study: Study, volumes: Path | str) -> Sequence[Source]:
    """The volumes in a file or folder (`given_path`); where none is given a scan outside the study."""
    return volumes_in(given_path(volumes)) if volumes else unseen_example(study)


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


def shown_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `segment_files` to read: rounded, without what no volume has, and without notes (`notes_in_words`)."""
    return blank_gaps(rounded(rows).drop(columns="note").dropna(axis=1, how="all")).set_index("case")


def notes_in_words(rows: pd.DataFrame) -> str:
    """The note of each volume that has one, as a list in Markdown: a table would cut it short."""
    noted = rows[blank_gaps(rows["note"]).ne("")]
    return "\n".join(f"- `{case}`: {note}" for case, note in zip(noted["case"], noted["note"], strict=True))


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
    flagged = blank_gaps(rows["flags"]).ne("").sum()
    said = [
        f"{len(rows)} volume(s): a head in {count.get('found', 0)}, {flagged} flagged, "
        f"{count.get('failed', 0)} that could not be read."
    ]
    if uncertain := count.get("uncertain", 0):
        said.append(f"In {uncertain} what is outlined may be no head: no sizes are given there.")
    volumes = rows["volume_ml"][rows["status"] == "found"].dropna()
    if len(volumes):
        said.append("Volumes " + ", ".join(f"{volume:.0f} mL" for volume in volumes) + ".")
    return said
