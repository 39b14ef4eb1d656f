"""Import of a folder: resumed, used in place, or refused with what is accepted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from pandas.testing import assert_frame_equal

from fhlib.cohorts import hc18
from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.manifest import load_cohort
from fhlib.images.formats import write_volume
from fhlib.images.volume import to_sitk
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
    assert all(part in text for part in ("1. a folder with cohort.csv", "2. pairs X.nii.gz", "3. HC18"))
    assert str(tmp_path) not in text
    with pytest.raises(FileNotFoundError, match="no folder 'gone'"):
        import_cohort(tmp_path / "gone", tmp_path / "out")


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
