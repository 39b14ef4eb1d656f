"""Feature maps of attention modules (Eq. 3 and 4) reduced to one number a voxel: a channel, or a summary of channels.

A map of the paper's size has 94 million values. It is read in slabs along its first spatial axis, so that a memory-mapped
one never stands in memory whole. Only a slab at a time is in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.images.volume import Mask, Volume
from fhlib.networks.features import Features, repeats

ATTENTION_MAP = "viridis"
SIGNED_MAP = "coolwarm"
SUMMARIES = ("rest", "maximum", "entropy", "mean")
DECIDED = 0.99
"""Weight from which one channel has decided a voxel."""
SMALLEST = 1e-7
"""Weights below are not told from 0: half precision ends there."""
SLAB_VALUES = 4_000_000
PARTS = {"P": "before: P", "A": "attention: A", "T": "after: T = P A"}
Slab = NDArray[np.float32]
Reference = Volume | NDArray[Any] | None


def slabs(features: Features, module: str, part: str = "A") -> Iterator[tuple[slice, Slab]]:
    """One module's map as pairs of a slice of the first spatial axis and that slab, (channels, slab, ...) in float32.

    Args:
        features: of one scan by one model.
        module: such as `SAM-3`.
        part: P (Eq. 3), A (Eq. 4) or T = P A.

    Raises:
        KeyError: the segmentor does not have this module, or its P was not kept.
    """
    sources = {"P": [features.shrunk], "A": [features.attention], "T": [features.attention, features.shrunk]}[part]
    factors = [maps[module] for maps in sources]
    length = factors[0].shape[1]
    thickness = max(1, SLAB_VALUES // (factors[0].size // length))
    for start in range(0, length, thickness):
        place = slice(start, start + thickness)
        slab = np.asarray(factors[0][:, place], np.float32)
        for other in factors[1:]:
            slab = slab * np.asarray(other[:, place], np.float32)
        yield place, slab


def summarise(weights: NDArray[Any], summary: str | int) -> NDArray[np.float32]:
    """Reduce a map (channels, ...) over its channels, or take one channel by number (0-based, an int or digits).

    - maximum: of an attention map the weight of the strongest channel, 1 / channels (no preference) to 1;
    - rest: what the strongest channel leaves to all others, as a share of the sum; on a logarithmic scale it still tells
      places apart where a saturated softmax makes the maximum 1 everywhere;
    - top-k (`top-3`): sum of the k largest weights;
    - entropy: of the weights over channels, divided by its maximum ln(channels); 0 one channel alone, 1 no preference;
    - mean: 1 / channels everywhere, by the softmax of Eq. 4. A check, and the reason why the others are needed.

    Features P and T are signed. Their summaries are those of the absolute values, the entropy that of their shares of the
    sum. A single channel keeps its sign.

    Raises ValueError for an unknown summary, IndexError for a channel that is not there.
    """
    if str(summary).isdigit():
        if int(summary) >= len(weights):
            raise IndexError(f"channel {summary} was asked for, the map has channels 0 to {len(weights) - 1}")
        return np.asarray(weights[int(summary)], dtype=np.float32)
    sizes = np.abs(np.asarray(weights, dtype=np.float32))
    if summary == "maximum":
        return np.asarray(sizes.max(axis=0))
    if summary == "rest":
        return _rest(sizes)
    if summary == "mean":
        return np.asarray(sizes.mean(axis=0))
    if summary == "entropy":
        total = np.maximum(sizes.sum(axis=0), 1e-12)
        spread = (sizes * np.log(np.maximum(sizes, 1e-12))).sum(axis=0)  # ln of a share is ln(size) - ln(total)
        return np.asarray((np.log(total) - spread / total) / np.log(max(len(sizes), 2)), dtype=np.float32)
    kind, _, count = str(summary).partition("-")
    if kind == "top" and count.isdigit() and 1 <= int(count) <= len(sizes):
        return np.asarray(np.partition(sizes, len(sizes) - int(count), axis=0)[-int(count) :].sum(axis=0))
    expected = f"{', '.join(SUMMARIES)}, top-1 to top-{len(sizes)} or a channel's number"
    raise ValueError(f"summary {summary!r} is not known; expected {expected}")


def _rest(sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of all channels but the largest. The largest is left out of the sum, not taken off it: small shares keep their digits."""
    others = sizes.copy()
    np.put_along_axis(others, sizes.argmax(axis=0)[None], 0.0, axis=0)
    return np.asarray(others.sum(axis=0) / np.maximum(sizes.sum(axis=0), 1e-12))


