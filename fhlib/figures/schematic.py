"""A network's drawing, made from the network itself (Fig. 2 and 3 of the paper).

The network runs once without numbers, on torch's meta device: shapes alone, no memory. Every block that works is noted
with what it read, its kernels and the shape that came out. What is drawn is that record, so a changed channel, kernel,
connection or module changes the picture.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fhlib.figures.style import Look, new_figure
from fhlib.networks.attention import AttentionModule
from fhlib.networks.blocks import ConvNormReLU, FactoredConvolution, Upsampling
from fhlib.networks.build import parameter_count
from fhlib.networks.usegnet import USegNet

Kernels = tuple[tuple[int, ...], ...]
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BLOCKS = (ConvNormReLU, Upsampling, FactoredConvolution)
"""Drawn as one box each; of any other module its parts are drawn."""
PAPER_SIZE = (176, 104, 160)
"""The paper's whole volume at 0.95 mm, (d, h, w), padded to multiples of 8."""
SYMBOLS = {"shrink": "P", "weigh": "W", "softmax": "A", "mul": "T"}
"""Names of Eq. 3 and 4 for the parts of an attention module."""
ROLES = {"AttentionModule": "attention", "Upsampling": "deconvolution", "ConvNormReLU": "convolution"}
"""Of classes of modules; other modules with kernels have the role 1x1x1."""
# Light enough for black text, each of another lightness; every box also says in words what it is.
LEGEND = {
    "convolution": ("#9ECAE9", "convolution, normalisation, ReLU (C-BN-R)"),
    "deconvolution": ("#F7C27A", "deconvolution, stride 2, normalisation, ReLU"),
    "function": ("#EDEDED", "concatenation"),
    "attention": ("#E3A3C7", "attention module (SAM in a skip, UAM in the up path)"),
    "1x1x1": ("#8FD3B6", "1×1×1 convolution: head or side branch, 2 classes"),
}
"""Colour and words of each role."""
ROW, HALF, SKIP = 1.75, 0.5, 0.85
"""Distance of two rows, half a block's height, and how far above its row a skip runs, in columns."""


@dataclass(frozen=True)
class Node:
    """A block that worked, or a function that joins or turns what blocks gave."""

    name: str
    """The module's dotted name in the network, `input`, or the function's name."""
    kind: str
    """The module's class, `input` or `function`."""
    shape: tuple[int, ...]
    """(channels, d, h, w) or (channels, h, w) of what it gives."""
    parents: tuple[int, ...] = ()
    """Places in the record of the nodes that it reads."""
    kernels: Kernels = ()
    """Those of its convolutions, in order."""
    parameters: int = 0
    """How many numbers it learns."""


def trace(net: nn.Module, shape: Sequence[int], whole: tuple[type[nn.Module], ...] = ()) -> tuple[Node, ...]:
    """What a network does with an input, in order; the first node is the input. Nothing is computed.

    Modules of the classes `BLOCKS` and `whole`, and modules without parts, are one node each. Functions between them
    are nodes where they join several nodes' results, and softmax. Others (padding, cropping) are passed over.

    Args:
        net: stays as it is.
        shape: of the input, (channels, d, h, w) or (channels, h, w).
        whole: classes of modules whose parts are not told.
    """
    net = copy.deepcopy(net).to("meta").eval()
    recorder = _Recorder()
    with ExitStack() as stack, torch.no_grad():
        for name, module in net.named_modules():
            is_block = isinstance(module, (*BLOCKS, *whole)) or not list(module.children())
            if is_block and module is not net:
                stack.callback(module.register_forward_pre_hook(recorder.enter).remove)
                stack.callback(module.register_forward_hook(partial(recorder.leave, name)).remove)
        x = torch.empty(1, *shape, device="meta")
        recorder.add(x, Node("input", "input", tuple(shape)))
        with recorder:
            net(x)
    return tuple(recorder.nodes)


