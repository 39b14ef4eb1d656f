"""What 01 says about the findings of a cohort."""

from __future__ import annotations

from fhlib.cohorts.manifest import as_findings, load_cohort
from fhlib.study.cohort import cohort_findings, findings_table
from tests.cohorts.made import make

LONG = "label is <wrong>, " + "and wrong again, " * 12 + "so mend it"


def test_a_notebook_shows_every_message_in_full_and_the_same_in_each_run():
    findings = as_findings([("c1", "holes", "warning", LONG)])
    page = findings_table(findings).to_html()
    assert LONG.replace("<", "&lt;").replace(">", "&gt;") in page
    assert page == findings_table(findings).to_html()


def test_warnings_are_counted_by_their_kind(tmp_path):
    cohort = load_cohort(make(tmp_path))
    none = cohort_findings(cohort, cohort.table, as_findings([]))
    assert none[0].endswith("; 0 warnings.")
    rows = [("c0", "holes", "warning", ""), ("c1", "holes", "warning", ""), ("c2", "label value", "warning", "")]
    assert cohort_findings(cohort, cohort.table, as_findings(rows))[0].endswith(
        "; 3 warnings (2 holes, 1 label value)."
    )
