"""A network's blocks as drawn are those of the paper."""

from __future__ import annotations

import pytest

from fhlib.figures import schematic
from fhlib.networks.build import build_network
from tests.figures.made import texts


def blocks(name: str, **options: int) -> dict[str, schematic.Node]:
    net = build_network(name, **options)
    return {
        f"{node.name}{number if node.kind in ('function', 'MaxPool3d') else ''}": node
        for number, node in enumerate(schematic.trace(net, (1, 16, 24, 40), (schematic.AttentionModule,)))
    }


def test_the_schematics_record_is_the_papers_network_at_width_32() -> None:
    found = blocks("USegNet-DS-HAS")
    encoder = [(node.shape[0], node.kernels[0][0]) for name, node in found.items() if name.startswith("encoder")]
    assert encoder == [(32, 3), (32, 3), (64, 3), (64, 3), (64, 5), (64, 5), (64, 5), (64, 5)]
    ups = [found[f"decoder.{stage}.up"] for stage in range(3)]
    assert [(up.shape, up.kernels[0][0]) for up in ups] == [
        ((64, 4, 6, 10), 5),
        ((64, 8, 12, 20), 5),
        ((32, 16, 24, 40), 3),
    ]
    skips = [found[f"decoder.{stage}.skip_attention"].kernels[-1][0] for stage in range(3)]
    paths = [found[f"decoder.{stage}.path_attention"].kernels[-1][0] for stage in range(3)]
    assert skips == [5, 3, 3] and paths == [5, 5, 3]
    assert [node.shape[0] for name, node in found.items() if name.startswith("cat")] == [128, 128, 96]
    assert [found[f"decoder.{stage}.side"].shape for stage in (0, 1)] == [(2, 4, 6, 10), (2, 8, 12, 20)]
    assert found["head"].shape == (2, 16, 24, 40)
    assert sum(node.parameters for node in found.values()) == 6_142_918


def test_the_schematic_changes_with_the_variant() -> None:
    def drawn(name: str) -> str:
        figure = schematic.network_schematic(build_network(name), (15, 24, 33), title=name)
        return "\n".join([text.get_text() for text in figure.axes[0].texts] + [texts(figure)])

    plain, hybrid, no_skips = (drawn(name) for name in ("USegNet-DS", "USegNet-DS-HAS", "3D-DeconvNet"))
    assert [hybrid.count(f"{kind}AM-{number}") for kind in "SU" for number in (1, 2, 3)] == [1] * 6
    assert "AM-" not in plain and "attention" not in plain and plain.count("side branch\n2 ch.") == 2
    assert plain.count("concat\n") == 3 and "concat\n" not in no_skips and "side branch\n" not in no_skips
    assert "3,891,462 parameters" in plain and "6,142,918 parameters" in hybrid
    assert "16×24×40" in plain and "2×3×5" in plain  # padded to multiples of 8; the bottom at 1/8
    assert "UAM-1" in drawn("UAM-1") and "UAM-2" not in drawn("UAM-1")
    flat = schematic.network_schematic(build_network("USegNet", 8, 2), (24, 33))
    assert "24×40" in {line for text in flat.axes[0].texts for line in text.get_text().splitlines()}
    with pytest.raises(ValueError, match="Competitor"):
        schematic.network_schematic(build_network("Attention-U-Net", 4), (32, 32, 32))


def test_who_reads_what_in_an_attention_module_is_equations_3_and_4() -> None:
    net = build_network("USegNet-DS-HAS", 8)
    nodes = schematic.trace(net.decoder[2].skip_attention, (8, 16, 24, 40))
    names = [node.name for node in nodes]
    assert names == ["input", "shrink", "weigh.0", "weigh.1", "softmax", "mul", "cat", "out"]
    reads = {node.name: [names[parent] for parent in node.parents] for node in nodes}
    assert (
        reads["softmax"] == ["weigh.1"] and reads["mul"] == ["shrink", "softmax"] and reads["cat"] == ["shrink", "mul"]
    )
    figure = schematic.attention_schematic(net, (16, 24, 40), "UAM-1")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert [letter for letter in shown if letter in {*"FPWAT"}] == list("FPWAT")
    assert "conv\n5×5×5\n8 ch." in shown and "UAM-1 at 4×6×10" in texts(figure)
    with pytest.raises(ValueError, match="no attention module SAM-4, it has: SAM-1"):
        schematic.attention_schematic(net, (16, 24, 40), "SAM-4")
    with pytest.raises(ValueError, match="it has: none"):
        schematic.attention_schematic(build_network("USegNet", 8), (16, 24, 40))
