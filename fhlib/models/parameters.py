"""Everything that made one level's weights, and the names of the files that lie beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from fhlib.files import read_json, write_json
from fhlib.models.device import Execution
from fhlib.models.inputs import patch_voxels
from fhlib.presets import Preparation, Training, suggestion
from fhlib.variants import VARIANTS

WEIGHTS_FILE = "weights.safetensors"
PARAMETERS_FILE = "parameters.json"
HISTORY_FILE = "history.csv"
CHECKPOINT_FILE = "checkpoint.pt"

RETIRED: dict[str, Any] = {
    "attention_unit_mean": False,
    "attention_normalisation": False,
    "attention_learning_rate_factor": 1.0,
    "join": "sum",
}
"""Options of trainings that earlier versions had, with the value that stands for today's only way."""

LARGEST_BYTES = 1_000_000
"""Of a file beside weights: those that fhlib writes have some kilobytes."""
FINEST_SPACING_MM = 0.05
"""No ultrasound resolves less; a grid of a smaller spacing fills the memory."""
FAULTS_SHOWN = 3

Content = TypeVar("Content")


def _known_variant(name: str) -> str:
    if name not in VARIANTS:
        raise ValueError(f"{name!r} is not known{suggestion(name, VARIANTS)}; known: {', '.join(VARIANTS)}")
    return name


def _possible_grid(preparation: Preparation) -> Preparation:
    if preparation.spacing_mm < FINEST_SPACING_MM:
        raise ValueError(f"spacing_mm is {preparation.spacing_mm:g}, which is finer than {FINEST_SPACING_MM} mm")
    return preparation


@dataclass(frozen=True)
class SegmentorParameters:
    """Everything that made one level's weights; written beside them as parameters.json.

    `outline`: what they outline, skin or skull. `processes` shared each step, with `batch_size` volumes each. `weights_digest`: of the
    file of weights (`fhlib.fingerprints.file_digest`), empty where an earlier version wrote none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    variant: Annotated[str, AfterValidator(_known_variant)]
    level: Annotated[int, Field(ge=1)]
    spatial_dims: Annotated[int, Field(ge=2, le=3)]
    preparation: Annotated[Preparation, AfterValidator(_possible_grid)]
    training: Training
    execution: Execution
    fingerprint: str = ""
    outline: Annotated[str, Field(pattern="^(skin|skull)$")] = "skin"
    processes: Annotated[int, Field(ge=1)] = 1
    weights_digest: str = ""

    @property
    def patch(self) -> int | None:
        """Edge of the patches that the network reads, in voxels of its grid; None for whole volumes."""
        edge = VARIANTS[self.variant].patch
        return patch_voxels(self.preparation, edge) if edge and self.spatial_dims == 3 else edge

    def save(self, path: Path) -> None:
        """Write as JSON."""
        content = {
            **asdict(self),
            "preparation": self.preparation.model_dump(),
            "training": self.training.model_dump(),
        }
        write_json(content, path)

    @classmethod
    def load(cls, path: Path) -> SegmentorParameters:
        """Read what `save` wrote, by this version or an earlier one.

        Raises FileNotFoundError, and ValueError, with the file and each fault, for what is no JSON, for parameters that are missing,
        unknown or out of range, and for options that are no longer there.
        """
        content = read_beside_weights(path)
        training = content.get("training")
        if not isinstance(training, dict):
            return validated(cls, content, path)

        for name, usual in RETIRED.items():
            if (value := training.pop(name, usual)) != usual:
                raise ValueError(
                    f"{path.name}: trained with {name}={value!r}, which fhlib 0.1 no longer has: see CHANGELOG.md"
                )
        # the weights that a training began with may be gone since
        start, share = training.get("start_from", ""), training.get("start_share", 0.0)
        possible = isinstance(share, int | float) and 0 <= share < 1
        if not (isinstance(start, str) and start and possible):
            return validated(cls, content, path)
        found = validated(cls, content | {"training": training | {"start_from": "", "start_share": 0.0}}, path)
        return replace(found, training=found.training.model_copy(update={"start_from": start, "start_share": share}))


def shown(path: Path) -> str:
    """A file of weights in messages, with its level and their folder: `head/level1/parameters.json`."""
    return "/".join(path.absolute().parts[-3:])


def read_beside_weights(path: Path) -> dict[str, Any]:
    """The content of a JSON file beside weights.

    Raises FileNotFoundError, and ValueError where it is no JSON, or no mapping.
    """
    if not path.exists():
        raise FileNotFoundError(f"{shown(path)} is missing: copy it from where these weights come from")
    if not path.is_file():
        raise ValueError(f"{shown(path)} is no file: copy it from where these weights come from")
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it has {path.stat().st_size / 1e6:.0f} MB, where some kilobytes are expected")
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__} in place of names with values")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(
            f"{shown(path)} cannot be read ({reason}): copy it again from where these weights come from"
        ) from error
    return content


def validated(kind: type[Content], content: Mapping[str, Any], path: Path) -> Content:
    """A dataclass from a file's content. Raises ValueError that names the file and its faults."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        faults = [_fault(item) for item in error.errors()]
    more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    raise ValueError(
        f"{shown(path)} cannot be used: {'; '.join(faults[:FAULTS_SHOWN])}{more}. "
        "Copy it again from where these weights come from"
    )


def _fault(item: Any) -> str:
    place, said = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
    if item["type"] in ("missing", "missing_argument"):
        return f"{place} is missing"
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is no parameter of this version"
    return f"{place}: {said[:1].lower()}{said[1:]} (got {repr(item['input'])[:40]})"
