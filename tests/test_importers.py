"""Import of the accepted layouts; HC18 on the real folder where FHLIB_HC18 names one, and on made images always."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from test_volume import right_handed, write_series

import fhlib.cohorts.importers as importers
from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.hc18 import fill_outline
from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.manifest import load_cohort
from fhlib.cohorts.splits import assign_splits
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume

CSV = "training_set_pixel_size_and_HC.csv"


def ellipse(shape, centre, axes, angle):
    """Signed value of an ellipse at pixel centres, negative inside."""
    y, x = np.indices(shape) - np.reshape(centre, (2, 1, 1))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 - 1


def draw(shape, centre, axes, angle):
    """Outline through the centres of the pixels nearest to the curve."""
    t = np.linspace(0, 2 * np.pi, 20000)
    x = axes[0] * np.cos(t) * np.cos(angle) - axes[1] * np.sin(t) * np.sin(angle) + centre[1]
    y = axes[0] * np.cos(t) * np.sin(angle) + axes[1] * np.sin(t) * np.cos(angle) + centre[0]
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    seen = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    outline = np.zeros(shape, bool)
    outline[row[seen], column[seen]] = True
    return outline


def circumference(a, b):
    """Perimeter of an ellipse by summing short chords."""
    t = np.linspace(0, 2 * np.pi, 100001)
    return np.hypot(np.diff(a * np.cos(t)), np.diff(b * np.sin(t))).sum()


def moments_circumference(mask, pixel_mm):
    """Perimeter of the ellipse with the mask's second moments (pixels are squares, hence 1/12)."""
    spread = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T.astype(float), bias=True) + np.eye(2) / 12)
    return circumference(*(2 * np.sqrt(spread) * pixel_mm))


HEADS = {  # name: pixel size mm, centre, semi-axes in pixels, angle
    "000_HC.png": (0.1, (60, 80), (55, 42), 0.3),
    "010_HC.png": (0.25, (62.4, 83.7), (50, 37), -0.8),
    "010_2HC.png": (0.3, (61, 79), (52, 40), 1.2),
    "011_HC.png": (0.2, (30, 80), (60, 45), 0.0),  # leaves the picture at the top
}


def make_hc18(folder, layout):
    """A folder with HC18's names and numbers: ellipses in noise, 130 x 170 pixels."""
    images, annotations, table = {
        "subfolders": ("image", "annotation", "."),
        "side by side": (".", ".", "."),
        "public download": ("training_set", "training_set", "."),
    }[layout]
    rng = np.random.default_rng(0)
    rows = []
    for name, (pixel_mm, centre, axes, angle) in HEADS.items():
        scan = rng.integers(0, 120, (130, 170)) + 100 * (ellipse((130, 170), centre, axes, angle) < 0)
        write_volume(Volume(scan.astype(np.uint8), (1, 1)), folder / images / name)
        outline = draw((130, 170), centre, axes, angle).astype(np.uint8) * 255
        write_volume(Volume(outline, (1, 1)), folder / annotations / name.replace(".png", "_Annotation.png"))
        rows.append((name, pixel_mm, circumference(*axes) * pixel_mm))
    header = ["filename", "pixel size(mm)", "head circumference (mm)"]
    pd.DataFrame(rows, columns=header).to_csv(folder / table / CSV, index=False)
    return folder


