"""Attention maps without their dependence on place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fhlib.attention_use import attention_use, flat_attention
from fhlib.device import Execution
from fhlib.inference import Segmentor, SegmentorParameters
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
        with flat_attention(net, ["SAM"]):
            flat = net(x)
        with flat_attention(net):
            all_flat = net(x)
        after = net(x)
    assert torch.equal(before.logits, after.logits)
    assert flat.attention["UAM-1"].std(dim=2).max() > 0  # the other kind is left as it was
    for name, attention in flat.attention.items():
        if name.startswith("SAM"):  # reads the encoder alone, which nothing has changed
            mean = before.attention[name].mean(tuple(range(2, 2 + len(shape))), keepdim=True)
            assert torch.allclose(attention, mean.expand_as(attention), atol=1e-6)
        assert torch.allclose(
            all_flat.attention[name].std(tuple(range(2, 2 + len(shape)))), torch.tensor(0.0), atol=1e-6
        )
    assert not torch.allclose(flat.logits, before.logits)


class Cases:
    """Four prepared images of a bright disc, 21 x 34."""

    def label(self, case, original=False):
        rows, columns = np.ogrid[:21, :34]
        return ((rows - 9) ** 2 + (columns - 12 - int(case)) ** 2 < 49).astype(np.uint8)

    def image(self, case, original=False):
        return self.label(case).astype(np.float32)


def segmentor(variant):
    torch.manual_seed(2)
    preset = load_preset("smoke")
    parameters = SegmentorParameters(variant, 1, 2, preset.preparation, preset.training_2d, Execution("no", False), "")
    return Segmentor([build_network(variant, 4, 2).eval()], parameters)


def test_maps_that_choose_nothing_lose_nothing_and_a_network_without_has_no_row():
    found = segmentor("USegNet-DS-HAS")
    for module in found.levels[0].modules():
        if isinstance(module, AttentionModule):
            torch.nn.init.zeros_(module.weigh[1].weight)  # then A is 1 / channels everywhere, flat already
    table = attention_use(found, Cases(), list("0123")).set_index("variant")
    assert table.index.tolist() == ["flat SAM", "flat UAM", "flat SAM and UAM"]
    assert (table["difference"].abs() < 1e-9).all() and (table["n"] == 4).all()
    assert attention_use(segmentor("USegNet-DS"), Cases(), list("0123")).empty
    assert attention_use(segmentor("USegNet-DS-SAM"), Cases(), list("0123"))["variant"].tolist() == ["flat SAM"]
