"""The rows of Table 1 and Table 2, and competitors, by name: which modules a network has, and where. Data only.

A variant is a row here. To add one, append a `Variant` to `_ROWS`. `build_network`, training, prediction and every table pick it up by
its name, and a preset may list it.

>>> len(TABLE1), TABLE1[-1]
(9, 'USegNet-DS-HAS-Ctx')
>>> [VARIANTS[name].skip_attention for name in TABLE2[:3]]
[(), (3,), (2, 3)]

Attention modules are placed by encoder level (1 full size, 2 half, 3 quarter). The paper counts from the deep end: its module
number 1 is at 1/4 size ("UAM 1 module before the second deconvolution layer", section 3.2), number 3 at full resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALL_LEVELS = (1, 2, 3)


@dataclass(frozen=True)
class Variant:
    """One network.

    `skip_attention` (SAM) and `path_attention` (UAM) are the encoder levels that carry a module. `patch` is the edge of the cubic
    patches the network reads in training and prediction, in voxels of the paper's 0.95 mm (None: whole volumes). `spatial_dims` is
    fixed where the name fixes it (a 2D variant reads volumes slice by slice). `levels` counts Auto-Context levels (section 2.5); those
    before the last are the segmentors of `base`. With `reads_box` the last one reads the box around the head that the level before found
    instead of the whole volume again: any variant may locate, any may outline. `network` names a function `module:function` that builds
    a network of others in USegNet's place (`fhlib.networks.competitors`); it is imported only where the variant is used.
    """

    name: str
    skips: bool = True
    deep_supervision: bool = False
    skip_attention: tuple[int, ...] = ()
    path_attention: tuple[int, ...] = ()
    patch: int | None = None
    spatial_dims: int | None = None
    levels: int = 1
    base: str | None = None
    reads_box: bool = False
    network: str | None = None

    @property
    def has_attention(self) -> bool:
        """Whether it carries the paper's attention modules."""
        return bool(self.skip_attention or self.path_attention)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that build the network beyond `fhlib.networks.build`."""
        return (self.network.partition(":")[0],) if self.network else ()


def paper_number(level: int) -> int:
    """The paper's number of an attention module at encoder `level` (its own inverse)."""
    return 4 - level


_ROWS = (
    Variant("p-USegNet", patch=64),
    Variant("2D-USegNet", spatial_dims=2),
    Variant("3D-DeconvNet", skips=False),
    Variant("USegNet"),
    Variant("USegNet-DS", deep_supervision=True),
    Variant("USegNet-DS-UAM", deep_supervision=True, path_attention=ALL_LEVELS),
    Variant("USegNet-DS-SAM", deep_supervision=True, skip_attention=ALL_LEVELS),
    Variant("USegNet-DS-HAS", deep_supervision=True, skip_attention=ALL_LEVELS, path_attention=ALL_LEVELS),
    Variant(
        "USegNet-DS-HAS-Ctx",
        deep_supervision=True,
        skip_attention=ALL_LEVELS,
        path_attention=ALL_LEVELS,
        levels=2,
        base="USegNet-DS-HAS",
    ),
    Variant("USegNet-DS-Zoom", deep_supervision=True, levels=2, base="USegNet-DS", reads_box=True),
    Variant(
        "USegNet-DS-HAS-Zoom",
        deep_supervision=True,
        skip_attention=ALL_LEVELS,
        path_attention=ALL_LEVELS,
        levels=2,
        base="USegNet-DS",
        reads_box=True,
    ),
    Variant("SAM-1", deep_supervision=True, skip_attention=(3,)),
    Variant("SAM-12", deep_supervision=True, skip_attention=(2, 3)),
    Variant("UAM-1", deep_supervision=True, path_attention=(3,)),
    Variant("UAM-12", deep_supervision=True, path_attention=(2, 3)),
    Variant("Attention-U-Net", network="fhlib.networks.competitors:attention_u_net"),
    Variant("Residual-U-Net", deep_supervision=True, network="fhlib.networks.competitors:residual_u_net"),
    Variant("Swin-UNETR", network="fhlib.networks.competitors:swin_unetr"),
)

VARIANTS: dict[str, Variant] = {row.name: row for row in _ROWS}

TABLE1: tuple[str, ...] = (
    "p-USegNet",
    "2D-USegNet",
    "3D-DeconvNet",
    "USegNet",
    "USegNet-DS",
    "USegNet-DS-UAM",
    "USegNet-DS-SAM",
    "USegNet-DS-HAS",
    "USegNet-DS-HAS-Ctx",
)
TABLE2: tuple[str, ...] = ("USegNet-DS", "SAM-1", "SAM-12", "USegNet-DS-SAM", "UAM-1", "UAM-12", "USegNet-DS-UAM")


def shown_variant(variants: Sequence[str]) -> str:
    """Which of a run's variants stands for it: the paper's whole method, else the last of the paper's own, else the last.

    >>> shown_variant(["USegNet-DS-HAS-Ctx", "SAM-1", "Residual-U-Net"]), shown_variant(["SAM-1", "Residual-U-Net"])
    ('USegNet-DS-HAS-Ctx', 'SAM-1')
    """
    whole = TABLE1[-1]
    own = [name for name in variants if name in TABLE1 or name in TABLE2]
    return whole if whole in own else (own or list(variants))[-1]


def trained_levels(variants: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Every (variant, context level) that has to be trained so that `variants` can predict, each once, in order.

    The levels before a cascade's last are its base's, trained even where the preset does not list the base.
    """
    needed = [trained for name in variants for trained in levels_of(name)]
    return tuple(dict.fromkeys(needed))


def levels_of(variant: str) -> tuple[tuple[str, int], ...]:
    """The (variant, level) whose weights make up `variant`, first level first."""
    row = VARIANTS[variant]
    return (*(levels_of(row.base) if row.base else ()), (variant, row.levels))
