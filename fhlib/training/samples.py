"""Which cases a training step takes, and what of each: the augmented volume, a patch of it, or slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fhlib.models.cascade import join, reads_slices, slice_axis
from fhlib.models.parameters import SegmentorParameters
from fhlib.training.augment import Box, augment, drawn_symmetry, erased_box, head_box
from fhlib.training.boxes import BoxCases
from fhlib.training.looks import LookCases
from fhlib.training.losses import POOL, downscale_label
from fhlib.training.prepared import PreparedCases

SLICES_A_VOLUME = 8
SHARE_OF_THE_CARD = 0.5

Sample = tuple[Any, Any]
"""Image (1, ...) and label (...): arrays, or tensors of one device."""


class Sampler:
    """Draws the samples of each step. A step's number alone decides them, so that a training can be resumed."""

    def __init__(self, cases: PreparedCases, parameters: SegmentorParameters) -> None:
        self.cases, self.parameters = cases, parameters
        self.names = cases.cases("train")
        self.slices = reads_slices(parameters.variant, cases.spatial_dims)
        self.contexts: Mapping[str, NDArray[np.float32]] = {}

    def draw(self, step: int, rank: int = 0, processes: int = 1) -> tuple[list[str], Tensor, Tensor]:
        """The names of a step's cases, of all processes; images (b, 1, ...) and labels (b, ...) of one of them.

        The first steps, `half_resolution_share` of all, are at half the resolution.

        Args:
            step: its number, from 0.
            rank: of the process.
            processes: how many share the step.
        """
        training = self.parameters.training
        size = training.batch_size
        positions = range(step * size * processes, (step + 1) * size * processes)
        names = [self._case(position) for position in positions]

        samples: list[Sample] = []
        for place in range(rank * size, (rank + 1) * size):
            samples += self._samples(names[place], positions[place])
        images, labels = _batch(samples)
        if step < training.half_resolution_share * training.steps:
            images, labels = _halved(images, labels)
        return names, images, labels

    def _case(self, position: int) -> str:
        """Each epoch is a seeded permutation of the training cases."""
        epoch, place = divmod(position, len(self.names))
        order = np.random.default_rng([self.parameters.training.seed, epoch]).permutation(len(self.names))
        return self.names[int(order[place])]

    def _samples(self, name: str, position: int) -> list[Sample]:
        """What one case at this place in the sampler's order is trained on."""
        training, patch = self.parameters.training, self.parameters.patch
        rng = self._random(position)
        image, label, context = self._drawn(name, rng)

        samples = []
        for part in self._parts(image.shape, rng):
            before = None if context is None else np.asarray(context[part])
            x, y, before = augment(np.asarray(image[part], np.float32), np.asarray(label[part]), before, rng, training)
            joined = join(x[None], None if before is None else before[None])
            samples.append((joined, y) if patch is None else _random_patch(joined, y, patch, rng))
        return samples

    def whole(self, name: str) -> tuple[Any, Any, Any]:
        """Image, label and the context, if there is one, of a case as it is predicted."""
        if isinstance(self.cases, BoxCases):
            return self.cases.located(name)
        image, label = (np.asarray(read(name, original=self.slices)) for read in (self.cases.image, self.cases.label))
        return image, label, self.contexts.get(name)

    def _drawn(self, name: str, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        if isinstance(self.cases, BoxCases | LookCases):
            return self.cases.drawn(name, rng, self.parameters.training)
        image, label = (read(name, original=self.slices) for read in (self.cases.image, self.cases.label))
        return image, label, self.contexts.get(name)

    def _random(self, position: int) -> np.random.Generator:
        return np.random.default_rng([self.parameters.training.seed, 1, position])

    def _parts(self, shape: tuple[int, ...], rng: np.random.Generator) -> list[Any]:
        """The whole image, or some of its slices, as indices."""
        if not self.slices:
            return [...]
        axis = slice_axis(shape)
        places = rng.choice(shape[axis], min(SLICES_A_VOLUME, shape[axis]), replace=False)
        return [(slice(None),) * axis + (int(place),) for place in places]


class CardSampler(Sampler):
    """The same samples from cases that stay on the device: a GPU does not wait for the processor to flip and copy volumes."""

    def __init__(self, cases: PreparedCases, parameters: SegmentorParameters, device: torch.device) -> None:
        super().__init__(cases, parameters)
        self.device = device
        self.kept: dict[str, tuple[Tensor, Tensor, Box]] = {}

    @staticmethod
    def suits(cases: PreparedCases, parameters: SegmentorParameters, free_bytes: float) -> bool:
        """Whether it can: whole volumes, flips and erasing alone, and cases that fit into half of the free memory."""
        training = parameters.training
        changed = training.zoom_probability or training.intensity_probability or training.exports
        only_flips = not (changed or training.context_erasing_probability)
        whole = parameters.patch is None and not reads_slices(parameters.variant, cases.spatial_dims)
        whole = whole and not isinstance(cases, BoxCases | LookCases)
        floats = 2 if parameters.level > 1 else 1  # the image, and the probability of the level before
        needed = len(cases.cases("train")) * math.prod(cases.typical_shape) * (4 * floats + 1)
        return only_flips and whole and needed < SHARE_OF_THE_CARD * free_bytes

    def _samples(self, name: str, position: int) -> list[Sample]:
        training, rng = self.parameters.training, self._random(position)
        image, label, around = self._case_on_card(name)
        order, flipped = drawn_symmetry(label.ndim, rng, training)

        around = tuple(around[axis] for axis in order)
        image, label = (array.permute(order).flip(flipped) for array in (image, label))
        if rng.random() < training.erasing_probability:
            box = erased_box(_flipped(around, label.shape, flipped), label.shape, rng)
            image[box] = 0  # of the copy that flipping made
        return [(self._joined(image, name, order, flipped)[None], label)]

    def _joined(self, image: Tensor, name: str, order: tuple[int, ...], flipped: tuple[int, ...]) -> Tensor:
        context = self.contexts.get(name)
        if context is None:
            return image
        on_card = torch.as_tensor(np.asarray(context), device=self.device)
        return join(image, on_card.permute(order).flip(flipped))

    def _case_on_card(self, name: str) -> tuple[Tensor, Tensor, Box]:
        """Image, label and the head's bounding box of a case, brought over once."""
        if name not in self.kept:
            label = np.array(self.cases.label(name))
            image = torch.as_tensor(np.array(self.cases.image(name), np.float32), device=self.device)
            self.kept[name] = image, torch.as_tensor(label, device=self.device), head_box(label)
        return self.kept[name]


def sampler_for(cases: PreparedCases, parameters: SegmentorParameters, device: torch.device) -> Sampler:
    """`CardSampler` where a GPU trains and can keep the cases, else `Sampler`; both draw the same."""
    if device.type == "cuda" and CardSampler.suits(cases, parameters, torch.cuda.mem_get_info(device)[0]):
        return CardSampler(cases, parameters, device)
    return Sampler(cases, parameters)


def _flipped(box: Box, shape: tuple[int, ...], axes: tuple[int, ...]) -> Box:
    """Where a box of an array lies once the array is flipped along some axes."""
    turned = list(box)
    for axis in axes:
        turned[axis] = slice(shape[axis] - box[axis].stop, shape[axis] - box[axis].start)
    return tuple(turned)


def _batch(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Stack samples, padded with zeros at the far end to a common shape: (b, 1, ...) images and (b, ...) labels."""
    shape = np.max([label.shape for _, label in samples], axis=0)

    def pad(array: Any) -> Tensor:
        space = array.shape[-len(shape) :]
        missing = [int(n - m) for n, m in zip(shape, space, strict=True)]
        tensor = array if isinstance(array, Tensor) else torch.tensor(array)
        return F.pad(tensor, [amount for n in reversed(missing) for amount in (0, n)])

    return torch.stack([pad(image) for image, _ in samples]), torch.stack([pad(label) for _, label in samples])


def _halved(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of two voxels a side: means of images, majorities of labels. An odd last plane is left out."""
    even: list[Any] = [slice(0, n // 2 * 2) for n in labels.shape[1:]]
    images, labels = images[(..., *even)], labels[(..., *even)]
    small = POOL[labels.dim() - 1](images, 2)
    return small, downscale_label(labels, 2, small.shape[2:]).to(labels.dtype)


def _random_patch(image: NDArray[Any], label: NDArray[Any], edge: int, rng: np.random.Generator) -> Sample:
    corner = [int(rng.integers(max(n - edge, 0) + 1)) for n in label.shape]
    box = tuple(slice(start, start + edge) for start in corner)
    return np.ascontiguousarray(image[(slice(None), *box)]), np.ascontiguousarray(label[box])
