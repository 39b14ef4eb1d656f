"""Simulated cohorts: planned without leaks, resumed, independent of workers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fhlib.cohorts import simulated as simulate
from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.manifest import write_manifest
from fhlib.cohorts.simulated import add_planes
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume
from fhlib.phantom.scan import SCAN_DIRECTIONS
from fhlib.presets import SimulatedCohort

SPEC = SimulatedCohort(
    train_subjects=3,
    test_subjects=1,
    reproducibility_subjects=1,
    spacing_mm=5.0,
    seed=3,
    sites=("paper-like", "low-cost"),
)


def test_plan_has_three_directions_for_reproducibility_and_no_leaks():
    tasks = simulate.plan_cohort(SPEC)
    table = pd.DataFrame([dataclasses.asdict(task) for task in tasks])
    assert table["split"].value_counts().to_dict() == {"train": 2, "repro": 3, "val": 1, "test": 1}
    assert set(table[table["split"] == "repro"]["scan_direction"]) == set(SCAN_DIRECTIONS)
    assert table.groupby("subject")["split"].nunique().max() == 1 and table["case"].is_unique
    assert set(table["site"]) == set(SPEC.sites)
    assert {task.split for task in simulate.plan_cohort(SPEC, val_fraction=0)} == {"train", "test", "repro"}


@pytest.mark.slow
def test_cohort_resumes_and_does_not_depend_on_workers(tmp_path, monkeypatch):
    cohort = simulate.simulate_cohort(tmp_path / "a", SPEC, workers=1)
    assert len(cohort.table) == 7 and (tmp_path / "a" / "subjects.csv").exists()
    row = cohort.table.iloc[0]
    image, skull = read_volume(tmp_path / "a" / row["image"]), read_volume(tmp_path / "a" / row["label_skull"])
    assert image.same_geometry(skull) and image.array.max() > 100
    truth = pd.read_csv(tmp_path / "a" / "subjects.csv").set_index("subject").loc[row["subject"]]
    assert float(row["reference_volume_ml"]) == pytest.approx(truth["head_volume_ml"])
    assert float(row["reference_hc_mm"]) == pytest.approx(truth["hc_mm"])

    simulate.simulate_cohort(tmp_path / "b", SPEC, workers=2)
    for case in cohort.table["case"]:
        both = (tmp_path / name / "images" / f"{case}.nrrd" for name in "ab")
        assert len({path.read_bytes() for path in both}) == 1

    # What is missing is redone, the rest is kept.
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "images").iterdir()}
    (tmp_path / "a" / row["label"]).unlink()
    simulate.simulate_cohort(tmp_path / "a", SPEC, workers=1)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a" / "images").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {f"{row['case']}.nrrd"}

    monkeypatch.setattr(simulate, "code_digest", lambda *modules: "changed")
    redone = []
    monkeypatch.setattr(
        simulate, "in_processes", lambda work, tasks, workers, total: redone.extend(tasks) or [work(t) for t in tasks]
    )
    simulate.simulate_cohort(
        tmp_path / "a", SPEC.model_copy(update={"test_subjects": 0, "train_subjects": 1, "reproducibility_subjects": 0})
    )
    assert len(redone) == 1


def test_a_cohort_of_all_ages_has_its_share_of_scans_without_a_head(tmp_path):
    spec = SPEC.model_copy(
        update={
            "train_subjects": 8,
            "test_subjects": 4,
            "reproducibility_subjects": 0,
            "sites": ("any",),
            "ga_weeks": (12.0, 40.0),
            "headless_share": 0.25,
        }
    )
    table = pd.DataFrame([dataclasses.asdict(task) for task in simulate.plan_cohort(spec)])
    assert table.groupby(table["split"] == "test")["has_head"].sum().to_dict() == {False: 6, True: 3}
    assert table["ga_weeks"].between(12, 40).all() and table["ga_weeks"].std() > 4
    alike = simulate.plan_cohort(spec.model_copy(update={"headless_share": 0.0}))
    assert [task.ga_weeks for task in alike] == table["ga_weeks"].tolist()  # one choice does not move another

    small = spec.model_copy(update={"train_subjects": 1, "test_subjects": 2, "headless_share": 0.5})
    cohort = simulate.simulate_cohort(tmp_path, small, workers=1)
    row = cohort.table[cohort.table["has_head"] == "false"].iloc[0]
    assert float(row["reference_volume_ml"]) == 0 and row["reference_hc_mm"] == ""
    assert not read_volume(tmp_path / row["label"]).array.any()
    assert not (check_cohort(cohort, show_progress=False)["severity"] == "error").any()


def test_a_head_that_the_sector_cuts_off_has_no_reference(tmp_path):
    whole, half = (
        simulate.Task(name, name, seed, "from the front", "any", "train", 5.0, 19.22)
        for name, seed in (("whole", 20320370), ("half", 20320363))
    )
    table = simulate.simulate_tasks(tmp_path, [whole, half], workers=1).set_index("case")
    assert table["head_in_view"].round(1).to_dict() == {"whole": 1.0, "half": 0.5}
    assert table.loc["half", ["reference_hc_mm", "reference_volume_ml"]].isna().all()
    assert table.loc["whole", "reference_volume_ml"] == table.loc["whole", "head_volume_ml"]
    write_manifest(table.reset_index()[list(simulate.COLUMNS)].astype(str).replace("nan", ""), tmp_path)
    assert not (check_cohort(tmp_path, show_progress=False)["check"] == "reference").any()


def test_cohort_refuses_unknown_sites_and_a_full_disk(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="nowhere"):
        simulate.simulate_cohort(tmp_path / "c", SPEC.model_copy(update={"sites": ("nowhere",)}))

    def full(folder, needed_bytes):
        raise OSError(f"{needed_bytes} needed")

    monkeypatch.setattr(simulate, "require_free_space", full)
    with pytest.raises(OSError, match="needed"):
        simulate.simulate_cohort(tmp_path / "c", SPEC)
    assert not (tmp_path / "c").exists()


def test_planes_join_real_images_that_only_test(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for case in ("a", "b"):
        label = np.zeros((40, 50), np.uint8)
        label[10:30, 10:40] = 1
        write_volume(Volume(random.integers(0, 255, (40, 50)).astype(np.uint8), (0.5, 0.5)), tmp_path / f"{case}.nrrd")
        write_volume(Volume(label, (0.5, 0.5)), tmp_path / f"{case}_label.nrrd")
        rows.append(
            {"case": case, "subject": case, "image": f"{case}.nrrd", "label": f"{case}_label.nrrd", "split": "train"}
        )
    real = write_manifest(pd.DataFrame(rows).assign(label_skull=lambda frame: frame["label"]), tmp_path)
    joined = add_planes(real, 3, val_fraction=0.34, workers=1)
    assert joined.table["split"].value_counts().to_dict() == {"test": 2, "train": 2, "val": 1}
    assert joined.outlines_skull and joined.read_image("plane-00000").shape == (540, 800)
    written = (tmp_path / "images" / "plane-00000.nrrd").stat().st_mtime_ns
    again = add_planes(joined, 3, val_fraction=0.34, workers=1)
    assert (tmp_path / "images" / "plane-00000.nrrd").stat().st_mtime_ns == written
    assert again.table.equals(joined.table)
    heads = write_manifest(pd.DataFrame(rows), tmp_path)
    with pytest.raises(ValueError, match="its label is the whole head"):
        add_planes(heads, 1)
