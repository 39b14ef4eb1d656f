"""Eq. 3 and 4 by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fhlib.networks.attention import AttentionModule, softmax_of_channels


def test_attention_module_by_its_equations():
    torch.manual_seed(0)
    module = AttentionModule(3, in_channels=5, width=4, kernel=3)
    features = torch.randn(1, 5, 6, 7, 8)
    out, attention = module(features)
    shrunk = F.conv3d(features, module.shrink.weight, module.shrink.bias)
    first, second = module.weigh
    weights = F.conv3d(F.conv3d(shrunk, first.weight, first.bias, padding=1), second.weight, second.bias, padding=1)
    expected = weights.exp() / weights.exp().sum(1, keepdim=True)
    joined = torch.cat([shrunk, shrunk * expected], 1)
    assert torch.allclose(attention, expected, atol=1e-6)
    assert torch.allclose(out, F.conv3d(joined, module.out.weight, module.out.bias, padding=1), atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_softmax_keeps_precision_and_memory_format_under_autocast(precision, layout):
    x = torch.randn(2, 5, 3, 4, 6).to(precision).to(memory_format=layout).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = softmax_of_channels(x)
    exact = torch.softmax(x.detach().double(), dim=1)
    assert found.dtype == precision and found.is_contiguous(memory_format=layout)
    assert torch.allclose(found.double(), exact, rtol=1e-2 if precision == torch.bfloat16 else 1e-6)
    found[:, 2].sum().backward()
    expected = exact[:, 2:3] * ((torch.arange(5) == 2).double().view(5, 1, 1, 1) - exact)
    assert torch.allclose(x.grad.double(), expected, atol=4e-3 if precision == torch.bfloat16 else 1e-6)
