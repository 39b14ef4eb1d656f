"""10: a scan outside the study to segment."""

from __future__ import annotations

from pathlib import Path

from fhlib.images.formats import write_volume
from fhlib.phantom.scan import simulate_scan
from fhlib.study.run import Study, open_cohort


def unseen_example(study: Study) -> list[Path]:
    """A scan outside the study, so that there is something to segment: a simulated subject of its own, or in 2D a test image.

    (A 2D cohort has no simulated counterpart; its test images were not trained on.)
    """
    cohort, table = open_cohort(study)
    if cohort.spatial_dims == 2:
        return [cohort.path(table.loc[table["split"] == "test", "case"].iloc[0])]
    spacing = min(study.preset.simulated_cohort.spacing_mm, 2.0)
    path = study.folder / "unseen" / f"simulated-{UNSEEN_SEED}.nrrd"
    write_volume(simulate_scan(UNSEEN_SEED, spacing_mm=spacing).image, path)
    return [path]


UNSEEN_SEED = 990001
"""No cohort reaches this subject's number."""
