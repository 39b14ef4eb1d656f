"""fhlib: a reproducible study of whole-fetal-head segmentation in 3D ultrasound (Yang et al. 2020).

For research only, not a medical device. The names below are the public surface; they are imported on first use, so that
`import fhlib` is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fhlib.images.formats import read_volume as read_volume
    from fhlib.images.formats import write_volume as write_volume
    from fhlib.images.volume import Volume as Volume
    from fhlib.measures.agreement import bland_altman as bland_altman
    from fhlib.measures.metrics import evaluate as evaluate
    from fhlib.measures.reliability import repeatability as repeatability
    from fhlib.networks.build import build_network as build_network
    from fhlib.phantom.scan import simulate_scan as simulate_scan
    from fhlib.segmentation.segmentor import Segmentation as Segmentation
    from fhlib.segmentation.segmentor import Segmentor as Segmentor
    from fhlib.segmentation.segmentor import load_segmentor as load_segmentor
    from fhlib.variants import TABLE1 as TABLE1
    from fhlib.variants import TABLE2 as TABLE2

PUBLIC = {
    "read_volume": "fhlib.images.formats",
    "write_volume": "fhlib.images.formats",
    "Volume": "fhlib.images.volume",
    "TABLE1": "fhlib.variants",
    "TABLE2": "fhlib.variants",
    "build_network": "fhlib.networks.build",
    "evaluate": "fhlib.measures.metrics",
    "bland_altman": "fhlib.measures.agreement",
    "repeatability": "fhlib.measures.reliability",
    "load_segmentor": "fhlib.segmentation.segmentor",
    "Segmentor": "fhlib.segmentation.segmentor",
    "Segmentation": "fhlib.segmentation.segmentor",
    "simulate_scan": "fhlib.phantom.scan",
}
__all__ = sorted(PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'fhlib' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
