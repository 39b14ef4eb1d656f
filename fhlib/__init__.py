"""fhlib: a reproducible study of whole-fetal-head segmentation in 3D ultrasound (Yang et al. 2020).

For research only, not a medical device. The names below are the public surface; they are imported on first use, so that
`import fhlib` is light.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fhlib.agreement import bland_altman as bland_altman
    from fhlib.agreement import repeatability as repeatability
    from fhlib.inference import load_segmentor as load_segmentor
    from fhlib.metrics import evaluate as evaluate
    from fhlib.networks.build import build_network as build_network
    from fhlib.phantom.simulate import simulate_scan as simulate_scan
    from fhlib.variants import TABLE1 as TABLE1
    from fhlib.variants import TABLE2 as TABLE2
    from fhlib.volume import read_volume as read_volume
    from fhlib.volume import write_volume as write_volume

_PUBLIC = {
    "read_volume": "fhlib.volume",
    "write_volume": "fhlib.volume",
    "Volume": "fhlib.volume",
    "TABLE1": "fhlib.variants",
    "TABLE2": "fhlib.variants",
    "build_network": "fhlib.networks.build",
    "evaluate": "fhlib.metrics",
    "bland_altman": "fhlib.agreement",
    "repeatability": "fhlib.agreement",
    "load_segmentor": "fhlib.inference",
    "Segmentor": "fhlib.inference",
    "Segmentation": "fhlib.inference",
    "simulate_scan": "fhlib.phantom.simulate",
}
__all__ = sorted(_PUBLIC)

try:
    __version__ = version("fhlib")
except PackageNotFoundError:  # read from a folder that was not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fhlib' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
