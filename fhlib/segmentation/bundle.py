"""A segmentor as a MONAI bundle: `python -m monai.bundle run` segments a folder of volumes.

The bundle holds the weights as they ship, and its configuration calls `SegmentHead`. So it needs fhlib installed, gives
fhlib's masks, and does not depend on how many levels there are.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fhlib import __version__
from fhlib.files import write_json, write_text
from fhlib.images.volume import Volume
from fhlib.models.parameters import PARAMETERS_FILE
from fhlib.models.weights import weights_files, weights_folder
from fhlib.segmentation.quality import CALIBRATION
from fhlib.segmentation.segmentor import Segmentor, load_segmentor

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
PACKAGES = ("monai", "torch", "numpy", "nibabel")
RESEARCH_ONLY = "For research only, not a medical device."


class SegmentHead:
    """A MONAI dictionary transform: the mask of a volume, in its own geometry.

    Args:
        folder: of the weights, or their name, as for `load_segmentor`.
        key: of the image, a MetaTensor (1, x, y, z) as `LoadImaged` gives it with `ensure_channel_first`.
        result: key of the mask, uint8.
    """

    def __init__(self, folder: Path | str, key: str = "image", result: str = "pred") -> None:
        self.segmentor, self.key, self.result = load_segmentor(folder), key, result

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The dictionary with the mask; ValueError for an image of several channels."""
        from monai.data import MetaTensor  # seconds to import

        image = data[self.key]
        mask = self.segmentor.segment(volume_of(np.asarray(image), np.asarray(image.affine))).mask
        # a new tensor keeps its own affine: saving would transform a shared one
        return dict(data) | {self.result: MetaTensor(mask.array.T[None].copy(), image.affine.clone(), dict(image.meta))}


def volume_of(image: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> Volume:
    """MONAI's image as a volume.

    Args:
        image: (1, x, y, z).
        affine: (4, 4), from voxels to mm in RAS; ITK's x and y, of LPS, point the other way.

    Raises ValueError for several channels, or axes that are not at right angles.
    """
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"the image has shape {image.shape}, expected (1, x, y, z): give one volume of grey levels")
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]  # (3, 4)
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    direction = tuple((lps[:, :3] / spacing).ravel().tolist())
    return Volume(image[0].T, tuple(spacing[::-1].tolist()), tuple(lps[:, 3].tolist()), direction)


def write_bundle(folder: Path, destination: Path) -> Path:
    """Write a variant's folder as a MONAI bundle: `configs/`, `docs/README.md` and, in `models/`, the weights.

    Appears whole or not at all; what `destination` held is replaced where it was a bundle. Raises FileExistsError where it
    holds something else, ValueError for a 2D segmentor, and as `load_segmentor` does.
    """
    folder = weights_folder(folder)
    segmentor = load_segmentor(folder)
    if segmentor.parameters.spatial_dims != 3:
        raise ValueError("a bundle is of a segmentor of volumes, and this one is of 2D images: give another")
    if destination.is_file():
        raise FileExistsError(f"{destination.name} is a file: name a folder")
    if destination.exists() and any(destination.iterdir()) and not (destination / "configs/inference.json").exists():
        raise FileExistsError(f"{destination.name}/ holds something else than a bundle: name another folder")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=destination.parent) as place:
        staged = Path(place) / "bundle"
        for path in weights_files(folder):
            level = staged / "models" / path.parent.name
            level.mkdir(parents=True)
            shutil.copyfile(path, level / path.name)
            shutil.copyfile(path.with_name(PARAMETERS_FILE), level / PARAMETERS_FILE)
        if (folder / CALIBRATION).exists():
            shutil.copyfile(folder / CALIBRATION, staged / "models" / CALIBRATION)
        (staged / "configs").mkdir()
        write_json(_metadata(segmentor, folder.name), staged / "configs" / "metadata.json")
        write_json(INFERENCE, staged / "configs" / "inference.json")
        (staged / "docs").mkdir()
        write_text(_readme(segmentor, folder.name), staged / "docs" / "README.md")
        if destination.exists():
            shutil.rmtree(destination)
        staged.replace(destination)
    return destination


INFERENCE = {
    "imports": ["$import pathlib", "$import sys"],
    # MONAI puts the folder above `configs` second on the path
    "bundle_root": "$next((p for p in sys.path[1::-1] if pathlib.Path(p, 'configs', 'inference.json').is_file()), '.')",
    "dataset_dir": "$@bundle_root + '/data'",
    "output_dir": "$@bundle_root + '/eval'",
    "pattern": "*.nii.gz",
    "transforms": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
            {"_target_": "fhlib.segmentation.bundle.SegmentHead", "folder": "$@bundle_root + '/models'"},
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "@output_dir",
                "output_postfix": "mask",
                "output_dtype": "uint8",
                "resample": False,
                "separate_folder": False,
            },
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': str(path)} for path in sorted(pathlib.Path(@dataset_dir).glob(@pattern))]",
        "transform": "@transforms",
    },
    "run": ["$[None for _ in @dataset]"],
}
"""The configuration that `monai.bundle run` follows; `dataset_dir`, `output_dir` and `pattern` can be given with it."""


def _metadata(segmentor: Segmentor, name: str) -> dict[str, Any]:
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    structure = "whole head, to the skin" if segmentor.outline == "skin" else "outer skull, filled"
    grey = {"type": "image", "format": "magnitude", "modality": "US", "num_channels": 1, "dtype": "float32"}
    shape = {"spatial_shape": ["*", "*", "*"], "is_patch_data": False}
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: "written by fhlib export --bundle"},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"].partition("+")[0],
        "numpy_version": versions["numpy"],
        "required_packages_version": {"fhlib": __version__, "nibabel": versions["nibabel"]},
        "name": f"fhlib {name}",
        "task": f"Segmentation of the fetal {structure}, in 3D ultrasound",
        "description": f"{segmentor.parameters.variant} with its quality rules, run by fhlib. {RESEARCH_ONLY}",
        "authors": "the fhlib developers",
        "copyright": "Copyright the fhlib developers, Apache-2.0",
        "intended_use": f"{RESEARCH_ONLY} Look at every outline.",
        "references": ["Yang et al. 2020, Hybrid Attention for Automatic Segmentation of Whole Fetal Head"],
        "network_data_format": {
            "inputs": {"image": {**grey, **shape, "value_range": [], "channel_def": {"0": "image"}}},
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": 1,
                    "dtype": "uint8",
                    **shape,
                    "value_range": [0, 1],
                    "channel_def": {"0": structure},
                }
            },
        },
    }


def _readme(segmentor: Segmentor, name: str) -> str:
    return f"""# fhlib {name}

{RESEARCH_ONLY} {segmentor.parameters.variant}, {len(segmentor.cascade.levels)} level(s).

```
pip install fhlib=={__version__} fire
python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS --output_dir MASKS
```

SCANS holds 3D ultrasound volumes as NIfTI; for other formats that MONAI reads add `--pattern "*.nrrd"`.
Each mask is written in its volume's geometry. It is the one that `fhlib.load_segmentor` gives.
fhlib's own command also gives sizes, an interval and flags: `fhlib segment SCANS RESULTS`.
"""
