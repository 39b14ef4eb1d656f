"""What a trained network loses when its attention maps (Eq. 4) may no longer tell one place from another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from fhlib.files import progress, write_csv
from fhlib.measures.comparison import COMPARED, compare_variants
from fhlib.measures.metrics import dice
from fhlib.models.cascade import Cascade
from fhlib.models.weights import load_cascade
from fhlib.networks.attention import softmax_of_channels
from fhlib.networks.features import attention_modules, repeats
from fhlib.study.run import Study
from fhlib.training.prepared import PreparedCases
from fhlib.variants import VARIANTS

AS_TRAINED = "as trained"
KINDS = ("SAM", "UAM")


@contextmanager
def flat_attention(net: nn.Module, shape: Sequence[int], kinds: Collection[str] = KINDS) -> Iterator[None]:
    """Within, every map A of a USegNet is its channel's mean over the image: Eq. 4 without the place. For prediction only.

    Args:
        net: of one level.
        shape: of the images that it will read, one at a time; their padding does not count in the mean.
        kinds: of modules, SAM or UAM.

    Raises:
        ValueError: another kind.
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
    """DSC with flat SAM, flat UAM and both, in all context levels at once, against the network as trained.

    The DSC is that of all voxels of 0.5 and more at the network's resolution, from 0 to 1. The rows are those of
    `compare_variants` (variant `flat SAM`, ...). There are none for a network without modules. Nor are there any for
    one that reads patches, slices or boxes: its maps are not of the whole image.

    A small loss says that the network does without the map's dependence on place, not without its channels' weights. A
    large one says that it has come to rely on it, not that it would do worse, trained without.

    Args:
        cascade: a trained network, all its levels.
        cases: the prepared ones.
        names: those of them that are segmented.
    """
    present = {name[:3] for net in cascade.levels for name in attention_modules(net)}
    if not present or cascade.slices or cascade.reads_box or cascade.patch is not None:
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


def use_of_maps(study: Study) -> pd.DataFrame:
    """`attention_use` of every variant of a run that has attention modules, over its validation cases.

    The column network names the variant. Writes tables/attention_use.csv where there is something to compare.
    """
    cases = PreparedCases(study.prepared)
    held_out = cases.cases("val")
    rows = {name: VARIANTS[name] for name in study.preset.variants}
    attentive = [name for name, row in rows.items() if row.has_attention]
    if not held_out or not attentive:
        return pd.DataFrame(columns=["network", *COMPARED])
    tables = {name: attention_use(load_cascade(study.model_folder(name)), cases, held_out) for name in attentive}
    used = pd.concat(tables, names=["network", "row"]).reset_index("network")
    write_csv(used, study.tables / "attention_use.csv")
    return used
