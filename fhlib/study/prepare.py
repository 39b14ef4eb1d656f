"""02: write the network-resolution copies of the training and validation cases."""

from __future__ import annotations

from fhlib.study.run import Study, open_cohort
from fhlib.training.prepared import PreparedCases, prepare_cohort


def prepare(study: Study) -> PreparedCases:
    """Write the network-resolution copies of the training and validation cases."""
    cohort, table = open_cohort(study)
    preset = study.preset
    originals = cohort.spatial_dims == 3 and preset.reads_slices
    return prepare_cohort(cohort, table, preset.preparation, study.prepared, originals)