def summary_words(summary: str) -> str:
    """A summary in words, as titles have it."""
    kind, _, count = summary.partition("-")
    if kind == "top":
        return f"sum of the {count} largest"
    words = {
        "rest": "weight outside the strongest channel",
        "maximum": "strongest channel",
        "entropy": "entropy over channels (0 one channel, 1 no preference)",
    }
    return f"channel {summary}" if summary.isdigit() else words.get(summary, f"{summary} over channels")


def summary_map(
    features: Features,
    module: str,
    summary: str | int,
    part: str = "A",
    seen: Callable[[float], None] | None = None,
) -> NDArray[np.float16]:
    """`summarise` of a whole module, slab by slab, at the module's own size in half precision.

    Args:
        features: of one scan by one model.
        module: such as `SAM-3`.
        summary: as in `summarise`.
        part: P, A or T.
        seen: is called with the share that is done (0 to 1).
    """
    size = (features.shrunk if part == "P" else features.attention)[module].shape[1]
    kept = []
    for place, slab in slabs(features, module, part):
        kept.append(summarise(slab, summary).astype(np.float16))
        if seen is not None:
            seen(min(place.stop, size) / size)
    return np.concatenate(kept)


def without_padding(values: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """A module's map without the voxels that hold nothing of an image of `shape`: the network's padding."""
    factors = repeats(values.shape, shape)
    return values[tuple(slice(-(-size // factor)) for size, factor in zip(shape, factors, strict=True))]


def boundary_channel(attention: NDArray[Any], reference: NDArray[np.bool_]) -> int:
    """Channel whose mean weight on the boundary of `reference` (image grid) exceeds that inside and that outside the most.

    The boundary is one voxel on either side of the outline. Of the two other means the larger counts, so that a channel
    which fills the head does not win. A difference, not a ratio: the channel that wins must carry weight. 0 where the
    reference has no boundary.
    """
    boundary = ndimage.binary_dilation(reference) & ~ndimage.binary_erosion(reference)
    on, inside = (_any_in_block(mask, attention.shape[1:]) for mask in (boundary, reference))
    others = [place for place in (inside & ~on, ~inside & ~on) if place.any()]
    if not on.any() or not others:
        return 0
    return int(np.argmax([_surplus(np.asarray(channel, np.float32), on, others) for channel in attention]))


def _any_in_block(mask: NDArray[np.bool_], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Voxels of a map of `shape` that hold any voxel of a mask on the image's grid."""
    factors = repeats(shape, mask.shape)
    padded = np.pad(mask, [(0, f * n - m) for f, n, m in zip(factors, shape, mask.shape, strict=True)])
    pairs = np.stack([shape, factors], axis=1)
    blocks = padded.reshape(pairs.ravel())  # (n, f, n, f, ...)
    return np.asarray(blocks.any(axis=tuple(range(1, blocks.ndim, 2))))


def _surplus(channel: NDArray[np.float32], on: NDArray[np.bool_], others: Sequence[NDArray[np.bool_]]) -> float:
    return float(channel[on].mean()) - max(float(channel[place].mean()) for place in others)


def colour_limits(values: NDArray[Any], signed: bool = False) -> tuple[float, float]:
    """1st and 99.5th percentile of a subsample; symmetric about 0 for signed values.

    A constant map has a scale from 0 to its value. So it is drawn in one colour: the highest, or where it is 0 the lowest.
    """
    sample = np.asarray(values[tuple(slice(None, None, max(1, size // 48)) for size in values.shape)], np.float32)
    if signed:
        top = max(float(np.percentile(np.abs(sample), 99.5)), 1e-6)
        return -top, top
    low, high = map(float, np.percentile(sample, (1, 99.5)))
    constant = high - low < 1e-3 * max(abs(high), 1e-6)
    return (min(0.0, low), max(high, 1e-6)) if constant else (low, high)


def log_limits(values: NDArray[Any]) -> tuple[float, float]:
    """Limits of a logarithmic scale: 1st and 99.5th percentile, at least a factor of ten, within `SMALLEST` to 1."""
    low, high = map(float, np.percentile(np.asarray(values, np.float32), (1, 99.5)))
    low = min(max(low, SMALLEST), 0.1)
    return low, max(high, 10 * low)


def percent_of(found: NDArray[np.bool_]) -> str:
    """A share of voxels in words; never 0 or 100 % where it is not."""
    share = float(found.mean())
    if 0 < share < 0.005:
        return "< 1 % of voxels"
    if 0.995 <= share < 1:
        return "> 99 % of voxels"
    return f"{100 * share:.0f} % of voxels"


def mask_of(reference: Reference) -> Mask | None:
    """The true mask as a boolean array, None where it is not known."""
    return None if reference is None else np.asarray(getattr(reference, "array", reference)) > 0
