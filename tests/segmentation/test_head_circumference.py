"""Single images: what is told of a head, pixel sizes, mixed folders, calibration, and real ones where FHLIB_HC18 names them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fhlib.__main__ import main
from fhlib.benchmarks.hc18_submission import write_submission
from fhlib.cohorts.hc18 import fill_outline
from fhlib.cohorts.tables import pixel_sizes
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume
from fhlib.measures.metrics import dice
from fhlib.models.cascade import Reading
from fhlib.models.inputs import min_max
from fhlib.phantom.plane import simulate_plane
from fhlib.segmentation import own_volumes
from fhlib.segmentation.head_circumference import SUBMISSION, calibrate_hc, fitted, hc_coverage, hc_interval_mm
from fhlib.segmentation.own_volumes import segment_files, volumes_in
from fhlib.segmentation.segmentor import Segmentor, load_segmentor
from tests.cohorts.made_hc18 import CSV, circumference, ellipse
from tests.images.made import ellipsoid
from tests.images.made_dicom import US, dataset, region, save
from tests.segmentation.fixed import Fixed

SHAPE, CENTRE, AXES, ANGLE, PIXEL = (260, 380), (118, 201), (120, 96), 0.5, 0.25
HC = circumference(30, 24)


class Bright:
    """A cascade that finds what is brighter than one half."""

    slices = reads_box = False
    parameters = SimpleNamespace(spatial_dims=2, outline="skull")

    def reading(self, volume, around=None):
        return Reading(volume.with_array(min_max(volume.array.astype(np.float32))))

    def probability(self, image, context=None):
        return (image > 0.5).astype(np.float32)


@pytest.fixture
def images(monkeypatch):
    """Segmentors by name, `hc` among them, in place of those that ship."""
    segmentor = Segmentor(Bright())
    monkeypatch.setattr(own_volumes, "load_segmentor", {"hc": segmentor}.__getitem__)
    return segmentor


def picture(path, axes=AXES, **options):
    """A head of known size in an image file."""
    inside = ellipse(SHAPE, CENTRE, axes, ANGLE) <= 0
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((20 + 200 * inside).astype(np.uint8)).save(path, **options)
    return path


def table_of_sizes(folder, sizes, name="test_set_pixel_size.csv"):
    pd.DataFrame({"filename": sizes.keys(), "pixel size(mm)": sizes.values()}).to_csv(folder / name, index=False)


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0.1), ("jpg", 0.2), ("bmp", 0.1)])
def test_hc_ellipse_and_age_of_a_picture(images, tmp_path, suffix, tolerance):
    source = (
        picture(tmp_path / "in" / f"a.{suffix}", dpi=(300, 300))
        if suffix != "bmp"
        else picture(tmp_path / "in" / "a.bmp")
    )
    out = tmp_path / "out"
    rows, _ = segment_files(Fixed(50, "skin"), [source], out, image_weights="hc", pixel_mm=PIXEL)
    row = rows.iloc[0]
    assert row["status"] == "found" and math.isnan(row["volume_ml"])
    assert row["hc_mm"] == pytest.approx(HC, abs=tolerance)
    assert (row["bpd_mm"], row["ofd_mm"]) == pytest.approx((48, 60), abs=0.3)
    expected = (201 * PIXEL, 118 * PIXEL, 30, 24)
    assert row[list(SUBMISSION[:4])].tolist() == pytest.approx(expected, abs=0.1)
    assert row["angle_rad"] == pytest.approx(ANGLE, abs=0.005)
    # INTERGROWTH-21st: HC is 172.5 mm at 20 weeks, with an SD of 7.4 mm; of these 170.5 mm, 8.6 mm fewer than at 21 weeks
    assert row["ga_by_hc_weeks"] == pytest.approx(19.8, abs=0.1)
    assert row["ga_by_hc_low_weeks"] == pytest.approx(18.7, abs=0.2)
    assert row["ga_by_hc_high_weeks"] == pytest.approx(21.0, abs=0.2)
    page = (out / "a.html").read_text(encoding="utf-8")
    assert "Ellipse" in page and "chart read backwards" in page and "semi-axes 30.0 and 24.0 mm" in page
    assert read_volume(out / "a_mask.nrrd").spacing_mm == (PIXEL, PIXEL)


def test_a_picture_without_a_pixel_size_is_refused(images, tmp_path):
    source = picture(tmp_path / "in" / "a.png", dpi=(96, 96))
    rows, _ = segment_files(Fixed(50, "skin"), [source], tmp_path / "out", image_weights="hc")
    assert (
        rows["status"].tolist() == ["failed"]
        and "a.png is a picture: it is measured as a single image (HC alone), and states no pixel size"
        in rows["note"][0]
    )
    table_of_sizes(source.parent, {"a.png": PIXEL})
    rows, _ = segment_files(Fixed(50, "skin"), [source], tmp_path / "out", image_weights="hc")
    assert rows["hc_mm"][0] == pytest.approx(HC, abs=0.1)
    rows, _ = segment_files(Fixed(50, "skin"), [source], tmp_path / "out", image_weights="hc", pixel_mm=0.3)
    assert rows["note"][0] == "0.25 mm a pixel by the table beside it, not 0.3 mm"


def test_a_folder_of_images_and_volumes(images, tmp_path):
    folder = tmp_path / "in"
    picture(folder / "a_HC.jpg")
    picture(folder / "a_HC_Annotation.png")  # a label beside its image
    head = ellipsoid((40, 50, 45))
    write_volume(head.with_array((100 * head.array).astype(np.uint8)), folder / "b.nrrd")
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(folder), tmp_path / "out", image_weights="hc", pixel_mm=PIXEL)
    assert rows["case"].tolist() == ["a_HC", "b"] and rows["status"].tolist() == ["found", "found"]
    assert rows["volume_ml"].notna().tolist() == [False, True] and rows["hc_mm"].notna().tolist() == [True, False]
    assert rows["angle_rad"].notna().tolist() == [True, False]


def test_a_dicom_image_has_its_own_oblong_pixels(images, tmp_path):
    # 0.25 mm down and 0.5 across: on the 1 : 2 grid every second column
    inside = (ellipse(SHAPE, CENTRE, AXES, ANGLE) <= 0)[:, ::2]
    grey = (20 + 200 * inside).astype(np.uint8)
    regions = region(0.25, 0.5)
    source = save(dataset(US, grey, SequenceOfUltrasoundRegions=regions), tmp_path / "in" / "IM1")
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(source.parent), tmp_path / "out", image_weights="hc")
    row = rows.iloc[0]
    assert row["status"] == "found" and row["hc_mm"] == pytest.approx(HC, abs=0.2)
    assert row[list(SUBMISSION)].tolist() == pytest.approx([50.25, 29.5, 30, 24, ANGLE], abs=0.2)


def test_an_early_head_has_no_age(images, tmp_path):
    source = picture(tmp_path / "in" / "a.png", (60, 48))
    rows, _ = segment_files(Fixed(50, "skin"), [source], tmp_path / "out", image_weights="hc", pixel_mm=PIXEL)
    assert "no age by HC: the chart goes from 14 to 40 weeks" in rows["note"][0] and "ga_by_hc_weeks" not in rows


def test_tables_of_pixel_sizes(tmp_path):
    table_of_sizes(tmp_path, {"a.png": 0.1, "b.png": 0.2})
    table_of_sizes(tmp_path, {"a.png": 0.1}, "again.csv")
    (tmp_path / "notes.csv").write_text("filename,seen by\na.png,me\n")
    assert pixel_sizes(tmp_path) == {"a.png": 0.1, "b.png": 0.2}
    table_of_sizes(tmp_path, {"a.png": 0.3}, "again.csv")
    with pytest.raises(ValueError, match="mm a pixel, and another row 0"):
        pixel_sizes(tmp_path)
    table_of_sizes(tmp_path, {"a.png": "-0.1"}, "again.csv")
    with pytest.raises(ValueError, match="expected a positive number"):
        pixel_sizes(tmp_path)
    (tmp_path / "again.csv").write_text("filename,pixel size (um)\na.png,100\n")
    with pytest.raises(ValueError, match="names no unit"):
        pixel_sizes(tmp_path)


def test_the_submission_has_the_challenges_columns_and_a_known_ellipse(images, tmp_path):
    picture(tmp_path / "in" / "000_HC.png")
    picture(tmp_path / "in" / "001_HC.png", (100, 80))
    table_of_sizes(tmp_path, {"000_HC.png": PIXEL, "001_HC.png": 0.1})
    out = tmp_path / "out.csv"
    write_submission(images, tmp_path / "in", out)
    write_submission(images, tmp_path / "in", out)  # again, over its own
    written = pd.read_csv(out)
    assert list(written) == ["filename", *SUBMISSION] and written["filename"].tolist() == ["000_HC.png", "001_HC.png"]
    # pixels count from 0: 201 across, 118 down
    assert written.iloc[0, 1:5].tolist() == pytest.approx([50.25, 29.5, 30, 24], abs=0.02)
    assert written.iloc[1, 1:5].tolist() == pytest.approx([20.1, 11.8, 10, 8], abs=0.01)
    assert written["angle_rad"].tolist() == pytest.approx([ANGLE, ANGLE], abs=0.002)

    # as the challenge's files lie: both sets and both tables side by side, with the same names
    (tmp_path / "in").rename(tmp_path / "test_set")
    table_of_sizes(tmp_path, {"000_HC.png": 0.3, "002_HC.png": 0.3}, "training_set_pixel_size_and_HC.csv")
    write_submission(images, tmp_path / "test_set", out)
    assert pd.read_csv(out).equals(written)


def test_a_submission_is_whole_or_not_at_all(images, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out.csv"
    picture(folder / "000_HC.png")
    picture(folder / "001_HC.png")
    table_of_sizes(folder, {"000_HC.png": PIXEL})
    with pytest.raises(ValueError, match=r"no pixel size for 001_HC\.png: put a CSV"):
        write_submission(images, folder, out)
    table_of_sizes(folder, {f"00{number}_HC.png": PIXEL for number in range(3)})
    with pytest.raises(ValueError, match=r"names 002_HC\.png, and no such image"):
        write_submission(images, folder, out)
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(folder / "002_HC.png")
    with pytest.raises(ValueError, match=r"no head is found in 002_HC\.png"):
        write_submission(images, folder, out)
    assert not out.exists()
    with pytest.raises(ValueError, match=r"test_set_pixel_size\.csv is there and is no submission"):
        write_submission(images, folder, folder / "test_set_pixel_size.csv")


def test_the_interval_is_conformal_in_hc(images):
    """Masks that are too small by 1 % and by up to 0.5 % more or less: so are the interval's middle and its reach."""
    scans = []
    for number in range(40):
        scale = 0.99 + 0.005 * (number - 19.5) / 19.5
        inside = ellipse(SHAPE, CENTRE, np.array(AXES) * scale, ANGLE) <= 0
        scan = Volume((20 + 200 * inside).astype(np.uint8), (PIXEL, PIXEL))
        truth = scan.with_array((ellipse(SHAPE, CENTRE, AXES, ANGLE) <= 0).astype(np.uint8))
        scans.append((scan, truth, HC))
    with pytest.raises(ValueError, match="at least 20 images whose head is found, got 3"):
        calibrate_hc(images, scans[:3])
    images.calibration = calibrate_hc(images, scans)
    assert images.calibration.log_bias == pytest.approx(-math.log(0.99), abs=3e-4)
    table = hc_coverage(images, scans)
    assert table["covered"].mean() >= 0.95 and (table["dsc_ellipse"] > 0.98).all()
    low, high = hc_interval_mm(images, scans[0][0], images.segment(scans[0][0]))
    assert math.log(high / low) / 2 == pytest.approx(0.005, rel=0.1)


