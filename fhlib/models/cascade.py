"""Auto-Context (section 2.5, Eq. 5): trained context levels in a row turn an image into the head's probability."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from fhlib.images.volume import Volume
from fhlib.models.device import Execution, inference
from fhlib.models.inputs import at_original_resolution, to_network_grid
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.features import Features, recording
from fhlib.variants import VARIANTS

PATCH_OVERLAP = 0.5
SLICES_AT_ONCE = 8

Grid = TypeVar("Grid", Tensor, NDArray[np.float32])


class Cascade:
    """A variant's trained context levels, placed on a device.

    `parameters` are those of the last level. `slices`: a 2D network that reads volumes slice by slice.
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

    def read(self, volume: Volume) -> Volume:
        """What the network reads of a volume: on its own grid, or in slices of the original resolution."""
        return at_original_resolution(volume) if self.slices else to_network_grid(volume, self.parameters.preparation)

    def probability(
        self, image: NDArray[np.floating[Any]], upto: int | None = None, context: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Head probability (0 to 1) of a prepared image (d, h, w) or (h, w).

        Args:
            image: what `read` gives.
            upto: how many of the levels to run; all without it.
            context: probability that the first of these levels reads, where it is not level 1.
        """
        x, probability = self._tensor(image), None if context is None else self._tensor(context)
        for net in self.levels[:upto]:
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
        image = self.read(volume)
        index = range(len(self.levels))[level]
        if self.slices or self.patch is not None:
            return Features(image, image.with_array(self.probability(image.array, upto=index + 1)), {})
        before = self._tensor(self.probability(image.array, upto=index)) if index else None
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
