"""What the explorer and the shares look at: features of a run's cases, or of any volume.

There are features by every model at every context level.
"""

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
    """A scan as the models see it: features by the model's name, and the reference at network resolution.

    `scan` and `label` are the scan and its true mask at their own resolution. What is not known is None.
    """

    name: str
    models: dict[str, Features]
    reference: Volume | None = None
    scan: Volume | None = None
    label: Volume | None = None

    @property
    def attentive(self) -> list[str]:
        """Names of the models that have attention modules."""
        return [name for name, features in self.models.items() if features.attention]

    @property
    def size_mb(self) -> float:
        """Of all features."""
        return sum(features.size_bytes for features in self.models.values()) / 1e6


class CaseReader:
    """Reads cases of a run and computes their features. A cascade counts as one model for each of its context levels.

    A variant that is the first level of another one named is shown as that level and not twice. Left out are 2D networks
    on volumes and levels that read boxes, which have another grid. Maps are memory-mapped.

    Raises FileNotFoundError where a variant has not been trained.
    """

    def __init__(self, study: Study, variants: Sequence[str]) -> None:
        self.study = study
        self.cohort, self.table = open_cohort(study)
        bases = {VARIANTS[name].base for name in variants}
        names = [name for name in dict.fromkeys(variants) if name not in bases]
        loaded = {name: load_cascade(study.model_folder(name)) for name in names}
        whole = {name: cascade for name, cascade in loaded.items() if not (cascade.slices or cascade.reads_box)}
        self.cascades = whole

    @property
    def models(self) -> dict[str, tuple[Cascade, int]]:
        """Cascade and index of the level by the name that is shown: `<variant>`, or `<variant>, level <k>`."""
        found = {}
        for name, cascade in self.cascades.items():
            for level in range(len(cascade.levels)):
                shown = f"{name}, level {level + 1}" if len(cascade.levels) > 1 else name
                found[shown] = cascade, level
        return found

    @cached_property
    def test_cases(self) -> list[str]:
        """Test cases with a head and a label, in the manifest's order."""
        rows = test_cases(self.table)
        return rows.loc[rows["label"] != "", "case"].tolist()

    @property
    def has_attention(self) -> bool:
        """Whether any model has attention modules."""
        return any(attention_modules(cascade.levels[level]) for cascade, level in self.models.values())

    @property
    def steps(self) -> int:
        """How often `seen` is called for one case."""
        return sum(max(1, len(attention_modules(loaded.levels[level]))) for loaded, level in self.models.values())

    def read(self, case: str, seen: Callable[[str], None] | None = None) -> ExploredCase:
        """A case of the run with its reference. `seen` is called with the name of each model and module that is done."""
        row = self.table.set_index("case").loc[case]
        label = reference = None
        if row["label"]:
            label = self.cohort.read_label(case)
            reference = label_to_network_grid(label, self.study.preset.preparation)
        scan = self.cohort.read_image(case)
        return ExploredCase(case, self._features(scan, seen), reference, scan, label)

    def read_file(self, path: Path | str, seen: Callable[[str], None] | None = None) -> ExploredCase:
        """Any volume or image that `read_volume` reads, without a reference.

        Raises as `read_volume`, and ValueError for other dimensions than the cohort's.
        """
        volume = read_volume(path)
        if volume.ndim != self.cohort.spatial_dims:
            raise ValueError(f"the models read {self.cohort.spatial_dims}D images, the file holds a {volume.ndim}D one")
        return ExploredCase(Path(path).name.split(".")[0], self._features(volume, seen), scan=volume)

    def read_showing_progress(self, case: str, file: Path | str = "") -> ExploredCase:
        """`read_file` where a file is given, else `read`, with a text bar that counts the modules that are done."""
        with progress((), "features", total=self.steps) as bar:

            def seen(_name: str) -> None:
                bar.update()

            return self.read_file(file, seen) if file else self.read(case, seen)

    def _features(self, volume: Volume, seen: Callable[[str], None] | None) -> dict[str, Features]:
        found = {}
        for name, (cascade, level) in self.models.items():
            # nameless files in the run's folder: memory stays free, and the disk is free again when the arrays go
            found[name] = cascade.features(volume, level, self.study.folder, seen)
            if seen is not None and not found[name].attention:
                seen(name)
        return found


def cases_of(table: pd.DataFrame, splits: Sequence[str], most: int) -> list[str]:
    """Cases with a label of the first split that has any, in the manifest's order.

    Args:
        table: the manifest with splits.
        splits: in order of preference.
        most: how many cases at most.
    """
    for split in splits:
        rows = table[(table["split"] == split) & (table["label"] != "")]
        if len(rows):
            return rows["case"].head(most).tolist()
    return []
