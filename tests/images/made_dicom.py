"""DICOM as ultrasound machines write it: slices, the Enhanced US Volume, several frames, single images."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from fhlib.images.volume import Volume

ENHANCED_US = "1.2.840.10008.5.1.4.1.1.6.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
US, US_FRAMES = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
SCREENSHOT = "1.2.840.10008.5.1.4.1.1.7"
PATIENT = "PLANTED^JANE"

ALONG_X, ALONG_Y, NORMAL = (0.6, 0.8, 0.0), (0.0, 0.0, -1.0), (-0.8, 0.6, 0.0)
"""Directions of rows, of columns, and their cross product, worked out by hand."""
SPACING, ORIGIN = (1.3, 0.8, 0.7), (12.5, -30.0, 7.25)
RADII = (25.0, 24.0, 27.0)
VOLUME_ML = 67.858
"""4/3 pi 25 x 24 x 27 mm3."""


def oblique_ellipsoid():
    """The ellipsoid of RADII, with other values in each slice, so that their order shows."""
    shape = (46, 72, 90)
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, SPACING, strict=True)), indexing="ij")
    inside = sum((a / r) ** 2 for a, r in zip(axes, RADII, strict=True)) < 1
    values = inside * (100 + np.arange(shape[0]))[:, None, None]
    matrix = np.array([ALONG_X, ALONG_Y, NORMAL]).T
    return Volume(values.astype(np.uint8), SPACING, ORIGIN, tuple(matrix.ravel()))


def dataset(sop_class, array, **tags):
    """A file of this class with an array (h, w), (n, h, w), or with 3 channels behind; no size is stated."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    ds.Modality, ds.PatientName, ds.PatientID = "US", PATIENT, "PLANTED-7"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "20200101", "120000", "1", 1, 1
    ds.AccessionNumber = ds.PatientBirthDate = ds.PatientSex = ds.ReferringPhysicianName = ""
    colour = array.shape[-1] == 3
    shape = array.shape[:-1] if colour else array.shape
    ds.Rows, ds.Columns = shape[-2:]
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = array.astype(np.uint8).tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def save(ds, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def item(**values):
    """A sequence of one item."""
    ds = Dataset()
    for name, value in values.items():
        setattr(ds, name, value)
    return Sequence([ds])


def region(height_mm, width_mm, **changes):
    """A 2D tissue region, in cm a pixel."""
    values = {"RegionSpatialFormat": 1, "RegionDataType": 1, "RegionFlags": 0}
    values |= {"PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3}
    values |= {"PhysicalDeltaX": width_mm / 10, "PhysicalDeltaY": height_mm / 10}
    return item(**(values | changes))


def grouped(volume, sop_class=ENHANCED_US, order=None, word="Volume"):
    """Frames with functional groups, in this order of the volume's slices; `word` is Volume or Patient."""
    order = range(len(volume.array)) if order is None else order
    ds = dataset(sop_class, volume.array[list(order)])
    suffix = "Volume" if word == "Volume" else ""
    matrix = np.array(volume.direction).reshape(3, 3)
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = item(PixelSpacing=list(volume.spacing_mm[1:]), SliceThickness=5.0)
    orientation = {f"ImageOrientation{word}": [*matrix[:, 0], *matrix[:, 1]]}
    setattr(shared, f"PlaneOrientation{suffix}Sequence", item(**orientation))
    for index in order:
        frame = Dataset()
        position = {f"ImagePosition{word}": list(volume.position((index, 0, 0)))}
        setattr(frame, f"PlanePosition{suffix}Sequence", item(**position))
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    return ds


def with_kretz(data, **tags):
    """A screenshot with a GE Kretz file in its private element; as in real files, another vendor block comes first."""
    ds = dataset(US, np.arange(35).reshape(5, 7), PixelSpacing=[0.5, 0.4], **tags)
    ds.private_block(0x7FE1, "GEMS_Ultrasound_MovieGroup_001", create=True)
    ds.private_block(0x7FE1, "KRETZ_US", create=True).add_new(0x01, "OB", data + b"\0" * (len(data) % 2))
    return ds


def slices(volume, folder, suffix=".dcm", step=None, **tags):
    """One file a slice, in an order of names that is not that of the slices; `step` moves a slice (x, y, z in mm).

    A tag that is None is left out.
    """
    series, frame, study = generate_uid(), generate_uid(), generate_uid()
    matrix = np.array(volume.direction).reshape(3, 3)
    count = len(volume.array)
    for index, picture in enumerate(volume.array):
        position = np.array(volume.position((index, 0, 0))) + (0 if step is None else index * np.array(step))
        values = {"PixelSpacing": list(volume.spacing_mm[1:]), "ImagePositionPatient": position.round(6).tolist()}
        values |= {"ImageOrientationPatient": [*matrix[:, 0], *matrix[:, 1]], "InstanceNumber": index + 1}
        values |= {"SeriesInstanceUID": series, "FrameOfReferenceUID": frame, "StudyInstanceUID": study, **tags}
        kept = {name: value for name, value in values.items() if value is not None}
        save(dataset(US, picture, **kept), folder / f"IM{index * 7919 % count:03d}{suffix}")
    return folder
