"""One simulated head in every format that is read: its volume is the same in each, to 0.5 %."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from fhlib.images.formats import read_volume, write_volume
from fhlib.images.kretz import write_kretz
from fhlib.images.volume import Volume
from fhlib.phantom.scan import Setting, set_up, simulate_scan
from tests.images import made_dicom as made

SCAN = {"subject_seed": 7, "ga_weeks": 24, "scan_direction": "from the side", "spacing_mm": 2.0}
SPACING = (2.6, 1.5, 1.9)
DIRECTION = tuple(np.array([made.ALONG_X, made.ALONG_Y, made.NORMAL]).T.ravel())


@dataclass(frozen=True)
class Head:
    """A head as the simulator labels it, on an oblique grid of unequal steps, and along the probe's beams."""

    truth_ml: float
    voxels: Volume
    beams: np.ndarray
    setting: Setting


@pytest.fixture(scope="module")
def head():
    label = simulate_scan(**SCAN).label
    setting = set_up(**SCAN)
    # the same box as the scan's, in other steps
    axes = [np.arange(0, size, step) for size, step in zip(label.size_mm, SPACING, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    corner = setting.box.corner
    inside = in_head(setting, (x + corner[0], y + corner[1], z + corner[2]))
    voxels = Volume(200 * inside.astype(np.uint8), SPACING, made.ORIGIN, DIRECTION)
    beams = 200 * in_head(setting, setting.grid.points((slice(None),) * 3)).astype(np.uint8)
    return Head(float(label.array.sum() * label.voxel_volume_ml), voxels, beams, setting)


def in_head(setting, points):
    h = setting.pose.to_head(points)
    return setting.head.whole(h, setting.head.skull(h)) <= 0


def as_file(suffix):
    def write(head, folder):
        write_volume(head.voxels, folder / f"scan{suffix}")
        return folder / f"scan{suffix}"

    return write


def as_slices(head, folder):
    return made.slices(head.voxels, folder / "series", suffix="")


def as_slices_with_regions(head, folder):
    tags = {"PixelSpacing": None, "SequenceOfUltrasoundRegions": made.region(*SPACING[1:])}
    return made.slices(head.voxels, folder / "series", **tags)


def as_enhanced_volume(head, folder):
    order = np.random.default_rng(0).permutation(len(head.voxels.array)).tolist()
    return made.save(made.grouped(head.voxels, order=order), folder / "volume")


def as_deflated_volume(head, folder):
    ds = made.grouped(head.voxels)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return made.save(ds, folder / "volume.dcm")


def as_compressed_volume(head, folder):
    ds = made.grouped(head.voxels)
    ds.compress(RLELossless)
    return made.save(ds, folder / "volume.dcm")


def frames(head, **tags):
    orientation = [*made.ALONG_X, *made.ALONG_Y]
    tags |= {"ImagePositionPatient": list(made.ORIGIN), "ImageOrientationPatient": orientation}
    return made.dataset(made.US_FRAMES, head.voxels.array, SpacingBetweenSlices=SPACING[0], **tags)


def as_frames(head, folder):
    return made.save(frames(head, PixelSpacing=list(SPACING[1:])), folder / "frames.dcm")


def as_frames_with_regions(head, folder):
    regions = made.region(*SPACING[1:])
    return made.save(frames(head, SequenceOfUltrasoundRegions=regions), folder / "frames.dcm")


def as_kretz(head, folder):
    grid = head.setting.grid
    step, centre_mm = grid.steps[2], grid.probe.centre_distance_mm
    path = folder / "scan.vol"
    write_kretz(path, head.beams, step, grid.phi, grid.theta, float(grid.r[0]) / step, -centre_mm / step)
    return path


def as_kretz_in_dicom(head, folder):
    data = as_kretz(head, folder).read_bytes()
    return made.save(made.with_kretz(data), folder / "IM1")


VOXELS = [
    as_file(".nrrd"),
    as_file(".mha"),
    as_file(".nii.gz"),
    as_file(".nii"),
    as_slices,
    as_slices_with_regions,
    as_enhanced_volume,
    as_deflated_volume,
    as_compressed_volume,
    as_frames,
    as_frames_with_regions,
]


def volume_ml(volume):
    return float((volume.array >= 100).sum() * volume.voxel_volume_ml)


@pytest.mark.parametrize("write", VOXELS)
def test_a_head_on_an_oblique_grid(head, tmp_path, write):
    back = read_volume(write(head, tmp_path))
    np.testing.assert_array_equal(back.array, head.voxels.array)
    assert back.same_geometry(head.voxels, 1e-3)
    assert volume_ml(back) == pytest.approx(head.truth_ml, rel=0.005)


@pytest.mark.parametrize("spacing_mm", [None, 2.0])
@pytest.mark.parametrize("write", [as_kretz, as_kretz_in_dicom])
def test_a_head_along_beams(head, tmp_path, write, spacing_mm):
    back = read_volume(write(head, tmp_path), spacing_mm)
    assert volume_ml(back) == pytest.approx(head.truth_ml, rel=0.005)


@pytest.mark.parametrize("suffix", [".png", ".nrrd", ".dcm"])
def test_a_section_in_2d(head, tmp_path, suffix):
    middle = head.voxels.array[len(head.voxels.array) // 2]
    section, given = Volume(middle, SPACING[1:]), None
    path = tmp_path / f"plane{suffix}"
    if suffix == ".dcm":
        regions = made.region(*SPACING[1:])
        made.save(made.dataset(made.US, middle, SequenceOfUltrasoundRegions=regions), path)
    else:
        write_volume(section, path)
        given = SPACING[1:] if suffix == ".png" else None  # a picture states none
    back = read_volume(path, given)
    np.testing.assert_array_equal(back.array, middle)
    assert back.spacing_mm == pytest.approx(SPACING[1:])