def test_the_command_refuses_a_size_that_is_none(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["segment", str(tmp_path), str(tmp_path / "out"), "--pixel-mm", "0"])
    assert "'0' is no size of a pixel: give mm as 0.12" in capsys.readouterr().err


def test_the_weights_on_real_images():
    """Of the published split's held-out images, where FHLIB_HC18 is set; else of a simulated plane."""
    segmentor = load_segmentor("hc")
    given = os.environ.get("FHLIB_HC18")
    if not given:
        plane = simulate_plane(3, ga_weeks=22)
        assert dice(segmentor.segment(plane.image).mask.array > 0, plane.label.array > 0) > 0.9
        return
    files = {path.name: path for path in Path(given).rglob("*.png")}
    table = pd.read_csv(next(Path(given).rglob(CSV))).set_index("filename")
    held_out = pd.read_csv(Path(__file__).parents[2] / "data/weights/hc/coverage.csv")
    scores, errors = [], []
    for case in held_out.loc[held_out["true_hc_mm"] > 100, "case"].head(6):
        pixel_mm, hc_mm = table.loc[f"{case}.png"]
        result = segmentor.segment(read_volume(files[f"{case}.png"], pixel_mm))
        truth, _ = fill_outline(read_volume(files[f"{case}_Annotation.png"], pixel_mm).array > 0)
        scores.append(dice(result.mask.array > 0, truth))
        errors.append(abs(fitted(result).hc_mm - hc_mm))
    assert np.mean(scores) > 0.95 and np.mean(errors) < 6
