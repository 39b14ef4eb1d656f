"""Everything that made one level's weights, and the names of the files that lie beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fhlib.files import read_json, write_json
from fhlib.models.device import Execution
from fhlib.models.inputs import patch_voxels
from fhlib.presets import Preparation, Training
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


@dataclass(frozen=True)
class SegmentorParameters:
    """Everything that made one level's weights; written beside them as parameters.json.

    `outline`: what they outline, skin or skull. `processes` shared each step, with `batch_size` volumes each.
    """

    variant: str
    level: int
    spatial_dims: int
    preparation: Preparation
    training: Training
    execution: Execution
    fingerprint: str = ""
    outline: str = "skin"
    processes: int = 1

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

        Raises FileNotFoundError, and ValueError for unknown parameters or options that are no longer there.
        """
        content = read_json(path)
        training = content["training"]
        for name, usual in RETIRED.items():
            if (value := training.pop(name, usual)) != usual:
                raise ValueError(
                    f"{path.name}: trained with {name}={value!r}, which fhlib 0.1 no longer has: see CHANGELOG.md"
                )
        return cls(
            **{
                **content,
                "preparation": Preparation(**content["preparation"]),
                "training": Training(**training),
                "execution": Execution(**content["execution"]),
            }
        )
