"""What a trained network loses when its attention maps (Eq. 4) may no longer tell one place from another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from torch import Tensor, nn

from fhlib.comparison import compare_variants
from fhlib.files import progress
from fhlib.inference import Segmentor
from fhlib.metrics import dice
from fhlib.networks.attention import AttentionModule, softmax_of_channels
from fhlib.prepare import PreparedCases

AS_TRAINED = "as trained"
KINDS = {"skip_attention": "SAM", "path_attention": "UAM"}


@contextmanager
def flat_attention(net: nn.Module, kinds: Sequence[str] = ("SAM", "UAM")) -> Iterator[None]:
    """Within, every map A of these kinds of modules is its channel's mean over the image: Eq. 4 without its dependence on place."""

    def flatten(_module: nn.Module, _inputs: object, weights: Tensor) -> Tensor:
        mean = softmax_of_channels(weights).mean(tuple(range(2, weights.dim())), keepdim=True)
        return mean.log().expand_as(weights)  # whose softmax is the mean again: it sums to 1

    chosen = [
        module.weigh
        for name, module in net.named_modules()
        if isinstance(module, AttentionModule) and KINDS[name.rpartition(".")[2]] in kinds
    ]
    hooks = [weigh.register_forward_hook(flatten) for weigh in chosen]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def attention_use(segmentor: Segmentor, cases: PreparedCases, names: Sequence[str]) -> pd.DataFrame:
    """DSC of `names` at the network's resolution with flat SAM, flat UAM and both, against the network as it was trained.

    The rows of `compare_variants` (variant `flat SAM`, ...; a network without modules has none). A small loss says that the network
    does not need the map's dependence on place; a large one that it has come to rely on it, not that it would do worse had it been
    trained without.
    """
    present = {
        KINDS[name.rpartition(".")[2]]
        for net in segmentor.levels
        for name, module in net.named_modules()
        if isinstance(module, AttentionModule)
    }
    trials: dict[str, tuple[str, ...]] = {AS_TRAINED: ()}
    trials |= {f"flat {kind}": (kind,) for kind in KINDS.values() if kind in present}
    if len(present) > 1:
        trials["flat SAM and UAM"] = ("SAM", "UAM")
    nets = nn.ModuleList(segmentor.levels)
    rows = []
    for case in progress(names, "flat attention"):
        image = np.asarray(cases.image(case, original=segmentor.slices))
        label = np.asarray(cases.label(case, original=segmentor.slices)) > 0
        for trial, kinds in trials.items():
            with flat_attention(nets, kinds):
                found = segmentor.probability(image) >= 0.5
            rows.append({"variant": trial, "case": case, "dsc": dice(found, label)})
    return compare_variants(pd.DataFrame(rows), "dsc", AS_TRAINED)
