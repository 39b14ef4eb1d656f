"""The run map: what depends on what, and why a step is redone."""

from __future__ import annotations

from fhlib.presets import load_preset
from fhlib.workflow.dependencies import explain, folder_state, module_state, notebook_state, preset_state


def test_parameters_are_recorded_one_by_one():
    smoke = load_preset("smoke")
    assert "training.width=4" in preset_state(smoke, "training")
    assert preset_state(smoke, "val_fraction") == ("val_fraction=0.2",)
    assert "simulated_cohort.sites=paper-like" in preset_state(smoke, "simulated_cohort")


def test_a_notebook_depends_on_what_its_imports_reach_but_not_on_other_variants():
    modules = {text.split("@")[0] for text in notebook_state("03_train")}
    assert {"notebook 03_train", "fhlib.training", "fhlib.losses", "fhlib.files"} <= modules
    assert "fhlib.variants" not in modules and "fhlib.figures" not in {
        text.split("@")[0] for text in module_state("fhlib.metrics")
    }


def test_reasons_name_what_changed():
    snakemake_says = (
        "Params have changed since last execution: Union of exclusive params before and now across all output: "
        "before: 'fhlib.losses@0123456789abcdef','training.steps=400' now: 'fhlib.losses@fedcba9876543210','training.steps=500' "
    )
    assert explain(snakemake_says) == "changed: fhlib.losses; training.steps: 400 -> 500"
    assert explain("Missing output files: a.csv, b.csv, c.csv") == "not there yet: a.csv, b.csv and 1 more"
    assert explain("Input files updated by another job: tables/cohort.csv") == "follows from tables/cohort.csv"


def test_a_cohort_is_known_by_its_contents_not_by_its_place_or_dates(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "cohort.csv").write_text("case\n")
        (tmp_path / name / "images" / "a.nrrd").write_bytes(b"voxels")
    first = folder_state(tmp_path / "one", tmp_path / "one.json")
    assert first == folder_state(tmp_path / "two", tmp_path / "two.json")
    (tmp_path / "two" / "images" / "a.nrrd").write_bytes(b"VOXELS")
    assert first != folder_state(tmp_path / "two", tmp_path / "two.json")
    assert first == folder_state(tmp_path / "one", tmp_path / "one.json")
