"""Weights on disk: find, load and hash the levels of a variant's folder."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from fhlib.files import own_and_shipped, own_or_shipped
from fhlib.fingerprints import digest, file_digest
from fhlib.models.cascade import Cascade
from fhlib.models.device import Execution
from fhlib.models.parameters import PARAMETERS_FILE, WEIGHTS_FILE, SegmentorParameters
from fhlib.networks.build import build_level
from fhlib.presets import suggestion
from fhlib.variants import VARIANTS


def load_cascade(folder: Path | str, execution: Execution | None = None, upto: int | None = None) -> Cascade:
    """Load a variant's folder: `level1/`, `level2/`, ... each with weights.safetensors and parameters.json.

    Args:
        folder: of the variant.
        execution: how to run; without it as the weights were trained, adapted to this machine.
        upto: load the first levels only.

    Raises FileNotFoundError for a folder without weights, ValueError where a level is missing.
    """
    folder = Path(folder)
    found = weights_files(folder, upto)
    if not found:
        raise FileNotFoundError(f"{folder.name}/ holds no level1/{WEIGHTS_FILE}: train the variant first (03_train)")
    parameters = [SegmentorParameters.load(path.with_name(PARAMETERS_FILE)) for path in found]
    last = parameters[-1]
    expected = upto or VARIANTS[last.variant].levels
    if [p.level for p in parameters] != list(range(1, expected + 1)):
        raise ValueError(
            f"{folder.name}/ holds levels {[p.level for p in parameters]}, {last.variant} needs "
            f"1 to {expected}: train the missing ones"
        )
    levels = [_load_level(path, p) for path, p in zip(found, parameters, strict=True)]
    return Cascade(levels, last, execution or last.execution.here())


def weights_folder(given: Path | str) -> Path:
    """A variant's folder as it is given; or by a bare name, of one's own weights in `data/weights` or of those that come with fhlib.

    A folder of that name in the working folder is meant only where it holds weights. Raises FileNotFoundError, with what there is.
    """
    folder = Path(given)
    if folder != Path(folder.name) or weights_files(folder):
        return folder
    known = own_and_shipped("weights", "*/")
    if folder.name not in known:
        raise FileNotFoundError(
            f"there are no weights {folder.name!r}{suggestion(folder.name, known)}; "
            f"give a folder, or one of {', '.join(known)}"
        )
    return own_or_shipped("weights", folder.name)


def model_digest(folder: Path, upto: int | None = None) -> str:
    """Hash of the weights of all levels of a variant's folder, or of the first `upto`."""
    return digest([file_digest(path) for path in weights_files(folder, upto)])


def weights_files(folder: Path, upto: int | None = None) -> list[Path]:
    """The weights of a variant's levels, first level first; of the first `upto` only."""
    found = sorted(folder.glob(f"level*/{WEIGHTS_FILE}"), key=lambda path: int(path.parent.name[5:]))
    return [path for path in found if upto is None or int(path.parent.name[5:]) <= upto]


def _load_level(path: Path, parameters: SegmentorParameters) -> nn.Module:
    net = build_level(parameters.variant, parameters.spatial_dims, parameters.training)
    net.load_state_dict(load_file(path))
    return net
