"""Networks as ONNX, for programs without PyTorch."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from fhlib import __version__
from fhlib.files import atomic_path
from fhlib.models.parameters import PARAMETERS_FILE, SegmentorParameters
from fhlib.models.weights import load_cascade, weights_files
from fhlib.variants import VARIANTS

ONNX_FILE = "network.onnx"
AXES = ("depth", "height", "width")
TRACED_VOXELS = (19, 21, 27)
"""No multiples of 8, so that the padding is traced, too."""


class Logits(nn.Module):
    """A network's logits alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, 1, ...) -> (b, 2, ...)."""
        logits: Tensor = self.net(x, with_attention=False).logits
        return logits


def write_onnx(folder: Path) -> list[Path]:
    """Write `network.onnx` beside the weights of each level of a variant's folder; returns the files.

    The input `image` is (b, 1, d, h, w), or (b, 1, h, w), float32, of any size: the image on the network's grid, with the
    probability of the level before added (`fhlib.models.cascade.join`). Of a level that reads boxes (metadata `reads`) the
    image is that of the box (`Cascade.reading`). The output `logits` has 2 channels, background
    and head. The metadata says variant, level and, as JSON, the preparation of the image.

    Raises ModuleNotFoundError where the package onnx is missing, FileNotFoundError and ValueError as `load_cascade`.
    """
    if find_spec("onnx") is None:
        raise ModuleNotFoundError("ONNX needs the package onnx: pip install 'fhlib[onnx]'")
    cascade = load_cascade(folder)
    files = []
    for path, net in zip(weights_files(folder), cascade.levels, strict=True):
        parameters = SegmentorParameters.load(path.with_name(PARAMETERS_FILE))
        target = path.with_name(ONNX_FILE)
        with atomic_path(target) as temporary:
            _trace(net, parameters, temporary)
        files.append(target)
    return files


def _trace(net: nn.Module, parameters: SegmentorParameters, path: Path) -> None:
    import onnx

    dims = int(net.spatial_dims)  # type: ignore[arg-type]
    axes = {0: "batch"} | {2 + number: name for number, name in enumerate(AXES[-dims:])}
    # two volumes: of a single one the norm is traced as one over the batch
    x = torch.rand(2, 1, *TRACED_VOXELS[:dims])
    with warnings.catch_warnings():
        # torch's newer exporter fixes the sizes of what is padded (2.13)
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(net.cpu().eval()),
            (x,),
            str(path),
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": axes, "logits": axes},
        )
    model = onnx.load(str(path))
    about = {
        "fhlib": __version__,
        "variant": parameters.variant,
        "level": str(parameters.level),
        "reads": "box" if VARIANTS[parameters.variant].reads_box else "volume",
        "outline": parameters.outline,
        "preparation": json.dumps(parameters.preparation.model_dump()),
        "weights_digest": parameters.weights_digest,
    }
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
