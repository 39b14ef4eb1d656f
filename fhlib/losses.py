"""The composite loss of a deeply supervised network (Eq. 2)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fhlib.networks.usegnet import SegmentorOutput, pad_to_multiple_of_8

_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


def composite_loss(output: SegmentorOutput, label: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Sum of the cross-entropies of the main output and of each side branch, with equal weights.

    `label`: (b, d, h, w) or (b, h, w) of 0 and 1 at the input's size. Side branches are compared with the label downscaled to
    their size (S_m of Eq. 2). Returns the loss and its parts by name. The L2 term of Eq. 2 is the optimiser's weight decay, since
    its lambda is not given.
    """
    parts = {"main_loss": F.cross_entropy(output.logits.float(), label.long())}
    for logits, factor in zip(output.side_logits, (2, 4), strict=False):
        parts[f"side_{factor}_loss"] = F.cross_entropy(logits.float(), downscale_label(label, factor))
    total = sum(parts.values(), start=parts["main_loss"].new_zeros(()))
    return total, {name: float(part.detach()) for name, part in parts.items()}


def downscale_label(label: Tensor, factor: int) -> Tensor:
    """Majority vote over each block of `factor` voxels a side; a tie counts as head.

    (b, ...) of 0 and 1 -> (b, ... / factor), after padding with background to a multiple of 8 as the network pads its input. The
    authors' code interpolates and truncates instead, which erodes the label; a vote keeps it a label and unbiased.
    """
    padded = pad_to_multiple_of_8(label.float().unsqueeze(1))
    return (_POOL[label.dim() - 1](padded, factor) >= 0.5).long().squeeze(1)
