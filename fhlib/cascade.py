"""Auto-Context (section 2.5, Eq. 5): what one context level reads from the one before."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Grid = TypeVar("Grid", Tensor, NDArray[np.float32])


def join(image: Grid, probability: Grid | None, how: str = "sum") -> Grid:
    """J of Eq. 5: element-wise sum of the image and the head's probability of the level before (None: level 0, constant 0).

    Tensors (b, 1, ...) or arrays (1, ...) of one shape. `how="concatenation"` puts them into two channels instead, beyond the paper.
    """
    if probability is None:
        return image
    if how == "sum":
        return image + probability
    if isinstance(image, Tensor):
        return torch.cat([image, probability], dim=1)
    return np.concatenate([image, probability])


def head_probability(logits: Tensor) -> Tensor:
    """(b, 2, ...) logits -> (b, 1, ...) probability of the head, in single precision."""
    return torch.softmax(logits.float(), dim=1)[:, 1:]
