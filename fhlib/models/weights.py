"""Weights on disk: find, check, load, write and hash the levels of a variant's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fhlib.files import atomic_path, own_and_shipped, own_or_shipped
from fhlib.fingerprints import digest, file_digest
from fhlib.models.cascade import Cascade
from fhlib.models.device import Execution
from fhlib.models.parameters import PARAMETERS_FILE, WEIGHTS_FILE, SegmentorParameters, shown
from fhlib.networks.build import build_level
from fhlib.presets import suggestion
from fhlib.variants import VARIANTS, levels_of

LEVEL_FOLDER = re.compile(r"level([1-9]\d*)")
REAL_NUMBERS = ("F64", "F32", "F16", "BF16")
"""Types of tensors that weights may have, in safetensors' words."""
COPY_AGAIN = "copy it again from where these weights come from"


def load_cascade(folder: Path | str, execution: Execution | None = None, upto: int | None = None) -> Cascade:
    """Load a variant's folder: `level1/`, `level2/`, ... each with weights.safetensors and parameters.json.

    Args:
        folder: of the variant.
        execution: how to run; without it as the weights were trained, adapted to this machine.
        upto: load the first levels only.

    Raises FileNotFoundError for a folder without weights, ValueError where a level is missing, and where a file is damaged, of another
    training than the parameters beside it, or of a network that does not fit them.
    """
    folder = Path(folder)
    found = weights_files(folder, upto)
    if not found:
        raise FileNotFoundError(_nothing_in(folder))
    parameters = [SegmentorParameters.load(path.with_name(PARAMETERS_FILE)) for path in found]
    _require_cascade(found, parameters, upto)
    levels = [_load_level(path, p) for path, p in zip(found, parameters, strict=True)]
    last = parameters[-1]
    return Cascade(levels, last, execution or last.execution.here())


def save_level(tensors: Mapping[str, Tensor], parameters: SegmentorParameters, folder: Path) -> None:
    """Write one level, its weights last: weights that are there have their parameters, with their digest, beside them.

    Args:
        tensors: by name.
        parameters: that made them.
        folder: `level<k>/` of the variant's.

    Raises ValueError where a weight is no finite number, before anything is written.
    """
    _require_finite(tensors, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(dict(tensors), temporary)
        replace(parameters, weights_digest=file_digest(temporary)).save(folder / PARAMETERS_FILE)


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
    """The weights of a variant's levels, first level first; of the first `upto` only. Folders of other names are passed over."""
    found = {}
    for path in folder.glob(f"level*/{WEIGHTS_FILE}"):
        if level := LEVEL_FOLDER.fullmatch(path.parent.name):
            found[int(level[1])] = path
    return [found[level] for level in sorted(found) if upto is None or level <= upto]


def _nothing_in(folder: Path) -> str:
    """Why there are no weights in a folder, in words."""
    name = folder.absolute().name
    if not folder.is_dir():
        near = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        kind = "a file, and weights are a folder" if folder.exists() else "not there"
        return (
            f"weights {name!r} are {kind}{suggestion(name, near)}; train the variant first (03_train), or give a folder "
            f"with level1/{WEIGHTS_FILE} in it"
        )
    if (folder / WEIGHTS_FILE).exists():
        return f"{name}/ is one level of some weights: give the folder above it"
    odd = sorted(path.name for path in folder.glob("level*") if not LEVEL_FOLDER.fullmatch(path.name))
    held = f" (but {', '.join(odd[:3])})" if odd else ""
    return f"{name}/ holds no level1/{WEIGHTS_FILE}{held}: train the variant first (03_train), or give another folder"


def _require_cascade(found: Sequence[Path], parameters: Sequence[SegmentorParameters], upto: int | None) -> None:
    """Raise ValueError unless these are the levels of one variant, trained for one another."""
    first, last = parameters[0], parameters[-1]
    folder = found[0].parents[1].absolute().name
    wanted = levels_of(last.variant)[:upto]
    there = [int(path.parent.name.removeprefix("level")) for path in found]
    if len(there) != len(wanted) or there != list(range(1, len(wanted) + 1)):
        raise ValueError(
            f"{folder}/ holds levels {there}, {last.variant} needs 1 to {len(wanted)}: "
            "train the missing ones, and move others away"
        )
    for path, p, (variant, level) in zip(found, parameters, wanted, strict=True):
        if (p.variant, p.level) != (variant, level):
            raise ValueError(
                f"{shown(path)} is level {p.level} of {p.variant} by its parameters, and level {level} of {variant} is "
                f"expected there: {COPY_AGAIN}"
            )
        same = (p.spatial_dims, p.outline, p.preparation) == (first.spatial_dims, first.outline, first.preparation)
        if not same:
            raise ValueError(
                f"{shown(path)} was trained on other grids or outlines than level 1 beside it: {COPY_AGAIN}"
            )


def _load_level(path: Path, parameters: SegmentorParameters) -> nn.Module:
    """Raises ValueError for a file that is damaged, of another training or of another network."""
    _require_safetensors(path)
    if not VARIANTS[parameters.variant].network:
        with torch.device("meta"):  # a width that the file has not takes no memory
            _require_fit(path, _build(parameters), parameters)
    net = _build(parameters)
    _require_fit(path, net, parameters)
    if parameters.weights_digest not in ("", file_digest(path)):
        raise ValueError(
            f"{shown(path)} is not the file that {PARAMETERS_FILE} beside it was written with (its checksum differs): "
            f"{COPY_AGAIN}, both of them"
        )
    tensors = load_file(path)
    _require_finite(tensors, path)
    net.load_state_dict(tensors)
    return net


def _build(parameters: SegmentorParameters) -> nn.Module:
    return build_level(parameters.variant, parameters.spatial_dims, parameters.training)


def _require_safetensors(path: Path) -> None:
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with safe_open(path, "pt"):
            return
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{shown(path)} is damaged, or no safetensors ({error}): {COPY_AGAIN}") from error


def _require_fit(path: Path, net: nn.Module, parameters: SegmentorParameters) -> None:
    """Raise ValueError where names, shapes or types of the tensors in a file are not those of the network."""
    wanted = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    given, types = {}, {}
    with safe_open(path, "pt") as stored:
        for name in stored.keys():  # noqa: SIM118 (it is no mapping)
            part = stored.get_slice(name)
            given[name], types[name] = part.get_shape(), part.get_dtype()

    said = ""
    if missing := sorted(wanted.keys() - given.keys()):
        said = f"lacks {len(missing)} of {len(wanted)} tensors, such as {missing[0]}"
    elif more := sorted(given.keys() - wanted.keys()):
        said = f"holds {len(more)} tensors that the network has not, such as {more[0]}"
    elif other := [name for name in wanted if wanted[name] != given[name]]:
        said = f"has {other[0]} of shape {given[other[0]]} and not {wanted[other[0]]}"
    elif odd := [name for name in wanted if types[name] not in REAL_NUMBERS]:
        said = f"has {odd[0]} as {types[odd[0]]}, which is no real number"
    if said:
        network = f"{parameters.variant} in {parameters.spatial_dims}D of width {parameters.training.width}"
        raise ValueError(
            f"{shown(path)} {said}: it is not of {network}, as {PARAMETERS_FILE} beside it says; {COPY_AGAIN}"
        )


def _require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{shown(path)} has NaN or infinite weights in {name}: train again, or {COPY_AGAIN}")
