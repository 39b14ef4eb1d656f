"""Masks that other programs open."""

from __future__ import annotations

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from highdicom.color import CIELabColor

from fhlib.images.exchange import COLOURS, write_dicom_seg, write_segmentation
from fhlib.images.formats import read_volume
from tests.images.made import dicom_series, ellipsoid


def test_slicer_reads_name_colour_and_extent(tmp_path):
    mask = ellipsoid((20, 30, 25))
    write_segmentation(mask, tmp_path / "x.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "x.seg.nrrd"))
    assert image.GetMetaData("Segment0_Name") == "Fetal head" and image.GetMetaData("Segment0_Color") == "1 0.62 0.11"
    assert image.GetMetaData("Segment0_Extent") == "0 59 0 71 0 49" and "69536005^Head" in image.GetMetaData(
        "Segment0_Tags"
    )
    again = read_volume(tmp_path / "x.seg.nrrd")
    assert again.same_geometry(mask) and np.array_equal(again.array, mask.array)
    with pytest.raises(ValueError, match=r"a file named \.seg\.nrrd"):
        write_segmentation(mask, tmp_path / "x.nrrd")


def test_head_and_skull_are_two_series_that_say_what_made_them(tmp_path):
    """As a PACS lists them: read by pydicom, then by highdicom."""
    mask = ellipsoid((16, 24, 20), shape=(24, 40, 36))
    dicom_series(mask.with_array(mask.array * 200), tmp_path / "series")
    read = {}
    for structure in ("head", "skull"):
        path = tmp_path / f"{structure}.dcm"
        write_dicom_seg(mask, tmp_path / "series", path, structure, f"{structure} aebe2c10")
        read[structure] = pydicom.dcmread(path)
        (segment,) = read[structure].SegmentSequence
        colour = CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        assert colour == pytest.approx([255 * part for part in COLOURS[structure]], abs=2)
        identified = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert identified.AlgorithmVersion.endswith(f"weights {structure} aebe2c10")
        assert read[structure].SoftwareVersions[1] == f"weights {structure} aebe2c10"
        assert highdicom.seg.segread(path).pixel_array.sum() == mask.array.sum()
    head, skull = read["head"], read["skull"]
    assert (head.SeriesNumber, skull.SeriesNumber) == (901, 902)
    assert (head.ContentLabel, skull.ContentLabel) == ("FETALHEAD", "FETALSKULL")
    assert [part.SegmentSequence[0].SegmentLabel for part in read.values()] == ["Fetal head", "Fetal skull, filled"]
    assert "head to its skin" in head.SeriesDescription and "outer skull" in skull.SeriesDescription
    assert head.SeriesInstanceUID != skull.SeriesInstanceUID and head.StudyInstanceUID == skull.StudyInstanceUID
    assert all("research only" in part.SeriesDescription for part in read.values())


def test_weights_that_are_not_known_leave_the_programs_version(tmp_path):
    mask = ellipsoid((16, 24, 20), shape=(24, 40, 36))
    dicom_series(mask.with_array(mask.array * 200), tmp_path / "series")
    write_dicom_seg(mask, tmp_path / "series", tmp_path / "a.dcm")
    assert "weights" not in str(pydicom.dcmread(tmp_path / "a.dcm").SoftwareVersions)
