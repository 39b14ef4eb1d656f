"""The steps of the study, one call a notebook: each reads what earlier steps wrote and writes its own files."""

from __future__ import annotations

from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.manifest import Cohort
from fhlib.cohorts.simulated import simulate_cohort
from fhlib.cohorts.splits import assign_splits
from fhlib.files import write_csv
from fhlib.study.run import Study, StudyError, outlining, test_cases


def make_cohort(study: Study) -> Cohort:
    """Simulate, import or open the run's cohort, and write its manifest with every split assigned to tables/cohort.csv."""
    preset = study.preset
    if study.source is None:
        spec = preset.simulated_cohort
        cohort = simulate_cohort(study.cohort_folder, spec, val_fraction=preset.val_fraction)
    else:
        cohort = import_cohort(study.source, study.cohort_folder)
    cohort = outlining(cohort, preset.target)
    table = assign_splits(cohort.table, preset.split_seed, preset.test_fraction, preset.val_fraction)
    if not len(test_cases(table)):
        raise StudyError("no test case has a reference: give a label to some, or leave the column `split` empty")
    write_csv(table, study.tables / "cohort.csv")
    return cohort
