"""Features of a run's cases, or of any volume, by every model at every context level: what the explorer and the shares look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fhlib.files import progress
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume
from fhlib.models.cascade import Cascade
from fhlib.models.inputs import label_to_network_grid
from fhlib.models.weights import load_cascade
from fhlib.networks.features import Features, attention_modules
from fhlib.study.run import Study, open_cohort, test_cases
from fhlib.variants import VARIANTS


class ExploredCase(NamedTuple):
    """A scan as the models see it: features by the model's name, and the reference at network resolution (None: not known)."""

    name: str
    models: dict[str, Features]
    reference: Volume | None


class CaseReader:
    """Reads cases of a run and computes their features. A cascade counts as one model for each of its context levels.

    A variant that is the first level of another one named is shown as that level and not twice; 2D networks on volumes have another
    grid and no attention, and are left out. Maps are memory-mapped. Raises FileNotFoundError where a variant has not been trained.
    """

    def __init__(self, study: Study, variants: Sequence[str]) -> None:
        self.study = study
        self.cohort, self.table = open_cohort(study)
        bases = {VARIANTS[name].base for name in variants}
        names = [name for name in dict.fromkeys(variants) if name not in bases]
        loaded = {name: load_cascade(study.model_folder(name)) for name in names}
        self.cascades = {name: cascade for name, cascade in loaded.items() if not cascade.slices}

    @property
    def models(self) -> dict[str, tuple[Cascade, int]]:
        """Cascade and index of the level by the name that is shown: the variant's, and where it has several its level."""
        return {
            f"{name}, level {level + 1}" if len(cascade.levels) > 1 else name: (cascade, level)
            for name, cascade in self.cascades.items()
            for level in range(len(cascade.levels))
        }

    @cached_property
    def test_cases(self) -> list[str]:
        """Test cases with a head and a label, in the manifest's order."""
        rows = test_cases(self.table)
        return rows.loc[rows["label"] != "", "case"].tolist()

    @property
    def steps(self) -> int:
        """How often `seen` is called for one case."""
        return sum(max(1, len(attention_modules(loaded.levels[level]))) for loaded, level in self.models.values())

    def read(self, case: str, seen: Callable[[str], None] | None = None) -> ExploredCase:
        """A case of the run with its reference. `seen` is called with the name of each model and module that is done."""
        row = self.table.set_index("case").loc[case]
        reference = None
        if row["label"]:
            reference = label_to_network_grid(self.cohort.read_label(case), self.study.preset.preparation)
        return ExploredCase(case, self._features(self.cohort.read_image(case), seen), reference)

    def read_file(self, path: Path | str, seen: Callable[[str], None] | None = None) -> ExploredCase:
        """Any volume or image that SimpleITK reads, without a reference; raises as `read_volume`, and ValueError for other dimensions."""
        volume = read_volume(path)
        if volume.ndim != self.cohort.spatial_dims:
            raise ValueError(f"the models read {self.cohort.spatial_dims}D images, the file holds a {volume.ndim}D one")
        return ExploredCase(Path(path).name.split(".")[0], self._features(volume, seen), None)

    def read_showing_progress(self, case: str, file: Path | str = "") -> ExploredCase:
        """`read_file` where a file is given, else `read`, with a text bar that counts the modules that are done."""
        with progress((), "features", total=self.steps) as bar:
            return (
                self.read_file(file, lambda _name: bar.update())
                if file
                else self.read(case, lambda _name: bar.update())
            )

    def load(self, case: str, seen: Callable[[str], None]) -> tuple[dict[str, Features], Volume | None]:
        """`read` in the form that the explorer asks for: models and reference."""
        explored = self.read(case, seen)
        return explored.models, explored.reference

    def _features(self, volume: Volume, seen: Callable[[str], None] | None) -> dict[str, Features]:
        found = {}
        for name, (cascade, level) in self.models.items():
            # nameless files in the run's folder: memory stays free, and the disk is free again when the arrays go
            found[name] = cascade.features(volume, level, self.study.folder, seen)
            if seen is not None and not found[name].attention:
                seen(name)
        return found


def cases_of(table: pd.DataFrame, splits: Sequence[str], most: int) -> list[str]:
    """At most `most` cases with a label of the first of `splits` that has any, in the manifest's order."""
    for split in splits:
        rows = table[(table["split"] == split) & (table["label"] != "")]
        if len(rows):
            return rows["case"].head(most).tolist()
    return []
