"""The composite loss of a deeply supervised network (Eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from torch import Tensor, nn
from torch.nn import functional as F

from fhlib.networks.usegnet import SegmentorOutput

POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


def composite_loss(
    output: SegmentorOutput, label: Tensor, dice_weight: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the cross-entropies of the main output and of each side branch, with equal weights.

    Side branches are compared with the label downscaled to their size (S_m of Eq. 2). The L2 term of Eq. 2 is the optimiser's weight
    decay, since its lambda is not given.

    Args:
        output: of the network.
        label: (b, d, h, w) or (b, h, w) of 0 and 1, at the input's size.
        dice_weight: beyond the paper, this times MONAI's soft Dice loss of the head is added to each cross-entropy. Alone that one
            hardly notices a head that takes a hundredth of the volume.

    Returns the loss and its parts by name, without gradients. They stay on the device: to read one waits for a GPU.
    """
    parts = {"main_loss": _loss(output.logits, label.long(), dice_weight)}
    for logits, factor in zip(output.side_logits, (2, 4), strict=False):
        parts[f"side_{factor}_loss"] = _loss(logits, downscale_label(label, factor, logits.shape[2:]), dice_weight)
    total = sum(parts.values(), start=parts["main_loss"].new_zeros(()))
    return total, {name: part.detach() for name, part in parts.items()}


def _loss(logits: Tensor, label: Tensor, dice_weight: float) -> Tensor:
    loss = F.cross_entropy(logits.float(), label)
    if dice_weight:
        # smoothed with a thousandth of the volume, a false head in a scan without one costs as much as a missed one
        loss = loss + dice_weight * _dice(label[0].numel() / 1000)(logits.float(), label.unsqueeze(1))
    return loss


@cache
def _dice(smooth: float) -> nn.Module:
    from monai.losses import DiceLoss  # seconds to import, and only some presets need it

    return DiceLoss(include_background=False, softmax=True, to_onehot_y=True, smooth_nr=smooth, smooth_dr=smooth)


def downscale_label(label: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Majority vote over each block of `factor` voxels a side; a tie counts as head.

    The authors' code interpolates and truncates instead, which erodes the label; a vote keeps it a label and unbiased.

    Args:
        label: (b, ...) of 0 and 1.
        factor: edge of a block, in voxels.
        size: of the result, (b, *size). The label is padded with background at the far end, as the network pads its input.
    """
    missing = [n * factor - m for n, m in zip(size, label.shape[1:], strict=True)]
    padded = F.pad(label.float().unsqueeze(1), [amount for n in reversed(missing) for amount in (0, n)])
    return (POOL[label.dim() - 1](padded, factor) >= 0.5).long().squeeze(1)
