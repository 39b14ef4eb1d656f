"""nnU-Net's dataset format: out, checked by its own rules, and in again."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from fhlib.__main__ import main
from fhlib.cohorts import nnunet
from fhlib.cohorts.importers import files_read, import_cohort
from fhlib.cohorts.manifest import CohortError, load_cohort
from fhlib.cohorts.nnunet import export_nnunet
from fhlib.files import write_json
from fhlib.images.formats import write_volume
from tests.cohorts.made import head, make, scan

SPLITS = ["train", "train", "val", "test", "repro", "test"]


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """Six oblique scans in all splits: c0 and c1 of one subject, c3 without a head, c5 without a label."""
    folder = tmp_path_factory.mktemp("brought")
    labels = [f"labels/c{i}.nrrd" for i in range(6)]
    labels[3] = labels[5] = ""
    subjects = ["s0", "s0", "s2", "s3", "s4", "s5"]
    known = {"ga_weeks": ["20.5", "", "26", "", "", ""], "has_head": ["", "", "", "false", "", ""]}
    return load_cohort(make(folder, 6, split=SPLITS, subject=subjects, label=labels, **known))


@pytest.fixture(scope="module")
def exported(brought, tmp_path_factory):
    return export_nnunet(brought, brought.table, tmp_path_factory.mktemp("raw"), "Dataset501_Heads")


def geometry(image):
    return np.array([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()])


def require_integrity(folder):
    """The rules of nnU-Net 2.8's verify_dataset_integrity, and of its reading of splits_final.json, in words of our own."""
    dataset = json.loads((folder / "dataset.json").read_text())
    ending = dataset["file_ending"]
    values = list(dataset["labels"].values())
    assert dataset["labels"]["background"] == 0 and values == list(range(len(values)))  # consecutive from 0
    images = sorted((folder / "imagesTr").iterdir())
    cases = {path.name[: -len(ending) - 5] for path in images}
    assert len(cases) == dataset["numTraining"] == len(images) / len(dataset["channel_names"])
    assert {path.name[: -len(ending)] for path in (folder / "labelsTr").iterdir()} == cases
    for case in cases:
        image = sitk.ReadImage(str(folder / "imagesTr" / f"{case}_0000{ending}"))
        label = sitk.ReadImage(str(folder / "labelsTr" / f"{case}{ending}"))
        assert image.GetSize() == label.GetSize() and np.allclose(geometry(image), geometry(label))
        assert np.isfinite(sitk.GetArrayViewFromImage(image)).all()
        assert set(np.unique(sitk.GetArrayViewFromImage(label)).tolist()) <= set(values)
    fold = json.loads((folder / "splits_final.json").read_text())[0]
    assert set(fold["train"]) | set(fold["val"]) == cases and not set(fold["train"]) & set(fold["val"])
    return dataset, fold


def test_what_is_written_keeps_nnunets_rules(exported):
    dataset, fold = require_integrity(exported)
    assert dataset["labels"] == {"background": 0, "head": 1} and fold == {"train": ["c0", "c1"], "val": ["c2"]}
    names = sorted(path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file())
    assert names == [
        "dataset.json",
        *(f"imagesTr/c{i}_0000.nii.gz" for i in (0, 1, 2)),
        *(f"imagesTs/c{i}_0000.nii.gz" for i in (3, 4, 5)),
        *(f"labelsTr/c{i}.nii.gz" for i in (0, 1, 2)),
        *(f"labelsTs/c{i}.nii.gz" for i in (3, 4)),
        "splits_final.json",
    ]
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(exported / "labelsTr" / "c1.nii.gz")))
    assert label.dtype == np.uint8 and label.sum() == 5 * 7 * 9


def test_a_round_trip_gives_the_same_voxels_geometry_and_splits(brought, exported, tmp_path):
    with pytest.warns(UserWarning, match="imagesTs/: left out, without a label: c5"):
        back = import_cohort(exported, tmp_path)
    kept = ["case", "subject", "split", "ga_weeks", "has_head"]
    assert back.table[kept].values.tolist() == brought.table[kept].values.tolist()[:5]
    for case in back.table["case"]:
        image, label = back.read_image(case), back.read_label(case)
        np.testing.assert_array_equal(image.array, brought.read_image(case).array)
        assert image.same_geometry(brought.read_image(case), 1e-4)
        np.testing.assert_array_equal(label.array, brought.read_label(case).array)
    assert [path.name for path in files_read(exported) if path.suffix == ".json"] == [
        "dataset.json",
        "splits_final.json",
    ]