class _Recorder(TorchFunctionMode):
    """Notes each block and each joining function; results are known by identity, so all of them are kept until the end."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.made_by: dict[int, int] = {}
        self.kept: list[Tensor] = []
        self.depth = 0
        """How many blocks are at work; what happens inside one is not told."""

    def add(self, result: Tensor, node: Node) -> None:
        """Note a node and what it gave."""
        self.nodes.append(node)
        self._own(result, len(self.nodes) - 1)

    def enter(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        """A block begins."""
        self.depth += 1

    def leave(self, name: str, module: nn.Module, inputs: tuple[object, ...], result: Any) -> None:
        """A block is done.

        Args:
            name: of the block.
            module: itself.
            inputs: what it read.
            result: what it gives: a tensor, or several of which the first goes on.
        """
        self.depth -= 1
        if self.depth == 0:
            output = result[0] if isinstance(result, tuple) else result
            count = parameter_count(module)
            shape, parents = tuple(output.shape[1:]), self._parents(inputs)
            self.add(output, Node(name, type(module).__name__, shape, parents, _kernels(module), count))

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if self.depth > 0 or not isinstance(result, Tensor):
            return result
        given: list[object] = []
        for argument in args:
            given += argument if isinstance(argument, list | tuple) else [argument]
        parents, name = self._parents(given), getattr(function, "__name__", str(function))
        if len(parents) > 1 or (parents and name == "softmax"):
            self.add(result, Node(name, "function", tuple(result.shape[1:]), parents))
        elif parents:
            self._own(result, parents[0])
        return result

    def _own(self, result: Tensor, node: int) -> None:
        self.made_by[id(result)] = node
        self.kept.append(result)

    def _parents(self, values: Iterable[object]) -> tuple[int, ...]:
        return tuple(self.made_by[id(value)] for value in values if id(value) in self.made_by)


def network_schematic(net: USegNet, size: Sequence[int] = PAPER_SIZE, title: str | None = None) -> Figure:
    """Fig. 2a: the network as it works on a volume or image, a row a resolution.

    Each box says what it is, its kernel and its channels; arrows are what reads what, poolings among them.

    Args:
        net: is drawn.
        size: of the input in voxels, (d, h, w) or (h, w).
        title: before the number of parameters.

    Raises:
        ValueError: the network is not a USegNet, whose blocks alone are known here.
    """
    if not isinstance(net, USegNet):
        raise ValueError(f"a schematic is drawn of a USegNet, not of a {type(net).__name__}: its blocks are not known")
    nodes = trace(net, (_in_channels(net), *_padded(net, size)), whole=(AttentionModule,))
    places = _places(nodes)
    figure, axes = new_figure(1, 1, (10.5, 6.0))
    axis = axes[0, 0]
    for child, node in enumerate(nodes):
        for parent in node.parents:
            _connect(axis, nodes, places, parent, child)
    for number, (column, row) in places.items():
        if number:
            _draw_block(axis, net, nodes[number], column, row)
    axis.text(0.45, 0, f"input\n{nodes[0].shape[0]} ch.", ha="right", va="center", fontsize=7.5)

    # the size of a row is that of any of its nodes
    shapes = {row: nodes[number].shape[1:] for number, (_, row) in places.items()}
    for row, shape in shapes.items():
        part = "full size" if row == 0 else f"1/{2**row} size"
        axis.text(-0.55, ROW * row, f"{part}\n{_times(shape)}", ha="right", va="center", fontsize=8)
    used = {_role(nodes[number]) for number in places}
    shown = [LEGEND[role] for role in LEGEND if role in used]
    handles = [Patch(facecolor=colour, edgecolor="#333333", label=words) for colour, words in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    columns = max(column for column, _ in places.values())
    axis.set(xlim=(-3.0, columns + 0.5), ylim=(ROW * max(shapes) + 0.55, -1.15))
    axis.set_axis_off()
    count = sum(node.parameters for node in nodes)
    figure.suptitle(f"{title + ': ' if title else ''}{count:,} parameters", fontsize=10)
    return figure


def attention_schematic(net: USegNet, size: Sequence[int] = PAPER_SIZE, module: str = "") -> Figure:
    """Fig. 3: the inside of an attention module.

    Args:
        net: the network that it belongs to.
        size: of the network's input in voxels, (d, h, w) or (h, w).
        module: its name in the paper, `SAM-1` ... `UAM-3`; by default the first that works.

    Raises:
        ValueError: the network has no such module.
    """
    outer = trace(net, (_in_channels(net), *_padded(net, size)), whole=(AttentionModule,))
    found = {_paper_name(net, node.name): node for node in outer if node.kind == "AttentionModule"}
    if module not in found and (module or not found):
        raise ValueError(f"the network has no attention module {module}, it has: {', '.join(found) or 'none'}")
    name = module or next(iter(found))
    read = outer[found[name].parents[0]]
    nodes = trace(net.get_submodule(found[name].name), read.shape)
    figure, axes = new_figure(1, 1, (9.5, 2.7))
    axis = axes[0, 0]
    bends = _chain_arrows(axis, nodes)
    for number, node in enumerate(nodes):
        symbol = _symbol(nodes, number)
        role = "convolution" if node.kernels else "function"
        if symbol in ("A", "T"):
            role = "attention"
        _box(axis, (number, 0), role, f"{_words(node)}\n{node.shape[0]} ch.", width=0.74, height=0.84)
        axis.text(number, -0.5, symbol, ha="center", va="bottom", fontsize=12, fontstyle="italic")
    axis.set(xlim=(-0.5, len(nodes) - 0.5), ylim=(0.6 + 0.22 * bends, -0.85))
    axis.set_axis_off()
    count = sum(node.parameters for node in nodes)
    figure.suptitle(f"{name} at {_times(read.shape[1:])}: {count:,} parameters", fontsize=10)
    return figure


def _chain_arrows(axis: Axes, nodes: Sequence[Node]) -> int:
    """Arrows between boxes in a row; those that skip boxes bend below it, each deeper. Returns how many bend."""
    bends = 0
    for child, node in enumerate(nodes):
        for parent in node.parents:
            if child == parent + 1:
                _arrow(axis, [(parent + 0.37, 0), (child - 0.37, 0)])
            else:
                bends += 1
                depth, start = 0.45 + 0.22 * bends, parent + 0.12 * bends
                _arrow(axis, [(start, 0.42), (start, depth), (child, depth), (child, 0.42)])
    return bends


def _symbol(nodes: Sequence[Node], number: int) -> str:
    """The paper's letter for a part; W is what comes out of the last of the convolutions that weigh."""
    if nodes[number].kind == "input":
        return "F"
    stem = nodes[number].name.split(".")[0]
    last = all(not later.name.startswith(f"{stem}.") for later in nodes[number + 1 :])
    return SYMBOLS.get(stem, "") if last else ""


