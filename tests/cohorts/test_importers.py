"""Import of a folder: resumed, used in place, or refused with what is accepted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from pandas.testing import assert_frame_equal

from fhlib.cohorts import hc18
from fhlib.cohorts.importers import files_read, import_cohort, look_at
from fhlib.cohorts.manifest import load_cohort
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume, to_sitk
from tests.cohorts.made import pair
from tests.cohorts.made_hc18 import CSV, make_hc18


@pytest.mark.filterwarnings("ignore:.*outline is open")
def test_an_interrupted_import_continues(tmp_path, monkeypatch):
    source, out = make_hc18(tmp_path / "hc18", "subfolders"), tmp_path / "out"
    whole = import_cohort(source, tmp_path / "whole")
    fill, filled = hc18.fill_outline, []

    def counting(outline):
        if len(filled) == 2:
            raise KeyboardInterrupt
        filled.append(1)
        return fill(outline)

    monkeypatch.setattr(hc18, "fill_outline", counting)
    with pytest.raises(KeyboardInterrupt):
        import_cohort(source, out)
    assert not (out / "cohort.csv").exists() and len(list((out / "labels").iterdir())) == 2
    filled[:] = []
    again = import_cohort(source, out)  # the other two, and no more
    assert len(filled) == 2
    assert_frame_equal(again.table, whole.table)
    for case in whole.table["case"]:
        np.testing.assert_array_equal(again.read_label(case).array, whole.read_label(case).array)
    filled[:] = [1, 1]  # a third call would be an interruption
    assert_frame_equal(import_cohort(source, out).table, whole.table)
    # another pixel size: everything is imported again, what a killed writer left behind or not
    monkeypatch.undo()
    (out / "images" / ".partial-killed").mkdir()
    table = pd.read_csv(source / CSV)
    table.loc[0, ["pixel size(mm)", "head circumference (mm)"]] *= 2
    table.to_csv(source / CSV, index=False)
    assert import_cohort(source, out).read_image("000_HC").spacing_mm == pytest.approx((0.2, 0.2))
    assert not (out / "images" / ".partial-killed").exists()


def test_a_folder_with_a_manifest_is_used_in_place(tmp_path):
    image, mask = pair()
    write_volume(image, tmp_path / "mine" / "a.nrrd")
    write_volume(mask, tmp_path / "mine" / "a_Label.nrrd")
    (tmp_path / "mine" / "cohort.csv").write_text("case,subject,image,label\nk,s,a.nrrd,a_Label.nrrd\n")
    cohort = import_cohort(tmp_path / "mine", tmp_path / "out")
    assert cohort.folder == tmp_path / "mine" and not (tmp_path / "out").exists()
    assert_frame_equal(cohort.table, load_cohort(tmp_path / "mine").table)


def test_an_unknown_folder_is_told_what_is_accepted(tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "scan.xyz").write_text("?")
    with pytest.raises(ValueError, match=r"scan\.xyz") as caught:
        import_cohort(tmp_path / "odd", tmp_path / "out")
    text = str(caught.value)
    assert all(part in text for part in ("1. a folder with cohort.csv", "2. pairs X.nii.gz", "3. HC18", "4. nnU-Net's"))
    assert str(tmp_path) not in text
    with pytest.raises(FileNotFoundError, match="no folder 'gone'"):
        import_cohort(tmp_path / "gone", tmp_path / "out")


def pairs(folder, *names):
    for number, name in enumerate(names):
        image, mask = pair(number)
        write_volume(image, folder / f"{name}.nrrd")
        write_volume(mask, folder / f"{name}_Label.nrrd")
    return folder


@pytest.mark.parametrize(
    "content",
    [
        b"case,remark\na,fine\n",
        "Fall;Größe;Bemerkung\na;2,5;übersehen\n".encode("latin-1"),
        b"",
        b"a,b\n1,2\n1,2,3,4\n",
        "case\tremark\na\tfine\n".encode("utf-16"),
        bytes(range(256)),
        b'"open\n',
        b"PK\x03\x04",
    ],
)
def test_a_table_of_ones_own_beside_pairs_is_passed_over(tmp_path, content):
    pairs(tmp_path / "in", "a", "b")
    (tmp_path / "in" / "notes.csv").write_bytes(content)
    (tmp_path / "in" / "folder.csv").mkdir()
    assert import_cohort(tmp_path / "in", tmp_path / "out").table["case"].tolist() == ["a", "b"]


def test_what_systems_and_tools_leave_is_no_scan_and_changes_nothing(tmp_path):
    source = pairs(tmp_path / "in", "a", "b")
    read = files_read(source)
    names = (".DS_Store", "._a.nrrd", "Thumbs.db", "desktop.ini", "a.nrrd~", "~$notes.docx", "notes.txt", "a.nrrd.part")
    inside = (
        ".git/a.nrrd",
        ".ipynb_checkpoints/a_Label-checkpoint.nrrd",
        "__MACOSX/._a.nrrd",
        "@eaDir/a.nrrd/x.nrrd",
        "old/a.nrrd",
    )
    for name in names + inside:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (source / "again").symlink_to(source)  # a link in a circle
    assert files_read(source) == read and len(read) == 4
    assert import_cohort(source, tmp_path / "out").table["case"].tolist() == ["a", "b"]


def test_a_screenshot_beside_volumes_is_passed_over_and_said(tmp_path):
    source = pairs(tmp_path / "in", "a")
    write_volume(pair(1)[0], source / "b.nrrd")
    write_volume(Volume(pair()[0].array[0], (1, 1)), source / "screen.png")
    with pytest.warns(UserWarning, match=r"passed over.*screen\.png"):
        assert import_cohort(source, tmp_path / "out").table["case"].tolist() == ["a", "b"]


@pytest.mark.parametrize("name", ["Cohort.csv", "cohort.xlsx", "cohort.csv.txt", "COHORT.CSV", "cohort.tsv"])
def test_a_manifest_under_another_name_is_not_passed_over(tmp_path, name):
    source = pairs(tmp_path / "in", "a")
    (source / name).write_text("case,subject\n")
    with pytest.raises(ValueError, match=rf"{name} is not read: save it as cohort\.csv"):
        import_cohort(source, tmp_path / "out")


def test_only_what_a_manifest_names_makes_its_cohort(tmp_path):
    source = pairs(tmp_path / "in", "a", "b")
    (source / "scan" / "series").mkdir(parents=True)
    for name in ("1.dcm", "series/2.dcm", "Thumbs.db", ".hidden"):
        (source / "scan" / name).write_text("x")
    (source / "c.mhd").write_text("ObjectType = Image\nElementDataFile = voxels.raw\n")
    (source / "voxels.raw").write_text("x")
    (source / "other.raw").write_text("x")
    rows = "a,a,a.nrrd,a_Label.nrrd\nd,d,scan,\nc,c,c.mhd,\n"
    (source / "cohort.csv").write_text("case,subject,image,label\n" + rows)
    found = [path.relative_to(source).as_posix() for path in files_read(source)]
    assert found == ["a.nrrd", "a_Label.nrrd", "c.mhd", "cohort.csv", "scan/1.dcm", "scan/series/2.dcm", "voxels.raw"]


def test_a_large_folder_of_another_kind_is_refused_unread(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("a file was read")

    for number in range(1000):
        (tmp_path / f"{number}.nii").touch()
    monkeypatch.setattr("fhlib.cohorts.pairs.read_volume", never)
    with pytest.raises(ValueError, match=r"and 992 more; 1,000 files and 0 folders in all"):
        look_at(tmp_path)
    (tmp_path / "7_Label.nii").touch()
    with pytest.raises(
        ValueError, match=r"1 of 1,000 images in .* have a label: give a folder that holds the study's scans"
    ):
        look_at(tmp_path)
    assert files_read(tmp_path) == []


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr", ".hdr"])
def test_a_label_corrected_in_its_data_file_is_imported_again(tmp_path, suffix):
    image, label = pair()
    (tmp_path / "in").mkdir()
    for name, volume in (("a", image), ("a_Label", label)):
        sitk.WriteImage(to_sitk(volume), str(tmp_path / "in" / f"{name}{suffix}"))
    header = (tmp_path / "in" / f"a_Label{suffix}").read_bytes()
    np.testing.assert_array_equal(import_cohort(tmp_path / "in", tmp_path / "out").read_label("a").array, label.array)
    corrected = label.with_array(np.roll(label.array, 1, 0))
    sitk.WriteImage(to_sitk(corrected), str(tmp_path / "in" / f"a_Label{suffix}"))
    assert (tmp_path / "in" / f"a_Label{suffix}").read_bytes() == header
    np.testing.assert_array_equal(
        import_cohort(tmp_path / "in", tmp_path / "out").read_label("a").array, corrected.array
    )