def test_an_export_is_whole_continues_and_takes_nobodys_place(brought, tmp_path, monkeypatch):
    written, write = [], nnunet.write_volume

    def stopping(volume, path):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path.name)
        write(volume, path)

    monkeypatch.setattr(nnunet, "write_volume", stopping)
    with pytest.raises(KeyboardInterrupt):
        export_nnunet(brought, brought.table, tmp_path, "Dataset007_Heads")
    assert not (tmp_path / "Dataset007_Heads").exists()
    written[:] = [""]
    changed = brought.table.assign(split=["val", "train", "train", "test", "repro", "test"])  # meanwhile
    with pytest.raises(KeyboardInterrupt):
        export_nnunet(brought, changed, tmp_path, "Dataset007_Heads")
    assert written[1:] == ["c2_0000.nii.gz", "c2.nii.gz", "c3_0000.nii.gz"]  # c0 and c1 are kept
    monkeypatch.undo()
    folder = export_nnunet(brought, changed, tmp_path, "Dataset007_Heads")
    assert [path.name for path in tmp_path.iterdir()] == ["Dataset007_Heads"]
    assert require_integrity(folder)[1] == {"train": ["c1", "c2"], "val": ["c0"]}
    before = (folder / "imagesTr" / "c0_0000.nii.gz").stat().st_mtime_ns
    export_nnunet(brought, changed, tmp_path, "Dataset007_Heads")
    assert (folder / "imagesTr" / "c0_0000.nii.gz").stat().st_mtime_ns == before
    for name, message in (
        ("Dataset007_Heads", "is there and holds something else"),
        ("Dataset007_Other", "wants each number once"),
    ):
        with pytest.raises(FileExistsError, match=message):
            export_nnunet(brought, brought.table, tmp_path, name)
    with pytest.raises(ValueError, match="'Heads' is no dataset of nnU-Net"):
        export_nnunet(brought, brought.table, tmp_path, "Heads")


def test_names_that_end_as_a_channel_does_are_kept_apart(tmp_path):
    cohort = load_cohort(make(tmp_path / "in", case=["x", "x_0000", "y"], split=["train", "train", "val"]))
    folder = export_nnunet(cohort, cohort.table, tmp_path, "Dataset001_x")
    assert require_integrity(folder)[1]["train"] == ["x", "x_0000"]


def test_a_cohort_with_errors_is_not_written(tmp_path):
    cohort = load_cohort(make(tmp_path / "in", split=["train", "train", "val"]))
    write_volume(head(origin=(0, 0, 0)), tmp_path / "in" / "labels" / "c1.nrrd")
    with pytest.raises(CohortError, match="c1: geometry"):
        export_nnunet(cohort, cohort.table, tmp_path / "raw", "Dataset001_x")
    assert not (tmp_path / "raw").exists()


def test_the_command_line(brought, tmp_path, capsys):
    words = [
        "cohort",
        "export",
        "--to",
        "nnunet",
        str(brought.folder),
        str(tmp_path / "raw"),
        "--number",
        "12",
        "--name",
        "us",
    ]
    assert main(words) == 0
    assert "Dataset012_us: 2 train, 2 test, 1 val, 1 repro" in capsys.readouterr().out
    require_integrity(tmp_path / "raw" / "Dataset012_us")
    for number, message in (("12", "wants each number once"), ("1234", "is no dataset of nnU-Net")):
        assert main([*words[:-4], "--number", number, "--name", "other"]) == 2
        assert message in capsys.readouterr().err
    assert main(["cohort", "export", "--to", "nnunet", "nowhere", str(tmp_path)]) == 2
    assert "'nowhere' is neither a folder with a cohort.csv, nor a run" in capsys.readouterr().err


def decathlon(folder, exported, **changes):
    """The exported cases as the Decathlon lays them out: no channel in names, labels by number, files listed."""
    for place in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / place).mkdir(parents=True)
        for path in (exported / place).iterdir():
            shutil.copy(path, folder / place / path.name.replace("_0000", ""))
            (folder / place / f"._{path.name}").write_text("a Mac's")
    listed = [{"image": f"./imagesTr/c{i}.nii.gz", "label": f"./labelsTr/c{i}.nii.gz"} for i in range(3)]
    dataset = {
        "modality": {"0": "US"},
        "labels": {"0": "background", "1": "fetal head"},
        "numTraining": 3,
        "training": listed,
    }
    write_json(dataset | {"test": [f"./imagesTs/c{i}.nii.gz" for i in (3, 4, 5)]} | changes, folder / "dataset.json")
    return folder


@pytest.mark.filterwarnings("ignore:imagesTs")
@pytest.mark.parametrize("named", ["decathlon", "nnU-Net v1"])
def test_the_decathlons_form_is_read(brought, exported, tmp_path, named):
    source = decathlon(tmp_path / "in", exported)
    if named == "nnU-Net v1":  # its files have the channel, its list has not
        for path in [path for path in source.glob("imagesT?/c*.nii.gz")]:
            path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    back = import_cohort(source, tmp_path / "out")
    assert back.table[["case", "subject", "split"]].values.tolist() == [
        [f"c{i}", f"c{i}", split] for i, split in enumerate(["train"] * 3 + ["test"] * 2)
    ]
    np.testing.assert_array_equal(back.read_image("c2").array, brought.read_image("c2").array)
    np.testing.assert_array_equal(back.read_label("c2").array, brought.read_label("c2").array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {"0": "US", "1": "MR"}}, r"has 2 channels \(US, MR\) and one is read here"),
        (
            {"labels": {"0": "background", "1": "liver", "2": "tumour"}},
            "named head or skull, but .*liver = 1, tumour = 2",
        ),
        ({"labels": {"0": "background", "1": "head", "2": "head, left"}}, "several labels for the head"),
        ({"labels": {"background": 0, "head": "one"}}, "label 'head' in dataset.json is 'one'"),
        ({"labels": None}, "names no labels"),
        ({"numTraining": 4}, "tells of 4 training cases, and there are 3"),
        ({"training": [{"image": "../x.nii.gz", "label": "l"}]}, "leads outside"),
        ({"training": [{"image": "imagesTr/gone.nii.gz", "label": "labelsTr/c0.nii.gz"}]}, "missing .*gone.nii.gz"),
        ({"training": ["imagesTr/c0.nii.gz"] * 3, "numTraining": 3}, "missing .*c0"),
        ({"training": [7]}, "lists 7: expected the paths"),
    ],
)
@pytest.mark.filterwarnings("ignore:imagesTs")
def test_a_dataset_that_cannot_be_meant_is_refused(exported, tmp_path, changes, message):
    source = decathlon(tmp_path / "in", exported, **changes)
    with pytest.raises(ValueError, match=message):
        import_cohort(source, tmp_path / "out")


