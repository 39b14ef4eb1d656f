"""Runs, presets and files."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.__main__ import run_name
from fhlib.files import atomic_path, require_free_space, write_text
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.presets import Preparation, PresetError, load_preset, parse_changes, parse_preset
from fhlib.study import run as study
from fhlib.study.ablation import pool_runs, validation_curves
from fhlib.study.run import StudyError, open_study


@pytest.mark.parametrize("name", ["smoke", "quick", "desk", "paper", "all-ages", "fine-tune", "sim-to-real", "desk-2d"])
def test_shipped_presets_are_valid(name):
    assert load_preset(name).name == name


def test_the_paper_preset_has_the_papers_settings():
    training = load_preset("paper").training
    assert (training.width, training.steps, training.learning_rate, training.beta1) == (32, 30 * 2112, 1e-5, 0.5)
    assert training.batch_size == 1 and training.schedule == "constant" and not training.start_from_previous_level
    assert load_preset("paper").preparation.spacing_mm == pytest.approx(0.38 / 0.4)
    assert load_preset("paper").val_fraction == 0


def test_mistyped_parameters_are_named_with_a_suggestion():
    content = load_preset("quick").model_dump()
    content["training"]["widht"] = 3
    content["variants"] = ["USegNet-DS-HASS"]
    with pytest.raises(PresetError) as caught:
        parse_preset(content)
    assert "training.widht: unknown parameter; did you mean 'width'?" in str(caught.value)
    assert "did you mean 'USegNet-DS-HAS'?" in str(caught.value)
    with pytest.raises(PresetError, match=r"tuning.step: unknown parameter; did you mean 'steps'"):
        load_preset("desk", {"tuning.step": 3})
    with pytest.raises(PresetError, match="did you mean 'quick'"):
        load_preset("quik")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "DATA", tmp_path / "data")
    return tmp_path / "data"


def test_a_run_remembers_what_it_was_started_with(data, tmp_path):
    folder = tmp_path / "My scans"
    folder.mkdir()
    first = open_study("mine", "smoke", folder)
    assert first.cohort_kind == "imported" and first.cohort_name.startswith("My-scans-")
    namesake = tmp_path / "elsewhere" / "My scans"
    namesake.mkdir(parents=True)
    assert open_study("other", "smoke", namesake).cohort_folder != first.cohort_folder
    assert open_study("mine").source == folder and open_study("mine").preset.name == "smoke"
    with pytest.raises(StudyError, match="started with preset 'smoke'"):
        open_study("mine", "quick")
    with pytest.raises(StudyError, match="another cohort"):
        open_study("mine", "smoke", tmp_path)
    (folder / "cohort.csv").write_text("case\n")
    assert open_study("mine").cohort_kind == "in place" and open_study("mine").cohort_folder == folder


def test_a_new_run_is_simulated_unless_told_otherwise(data, tmp_path):
    run = open_study("a", "smoke")
    assert run.cohort_kind == "simulated" and run.cohort_folder == data / "cohorts" / "simulated-smoke"
    with pytest.raises(StudyError, match="no cohort folder 'nowhere'"):
        open_study("b", "smoke", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"run '\.\./c'"):
        open_study("../c", "smoke")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = write_text("old", tmp_path / "table.csv")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".csv"
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old" and [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_too_small_a_disk_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match="GB are needed"):
        require_free_space(tmp_path / "not" / "yet", 1e18)


def test_a_run_may_change_parameters_of_its_preset(data):
    changes = parse_changes(["training.seed=3", "variants=[USegNet-DS]", "training.learning_rate=1e-4"])
    study = open_study("smoke-seed-3", "smoke", changes=changes)
    assert (study.preset.training.seed, study.preset.training.learning_rate) == (3, 1e-4)
    assert study.preset.variants == ("USegNet-DS",) and study.preset.training_2d.seed == 0
    again = open_study("smoke-seed-3")
    assert again.preset == study.preset and again.cohort_name == "simulated-smoke"  # other trainings, the same scans
    with pytest.raises(StudyError, match=r"started with training.seed=3, .*not with training.seed=4"):
        open_study("smoke-seed-3", changes={"training.seed": 4})
    other = open_study("b", "smoke", changes={"simulated_cohort.train_subjects": 4})
    assert other.cohort_name.startswith("simulated-smoke-") and other.preset.simulated_cohort.train_subjects == 4
    with pytest.raises(PresetError, match=r"training.sed: unknown parameter; did you mean 'seed'"):
        open_study("c", "smoke", changes={"training.sed": 4})
    with pytest.raises(PresetError, match=r"no weights 'haed' in data/weights; did you mean 'head'"):
        load_preset("fine-tune", {"training.start_from": "haed"})
    with pytest.raises(PresetError, match="write NAME=VALUE"):
        parse_changes(["training.seed"])
    assert load_preset("paper", {"training.seed": 7}).training_2d.seed == 0  # one and the same section in the file
    assert run_name("quick", None, changes) == "quick-seed-3-variants-USegNet-DS-learning_rate-1e-4"


def test_patches_are_the_multiple_of_8_nearest_to_the_papers_millimetres_and_at_least_16():
    # 64 voxels of 0.95 mm are 60.8 mm: 26.4 voxels of 2.3 mm, 17.4 of 3.5 mm, 9.8 of 6.2 mm
    edges = {spacing: Preparation(spacing_mm=spacing).patch_voxels(64) for spacing in (0.95, 2.3, 3.5, 6.2)}
    assert edges == {0.95: 64, 2.3: 24, 3.5: 16, 6.2: 16}


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
    with pytest.raises(StudyError, match="run 'e' has no scores yet"):
        pool_runs(["a", "e"])


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
        {"training.seed": 2, "training.attention_learning_rate_factor": 0.3, "training.validate_every": 2},
        [(6, 0.5)],
    )
    table = validation_curves(["a", "b"])
    assert table["run"].tolist() == ["a", "a", "b"] and table["step"].tolist() == [3, 6, 6]
    assert table["val_dsc"].tolist() == [0.5, 0.75, 0.5] and table["seed"].tolist() == [0, 0, 2]
    assert table["changed"].tolist() == ["", "", "attention_learning_rate_factor=0.3"]
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
