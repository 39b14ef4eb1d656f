"""Images with their geometry, and how they pass to SimpleITK and back.

Arrays are (d, h, w) in 3D and (h, w) in 2D, and `spacing_mm` follows the array's axes. `origin` and
`direction` are ITK's: LPS, in x, y, z order, the direction row-major. So the physical position of a
voxel is `origin + direction @ (spacing_xyz * index_xyz)`. What is done to a volume keeps the physical
position of what it keeps.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import SimpleITK as sitk

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
LUMA = (0.299, 0.587, 0.114)  # Rec. 601
MOST_VOXELS = 500_000_000
"""A file that states more is refused before anything is unpacked; the paper's volumes have 44 million."""
SHORTEST_STEP_MM, LONGEST_STEP_MM = 0.01, 10.0
"""No voxel or step of ultrasound that a file states is outside this, whatever the unit meant."""
GREY_LEVELS = 3
"""Channels of a grey picture may differ by so much of 255."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image in physical space, 3D (d, h, w) or 2D (h, w); the array is kept as given, not copied.

    `spacing_mm` is one positive number an array axis. `origin` and `direction` are ITK's, in x, y, z
    order: the position of the first voxel's centre (mm, default zeros), and n * n numbers, row-major
    and orthonormal (default identity).

    Raises ValueError where a part does not fit the array, TypeError for an array that holds no real
    numbers.

    >>> import numpy as np
    >>> from fhlib import Volume
    >>> volume = Volume(np.zeros((4, 3, 2)), spacing_mm=(2.0, 0.5, 0.5), origin=(10, 20, 30))
    >>> volume.size_mm
    (8.0, 1.5, 1.0)
    >>> volume.position((1, 0, 0))
    (10.0, 20.0, 32.0)
    """

    array: Array
    spacing_mm: tuple[float, ...]
    origin: tuple[float, ...] = ()
    direction: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        _require_image(array)
        n = array.ndim

        spacing = _numbers(self.spacing_mm, n, "spacing_mm", "one number an array axis")
        if min(spacing) <= 0:
            raise ValueError(f"spacing_mm must be positive, got {spacing}: give mm a voxel along each array axis")

        origin = _numbers(_or_default(self.origin, np.zeros(n)), n, "origin", "x, y, z in mm")
        direction = _numbers(_or_default(self.direction, np.eye(n)), n * n, "direction", "the matrix row by row")
        matrix = np.array(direction).reshape(n, n)
        if not np.allclose(matrix @ matrix.T, np.eye(n), atol=1e-3):
            raise ValueError(
                f"direction must be orthonormal, got {direction}: resample sheared images before reading them"
            )

        # the dataclass is frozen, so what was checked takes this way in
        for name, value in (("array", array), ("spacing_mm", spacing), ("origin", origin), ("direction", direction)):
            object.__setattr__(self, name, value)

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape, (d, h, w) or (h, w)."""
        return self.array.shape

    @property
    def size_mm(self) -> tuple[float, ...]:
        """Edge lengths of the field of view in array order, from voxel corner to voxel corner."""
        return tuple(count * step for count, step in zip(self.shape, self.spacing_mm, strict=True))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of a voxel in mL (1000 mm3); nan in 2D, where there is none."""
        return math.prod(self.spacing_mm) / 1000 if self.ndim == 3 else math.nan

    def position(self, index: Sequence[float]) -> tuple[float, ...]:
        """Physical position (x, y, z in mm) of an array index; it may be fractional or outside the array."""
        step = np.array(self.spacing_mm[::-1]) * np.array(index, dtype=float)[::-1]
        matrix = np.array(self.direction).reshape(self.ndim, self.ndim)
        return tuple((np.array(self.origin) + matrix @ step).tolist())

    def with_array(self, array: Array) -> Volume:
        """Another array of the same shape in the same geometry; ValueError if the shape differs."""
        if np.shape(array) != self.shape:
            raise ValueError(
                f"the geometry belongs to shape {self.shape}, the array has {np.shape(array)}: resample it instead"
            )
        return replace(self, array=np.asarray(array))

    def same_geometry(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same shape and all corners lie within `tolerance_mm` of one another."""
        if self.shape != other.shape:
            return False
        corners = itertools.product(*((0, count) for count in self.shape))
        return all(math.dist(self.position(corner), other.position(corner)) <= tolerance_mm for corner in corners)


class ReadWarning(UserWarning):
    """What reading a file took for granted; it names no patient, and belongs beside the result."""


def _require_image(array: Array) -> None:
    if array.ndim not in (2, 3):
        raise ValueError(
            f"a volume is (d, h, w) or (h, w); the array has shape {array.shape}: split channels or time first"
        )
    if 0 in array.shape:
        raise ValueError(f"a volume needs at least one voxel along each axis; the array has shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"a volume holds booleans, integers or real numbers, not {array.dtype}")


def _or_default(values: Sequence[float] | None, default: Floats) -> ArrayLike:
    return default if values is None or len(values) == 0 else values


def _numbers(values: ArrayLike, count: int, name: str, order: str) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in np.ravel(values))
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be {count} finite numbers ({order}), got {numbers}")
    return numbers


def is_binary(values: Array) -> bool:
    """Whether an array holds two values alone, as a mask does and no scan."""
    low, high = values.min(), values.max()
    return bool(low < high) and bool(((values == low) | (values == high)).all())


def parse_spacing(text: str) -> tuple[float, ...] | None:
    """Size of a voxel in mm as a person writes it; None for an empty text.

    One number, or one an axis (array order): `0.5`, `0.5,0.5,0.7` or `0.5 x 0.5 x 0.7`. Raises ValueError for anything
    else, and for `1,5`, which may be a decimal comma or two axes.

    >>> from fhlib.images.volume import parse_spacing
    >>> parse_spacing("0.5,0.5,0.7")
    (0.5, 0.5, 0.7)
    """
    text = text.strip().lower().removesuffix("mm").strip()
    if not text:
        return None
    parts = re.split(r"\s*[;x×]\s*", text)
    if len(parts) > 1:
        parts = [part.replace(",", ".") for part in parts]  # what stands apart in another way may have decimal commas
    else:
        parts = re.split(r"\s*,\s*", text)
        if len(parts) == 2 and "." not in text:
            raise ValueError(
                f"{text!r} is no spacing: give mm as {'.'.join(parts)}, or two axes as {parts[0]} x {parts[1]}"
            )
    numbers = [float(part) for part in parts if re.fullmatch(r"\d*\.?\d+(e-?\d+)?|\d+\.", part, re.ASCII)]
    if len(numbers) != len(parts) or len(numbers) > 3 or not all(0 < number < math.inf for number in numbers):
        raise ValueError(
            f"{text!r} is no spacing: give mm as 0.5, or one number above 0 an axis as 0.5,0.5,0.7 (d,h,w)"
        )
    return tuple(numbers)


def to_sitk(volume: Volume) -> sitk.Image:
    """SimpleITK image of the same geometry; booleans become uint8 and float16 float32, which ITK lacks."""
    import SimpleITK as sitk  # here, so that simulating and training do without it

    kinds = {"bool": np.uint8, "float16": np.float32, "longdouble": np.float64, "float128": np.float64}
    array = volume.array.astype(kinds.get(volume.array.dtype.name, volume.array.dtype), copy=False)
    # ITK takes the machine's own byte order only
    image = sitk.GetImageFromArray(array.astype(array.dtype.newbyteorder("="), copy=False))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction)
    return image


def from_sitk(image: sitk.Image) -> Volume:
    """Volume of a scalar image, or of a grey one that is stored as colours (see `grey_of`).

    What else the image carries (DICOM tags, comments) stays behind. Raises ValueError for colours, and for any other
    number of channels or dimensions.
    """
    import SimpleITK as sitk

    if image.GetDimension() not in (2, 3):
        raise ValueError(
            f"the image has {image.GetDimension()} dimensions of size {image.GetSize()}: export one volume without time"
        )
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = grey_of(array)
    return Volume(array, image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection())


def grey_of(channels: Array, name: str = "the image") -> Array:
    """The grey values of an array whose last axis holds 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels.

    Colours are never blended into grey. Only R = G = B is grey, but for differences of 3 in 255, which lossy compression
    explains; the luma of Rec. 601 is taken then. Alpha must be the same everywhere.

    Raises ValueError for anything else.
    """
    count = channels.shape[-1]
    if count not in (1, 2, 3, 4):
        raise ValueError(f"{name} has {count} channels, expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)")
    if count in (2, 4):
        alpha = channels[..., -1]
        if alpha.min() != alpha.max():
            raise ValueError(
                f"{name} is transparent in places (its alpha is not constant), expected grey: save it without alpha"
            )
    if count < 3:
        return channels[..., 0]

    colours = channels[..., :3]
    spread = colours.max(axis=-1).astype(float) - colours.min(axis=-1)
    full = np.iinfo(colours.dtype).max if colours.dtype.kind == "u" else max(float(np.abs(colours).max()), 1.0)
    coloured = np.mean(~(spread <= GREY_LEVELS / 255 * full))
    if coloured > 0:
        raise ValueError(
            f"{name} has colours in {100 * coloured:.2g} % of its voxels, expected grey: colours are not blended into grey; "
            "save it without colour"
        )
    if not spread.any():
        return colours[..., 0]
    grey = colours @ np.array(LUMA)
    return (np.rint(grey) if colours.dtype.kind in "iu" else grey).astype(colours.dtype)