def change(folder, **changes):
    dataset = json.loads((folder / "dataset.json").read_text())
    write_json(dataset | changes, folder / "dataset.json")


@pytest.mark.filterwarnings("ignore:imagesTs", "ignore:splits_final")
def test_splits_labels_and_channels_of_nnunets_own_form(exported, tmp_path):
    source = shutil.copytree(exported, tmp_path / "in")
    for content, message in (
        ("[]", "no fold with train and val"),
        ('[{"train": ["c0", "c9"], "val": ["c1"]}]', "names c9"),
        ('[{"train": ["c0", "c1"], "val": ["c1", "c2"]}]', "has c1 in train and in val"),
        ('[{"train": ["c0"], "val": ["c1"]}]', "leaves out c2"),
    ):
        (source / "splits_final.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            import_cohort(source, tmp_path / "out")
    (source / "splits_final.json").unlink()
    assert import_cohort(source, tmp_path / "out").table["split"].tolist() == ["train"] * 3 + ["test", "repro"]
    shutil.rmtree(source / "labelsTs")  # nothing to test on: all splits are drawn
    assert import_cohort(source, tmp_path / "out").table["split"].tolist() == [""] * 3

    shutil.copy(source / "imagesTr" / "c0_0000.nii.gz", source / "imagesTr" / "c0_0001.nii.gz")
    with pytest.raises(ValueError, match=r"c0_0001\.nii\.gz is channel 1"):
        import_cohort(source, tmp_path / "out")
    (source / "imagesTr" / "c0_0001.nii.gz").rename(source / "labelsTr" / "extra.nii.gz")
    with pytest.raises(ValueError, match=r"no image in imagesTr/ for labelsTr/extra\.nii\.gz"):
        import_cohort(source, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:imagesTs")
def test_head_and_skull_are_taken_by_name(exported, tmp_path):
    source = shutil.copytree(exported, tmp_path / "in")
    both = head().array.astype(np.uint8)
    both[3:6, 4:9, 5:12] = 2  # 3 x 5 x 7 voxels of 315 are the skull within the head
    for path in (*source.glob("labelsTr/*"), source / "labelsTs" / "c4.nii.gz"):
        write_volume(scan(0).with_array(both), path)
    change(source, labels={"background": 0, "Head": 1, "skull_outer": 2})
    back = import_cohort(source, tmp_path / "out")
    assert back.read_label("c0").array.sum() == 315 and back.read_label("c0", "label_skull").array.sum() == 105
    change(source, labels={"background": 0, "brain": 1, "skull": 2})
    back = import_cohort(source, tmp_path / "out")
    assert back.outlines_skull and back.read_label("c0").array.sum() == 105
    change(source, labels={"background": 0, "head": [1, 2], "skull": 2}, regions_class_order=[1, 2])
    assert import_cohort(source, tmp_path / "out").read_label("c0").array.sum() == 315
    for labels in ({"background": 0, "head": 1}, {"background": 0, "head": 1, "ignore": 2}):
        change(source, labels=labels)
        with pytest.raises(ValueError, match=r"c0\.nii\.gz holds 2, and dataset\.json names 0, 1"):
            import_cohort(source, tmp_path / "out")


@pytest.mark.parametrize("name", ["outside_head", "forehead", "no head", "femoral_head"])
def test_a_name_that_has_the_word_in_it_is_not_the_head(exported, tmp_path, name):
    source = shutil.copytree(exported, tmp_path / "in")
    change(source, labels={"background": 0, name: 1})
    with pytest.raises(ValueError, match="named head or skull"):
        import_cohort(source, tmp_path / "out")


def test_a_head_in_another_language_and_a_byte_order_mark(exported, tmp_path):
    source = shutil.copytree(exported, tmp_path / "in")
    change(source, labels={"background": 0, "Kopf": 1})
    content = (source / "dataset.json").read_bytes()
    (source / "dataset.json").write_bytes(b"\xef\xbb\xbf" + content)
    assert import_cohort(source, tmp_path / "out").read_label("c0").array.sum() == 315