@pytest.mark.parametrize("layout", ["subfolders", "side by side", "public download"])
def test_hc18_in_each_layout(tmp_path, layout):
    source = make_hc18(tmp_path / "hc18", layout)
    with pytest.warns(UserWarning, match=r"011_HC_Annotation\.png: the outline is open"):
        cohort = import_cohort(source, tmp_path / "out")
    assert cohort.table["case"].tolist() == ["000_HC", "010_HC", "010_2HC", "011_HC"]
    assert cohort.table["subject"].tolist() == ["000", "010", "010", "011"]
    assert cohort.table["x_outline"].tolist() == ["closed"] * 3 + ["open, ellipse fitted"]
    assert cohort.spatial_dims == 2 and cohort.outlines_skull
    for name, (pixel_mm, centre, axes, angle) in HEADS.items():
        case = name.removesuffix(".png")
        image, label = cohort.read_image(case), read_volume(cohort.path(case, "label"))
        assert image.spacing_mm == label.spacing_mm == pytest.approx((pixel_mm, pixel_mm))
        assert image.array.dtype == label.array.dtype == np.uint8
        source_image = next(source.rglob(name))
        np.testing.assert_array_equal(image.array, read_volume(source_image, (1, 1)).array)
        truth = ellipse(image.shape, centre, axes, angle) < 0
        assert (cohort.read_label(case).array ^ truth).sum() <= 0.01 * truth.sum()
        assert cohort.numbers("reference_hc_mm")[cohort.table["case"] == case].item() == pytest.approx(
            circumference(*axes) * pixel_mm
        )
    findings = check_cohort(cohort, show_progress=False)
    assert findings["check"].tolist() == ["head at the border"] and findings["case"].tolist() == ["011_HC"]
    split = assign_splits(cohort.table, 1)
    assert split.groupby("subject")["split"].nunique().max() == 1
    assert not (tmp_path / "out" / "rows").exists()


def first_of(folder, destination, count=25):
    """The first images of an HC18 folder of either layout, side by side in a folder of their own."""
    files = {path.name: path for path in folder.rglob("*.png")}
    table = pd.read_csv(next(folder.rglob(CSV))).head(count)
    destination.mkdir()
    for name in table["filename"]:
        for wanted in (name, name.replace(".png", "_Annotation.png")):
            shutil.copy(files[wanted], destination)
    table.to_csv(destination / CSV, index=False)
    return destination


@pytest.mark.filterwarnings("ignore:.*outline is open")
def test_circumference_of_the_masks_is_the_tables(tmp_path):
    """On the images in FHLIB_HC18 where it is set, on made ones otherwise."""
    given = os.environ.get("FHLIB_HC18")
    source = first_of(Path(given), tmp_path / "real") if given else make_hc18(tmp_path / "made", "subfolders")
    cohort = import_cohort(source, tmp_path / "out")
    assert cohort.table["subject"].str.fullmatch(r"\d{3}").all()
    errors = []
    for row in cohort.table.itertuples():
        label = cohort.read_label(row.case)
        if row.x_outline == "closed":
            errors.append(moments_circumference(label.array, label.spacing_mm[0]) - float(row.reference_hc_mm))
    # half a pixel more, or less, all around is 0.3 to 1.1 mm
    assert np.abs(errors).mean() < 0.15 and abs(np.mean(errors)) < 0.1


def test_an_outline_belongs_half_to_its_mask():
    for centre, axes, angle in (((60, 80), (55, 42), 0.3), ((60.3, 79.6), (41.5, 39), 2.0)):
        outline = draw((130, 170), centre, axes, angle)
        mask, closed = fill_outline(outline)
        assert closed
        area = np.pi * axes[0] * axes[1]
        assert mask.sum() == pytest.approx(area, rel=2e-3)
        # all of the outline would be too much, none of it too little, by half a pixel all around
        assert (mask | outline).sum() > 1.01 * area and (mask & ~outline).sum() < 0.99 * area
    # a closed curve that is no ellipse keeps its own interior
    box = np.zeros((40, 50), bool)
    box[5:30, 8:40] = True
    box[6:29, 9:39] = False
    mask, closed = fill_outline(box)
    assert closed and mask[6:29, 9:39].all() and not mask[~box & ~mask].any() and mask.sum() < 25 * 32


def test_outlines_that_hold_no_ellipse():
    empty = np.zeros((20, 30), bool)
    with pytest.raises(ValueError, match="0 pixels is too short"):
        fill_outline(empty)
    empty[10, 3:25] = True
    with pytest.raises(ValueError, match="ellipse"):
        fill_outline(empty)


