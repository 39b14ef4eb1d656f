"""Follow a training in TensorBoard or MLflow while it runs, by Accelerate's trackers.

They are told what the history says, and decide nothing: another tracker makes no training stale. What they write lies in `tracking/` of the
run's folder; `MLFLOW_TRACKING_URI` sends MLflow's elsewhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker

MLFLOW_PLACE = "MLFLOW_TRACKING_URI"


def require_tracker(name: str) -> None:
    """Raises ValueError where a preset names a tracker whose package is not installed."""
    if name and find_spec(name) is None:
        raise ValueError(
            f'tracker is {name!r}, and that package is not installed: python -m pip install {name}, or set tracker to ""'
        )


@dataclass(frozen=True)
class Tracking:
    """Which tracker follows a training, `tensorboard`, `mlflow` or one that is made already; the folder of the logs; what it is named."""

    tracker: str | GeneralTracker
    folder: Path
    run: str
    training: str

    @property
    def options(self) -> dict[str, Any]:
        """What an Accelerator is made with."""
        return {"log_with": self.tracker, "project_dir": str(self.folder)}

    def start(self, accelerator: Accelerator, settings: Mapping[str, Any], step: int) -> None:
        """Begin, or go on after `step` steps: what was told of later ones is taken back where the tracker can."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.tracker == "mlflow":
            os.environ.setdefault(MLFLOW_PLACE, f"sqlite:///{(self.folder / 'mlflow.db').absolute()}")
        project = self.run if self.tracker == "mlflow" else self.training
        given = {"tensorboard": {"purge_step": step + 1}, "mlflow": {"run_name": self.training}}
        plain = {
            name: value if isinstance(value, int | float | str) else str(value) for name, value in settings.items()
        }
        accelerator.init_trackers(project, None if step else plain, given)


def told(row: Mapping[str, Any]) -> dict[str, float]:
    """What a tracker is told of a row of the history: its numbers."""
    numbers = {name: value for name, value in row.items() if name != "step" and isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
