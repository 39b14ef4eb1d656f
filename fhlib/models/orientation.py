"""One order and direction of axes for every scan: a network is no function of how a file stores them, but its numbers are.

Trained on scans whose axes are exchanged and flipped at random, a network outlines a head in each of the 48 orders, each a little
differently. So a cascade that locates heads reads every scan in one of them, which the scan itself says, and learns from scans in this
order: after as many steps its DSC is higher than in all 48.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fhlib.images.volume import Array, Volume


@dataclass(frozen=True)
class Turn:
    """`axes` of an array in their new order, and which of these are `flipped`."""

    axes: tuple[int, ...]
    flipped: tuple[int, ...]

    def of(self, volume: Volume) -> Volume:
        """The volume in its new order; every voxel keeps its position."""
        first = [0] * volume.ndim
        for axis in self.flipped:
            first[self.axes[axis]] = volume.shape[self.axes[axis]] - 1
        signs = np.ones(volume.ndim)
        signs[list(self.flipped)] = -1
        columns = np.array(volume.direction).reshape(volume.ndim, volume.ndim)[:, ::-1]  # in the order of array axes
        direction = (columns[:, list(self.axes)] * signs)[:, ::-1]
        return replace(
            volume,
            array=self.of_array(volume.array),
            spacing_mm=tuple(volume.spacing_mm[axis] for axis in self.axes),
            origin=volume.position(first),
            direction=tuple(direction.ravel().tolist()),
        )

    def of_array(self, array: Array) -> Array:
        """An array of the volume's axes in the new order."""
        return np.ascontiguousarray(np.flip(np.transpose(array, self.axes), self.flipped))

    def undo(self, array: Array) -> Array:
        """An array in the volume's own order again."""
        return np.transpose(np.flip(array, self.flipped), np.argsort(self.axes))


AS_IT_IS = {ndim: Turn(tuple(range(ndim)), ()) for ndim in (2, 3)}
"""The turn that changes nothing, by dimensions."""


def canonical(volume: Volume) -> Turn:
    """The turn that puts the longest side first and the shortest last, and more than half of the brightness in the first half of each.

    Sides of one length are ordered by how far the brightness spreads along them. What is alike in all of this, an empty scan for
    instance, stays as it is.
    """
    array, least = volume.array, float(volume.array.min())
    if float(array.max()) == least:
        return AS_IT_IS[array.ndim]
    profiles = []
    for axis, count in enumerate(array.shape):
        others = tuple(other for other in range(array.ndim) if other != axis)
        profiles.append(array.sum(others, dtype=np.float64) - least * (array.size / count))
    spreads, centres = zip(*map(_spread_and_centre, profiles), strict=True)
    axes = tuple(
        sorted(range(array.ndim), key=lambda axis: (-round(volume.size_mm[axis], 3), -round(spreads[axis], 6)))
    )
    return Turn(axes, tuple(place for place, axis in enumerate(axes) if centres[axis] > 1e-6))


def _spread_and_centre(profile: Array) -> tuple[float, float]:
    """Standard deviation and mean of where the brightness lies along an axis, from -1 at its first side to 1 at its last."""
    if not profile.sum():
        return 0.0, 0.0
    places = (2 * np.arange(profile.size) + 1) / profile.size - 1
    centre = float(np.average(places, weights=profile))
    return float(np.average((places - centre) ** 2, weights=profile)) ** 0.5, centre