@pytest.mark.filterwarnings("ignore:.*outline is open")
def test_an_interrupted_import_continues(tmp_path, monkeypatch):
    source, out = make_hc18(tmp_path / "hc18", "subfolders"), tmp_path / "out"
    whole = import_cohort(source, tmp_path / "whole")
    fill, filled = importers.fill_outline, []

    def counting(outline):
        if len(filled) == 2:
            raise KeyboardInterrupt
        filled.append(1)
        return fill(outline)

    monkeypatch.setattr(importers, "fill_outline", counting)
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
    # another pixel size: everything is imported again
    monkeypatch.undo()
    table = (source / CSV).read_text(encoding="utf-8").replace("000_HC.png,0.1,", "000_HC.png,0.2,")
    (source / CSV).write_text(table)
    assert import_cohort(source, out).read_image("000_HC").spacing_mm == pytest.approx((0.2, 0.2))


def test_hc18_that_is_not_whole(tmp_path):
    source = make_hc18(tmp_path / "hc18", "subfolders")
    (source / "annotation" / "010_HC_Annotation.png").unlink()
    with pytest.raises(ValueError, match=r"1 files .* missing in hc18/, such as 010_HC_Annotation\.png"):
        import_cohort(source, tmp_path / "out")
    shutil.rmtree(source / "annotation")
    with pytest.raises(ValueError, match="no annotations"):
        import_cohort(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


OBLIQUE = (-0.8660254037844386, 0.5, 0.0, 0.5, 0.8660254037844386, 0.0, 0.0, 0.0, 1.0)


def pair(seed=0):
    rng = np.random.default_rng(seed)
    image = Volume(rng.integers(0, 255, (9, 13, 17)).astype(np.uint8), (4, 2, 3), (5, -6, 7), OBLIQUE)
    mask = np.zeros(image.shape, bool)
    mask[2:7, 3:10, 4:13] = True
    return image, image.with_array(mask)


def test_pairs(tmp_path):
    source = tmp_path / "pairs"
    for i, (name, label) in enumerate((("a.nii.gz", "a_Label.nii.gz"), ("B 2.nrrd", "b 2_LABEL.mha"), ("c.mha", ""))):
        image, mask = pair(i)
        write_volume(image, source / name)
        if label:
            write_volume(mask, source / label)
    (source / "notes.txt").write_text("nothing")
    cohort = import_cohort(source, tmp_path / "out")
    assert cohort.table["case"].tolist() == cohort.table["subject"].tolist() == ["B-2", "a", "c"]
    for i, case in enumerate(["a", "B-2"]):
        image, mask = pair(i)
        back = cohort.read_image(case)
        np.testing.assert_array_equal(back.array, image.array)
        assert back.array.dtype == np.uint8 and back.same_geometry(image, 1e-4)
        np.testing.assert_array_equal(cohort.read_label(case).array, mask.array)
    findings = check_cohort(cohort, show_progress=False)
    assert findings[["case", "check", "severity"]].values.tolist() == [["c", "missing label", "warning"]]
    assert not cohort.outlines_skull


def test_pairs_of_dicom_folders_take_their_names_not_their_tags(tmp_path):
    source, volume = tmp_path / "scans", right_handed()
    source.mkdir()
    write_series(volume, source / "case7", patient="Jane^Planted")
    mask = np.zeros(volume.shape, bool)
    mask[1:4, 2:5, 3:8] = True
    write_volume(volume.with_array(mask), source / "case7_label.nrrd")
    cohort = import_cohort(source, tmp_path / "out")
    assert cohort.table[["case", "subject"]].values.tolist() == [["case7", "case7"]]
    np.testing.assert_array_equal(cohort.read_image("case7").array, volume.array)
    assert cohort.read_image("case7").same_geometry(volume, 1e-4)
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        assert b"Planted" not in path.read_bytes() and str(tmp_path).encode() not in path.read_bytes()


def test_pairs_that_do_not_match(tmp_path):
    image, mask = pair()
    write_volume(image, tmp_path / "one" / "a.nrrd")
    write_volume(mask, tmp_path / "one" / "b_Label.nrrd")
    with pytest.raises(ValueError, match=r"no image for b_Label\.nrrd"):
        import_cohort(tmp_path / "one", tmp_path / "out")
    for name in ("a.nrrd", "a.mha"):
        write_volume(image, tmp_path / "two" / name)
    write_volume(mask, tmp_path / "two" / "a_Label.nrrd")
    with pytest.raises(ValueError, match=r"a\.mha and a\.nrrd are two images of one name"):
        import_cohort(tmp_path / "two", tmp_path / "out")


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
