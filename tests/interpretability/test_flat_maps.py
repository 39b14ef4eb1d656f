"""Attention maps without their dependence on place."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from fhlib.interpretability.flat_maps import attention_use, flat_attention
from fhlib.models.cascade import Cascade
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.networks.attention import AttentionModule
from fhlib.networks.build import build_network
from fhlib.presets import load_preset


@pytest.mark.parametrize("shape", [(13, 22), (6, 11, 9)])
def test_flat_maps_are_the_means_of_the_trained_ones_and_only_within(shape):
    torch.manual_seed(1)
    net = build_network("USegNet-DS-HAS", 4, len(shape)).eval()
    x = torch.rand(1, 1, *shape)
    with torch.no_grad():
        before = net(x)
        with flat_attention(net, shape, ["SAM"]):
            flat = net(x)
        with flat_attention(net, shape):
            all_flat = net(x)
        after = net(x)
    assert torch.equal(before.logits, after.logits)
    assert flat.attention["UAM-1"].std(dim=2).max() > 0  # the other kind is left as it was
    for name, attention in flat.attention.items():
        if name.startswith("SAM"):  # reads the encoder alone, which nothing has changed
            span = {"1": 4, "2": 2, "3": 1}[name[-1]]  # the padding to a multiple of 8 does not count
            seen = before.attention[name][(..., *(slice(math.ceil(size / span)) for size in shape))]
            mean = seen.mean(tuple(range(2, 2 + len(shape))), keepdim=True)
            assert torch.allclose(attention, mean.expand_as(attention), atol=1e-6)
        assert torch.allclose(
            all_flat.attention[name].std(tuple(range(2, 2 + len(shape)))), torch.tensor(0.0), atol=1e-6
        )
    assert not torch.allclose(flat.logits, before.logits)


class Cases:
    """Four prepared images of a bright disc, 21 x 34."""

    index = pd.DataFrame({"case": list("0123"), "subject": list("aabc")})

    def label(self, case, original=False):
        rows, columns = np.ogrid[:21, :34]
        return ((rows - 9) ** 2 + (columns - 12 - int(case)) ** 2 < 49).astype(np.uint8)

    def image(self, case, original=False):
        return self.label(case).astype(np.float32)


def cascade(variant):
    torch.manual_seed(2)
    preset = load_preset("smoke")
    parameters = SegmentorParameters(variant, 1, 2, preset.preparation, preset.training_2d, Execution("no", False), "")
    return Cascade([build_network(variant, 4, 2).eval()], parameters)


def test_maps_that_choose_nothing_lose_nothing_and_a_network_without_has_no_row():
    found = cascade("USegNet-DS-HAS")
    for module in found.levels[0].modules():
        if isinstance(module, AttentionModule):
            torch.nn.init.zeros_(module.weigh[1].weight)  # then A is 1 / channels everywhere, flat already
    table = attention_use(found, Cases(), list("0123")).set_index("variant")
    assert table.index.tolist() == ["flat SAM", "flat UAM", "flat SAM and UAM"]
    assert (table["difference"].abs() < 1e-9).all() and (table["n"] == 4).all()
    assert attention_use(cascade("USegNet-DS"), Cases(), list("0123")).empty
    assert attention_use(cascade("USegNet-DS-SAM"), Cases(), list("0123"))["variant"].tolist() == ["flat SAM"]


def test_a_map_that_is_flat_already_stays_in_bf16_and_one_that_is_not_costs():
    torch.manual_seed(3)
    net = build_network("USegNet-DS-HAS", 4, 2).eval()
    for module in net.modules():
        if isinstance(module, AttentionModule):
            torch.nn.init.zeros_(module.weigh[1].weight)
            module.weigh[1].bias.data = torch.tensor([0.0, 1.3, -2.1, 0.4])
    x = torch.rand(1, 1, 21, 34)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = net(x).attention["SAM-3"]
        with flat_attention(net, (21, 34)):
            flat = net(x).attention["SAM-3"]
    exact = torch.softmax(torch.tensor([0.0, 1.3, -2.1, 0.4]).bfloat16().float(), 0).view(1, 4, 1, 1)
    assert torch.allclose(flat, exact.expand_as(flat), rtol=4e-3) and torch.allclose(flat, before.float(), rtol=4e-3)

    found = cascade("USegNet-DS-HAS")
    with torch.no_grad():  # half of the image is head, so that any change shows
        logits = found.levels[0](torch.from_numpy(Cases().image("0"))[None, None]).logits
        found.levels[0].head.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
    table = attention_use(found, Cases(), list("0123"))
    assert (table["difference"].abs() > 1e-4).all() and table["low"].notna().all()
    with (
        pytest.raises(ValueError, match="no kind of attention module: SAM-1; there are SAM, UAM"),
        flat_attention(net, (21, 34), ["SAM-1"]),
    ):
        pass
