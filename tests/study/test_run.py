"""A run remembers what it was started with."""

from __future__ import annotations

import pytest

from fhlib.cli.study import run_name
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume
from fhlib.presets import PresetError, load_preset, parse_changes
from fhlib.study import run as run_module
from fhlib.study.cohort import cohort_with_splits, make_cohort
from fhlib.study.run import StudyError, open_cohort, open_study
from fhlib.study.segment import unseen_example
from tests.cohorts.made import head, make, scan


def write_pair(folder):
    """The names of a scan and its label, which is all that opening a run looks at."""
    folder.mkdir(parents=True)
    (folder / "a.nrrd").touch()
    (folder / "a_Label.nrrd").touch()


def test_each_further_seed_has_models_predictions_scores_and_figures_beside_the_runs_own(data):
    own = open_study("a", "smoke", changes={"seeds": [0, 1, 7]})
    assert own.of_seed(None) is own.of_seed(0) is own
    one, seven = own.of_each_seed[1:]
    assert (one.preset.training.seed, seven.preset.training_2d.seed) == (1, 7)
    places = [
        (study.model_folder("V"), study.prediction_folder("V"), study.table("scores"), study.figures)
        for study in (own, seven)
    ]
    named = [[path.relative_to(own.folder).as_posix() for path in paths] for paths in places]
    assert named == [
        ["models/V", "predictions/V/simulated-smoke", "tables/scores.csv", "figures"],
        ["models_seed7/V", "predictions_seed7/V/simulated-smoke", "tables/scores_seed7.csv", "figures_seed7"],
    ]
    assert (seven.prepared, seven.tables, seven.cohort_folder) == (own.prepared, own.tables, own.cohort_folder)
    with pytest.raises(
        StudyError, match="run 'a' trains with the seed 0, 1, 7, not with 2: name it in the preset's seeds"
    ):
        own.of_seed(2)


def test_a_run_that_is_there_may_be_trained_with_more_seeds_and_nothing_else_may_change(data):
    open_study("a", "smoke", changes={"training.steps": 7})
    record = data / "runs" / "a" / "run.json"
    before = record.read_text()
    asked = {"training.steps": 7, "seeds": [0, 1]}
    assert open_study("a", changes=asked, record=False).preset.seeds == (0, 1) and record.read_text() == before
    assert open_study("a", changes=asked).preset.seeds == (0, 1)
    assert open_study("a").preset.seeds == (0, 1) and open_study("a").preset.training.steps == 7
    with pytest.raises(StudyError, match=r"started with training.steps=7, seeds=\[0, 2\], not with training.steps=8"):
        open_study("a", changes={"training.steps": 8, "seeds": [0, 2]})
    with pytest.raises(PresetError, match="2 is named twice"):
        open_study("a", changes={"training.steps": 7, "seeds": [0, 2, 2]})
    assert open_study("a").preset.seeds == (0, 1)
    followed = open_study("a", changes={"training.steps": 7, "seeds": [0, 1], "tracker": "tensorboard"})
    assert followed.preset.tracker == "tensorboard" and followed.preset.seeds == (0, 1)


def test_a_run_remembers_what_it_was_started_with(data, tmp_path):
    folder = tmp_path / "My scans"
    write_pair(folder)
    first = open_study("mine", "smoke", folder)
    assert first.cohort_kind == "imported" and first.cohort_name.startswith("My-scans-")
    namesake = tmp_path / "elsewhere" / "My scans"
    write_pair(namesake)
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
    assert run_name("quick", None, changes) == "quick-seed-3-variants-USegNet-DS-learning_rate-0.0001"


@pytest.mark.parametrize(("splits", "message"), [(["test"] * 3, "no case trains"), (["train"] * 3, "no test case has")])
def test_a_cohort_with_all_rows_in_one_split_is_refused(data, tmp_path, splits, message):
    study = open_study("mine", "smoke", make(tmp_path / "mine", split=splits))
    with pytest.raises(StudyError, match=message):
        make_cohort(study)


def test_scans_without_a_label_are_named_where_none_is_left_to_score(data, tmp_path):
    source = tmp_path / "scans"
    for number, name in enumerate(("a", "b", "a_Label", "b_seg")):
        write_volume(scan(number) if number < 2 else head(), source / f"{name}.nrrd")
    study = open_study("mine", "smoke", source)
    with pytest.raises(
        StudyError, match=r"give a label to some \(b, b_seg have none: is it named otherwise than X_Label\?\)"
    ):
        make_cohort(study)


def test_a_run_whose_folder_is_gone_names_that_folder(data, tmp_path):
    source = make(tmp_path / "mine")
    open_study("mine", "smoke", source)
    source.rename(tmp_path / "moved")
    with pytest.raises(StudyError, match="run 'mine' was started with the folder 'mine', which is gone"):
        open_study("mine", "smoke", tmp_path / "moved")


def test_a_folder_that_is_no_cohort_starts_no_run(data, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    with pytest.raises(ValueError, match=r"photos/ has none of the layouts[\s\S]*found in it: 1\.jpg"):
        open_study("mine", "smoke", tmp_path / "photos")
    assert not data.exists()


def test_an_image_to_try_on_has_the_spacing_of_its_row(data, tmp_path):
    source = make(tmp_path / "flat", split=["train", "val", "test"], spacing_mm=["0.25"] * 3)
    for number in range(3):
        for place, volume in (("images", scan(number)), ("labels", head())):
            write_volume(Volume(volume.array[4], (1, 1)), source / place / f"c{number}.nrrd")
    study = open_study("mine", "smoke", source)
    make_cohort(study)
    (path,) = unseen_example(study)
    assert read_volume(path).spacing_mm == (0.25, 0.25)


def test_a_cohort_to_hand_on_is_a_folder_or_a_run(data, tmp_path):
    cohort, table = cohort_with_splits(make(tmp_path / "mine"))
    assert cohort.name == "mine" and sorted(table["split"]) == ["test", "train", "val"]
    with pytest.raises(StudyError, match=r"'nothing' is neither a folder with a cohort\.csv, nor a run"):
        cohort_with_splits("nothing")
    with pytest.raises(StudyError, match=r"images/ has no cohort\.csv: start a run with it"):
        cohort_with_splits(tmp_path / "mine" / "images")


def test_a_slip_of_the_keys_never_advises_to_remove_results(data):
    open_study("quick", "smoke")
    with pytest.raises(PresetError, match="did you mean 'smoke'"):
        open_study("quick", "smok")
    with pytest.raises(StudyError) as told:
        open_study("quick", "desk")
    assert "remove" not in str(told.value) and "give another run name" in str(told.value)


def test_in_a_notebook_a_mistyped_run_starts_none(data, monkeypatch):
    open_study("quick", "smoke")
    monkeypatch.setattr(run_module, "running_shell", object)
    with pytest.raises(StudyError, match=r"there is no run 'quik'; did you mean 'quick'\?; there are: quick"):
        open_study("quik", "smoke")
    study = open_study("another", "smoke", start=True)  # a name of its own, as 01_cohort starts it
    assert [path.name for path in (data / "runs").iterdir()] == ["quick"]
    with pytest.raises(
        StudyError, match="run 'another' has no cohort yet: run 01_cohort first; runs that have been started: quick"
    ):
        open_cohort(study)
    with pytest.raises(StudyError, match="there is no run 'another'"):
        open_study("another", "smoke", start=False)
