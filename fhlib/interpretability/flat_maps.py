"""What a trained network loses when its attention maps (Eq. 4) may no longer tell one place from another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from fhlib.files import progress
from fhlib.measures.comparison import COMPARED, compare_variants
from fhlib.measures.metrics import dice
from fhlib.models.cascade import Cascade
from fhlib.networks.attention import softmax_of_channels
from fhlib.networks.features import attention_modules, repeats
from fhlib.training.prepared import PreparedCases

AS_TRAINED = "as trained"
KINDS = ("SAM", "UAM")


@contextmanager
def flat_attention(net: nn.Module, shape: Sequence[int], kinds: Collection[str] = KINDS) -> Iterator[None]:
    """Within, every map A of these kinds of modules of a USegNet is its channel's mean over the image: Eq. 4 without the place.

    `shape`: of the images that it will read, one at a time; their padding does not count in the mean. For prediction only. Raises
    ValueError for a kind other than SAM and UAM.
    """
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"no kind of attention module: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    with ExitStack() as hooks:
        for name, module in attention_modules(net).items():
            if name[:3] in kinds:
                hooks.callback(module.weigh.register_forward_hook(partial(_flatten, shape)).remove)
        yield


def _flatten(shape: Sequence[int], _module: nn.Module, _inputs: Any, weights: Tensor) -> Tensor:
    spans = zip(shape, repeats(weights.shape[2:], shape), strict=True)
    maps = softmax_of_channels(weights.float())
    for axis, (size, span) in enumerate(spans, start=2):
        maps = maps.narrow(axis, 0, -(-size // span))
    mean = maps.mean(tuple(range(2, weights.dim())), keepdim=True)
    return mean.log().expand_as(weights)  # in single precision; its softmax is the mean again, which sums to 1


def attention_use(cascade: Cascade, cases: PreparedCases, names: Sequence[str]) -> pd.DataFrame:
    """DSC (0 to 1, every voxel of 0.5 and more) of `names` at the network's resolution with flat SAM, flat UAM and both, in all context
    levels at once, against the network as it was trained.

    The rows of `compare_variants` (variant `flat SAM`, ...); none for a network without modules, or one that reads patches or slices,
    whose maps are not of the whole image. A small loss says that the network does without the map's dependence on place, not without
    its channels' weights; a large one that it has come to rely on it, not that it would do worse had it been trained without.
    """
    present = {name[:3] for net in cascade.levels for name in attention_modules(net)}
    if not present or cascade.slices or cascade.patch is not None:
        return pd.DataFrame(columns=list(COMPARED))
    trials: dict[str, tuple[str, ...]] = {AS_TRAINED: ()}
    trials |= {f"flat {kind}": (kind,) for kind in KINDS if kind in present}
    if len(present) > 1:
        trials["flat SAM and UAM"] = KINDS
    subject = cases.index.set_index("case")["subject"]
    rows = []
    for case in progress(names, "flat attention"):
        image, label = np.asarray(cases.image(case)), np.asarray(cases.label(case)) > 0
        for trial, kinds in trials.items():
            with ExitStack() as flat:
                for net in cascade.levels:
                    flat.enter_context(flat_attention(net, image.shape, kinds))
                found = cascade.probability(image) >= 0.5
            rows.append({"variant": trial, "case": case, "subject": subject[case], "dsc": dice(found, label)})
    return compare_variants(pd.DataFrame(rows), "dsc", AS_TRAINED)
