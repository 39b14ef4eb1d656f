"""Auto-Context (section 2.5, Eq. 5): what one context level reads from the one before."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Grid = TypeVar("Grid", Tensor, NDArray[np.float32])


def join(image: Grid, probability: Grid | None) -> Grid:
    """J of Eq. 5: element-wise sum of the image and the head's probability of the level before (None: level 0, constant 0).

    Tensors or arrays of one shape.
    """
    return image if probability is None else image + probability


def head_probability(logits: Tensor) -> Tensor:
    """(b, 2, ...) logits -> (b, 1, ...) probability of the head, in single precision."""
    return torch.softmax(logits.float(), dim=1)[:, 1:]
