"""Several runs together."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from fhlib.files import write_text
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.study import ablation
from fhlib.study.ablation import pool_runs, validation_curves
from fhlib.study.run import StudyError, open_study


def test_runs_of_other_seeds_on_the_same_cases_are_pooled(data):
    def finish(name, seed, cases):
        changes = {"training.seed": seed} if seed else {}
        run = open_study(name, "smoke", changes=changes)
        run.tables.mkdir(parents=True, exist_ok=True)
        run.cohort_folder.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{case},{case},i.nrrd,l.nrrd,test\n" for case in cases)
        for path in (run.tables / "cohort.csv", run.cohort_folder / "cohort.csv"):
            path.write_text(f"case,subject,image,label,split\n{rows}")
        write_volume(Volume(np.zeros((2, 3, 4), np.uint8), (1, 1, 1)), run.cohort_folder / "i.nrrd")
        scores = "".join(f"V,{case},{case},0.9{seed}\n" for case in cases)
        (run.tables / "scores.csv").write_text(f"variant,case,subject,dsc\n{scores}")

    finish("a", 0, "xy")
    finish("b", 1, "xy")
    pooled = pool_runs(["a", "b"])
    assert pooled["seed"].tolist() == [0, 0, 1, 1] and pooled["dsc"].tolist() == [0.9, 0.9, 0.91, 0.91]
    finish("c", 0, "xy")
    with pytest.raises(StudyError, match="'c' has the seed 0 of another one"):
        pool_runs(["a", "c"])
    finish("d", 2, "xyz")
    with pytest.raises(StudyError, match="other test cases"):
        pool_runs(["a", "d"])
    open_study("f", "smoke", changes={"training.seed": 4, "training.steps": 7})
    with pytest.raises(StudyError, match="run 'f' differs from 'a' in training: pool runs of other seeds only"):
        pool_runs(["a", "f"])
    open_study("e", "smoke")
    with pytest.raises(StudyError, match=r"run .e. has no scores\.csv yet"):
        pool_runs(["a", "e"])


def test_all_seeds_of_a_preset_are_pooled_without_being_named(data):
    run = open_study("a", "smoke", changes={"seeds": [0, 1, 2]})
    for path in (run.tables / "cohort.csv", run.cohort_folder / "cohort.csv"):
        write_text("case,subject,image,label,split\nx,x,i.nrrd,l.nrrd,test\n", path)
    write_volume(Volume(np.zeros((2, 3, 4), np.uint8), (1, 1, 1)), run.cohort_folder / "i.nrrd")
    for name, dsc in (("scores", 0.5), ("scores_seed1", 0.6), ("scores_seed2", 0.7), ("scores_seed3", 0.1)):
        write_text(f"variant,case,subject,dsc\nV,x,x,{dsc}\n", run.tables / f"{name}.csv")
    pooled = pool_runs(["a"])  # seed 3 was taken out of the preset
    assert dict(zip(pooled["seed"], pooled["dsc"], strict=True)) == {0: 0.5, 1: 0.6, 2: 0.7}
    folder = run.tables.parent
    open_study("b", "smoke", changes={"training.seed": 2})
    (data / "runs" / "b" / "tables").mkdir()
    (data / "runs" / "b" / "tables" / "cohort.csv").write_bytes((run.tables / "cohort.csv").read_bytes())
    write_text("variant,case,subject,dsc\nV,x,x,0.9\n", data / "runs" / "b" / "tables" / "scores.csv")
    with pytest.raises(StudyError, match="'b' has the seed 2 of another one"):
        pool_runs(["a", "b"])
    (folder / "tables" / "scores_seed1.csv").unlink()
    with pytest.raises(StudyError, match=r"run .a. has no scores_seed1\.csv yet: run 05_accuracy in it first"):
        pool_runs(["a"])


def test_the_courses_of_trainings_of_several_runs_name_what_was_changed(data):
    def finish(name, changes, curve, case="s1"):
        run = open_study(name, "smoke", changes=changes)
        for path in (run.tables / "cohort.csv", run.cohort_folder / "cohort.csv"):
            write_text("case,subject,image,label,split\ns1,s1,i.nrrd,l.nrrd,train\n", path)
        write_volume(Volume(np.zeros((2, 3, 4), np.uint8), (1, 1, 1)), run.cohort_folder / "i.nrrd")
        write_text(f"case,subject,split,shape,fingerprint\n{case},{case},train,2x3x4,f\n", run.prepared / "index.csv")
        folder = run.model_folder("USegNet-DS-HAS") / "level1"
        preset = run.preset
        SegmentorParameters(
            "USegNet-DS-HAS", 1, 3, preset.preparation, preset.training, Execution("no", False), ""
        ).save(folder / "parameters.json")
        history = "step,loss,val_dsc\n" + "".join(f"{n},1,{d}\n" for n, d in curve)
        write_text(history, folder / "history.csv")

    finish("a", {}, [(3, 0.5), (4, ""), (6, 0.75)])
    finish(
        "b",
        {"training.seed": 2, "training.l2": 0.3, "training.validate_every": 2},
        [(6, 0.5)],
    )
    table = validation_curves(["a", "b"])
    assert table["run"].tolist() == ["a", "a", "b"] and table["step"].tolist() == [3, 6, 6]
    assert table["val_dsc"].tolist() == [0.5, 0.75, 0.5] and table["seed"].tolist() == [0, 0, 2]
    assert table["changed"].tolist() == ["", "", "l2=0.3"]
    finish("slow", {"tuning": None, "training.learning_rate": 1e-4}, [(6, 0.5)])  # a change where nothing is tuned
    assert validation_curves(["a", "slow"])["changed"].tolist() == ["", "", "learning_rate=0.0001"]
    tuning = {"tuning": {"learning_rates": [1e-4], "steps": 1}}
    finish("tuned", {**tuning, "training.learning_rate": 1e-4}, [(6, 0.5)])  # the tuning's choice
    assert validation_curves(["a", "tuned"])["changed"].tolist() == ["", "", ""]
    finish("grid", {"preparation.spacing_mm": 4.5}, [(6, 0.5)])
    with pytest.raises(StudyError, match="'grid' differs from 'a' in preparation"):
        validation_curves(["a", "grid"])
    with pytest.raises(StudyError, match="there is no run 'slo'; did you mean 'slow'"):
        validation_curves(["a", "slo"])
    assert not (data / "runs" / "slo").exists()
    finish("c", {"training.seed": 3}, [(6, 0.5)], case="s2")
    with pytest.raises(StudyError, match="'c' differs from 'a' in cases and splits"):
        validation_curves(["a", "c"])
    open_study("d", "smoke", changes={"training.seed": 4})
    with pytest.raises(StudyError, match="run 'd' has trained nothing yet"):
        validation_curves(["a", "d"])
    finish("two", {"seeds": [0, 1]}, [(6, 0.25)])
    shutil.copytree(data / "runs" / "two" / "models", data / "runs" / "two" / "models_seed1")
    levels = data / "runs" / "two" / "models_seed1" / "USegNet-DS-HAS" / "level1"
    of_one = open_study("two").of_seed(1).preset
    SegmentorParameters("USegNet-DS-HAS", 1, 3, of_one.preparation, of_one.training, Execution("no", False), "").save(
        levels / "parameters.json"
    )
    both = validation_curves(["two"])
    assert both["seed"].tolist() == [0, 1] and set(both["changed"]) == {""}
    assert len(ablation.last_validations(both)) == 2


def test_a_run_that_is_not_there_is_read_from_its_published_tables(data, monkeypatch):
    monkeypatch.setattr(ablation, "DATA", data)
    published = ablation.open_ablation("desk", "desk")
    assert published.folder is None and published.keep("13_differences") is None
    assert set(published.scores["seed"]) == {0, 1, 2} and "these are its published tables" in published.told
    two = published.first[published.first["variant"].isin(["USegNet-DS", "USegNet-DS-HAS"])]
    dsc = two.pivot(index="case", columns="variant", values="dsc")
    compared = ablation.compare_networks(replace(published, scores=two)).set_index(["variant", "measure"])
    expected = (dsc["USegNet-DS-HAS"] - dsc["USegNet-DS"]).mean()
    assert compared.loc[("USegNet-DS-HAS", "dsc"), "difference"] == pytest.approx(expected)
    assert not data.exists()
    with pytest.raises(StudyError, match="there is no run 'dask'"):
        ablation.open_ablation("dask", "desk")
