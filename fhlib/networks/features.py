"""What one context level of a segmentor saw and did: its image, its probability, and the feature maps around each attention module."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fhlib.files import require_free_space
from fhlib.images.volume import Volume
from fhlib.networks.attention import AttentionModule
from fhlib.networks.usegnet import DecoderStage

Maps = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Features:
    """What one context level saw and did, at the network's resolution.

    `attention` and `shrunk`: the paper's module name (`SAM-1` ... `UAM-3`) -> A of Eq. 4 and P of Eq. 3, each (channels, d', h', w') in
    half precision at the module's own size; the network's padding is at the far end of each axis. T = P A is not stored. Both take
    2 bytes x channels x voxels x 2 (1 + 1/8 + 1/64) for the six modules: 0.86 GB at the paper's 160 x 104 x 176 voxels and 32 channels.
    """

    image: Volume
    probability: Volume
    attention: Maps
    shrunk: Maps = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of all maps, in memory or memory-mapped."""
        return sum(values.nbytes for maps in (self.attention, self.shrunk) for values in maps.values())


def on_image_grid(values: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Repeat a module's map (1/4, 1/2 or full size of the padded image) to the image's grid, without interpolation.

    The network pads at the end of each axis to a multiple of 8; what lies in the padding is cut off. Raises ValueError for a map that is
    no whole fraction of the padded size.
    """
    for axis, factor in enumerate(repeats(values.shape, shape)):
        values = np.repeat(values, factor, axis=axis) if factor > 1 else values
    return values[tuple(slice(0, size) for size in shape)]


def repeats(shape: Sequence[int], image_shape: Sequence[int]) -> tuple[int, ...]:
    """How many image voxels one voxel of a map spans along each axis; raises ValueError as `on_image_grid`."""
    padded = [-(-size // 8) * 8 for size in image_shape]
    if len(shape) != len(image_shape) or any(whole % part for whole, part in zip(padded, shape, strict=True)):
        raise ValueError(
            f"a map of shape {tuple(shape)} is no whole fraction of {tuple(padded)}, "
            f"the padded size of image {tuple(image_shape)}"
        )
    return tuple(whole // part for whole, part in zip(padded, shape, strict=True))


def attention_modules(net: nn.Module) -> dict[str, AttentionModule]:
    """The attention modules of a USegNet by the paper's names, in the order in which they run; empty for other networks."""
    found = {}
    for stage in getattr(net, "decoder", ()):
        if isinstance(stage, DecoderStage):
            pairs = (("S", stage.skip_attention), ("U", stage.path_attention))
            found.update({f"{kind}{stage.name}": module for kind, module in pairs if module is not None})
    return found


@contextmanager
def recording(
    net: nn.Module, folder: Path | None = None, seen: Callable[[str], None] | None = None
) -> Iterator[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
    """Collect A and P of each attention module while a network reads one image: two mappings, filled module by module.

    The maps are in half precision. Call `net(x, with_attention=False)`, so that no copy in full precision outlives its module.

    Args:
        net: a USegNet.
        folder: where the maps lie in nameless files, memory-mapped; they vanish with the arrays.
        seen: called with a module's name when its maps are there.

    Raises OSError where the disk is too small.
    """
    attention: dict[str, NDArray[Any]] = {}
    shrunk: dict[str, NDArray[Any]] = {}

    def keep_shrunk(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        shrunk[name] = _half(output, folder)

    def keep_attention(name: str, _module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        attention[name] = _half(output[1], folder)
        if seen is not None:
            seen(name)

    with ExitStack() as hooks:
        for name, module in attention_modules(net).items():
            hooks.callback(module.shrink.register_forward_hook(partial(keep_shrunk, name)).remove)
            hooks.callback(module.register_forward_hook(partial(keep_attention, name)).remove)
        yield attention, shrunk


def _half(maps: Tensor, folder: Path | None) -> NDArray[Any]:
    """The first of a batch as float16 (values beyond its range at its limits), in memory or mapped."""
    limit = float(np.finfo(np.float16).max)
    values = maps[0].detach().float().clamp(-limit, limit).half().cpu().numpy()
    if folder is None:
        return values
    require_free_space(folder, values.nbytes)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        mapped = np.memmap(file, dtype=np.float16, mode="w+", shape=values.shape)
    mapped[:] = values
    return mapped