def _kernels(module: nn.Module) -> Kernels:
    return tuple(tuple(part.kernel_size) for part in module.modules() if isinstance(part, CONVOLUTIONS))


def _in_channels(net: nn.Module) -> int:
    return next(part.in_channels for part in net.modules() if isinstance(part, nn.Conv2d | nn.Conv3d))


def _padded(net: USegNet, size: Sequence[int]) -> tuple[int, ...]:
    """The last axes of `size`, as many as the network has, each a multiple of 8."""
    return tuple(-(-length // 8) * 8 for length in size[len(size) - net.spatial_dims :])


def _places(nodes: Sequence[Node]) -> dict[int, tuple[float, int]]:
    """Column and row of each drawn node: rows by size, columns by how much has to work before.

    Poolings are arrows. Attention in a skip stands halfway between what it reads and what reads it.
    """
    rows = [round(math.log2(nodes[0].shape[1] / node.shape[1])) for node in nodes]
    columns: list[float] = []
    for node in nodes:
        step = 0.0 if _is_pooling(node) else 1.0
        columns.append(max((columns[parent] for parent in node.parents), default=-step) + step)
    for number, node in enumerate(nodes):
        if _in_skip(node):
            reader = next(later for later, other in enumerate(nodes) if number in other.parents)
            columns[number] = (columns[node.parents[0]] + columns[reader]) / 2
    return {number: (columns[number], rows[number]) for number, node in enumerate(nodes) if not _is_pooling(node)}


def _is_pooling(node: Node) -> bool:
    return node.kind.startswith("MaxPool")


def _role(node: Node) -> str:
    if node.kind in ROLES:
        return ROLES[node.kind]
    return "1x1x1" if node.kernels else "function"


def _words(node: Node) -> str:
    """What a node is and, below, its kernels."""
    names = {"ConvNormReLU": "C-BN-R", "Upsampling": "deconv", "cat": "concat", "mul": "product"}
    if not node.kernels:
        return names.get(node.name, node.name)
    return "\n".join([names.get(node.kind, "conv"), *dict.fromkeys(map(_times, node.kernels))])


def _times(numbers: Sequence[int]) -> str:
    return "×".join(map(str, numbers))


def _paper_name(net: nn.Module, name: str) -> str:
    stage, _, place = name.rpartition(".")
    return f"{'S' if place == 'skip_attention' else 'U'}{net.get_submodule(stage).name}"


def _draw_block(axis: Axes, net: nn.Module, node: Node, column: float, row: int) -> None:
    role, channels = _role(node), f"{node.shape[0]} ch."
    if _in_skip(node):
        kernel = _times(node.kernels[-1])
        words = f"{_paper_name(net, node.name)}  {kernel}\n{channels}"
        _box(axis, (column, ROW * row - SKIP), role, words, width=1.9, height=0.42)
        return
    words = _words(node)
    if role == "attention":
        words = f"{_paper_name(net, node.name)}\n{_times(node.kernels[-1])}"
    elif role == "1x1x1":
        words = "main head" if node.name == "head" else "side branch"
    _box(axis, (column, ROW * row), role, f"{words}\n{channels}", width=0.76, height=2 * HALF, turned=True)


def _in_skip(node: Node) -> bool:
    return node.name.endswith("skip_attention")


def _box(
    axis: Axes, at: tuple[float, float], role: str, words: str, width: float, height: float, turned: bool = False
) -> None:
    """A rounded box with words in it, which may run upwards."""
    corner = at[0] - width / 2, at[1] - height / 2
    box = FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=0.06", facecolor=LEGEND[role][0], zorder=2)
    box.set(edgecolor="#333333", linewidth=0.7)
    axis.add_patch(box)
    centred: Look = {"ha": "center", "va": "center", "rotation": 90 if turned else 0}
    axis.text(*at, words, fontsize=7, zorder=3, linespacing=1.15, **centred)


def _connect(axis: Axes, nodes: Sequence[Node], places: dict[int, tuple[float, int]], parent: int, child: int) -> None:
    """The arrow from what gave to what reads: along a row, above it for a skip, or to the next row."""
    if child not in places:
        return  # a pooling, which is itself the arrow to what reads it
    pooled = _is_pooling(nodes[parent])
    giver = nodes[parent].parents[0] if pooled else parent
    (start, row), (end, other) = places[giver], places[child]
    middle, top, above = ROW * row, ROW * row - HALF, ROW * row - SKIP
    if row != other:
        low = HALF if other > row else -HALF
        _arrow(axis, [(start, middle + low), (end, ROW * other - low)])
        if pooled:
            axis.text((start + end) / 2 + 0.25, ROW * (row + 0.5) - 0.1, "max-pool 2", fontsize=7)
    elif _in_skip(nodes[child]):
        _arrow(axis, [(start, top), (start, above), (end - 0.95, above)])
    elif _in_skip(nodes[parent]):
        _arrow(axis, [(start + 0.95, above), (end, above), (end, top)])
    elif end - start > 1.5:
        _arrow(axis, [(start, top), (start, above), (end, above), (end, top)])
    else:
        _arrow(axis, [(start + 0.38, middle), (end - 0.38, middle)])


def _arrow(axis: Axes, corners: Sequence[tuple[float, float]]) -> None:
    """A line through `corners` with a head at the last."""
    arrow = FancyArrowPatch(path=Path(corners), arrowstyle="-|>", mutation_scale=7, zorder=1)
    arrow.set(linewidth=0.9, color="#444444")
    axis.add_patch(arrow)
