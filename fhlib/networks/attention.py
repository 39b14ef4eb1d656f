"""The attention module of the hybrid attention scheme (section 2.4, Fig. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fhlib.networks.blocks import convolution


class AttentionModule(nn.Module):
    """Weigh the channels of a feature map at every voxel.

    With F the input: P = conv1(F) shrinks to `width` channels; W = conv_k(conv_k(P)) (Eq. 3); A = softmax(W) over the channels
    (Eq. 4); T = P * A; the output is conv_k(concat(P, T)) with 2 `width` channels. No normalisation and no ReLU in between.
    The paper prints kernel 3 everywhere; the authors' code uses 5 at the deep levels, which the caller chooses.
    """

    def __init__(self, spatial_dims: int, in_channels: int, width: int, kernel: int, kind: str = "full") -> None:
        super().__init__()
        self.shrink = convolution(spatial_dims, in_channels, width, 1)
        self.weigh = nn.Sequential(
            convolution(spatial_dims, width, width, kernel, kind), convolution(spatial_dims, width, width, kernel, kind)
        )
        self.out = convolution(spatial_dims, 2 * width, 2 * width, kernel, kind)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(b, in, ...) -> output (b, 2 width, ...), attention A (b, width, ...)."""
        shrunk = self.shrink(features)  # P
        attention = softmax_of_channels(self.weigh(shrunk))  # A
        refined = shrunk * attention  # T
        return self.out(torch.cat([shrunk, refined], dim=1)), attention


def softmax_of_channels(x: Tensor) -> Tensor:
    """Softmax of (b, c, ...) over c, in x's precision and memory format.

    `torch.softmax` sums in single precision either way, but on a GPU autocast would return it so, and with it all that comes after; over
    dim 1 it copies a channels-last map into the other format.
    """
    if x.stride(1) == 1:  # channels last
        return torch.softmax(x.movedim(1, -1), dim=-1, dtype=x.dtype).movedim(-1, 1)
    return torch.softmax(x, dim=1, dtype=x.dtype)
