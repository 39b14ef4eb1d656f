"""Maps recorded from a network, on the image's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fhlib.networks.build import build_network
from fhlib.networks.features import on_image_grid, recording


def test_a_map_is_repeated_to_the_image_and_its_padding_cut_off() -> None:
    quarter = np.arange(2 * 2 * 4).reshape(2, 2, 4)  # an image of (7, 5, 13) is padded at the end to (8, 8, 16)
    full = on_image_grid(quarter, (7, 5, 13))
    assert full.shape == (7, 5, 13)
    assert full[0, 0, 0] == quarter[0, 0, 0] and full[3, 3, 3] == quarter[0, 0, 0]
    assert full[4, 4, 12] == quarter[1, 1, 3] and full[6, 0, 8] == quarter[1, 0, 2]
    with pytest.raises(ValueError, match="whole fraction"):
        on_image_grid(np.zeros((3, 2, 4)), (7, 5, 13))


@pytest.mark.parametrize("mapped", [False, True])
def test_recorded_maps_are_those_of_the_network(tmp_path: Path, mapped: bool) -> None:
    """A is what the network returns; the softmax of the weighed P gives it again (Eq. 3 and 4)."""
    torch.manual_seed(0)
    net = build_network("USegNet-DS-HAS", width=4).eval()
    x = torch.rand(1, 1, 13, 8, 18)
    seen: list[str] = []
    with torch.inference_mode():
        expected = net(x).attention
        with recording(net, tmp_path if mapped else None, seen.append) as (attention, shrunk):
            assert net(x, with_attention=False).attention == {}
        weighed = net.decoder[2].path_attention.weigh(torch.from_numpy(np.array(shrunk["UAM-3"])).float()[None])
    assert seen == ["SAM-1", "UAM-1", "SAM-2", "UAM-2", "SAM-3", "UAM-3"] == list(expected)
    for name, weights in expected.items():
        assert attention[name].dtype == shrunk[name].dtype == np.float16
        np.testing.assert_allclose(attention[name], weights[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(torch.softmax(weighed, 1)[0].numpy(), attention["UAM-3"], atol=5e-3)
    assert isinstance(attention["SAM-3"], np.memmap) == mapped and not list(tmp_path.iterdir())  # nameless files
    with torch.inference_mode():
        net(x)
    assert len(seen) == 6  # the hooks are gone
