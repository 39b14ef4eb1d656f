"""Auto-Context (section 2.5, Eq. 5): trained context levels in a row turn an image into the head's probability.

A cascade's second level reads either the whole volume again, as in the paper, or the box around the head that the first level found, at a
finer resolution: locate, then outline. In both it reads the sum of the image and the first level's probability (`join`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from fhlib.images.grids import Crop, crop_to_box, resample
from fhlib.images.volume import Mask, Volume
from fhlib.models.boxes import REGION_ENLARGED, Edges, Faces, enlarged, faces_of, on_grid, overlap
from fhlib.models.device import Execution, inference
from fhlib.models.inputs import at_original_resolution, box_to_network_grid, flips_of, to_network_grid
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.features import Features, recording
from fhlib.variants import VARIANTS

LOCATED = 0.5
LOCATING_COPIES = 4
"""So many flipped copies locate the head. Over 100 heads that no training had seen the mask's DSC was 88.5 % with one, 89.3 with four,
88.7 with eight, and 90.9 in the true box."""
SAME_BOX = 0.8
"""Overlap from which on two boxes are one to the last level: about 7 % of a side."""
PATCH_OVERLAP = 0.5
SLICES_AT_ONCE = 8

Grid = TypeVar("Grid", Tensor, NDArray[np.float32])


@dataclass(frozen=True)
class Reading:
    """What the last levels of a cascade read of a volume: `image` on their grid, in [0, 1].

    Of a cascade that reads boxes it is that of a box: `context`, the first level's probability there, and `crop`, which box it was.
    """

    image: Volume
    context: Volume | None = None
    crop: Crop | None = None

    def cut(self, mask: Mask) -> Faces | None:
        """Where to look instead, in the volume's voxels, if a mask on the image's grid ends at a side of the box that is none of the
        volume's: the head may reach beyond, and half as far again is taken at that side. None where it does not end there.
        """
        faces = faces_of(mask)
        if self.crop is None or faces is None:
            return None
        sides = zip(self.crop.box, self.crop.original.shape, strict=True)
        inner = np.array([(start > 0, stop < count) for (start, stop), count in sides]).T
        ends = inner & np.stack([faces[0] < 1, faces[1] > np.array(mask.shape) - 1])
        beyond = faces + ends * np.array([[-0.5], [0.5]]) * (faces[1] - faces[0])
        return on_grid(beyond, self.image, self.crop.original) if ends.any() else None


class Cascade:
    """A variant's trained context levels, placed on a device.

    `parameters` are those of the last level. `slices`: a 2D network that reads volumes slice by slice. `reads_box`: the last level reads
    the box around the head that the level before found.
    """

    def __init__(
        self,
        levels: Iterable[nn.Module],
        parameters: SegmentorParameters,
        execution: Execution | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.parameters = parameters
        self.execution = execution or parameters.execution
        self.device = (accelerator or self.execution.accelerator()).device
        self.levels = [self.execution.place(net, self.device) for net in levels]
        self.patch = parameters.patch
        self.slices = reads_slices(parameters.variant, parameters.spatial_dims)
        self.reads_box = VARIANTS[parameters.variant].reads_box and len(self.levels) > 1

    def read(self, volume: Volume) -> Volume:
        """What the first level reads of a volume: on its own grid, or in slices of the original resolution."""
        return at_original_resolution(volume) if self.slices else to_network_grid(volume, self.parameters.preparation)

    def reading(self, volume: Volume, around: Faces | None = None) -> Reading:
        """What `probability` takes of a volume, with its context.

        Where the last level reads a box, the first one locates the head in the whole volume and looks again at the region around it: with
        `longest_voxels` every head is about as large to it there. The box of that second mask, enlarged by `box_enlarged`, is read. Where
        nothing is found the box is the whole volume.

        Args:
            volume: in its own geometry.
            around: where the head is known to lie, in the volume's voxels: nothing is located then.
        """
        if not self.reads_box:
            return Reading(self.read(volume))
        region, probability = self.locate(volume, around)
        faces = faces_of(probability.array >= LOCATED)
        if around is not None:
            faces = on_grid(around, volume, region)
        elif faces is not None:
            faces = on_grid(faces, probability, region)
        edges: Edges = tuple((0, count) for count in region.shape)
        if faces is not None:
            edges = enlarged(faces, self.parameters.preparation.box_enlarged, region.shape)
        box, _ = crop_to_box(region, edges)
        whole = on_grid(np.array(edges, float).T, region, volume).T.round().astype(int).tolist()
        _, crop = crop_to_box(volume, [(start, stop) for start, stop in whole])
        image = box_to_network_grid(box, self.parameters.preparation)
        return Reading(image, resample(probability, like=image), crop)

    def elsewhere(self, reading: Reading, mask: Mask) -> Faces | None:
        """Where to look instead of the box that was read, in the volume's voxels; None where the box is right, or nothing was found.

        A box is wrong where the mask is cut by it, and where the mask's own box, enlarged as ever, is another one: the first level, which
        is coarse, was then too generous or too mean.

        Args:
            reading: what was read.
            mask: what the last level found there, on the reading's grid.
        """
        beyond, faces = reading.cut(mask), faces_of(mask)
        if beyond is not None or faces is None or reading.crop is None:
            return beyond
        around = on_grid(faces, reading.image, reading.crop.original)
        wanted = enlarged(around, self.parameters.preparation.box_enlarged, reading.crop.original.shape)
        return around if overlap(wanted, reading.crop.box) < SAME_BOX else None

    def locate(self, volume: Volume, around: Faces | None = None) -> tuple[Volume, Volume]:
        """The region around the head, cut from the volume in whole voxels, and the first level's probability there, on its own grid.

        Where one of its two looks finds nothing it is the whole volume. `around`: as in `reading`.
        """
        probability = self._located(self.read(volume))
        if around is None:
            faces = faces_of(probability.array >= LOCATED)
            if faces is None:
                return volume, probability
            around = on_grid(faces, probability, volume)
        edges = enlarged(around, REGION_ENLARGED, volume.shape)
        if edges == tuple((0, count) for count in volume.shape):
            return volume, probability
        region, _ = crop_to_box(volume, edges)
        closer = self._located(self.read(region))
        return (region, closer) if (closer.array >= LOCATED).any() else (volume, probability)

    def _located(self, image: Volume) -> Volume:
        """The first level's probability, the mean over flipped copies: small heads in wide views are missed less often."""
        copies = [
            np.flip(self.probability(np.flip(image.array, axes).copy(), upto=1), axes)
            for axes in flips_of(image.ndim)[:LOCATING_COPIES]
        ]
        return image.with_array(np.mean(copies, axis=0))

    def probability(
        self, image: NDArray[np.floating[Any]], upto: int | None = None, context: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Head probability (0 to 1) of a prepared image (d, h, w) or (h, w).

        Args:
            image: what `read` gives; of a cascade that reads boxes what `reading` gives.
            upto: how many of the levels to run; all without it.
            context: probability that the first of these levels reads, where it is not level 1. With it a cascade that reads boxes runs its
                last level alone.

        Raises ValueError where the last level reads boxes and no context is given: it has another grid than the first.
        """
        x, probability = self._tensor(image), None if context is None else self._tensor(context)
        levels = self.levels[:upto]
        if self.reads_box and len(levels) == len(self.levels):
            if context is None:
                raise ValueError(f"{self.parameters.variant} reads a box of a volume: give what `reading` gives")
            levels = levels[-1:]
        for net in levels:
            with inference(net), self.execution.autocast(self.device):
                probability = head_probability(self._logits(net, join(x, probability)))
        assert probability is not None
        return probability[0, 0].cpu().numpy()

    def features(
        self,
        volume: Volume,
        level: int = -1,
        folder: Path | None = None,
        seen: Callable[[str], None] | None = None,
    ) -> Features:
        """Probability and feature maps (Eq. 3 and 4) of one context level. Patches and slices have no one map, and give none.

        Args:
            volume: in its own geometry.
            level: index into the levels; -1 is the last.
            folder: where the maps are memory-mapped; without it they stay in memory.
            seen: called with each attention module's name.
        """
        index = range(len(self.levels))[level]
        if self.reads_box and index == len(self.levels) - 1:
            read = self.reading(volume)
            assert read.context is not None
            return self._features(read.image, self._tensor(read.context.array), index, folder, seen)
        image = self.read(volume)
        if self.slices or self.patch is not None:
            return Features(image, image.with_array(self.probability(image.array, upto=index + 1)), {})
        before = self._tensor(self.probability(image.array, upto=index)) if index else None
        return self._features(image, before, index, folder, seen)

    def _features(
        self, image: Volume, before: Tensor | None, index: int, folder: Path | None, seen: Callable[[str], None] | None
    ) -> Features:
        x = self.execution.place(join(self._tensor(image.array), before), self.device)
        net = self.levels[index]
        with inference(net), self.execution.autocast(self.device), recording(net, folder, seen) as (attention, shrunk):
            output = net(x, with_attention=False)
        probability = head_probability(output.logits)[0, 0].cpu().numpy()
        return Features(image, image.with_array(probability), attention, shrunk)

    def _tensor(self, array: NDArray[np.floating[Any]]) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)[None, None]

    def _logits(self, net: nn.Module, x: Tensor) -> Tensor:
        forward = partial(net, with_attention=False)
        if self.slices:
            axis = 2 + slice_axis(x.shape[2:])
            stack = x[0].movedim(axis - 1, 0).split(SLICES_AT_ONCE)
            logits = torch.cat([forward(self.execution.place(part, self.device)).logits for part in stack])
            return logits.movedim(0, axis - 1)[None]
        if self.patch is None:
            return forward(self.execution.place(x, self.device)).logits
        from monai.inferers import sliding_window_inference  # seconds to import, and only patches need it

        roi = (self.patch,) * (x.dim() - 2)
        stitched = sliding_window_inference(x, roi, 1, lambda part: forward(part).logits, overlap=PATCH_OVERLAP)
        return cast(Tensor, stitched)


def join(image: Grid, probability: Grid | None) -> Grid:
    """J of Eq. 5: element-wise sum of the image and the head's probability of the level before (None: level 0, constant 0).

    Tensors or arrays of one shape.
    """
    return image if probability is None else image + probability


def head_probability(logits: Tensor) -> Tensor:
    """(b, 2, ...) logits -> (b, 1, ...) probability of the head, in single precision."""
    return torch.softmax(logits.float(), dim=1)[:, 1:]


def reads_slices(variant: str, spatial_dims: int) -> bool:
    """Whether the variant is a 2D network on volumes."""
    return spatial_dims == 3 and VARIANTS[variant].spatial_dims == 2


def slice_axis(shape: Sequence[int]) -> int:
    """Axis across which a volume is cut into slices: its shortest.

    In the paper's box these are the planes of acquisition. The paper does not say which axis it took.
    """
    return int(np.argmin(shape))
