"""Masks that other programs open."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fhlib.images.exchange import write_segmentation
from fhlib.images.formats import read_volume
from tests.images.made import ellipsoid


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
