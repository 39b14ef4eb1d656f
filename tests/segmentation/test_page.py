"""A case's page and table: one list of flags, what is withheld, planes named for the probe, and where the weights come from."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fhlib.images.formats import write_volume
from fhlib.images.kretz import write_kretz
from fhlib.images.volume import Volume
from fhlib.models.card import NEVER_REAL, Card
from fhlib.segmentation.own_volumes import segment_files
from fhlib.segmentation.page import picture, views
from fhlib.segmentation.rows import COLUMNS, Found, flags_of, in_mm, rounded
from tests.images.made import ellipsoid
from tests.segmentation.fixed import Fixed

CARDS = {
    "head": Card(
        "mine",
        "0123456789abcdef",
        "3 scans",
        "2 other scans",
        NEVER_REAL,
        "mean DSC 88 % of 2 heads",
        {"volume": "median -6 %"},
    ),
    "skull": Card("skull", "fedcba9876543210", errors={"HC": "half within 5 mm"}),
}


@pytest.fixture
def scan(tmp_path):
    """A head of 16 x 24 x 20 mm radii with a skull in it, in voxels of 2 x 1.5 x 1.8 mm; its file."""
    head, skull = ellipsoid((16, 24, 20), shape=(24, 40, 36)), ellipsoid((12, 20, 16), shape=(24, 40, 36))
    path = tmp_path / "in" / "A <b>.nrrd"
    write_volume(head.with_array((60 * head.array + 90 * skull.array).astype(np.uint8)), path)
    return path


def text_of(path):
    return re.sub(r"base64,[^\"]+", "", path.read_text(encoding="utf-8"))


def test_one_list_of_flags_stands_in_title_table_and_page(scan, tmp_path):
    head, skull = Fixed(50, "skin", ("low confidence",)), Fixed(140, "skull", ("cut by the border", "low confidence"))
    _, results = segment_files(head, [scan], tmp_path / "out", skull, 26.0)
    found = results["A <b>"]
    expected = ["low confidence", "skull: cut by the border", "skull: low confidence"]
    page = text_of(tmp_path / "out" / "A <b>.html")
    listed = re.findall(r"<li><strong>(.*?)</strong>: (.*?)</li>", page)
    assert [flag for flag, _ in listed] == expected == list(flags_of(found)) and "3 flags" in page
    assert all(meaning for _, meaning in listed)
    assert pd.read_csv(tmp_path / "out" / "segment.csv")["flags"].tolist() == ["; ".join(expected)]
    assert f"<title>A &lt;b&gt;: {'; '.join(expected)}</title>" in page
    assert picture(found, "a").get_suptitle() == f"a: {'; '.join(expected)}"


def test_where_flags_can_hardly_be_raised_their_absence_says_so(scan, tmp_path):
    cards = {"head": replace(CARDS["head"], uncalibrated="there are too few scans"), "skull": CARDS["skull"]}
    segment_files(Fixed(50, "skin"), [scan], tmp_path / "out", Fixed(140, "skull"), 26.0, cards=cards)
    page = text_of(tmp_path / "out" / "A <b>.html")
    assert "few could be:</strong> the weights that outlined the head are not calibrated" in page
    assert "Not calibrated: there are too few scans." in page and "no proof" not in page


def test_errors_of_heads_without_a_flag_are_not_promised_to_one_with_a_flag(scan, tmp_path):
    head = Fixed(50, "skin", ("low confidence",))
    segment_files(head, [scan], tmp_path / "out", Fixed(140, "skull"), 26.0, cards=CARDS)
    page = text_of(tmp_path / "out" / "A <b>.html")
    assert "expected error: larger than without a flag" in page and "median -6 %" not in page
    assert "expected error: half within 5 mm" in page  # the skull has no flag


@pytest.mark.parametrize("flag", ["low confidence", "unfamiliar intensities"])
def test_sizes_of_a_flagged_skull_are_withheld(scan, tmp_path, flag):
    rows, _ = segment_files(Fixed(50, "skin"), [scan], tmp_path / "out", Fixed(140, "skull", (flag,)), 26.0)
    row = rows.iloc[0]
    assert row["status"] == "found" and row["volume_ml"] > 0
    assert row[["bpd_mm", "ofd_mm", "hc_mm", "hc_centile"]].isna().all()
    assert row["note"] == f"no BPD, OFD and HC: the skull is flagged ({flag})"
    page = text_of(tmp_path / "out" / "A <b>.html")
    assert f"withheld: the skull is flagged ({flag})" in page and "No flag is raised" not in page


def test_the_page_says_where_weights_and_scan_come_from(scan, tmp_path):
    segment_files(Fixed(50, "skin"), [scan], tmp_path / "out", Fixed(140, "skull"), 26 + 3 / 7, cards=CARDS)
    page = text_of(tmp_path / "out" / "A <b>.html")
    for words in (
        NEVER_REAL,
        "mine&rdquo; <code>0123456789abcdef",
        "Trained on: 3 scans.",
        "Measured on: 2 other scans: mean DSC 88 % of 2 heads.",
        "expected error: median -6 %",
        "expected error: half within 5 mm",
        "2 x 1.5 x 1.8 mm",
        "24 x 40 x 36",
        "48 x 60 x 65 mm",
        "26+3 weeks, as given",
        "No flag is raised",
    ):
        assert words in page, words
    assert re.search(r"Segmented on</th><td>\d{1,2} \w+ \d{4}<", page)
    assert page.count("<img") == 6 and "http" not in page and "<script" not in page


def test_the_table_is_for_a_clinician(scan, tmp_path):
    rows, _ = segment_files(Fixed(50, "skin"), [scan], tmp_path / "out", Fixed(140, "skull"), cards=CARDS)
    table = pd.read_csv(tmp_path / "out" / "segment.csv")
    assert tuple(table)[: len(COLUMNS)] == COLUMNS and table["case"].tolist() == ["A <b>"]
    row = table.iloc[0]
    assert row["weights"] == "mine 01234567; skull fedcba98" and row["spacing_mm"] == "2 x 1.5 x 1.8"
    assert row["hc_centile_note"] == "no gestational age is given" and pd.isna(row["ga_weeks"])
    for name in ("volume_low_ml", "bpd_mm", "ofd_mm", "hc_mm"):
        assert row[name] == round(rows[name].iloc[0], 1) != rows[name].iloc[0], name


def test_digits_follow_the_unit():
    row = {"volume_ml": 247.162, "hc_mm": 223.46, "ga_weeks": 26.42857, "angle_rad": 0.123456, "center_x_mm": 50.2512}
    table = rounded(pd.DataFrame([row | {"spacing_mm": in_mm((0.5, 0.5, 0.7)), "hc_centile": 0.712, "case": "007"}]))
    assert table.iloc[0].to_dict() == {
        "volume_ml": 247.2,
        "hc_mm": 223.5,
        "ga_weeks": 26.43,
        "angle_rad": 0.1235,
        "center_x_mm": 50.25,
        "spacing_mm": "0.5 x 0.5 x 0.7",
        "hc_centile": 0.7,
        "case": "007",
    }


def test_a_scan_converted_kretz_file_tells_a_from_b(tmp_path):
    angles = np.linspace(-0.5, 0.5, 12)
    write_kretz(tmp_path / "k.vol", np.full((12, 12, 40), 90, np.uint8), 2.0, angles, angles, 40.0, 0.0)
    _, results = segment_files(Fixed(50, "skin"), [tmp_path / "k.vol"], tmp_path / "out")
    assert results["k"].in_probe_axes
    page = text_of(tmp_path / "out" / "k.html")
    captions = re.findall(r"<figcaption><strong>(.*?)</strong>", page)
    assert (
        captions == ["plane A", "plane A", "plane B", "plane B", "plane C", "plane C"] and "The file states so" in page
    )


def test_planes_are_named_for_the_probe_and_stand_below_it():
    """A fan that widens along the file's last axis backwards, and a mark 31 mm below the box's side at the probe."""
    depth, across, along = np.meshgrid(np.arange(60), np.arange(48), np.arange(40), indexing="ij")
    fan = (abs(across - 23.5) < 6 + 0.35 * depth) & (abs(along - 19.5) < 6 + 0.3 * depth)
    scan = np.where(fan, 100, 0).astype(np.uint8)
    mark = np.zeros(scan.shape, np.uint8)
    mark[14:17, 20:29, 16:25] = 1  # its middle is the 16th layer from the probe, at 2 mm a layer

    def turned(array):
        return np.transpose(array, (1, 2, 0))[:, :, ::-1].copy()

    volume = Volume(turned(scan), (1.5, 1.0, 2.0))
    result = Fixed(200, "skin").segment(volume.with_array(255 * turned(mark)))
    first, second, parallel = views(Found(volume, result, None))
    assert (first.name, second.name, parallel.name) == ("plane A or B", "plane A or B", "plane C")
    assert parallel.place == "31 of 120 mm down from the box's side at the probe"
    assert (first.place, second.place) == (
        "at 37 of 72 mm along the file's axis d",
        "at 20 of 40 mm along the file's axis h",
    )
    assert first.size_mm[0] == second.size_mm[0] == 120 and first.probe_above and not parallel.probe_above
    # the sector is narrow at the top of what is shown
    shown = np.take(first.panel.volume.array, first.panel.point[first.cut], first.cut)
    assert (shown[2] > 0).sum() < (shown[-2] > 0).sum() / 2

    box = volume.with_array(np.full(volume.shape, 9, np.uint8))
    assert [view.name for view in views(Found(box, result, None))] == ["plane hw", "plane dw", "plane dh"]
    known = views(Found(box, result, None, in_probe_axes=True))
    assert [view.name for view in known] == ["plane A", "plane B", "plane C"]
