"""HC18: on the real folder where FHLIB_HC18 names one, and on made images always."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.hc18 import fill_outline
from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.splits import assign_splits
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume
from tests.cohorts.made_hc18 import CSV, HEADS, circumference, draw, ellipse, make_hc18


def moments_circumference(mask, pixel_mm):
    """Perimeter of the ellipse with the mask's second moments (pixels are squares, hence 1/12)."""
    spread = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T.astype(float), bias=True) + np.eye(2) / 12)
    return circumference(*(2 * np.sqrt(spread) * pixel_mm))


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
        assert float(cohort.row(case)["reference_hc_mm"]) == pytest.approx(circumference(*axes) * pixel_mm)
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


def test_hc18_that_is_not_whole(tmp_path):
    source = make_hc18(tmp_path / "hc18", "subfolders")
    (source / "annotation" / "010_HC_Annotation.png").unlink()
    with pytest.raises(ValueError, match=r"1 files .* missing in hc18/, such as 010_HC_Annotation\.png"):
        import_cohort(source, tmp_path / "out")
    shutil.rmtree(source / "annotation")
    with pytest.raises(ValueError, match="no annotations"):
        import_cohort(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def redraw(source, change):
    """Each annotation changed by a function of (annotation, mask of the head)."""
    for name, (_, centre, axes, angle) in HEADS.items():
        path = next(source.rglob(name.replace(".png", "_Annotation.png")))
        drawn = read_volume(path, 1.0).array
        inside = ellipse(drawn.shape, centre, axes, angle) < 0
        write_volume(Volume(change(drawn, inside).astype(np.uint8), (1, 1)), path)
    return source


@pytest.mark.filterwarnings("ignore:.*outline is open")
@pytest.mark.parametrize(
    "change",
    [
        lambda drawn, inside: 255 * inside,
        lambda drawn, inside: inside,
        lambda drawn, inside: 255 * (inside | (drawn > 0)),
        lambda drawn, inside: 255 * (inside & ~(drawn > 0)),
        lambda drawn, inside: 255 * ndimage.binary_dilation(drawn > 0, iterations=2),
        lambda drawn, inside: 255 * np.repeat(drawn[..., None] > 0, 3, -1).all(-1),
    ],
    ids=["filled", "filled with 1", "filled with its line", "filled without its line", "thick", "as it is"],
)
def test_annotations_in_other_forms_give_the_same_heads(tmp_path, change):
    cohort = import_cohort(redraw(make_hc18(tmp_path / "hc18", "subfolders"), change), tmp_path / "out")
    for name, (pixel_mm, centre, axes, angle) in HEADS.items():
        label = cohort.read_label(name.removesuffix(".png"))
        truth = ellipse(label.shape, centre, axes, angle) < 0
        assert 2 * (label.array & truth).sum() / (label.array.sum() + truth.sum()) > 0.995
        assert label.spacing_mm == pytest.approx((pixel_mm, pixel_mm))


@pytest.mark.parametrize(
    "change",
    [
        lambda drawn, inside: 255 * ~inside,
        lambda drawn, inside: (
            255
            * ndimage.zoom(inside, 0.8, order=0)[[min(i, 103) for i in range(130)]][
                :, [min(i, 135) for i in range(170)]
            ]
        ),
        lambda drawn, inside: 255 * ndimage.binary_erosion(inside, iterations=4),
        lambda drawn, inside: np.full_like(drawn, 255),
    ],
    ids=["inverted", "another scale", "another size", "all of the picture"],
)
def test_annotations_that_are_not_as_large_as_the_table_says_are_refused(tmp_path, change):
    source = redraw(make_hc18(tmp_path / "hc18", "subfolders"), change)
    with pytest.raises(
        ValueError, match=r"_Annotation\.png( outlines .* mm, expected within 2%|: no ellipse|: an outline)"
    ):
        import_cohort(source, tmp_path / "out")
    assert not (tmp_path / "out" / "cohort.csv").exists()


def test_an_annotation_of_another_image_is_refused(tmp_path):
    source = make_hc18(tmp_path / "hc18", "side by side")
    shutil.copy(source / "010_HC_Annotation.png", source / "000_HC_Annotation.png")
    with pytest.raises(
        ValueError, match=r"000_HC_Annotation\.png outlines 27\.\d mm at 0\.1 mm a pixel, the table says 30\.6 mm"
    ):
        import_cohort(source, tmp_path / "out")
