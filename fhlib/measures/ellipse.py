"""The ellipse of a head in an image: centre, semi-axes, angle and circumference, in mm.

Positions count from the centre of the first pixel, x along the rows and y down the columns. The angle is that of the long axis, from x
towards y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fhlib.images.volume import Mask, Volume
from fhlib.measures.biometry import ellipse_perimeter


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in an image: `a_mm` is the long semi-axis, `angle_rad` its direction, from 0 to below pi.

    >>> round(Ellipse(30.0, 20.0, 40.0, 30.0, 0.5).hc_mm, 2)
    221.03
    """

    x_mm: float
    y_mm: float
    a_mm: float
    b_mm: float
    angle_rad: float

    @property
    def hc_mm(self) -> float:
        """Its perimeter."""
        return ellipse_perimeter(self.a_mm, self.b_mm)

    def inside(self, image: Volume) -> Mask:
        """Pixels (h, w) of an image whose centre lies within."""
        y, x = (index * step for index, step in zip(np.indices(image.shape), image.spacing_mm, strict=True))
        x, y = x - self.x_mm, y - self.y_mm
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        return np.asarray(((x * cos + y * sin) / self.a_mm) ** 2 + ((y * cos - x * sin) / self.b_mm) ** 2 <= 1)


def ellipse_of(mask: Volume) -> Ellipse:
    """The ellipse with the first and second moments of a mask (h, w), whose perimeter `biometry` gives as HC.

    Raises ValueError for a volume, and for a mask that is empty or no wider than a pixel.
    """
    if mask.ndim != 2:
        raise ValueError(f"an ellipse is of an image, and this mask has {mask.ndim} dimensions: give one plane of it")
    y, x = (index * step for index, step in zip(np.nonzero(mask.array), mask.spacing_mm, strict=True))
    if len(x) < 2:
        raise ValueError(f"the mask has {len(x)} pixels: expected the area of a head")
    # an ellipse's variance along an axis is a quarter of that semi-axis squared
    variance, axes = np.linalg.eigh(np.cov([x, y], bias=True))
    if variance[0] < (min(mask.spacing_mm) / 2) ** 2:
        raise ValueError("the mask is too small for an ellipse: expected the area of a head")
    b, a = 2 * np.sqrt(variance)
    angle = math.atan2(axes[1, 1], axes[0, 1]) % math.pi
    return Ellipse(float(x.mean()), float(y.mean()), float(a), float(b), 0.0 if angle == math.pi else angle)
