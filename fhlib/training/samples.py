"""Which cases a training step takes, and what of each: the augmented volume, a patch of it, or slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fhlib.models.cascade import join, reads_slices, slice_axis
from fhlib.models.parameters import SegmentorParameters
from fhlib.training.augment import augment
from fhlib.training.prepared import PreparedCases

SLICES_A_VOLUME = 8

Sample = tuple[NDArray[Any], NDArray[Any]]
"""Image (1, ...) and label (...)."""


class Sampler:
    """Draws the samples of each step. A step's number alone decides them, so that a training can be resumed."""

    def __init__(self, cases: PreparedCases, parameters: SegmentorParameters) -> None:
        self.cases, self.parameters = cases, parameters
        self.names = cases.cases("train")
        self.slices = reads_slices(parameters.variant, cases.spatial_dims)
        self.contexts: Mapping[str, NDArray[np.float32]] = {}

    def draw(self, step: int, rank: int = 0, processes: int = 1) -> tuple[list[str], Tensor, Tensor]:
        """The names of a step's cases, of all processes; images (b, 1, ...) and labels (b, ...) of one of them.

        Args:
            step: its number, from 0.
            rank: of the process.
            processes: how many share the step.
        """
        size = self.parameters.training.batch_size
        positions = range(step * size * processes, (step + 1) * size * processes)
        names = [self._case(position) for position in positions]

        samples: list[Sample] = []
        for place in range(rank * size, (rank + 1) * size):
            samples += self._samples(names[place], positions[place])
        return names, *_batch(samples)

    def _case(self, position: int) -> str:
        """Each epoch is a seeded permutation of the training cases."""
        epoch, place = divmod(position, len(self.names))
        order = np.random.default_rng([self.parameters.training.seed, epoch]).permutation(len(self.names))
        return self.names[int(order[place])]

    def _samples(self, name: str, position: int) -> list[Sample]:
        """What one case at this place in the sampler's order is trained on."""
        training, patch = self.parameters.training, self.parameters.patch
        rng = np.random.default_rng([training.seed, 1, position])
        image = self.cases.image(name, original=self.slices)
        label = self.cases.label(name, original=self.slices)
        context = self.contexts.get(name)

        samples = []
        for part in self._parts(image.shape, rng):
            before = None if context is None else np.asarray(context[part])
            x, y, before = augment(np.asarray(image[part], np.float32), np.asarray(label[part]), before, rng, training)
            joined = join(x[None], None if before is None else before[None])
            samples.append((joined, y) if patch is None else _random_patch(joined, y, patch, rng))
        return samples

    def _parts(self, shape: tuple[int, ...], rng: np.random.Generator) -> list[Any]:
        """The whole image, or some of its slices, as indices."""
        if not self.slices:
            return [...]
        axis = slice_axis(shape)
        places = rng.choice(shape[axis], min(SLICES_A_VOLUME, shape[axis]), replace=False)
        return [(slice(None),) * axis + (int(place),) for place in places]


def _batch(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Stack samples, padded with zeros at the far end to a common shape: (b, 1, ...) images and (b, ...) labels."""
    shape = np.max([label.shape for _, label in samples], axis=0)

    def pad(array: NDArray[Any]) -> Tensor:
        space = array.shape[-len(shape) :]
        missing = [(0, 0)] * (array.ndim - len(shape)) + [(0, int(n - m)) for n, m in zip(shape, space, strict=True)]
        return torch.from_numpy(np.pad(array, missing))

    return torch.stack([pad(image) for image, _ in samples]), torch.stack([pad(label) for _, label in samples])


def _random_patch(image: NDArray[Any], label: NDArray[Any], edge: int, rng: np.random.Generator) -> Sample:
    corner = [int(rng.integers(max(n - edge, 0) + 1)) for n in label.shape]
    box = tuple(slice(start, start + edge) for start in corner)
    return np.ascontiguousarray(image[(slice(None), *box)]), np.ascontiguousarray(label[box])
