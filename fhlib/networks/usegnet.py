"""USegNet, the paper's 3D encoder-decoder (section 2.3, Fig. 2a), with deep supervision and hybrid attention as arguments.

Channels and kernels are those of the authors' published graph. Every channel count scales with `width` (32 in the paper).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fhlib.networks.attention import AttentionModule
from fhlib.networks.blocks import MAX_POOL, EncoderBlock, Upsampling, convolution
from fhlib.variants import paper_number

CLASSES = 2
# (kernel, channels in widths) at encoder levels 1, 2, 3 and the bottom
ENCODER_PLAN = ((3, 1), (3, 2), (5, 2), (5, 2))
# (encoder level, kernel, channels in widths) of the deconvolutions, deepest first
DECODER_PLAN = ((3, 5, 2), (2, 5, 2), (1, 3, 1))
# Kernels of the attention modules in the authors' code; the paper prints 3 for all of them
SKIP_ATTENTION_KERNEL = {1: 3, 2: 3, 3: 5}
PATH_ATTENTION_KERNEL = {1: 3, 2: 5, 3: 5}
SIDE_BRANCH_LEVELS = (2, 3)


class SegmentorOutput(NamedTuple):
    """What a segmentor gives for x of shape (b, 1, d, h, w).

    `logits`: (b, 2, d, h, w) at x's size. `side_logits`: finest first, at 1/2 and 1/4 of the padded size, empty without deep
    supervision. `attention`: module name (`SAM-1` ... `UAM-3`, the paper's numbers) -> A of Eq. 4, (b, width, ...) at the module's size.
    """

    logits: Tensor
    side_logits: tuple[Tensor, ...]
    attention: dict[str, Tensor]


class DecoderStage(nn.Module):
    """Deconvolution, concatenation with the skip, and where present SAM, UAM and a side branch.

    Without its UAM a stage is deconvolution and concatenation only, and the side branch hangs on the concatenation (section 3.2).
    """

    def __init__(
        self,
        spatial_dims: int,
        width: int,
        level: int,
        in_channels: int,
        out_channels: int,
        skip_channels: int,
        kernel: int,
        skip_attention: int | None,
        path_attention: int | None,
        side_branch: bool,
        kind: str,
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        self.name = f"AM-{paper_number(level)}"
        self.activation_checkpointing = activation_checkpointing
        self.up = Upsampling(spatial_dims, in_channels, out_channels, kernel)
        self.skip_attention = (
            AttentionModule(spatial_dims, skip_channels, width, skip_attention, kind) if skip_attention else None
        )
        channels = out_channels + (2 * width if skip_attention else skip_channels)
        self.path_attention = (
            AttentionModule(spatial_dims, channels, width, path_attention, kind) if path_attention else None
        )
        self.out_channels = 2 * width if path_attention else channels
        self.side = convolution(spatial_dims, self.out_channels, CLASSES, 1) if side_branch else None

    def forward(self, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        attention = {}
        x = self._run(self.up, x)  # twice the size
        if skip is not None:
            if self.skip_attention is not None:
                skip, attention[f"S{self.name}"] = self._run(self.skip_attention, skip)
            x = torch.cat([x, skip], dim=1)
        if self.path_attention is not None:
            x, attention[f"U{self.name}"] = self._run(self.path_attention, x)
        return x, self.side(x) if self.side is not None else None, attention

    def _run(self, block: nn.Module, x: Tensor) -> Any:
        return _run(block, x, self.activation_checkpointing)


class USegNet(nn.Module):
    """Whole volume in, logits of background and head out; any size (padded with zeros to a multiple of 8, cropped back).

    `skip_attention` and `path_attention` name the encoder levels (1 full size, 2 half, 3 quarter) that carry a SAM or UAM.
    `attention_kernel` overrides the kernels of the authors' code (3: as the paper prints). Pooling takes the raw encoder features;
    a SAM touches the skip only. `skips=False` is 3D-DeconvNet, the same layout without skip connections (section 3.2).

    Beyond the paper: `convolution_kind` (`fhlib.networks.blocks.convolution`) for all but the deconvolutions, and
    `activation_checkpointing` (the paper's [42]): in training no activation within a convolution layer, a deconvolution or an
    attention module is kept; the backward pass computes it again.
    """

    def __init__(
        self,
        width: int = 32,
        spatial_dims: int = 3,
        deep_supervision: bool = False,
        skip_attention: Sequence[int] = (),
        path_attention: Sequence[int] = (),
        skips: bool = True,
        attention_kernel: int | None = None,
        convolution_kind: str = "full",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.spatial_dims, self.skips, self.activation_checkpointing = spatial_dims, skips, activation_checkpointing
        self.pool = MAX_POOL[spatial_dims](2)
        channels = [1, *(width * multiple for _, multiple in ENCODER_PLAN)]
        self.encoder = nn.ModuleList(
            EncoderBlock(spatial_dims, channels[i], channels[i + 1], kernel, convolution_kind)
            for i, (kernel, _) in enumerate(ENCODER_PLAN)
        )
        self.decoder = nn.ModuleList()
        in_channels = channels[-1]
        for level, kernel, multiple in DECODER_PLAN:
            stage = DecoderStage(
                spatial_dims,
                width,
                level,
                in_channels,
                width * multiple,
                channels[level] if skips else 0,
                kernel,
                (attention_kernel or SKIP_ATTENTION_KERNEL[level]) if level in skip_attention else None,
                (attention_kernel or PATH_ATTENTION_KERNEL[level]) if level in path_attention else None,
                deep_supervision and level in SIDE_BRANCH_LEVELS,
                convolution_kind,
                activation_checkpointing,
            )
            self.decoder.append(stage)
            in_channels = stage.out_channels
        self.head = convolution(spatial_dims, in_channels, CLASSES, 1)

    def forward(self, x: Tensor, with_attention: bool = True) -> SegmentorOutput:
        """x: (b, 1, d, h, w) or (b, 1, h, w).

        `with_attention=False` drops the maps at once, which saves memory in prediction.
        """
        size = x.shape[2:]
        x = pad_input(x)
        skips: list[Tensor] = []
        for block in self.encoder[:-1]:
            skips.append(self._encode(block, x))
            x = self.pool(skips[-1])  # half the size
        x = self._encode(self.encoder[-1], x)
        sides: list[Tensor] = []
        attention: dict[str, Tensor] = {}
        for stage in self.decoder:
            skip = skips.pop()
            x, side, maps = stage(x, skip if self.skips else None)
            sides += [side] if side is not None else []
            attention.update(maps if with_attention else {})
        logits = self.head(x)[(..., *(slice(n) for n in size))]
        return SegmentorOutput(logits, tuple(reversed(sides)), attention)

    def _encode(self, block: nn.Module, x: Tensor) -> Tensor:
        for layer in block.children():
            x = _run(layer, x, self.activation_checkpointing)
        return x


def _run(block: nn.Module, x: Tensor, activation_checkpointing: bool) -> Any:
    """`block(x)`; with checkpointing only x is kept for the backward pass, which computes the block again."""
    if activation_checkpointing and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False)
    return block(x)


def pad_input(x: Tensor, multiple: int = 8) -> Tensor:
    """Zeros at the far end of each spatial axis; a multiple of 8, so that three poolings divide evenly."""
    missing = [-n % multiple for n in x.shape[2:]]
    if not any(missing):
        return x
    return F.pad(x, [amount for n in reversed(missing) for amount in (0, n)])
