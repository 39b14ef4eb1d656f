"""Volumes, oblique and not cubic, and DICOM series of them."""

from __future__ import annotations

import numpy as np
import pydicom
import SimpleITK as sitk
from hypothesis import strategies as st

from fhlib.images.volume import Volume, to_sitk

OBLIQUE = {
    # 30 degrees about z, then x mirrored (negative determinant)
    3: (-0.8660254037844386, 0.5, 0.0, 0.5, 0.8660254037844386, 0.0, 0.0, 0.0, 1.0),
    2: (-0.6, 0.8, 0.8, 0.6),
}
FLIPPED = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def ellipsoid(radii, shape=(50, 72, 60), spacing=(2.0, 1.5, 1.8)):
    """A filled ellipsoid with these radii (mm) in an oblique volume."""
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    inside = sum((a / r) ** 2 for a, r in zip(axes, radii, strict=True)) < 1
    return Volume(inside.astype(np.uint8), spacing, origin=(5.0, -7.0, 11.0), direction=FLIPPED)


def oblique(ndim, dtype=np.float32, shape=(5, 7, 11), seed=0):
    """Random values of 0 to 200 in a rotated and mirrored box."""
    values = np.random.default_rng(seed).uniform(0, 200, shape[-ndim:]).astype(dtype)
    return Volume(values, (1.7, 0.31, 0.5)[-ndim:], (10.5, -20.25, 33.0)[:ndim], OBLIQUE[ndim])


@st.composite
def volumes(draw):
    """Any size, spacing, origin and orthonormal direction, mirrored ones included."""
    ndim = draw(st.sampled_from([2, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    direction = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0] @ np.diag(rng.choice([-1, 1], ndim))
    shape = tuple(draw(st.integers(1, 13)) for _ in range(ndim))
    return Volume(
        rng.normal(size=shape).astype(np.float32),
        tuple(rng.uniform(0.2, 3, ndim)),
        tuple(rng.uniform(-90, 90, ndim)),
        tuple(direction.ravel()),
    )


def itk_position(volume, index):
    """Position of an array index by ITK, which knows nothing of our formula."""
    return to_sitk(volume).TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]])


def write_series(volume, folder, uid="1.2.826.0.1.3680043.2.1125.1", patient="Jane^Planted"):
    """A DICOM series by SimpleITK, one file a slice, in an order of names that is not that of the slices."""
    folder.mkdir(exist_ok=True)
    image, writer = to_sitk(volume), sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = volume.direction
    orientation = "\\".join(f"{direction[i]:.12f}" for i in (0, 3, 6, 1, 4, 7))
    for z in range(volume.shape[0]):
        piece = image[:, :, z]
        position = "\\".join(f"{x:.10f}" for x in volume.position((z, 0, 0)))
        tags = {"0008|0060": "US", "0020|000e": uid, "0020|000d": "1.2.3", "0008|0018": f"{uid}.{z + 1}"}
        tags |= {"0010|0010": patient, "0020|0037": orientation, "0020|0032": position, "0020|0013": str(z)}
        tags |= {"0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0018|0050": str(volume.spacing_mm[0])}
        for tag, value in tags.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{(z * 3) % volume.shape[0]:02d}-{uid[-1]}.dcm"))
        writer.Execute(piece)


def dicom_series(volume, folder):
    """The volume as a series of single slices, as an ultrasound cart exports a reconstructed volume."""
    folder.mkdir()
    image = sitk.Cast(to_sitk(volume), sitk.sitkUInt16)
    writer, series = sitk.ImageFileWriter(), pydicom.uid.generate_uid()
    writer.KeepOriginalImageUIDOn()
    frame, study = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    for k in range(image.GetDepth()):
        slice_ = image[:, :, k]
        tags = {
            "0008|0060": "US", "0010|0010": "DOE^JANE", "0010|0020": "123", "0020|000e": series, "0020|000d": study, "0020|0052": frame,
            "0008|0018": pydicom.uid.generate_uid(), "0020|0013": str(k + 1), "0008|0016": "1.2.840.10008.5.1.4.1.1.6.1",
            "0020|0032": "\\".join(f"{x:.6f}" for x in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "\\".join(f"{x:.6f}" for x in (*direction[:, 0], *direction[:, 1])),
            "0018|0050": str(image.GetSpacing()[2]),
        }  # fmt: skip
        for tag, value in tags.items():
            slice_.SetMetaData(tag, value)
        path = folder / f"{k:03d}.dcm"
        writer.SetFileName(str(path))
        writer.Execute(slice_)
        # SimpleITK writes no pixel size into an ultrasound image
        written = pydicom.dcmread(path)
        written.PixelSpacing = [float(step) for step in volume.spacing_mm[1:]]
        written.save_as(path)


def right_handed(dtype=np.int16):
    """A volume as DICOM can hold it, which derives the third axis from the first two."""
    direction = np.array(OBLIQUE[3]).reshape(3, 3) @ np.diag([1, 1, -1])
    volume = oblique(3, dtype)
    return Volume(volume.array, volume.spacing_mm, volume.origin, tuple(direction.ravel()))
