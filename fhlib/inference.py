"""Load a segmentor and segment volumes in their own geometry (sections 2.5 and 3.1), with quality flags."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fhlib.augment import distinct_flips
from fhlib.cascade import head_probability, join
from fhlib.device import Execution, inference
from fhlib.features import Features, attention_modules, recording
from fhlib.files import atomic_path, digest, file_digest, progress, read_json, write_csv, write_json
from fhlib.networks.build import build_level
from fhlib.prepare import at_original_resolution, to_network_grid
from fhlib.presets import Prediction, Preparation, Training
from fhlib.quality import (
    CALIBRATION,
    Calibration,
    Evidence,
    agreement_of,
    intensity_features,
    largest_component,
    quality_flags,
    too_small,
)
from fhlib.reach import code_digest
from fhlib.variants import VARIANTS
from fhlib.volume import Volume, read_volume, resample, write_volume

PROBABILITY_STEPS = 255
PATCH_OVERLAP = 0.5
SLICES_AT_ONCE = 8


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
    fingerprint: str
    outline: str = "skin"
    processes: int = 1

    @property
    def patch(self) -> int | None:
        """Edge of the patches that the network reads, in voxels of its grid; None for whole volumes."""
        edge = VARIANTS[self.variant].patch
        return self.preparation.patch_voxels(edge) if edge and self.spatial_dims == 3 else edge

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
        """Read what `save` wrote; raises FileNotFoundError, or ValueError for unknown parameters."""
        content = read_json(path)
        return cls(
            **{
                **content,
                "preparation": Preparation(**content["preparation"]),
                "training": Training(**content["training"]),
                "execution": Execution(**content["execution"]),
            }
        )


@dataclass(frozen=True)
class Segmentation:
    """Result in the volume's own geometry: `mask` (uint8), `probability` of the head (float32, 0-1), volume (nan in 2D), quality flags.

    `interval_ml`: 95 % interval of the volume (NaN without a calibration); `evidence`: what the flags rest on; `outline`: of what the mask
    is, skin or skull.
    """

    mask: Volume
    probability: Volume
    volume_ml: float
    flags: tuple[str, ...]
    interval_ml: tuple[float, float]
    evidence: Evidence
    outline: str


class Segmentor:
    """One variant with its trained context levels."""

    def __init__(
        self,
        levels: Iterable[nn.Module],
        parameters: SegmentorParameters,
        prediction: Prediction | None = None,
        execution: Execution | None = None,
        accelerator: Accelerator | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.parameters, self.calibration = parameters, calibration
        self.prediction = prediction or Prediction()
        self.execution = execution or parameters.execution
        accelerator = accelerator or self.execution.accelerator()
        self.device = accelerator.device
        self.levels = [self.execution.place(net, self.device) for net in levels]
        self.patch = parameters.patch
        self.slices = reads_slices(parameters.variant, parameters.spatial_dims)

    def segment(self, volume: Volume, flips: int | None = None, ga_weeks: float | None = None) -> Segmentation:
        """Segment one volume (or single image) of any size and geometry.

        The probability is resampled to the volume's grid and thresholded there (not the coarse mask, which would be rougher). With `flips`
        of 2 or more it is the mean over so many flipped copies, whose masks also tell how far the result can be trusted (default: as
        calibrated, else 1: the scan as it is). With a calibration a mask too small for a head is emptied. `ga_weeks` lets a size that is
        implausible for the age be flagged. Raises ValueError where the volume's dimensions are not the segmentor's, or its intensities
        are not finite.
        """
        if volume.ndim != self.parameters.spatial_dims:
            raise ValueError(
                f"this segmentor was trained on {self.parameters.spatial_dims}D images, the image is {volume.ndim}D: choose another model"
            )
        image = self.read(volume)
        copies = self._copies(image.array, flips or (self.calibration.flips if self.calibration else 1))
        found = image.with_array(np.asarray(np.mean(copies, axis=0, dtype=np.float32)))
        probability = found if self.slices else resample(found, like=volume)
        foreground = probability.array >= self.prediction.threshold
        largest = largest_component(foreground)
        mask = largest if self.prediction.largest_component else foreground
        if self.calibration is not None and too_small(volume, mask):
            mask = np.zeros_like(mask)
        masks = [copy >= self.prediction.threshold for copy in copies]
        if self.prediction.largest_component:
            masks = [largest_component(copy) for copy in masks]
        evidence = Evidence(
            confidence=float(probability.array[mask].mean()) if mask.any() else math.nan,
            agreement=agreement_of(masks),
            copies_ml=tuple(int(copy.sum()) * image.voxel_volume_ml for copy in masks),
            intensities=intensity_features(image.array),
        )
        outline, volume_ml = self.parameters.outline, int(mask.sum()) * volume.voxel_volume_ml
        stray = int(foreground.sum()) - int(largest.sum())
        flags = quality_flags(volume, mask, evidence, stray, self.calibration, ga_weeks, outline)
        calibration = self.calibration
        interval = calibration.interval(volume_ml, evidence.copies_ml) if calibration else (math.nan, math.nan)
        result = volume.with_array(mask.astype(np.uint8))
        return Segmentation(result, probability, volume_ml, flags, interval, evidence, outline)

    def _copies(self, image: NDArray[np.floating[Any]], count: int) -> list[NDArray[np.float32]]:
        """Probability of the image and of flipped copies of it, flipped back: first as it is, then about single axes, then about more."""
        flips = distinct_flips(image.ndim)
        if not 1 <= count <= len(flips):
            raise ValueError(f"flips is {count}: there are 1 to {len(flips)} in {image.ndim}D")
        return [np.flip(self.probability(np.ascontiguousarray(np.flip(image, axes))), axes) for axes in flips[:count]]

    def read(self, volume: Volume) -> Volume:
        """What the network reads of a volume: on its own grid, or in slices of the original resolution."""
        return at_original_resolution(volume) if self.slices else to_network_grid(volume, self.parameters.preparation)

    def probability(
        self, image: NDArray[np.floating[Any]], upto: int | None = None, context: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Head probability of a prepared image (d, h, w) after all context levels, or the first `upto`.

        `context`: probability that the first of this segmentor's levels reads, where it is not level 1.
        """
        x, probability = self._tensor(image), None if context is None else self._tensor(context)
        for net in self.levels[:upto]:
            with inference(net), self.execution.autocast(self.device):
                joined = join(x, probability, self.parameters.training.join)
                probability = head_probability(self._logits(net, joined))
        assert probability is not None
        return probability[0, 0].cpu().numpy()

    def features(
        self,
        volume: Volume,
        level: int = -1,
        folder: Path | None = None,
        seen: Callable[[str], None] | None = None,
    ) -> Features:
        """Probability and feature maps (Eq. 3 and 4) of one context level (index into the levels; -1: the last).

        `folder`: where the maps are memory-mapped, else they stay in memory; `seen` is called with each module's name.
        """
        image = self.read(volume)
        index = range(len(self.levels))[level]
        if self.slices or self.patch is not None:  # pieces of the volume by themselves: there is no one map to show
            return Features(image, image.with_array(self.probability(image.array, upto=index + 1)), {})
        x = self._tensor(image.array)
        if index:
            before = self._tensor(self.probability(image.array, upto=index))
            x = join(x, before, self.parameters.training.join)
        net = self.levels[index]
        with inference(net), self.execution.autocast(self.device), recording(net, folder, seen) as (attention, shrunk):
            output = net(self.execution.place(x, self.device), with_attention=False)
        probability = head_probability(output.logits)[0, 0].cpu().numpy()
        gain = next((module.gain for module in attention_modules(net).values()), 1)
        return Features(image, image.with_array(probability), attention, shrunk, gain)

    def _tensor(self, array: NDArray[np.floating[Any]]) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)[None, None]

    def _logits(self, net: nn.Module, x: Tensor) -> Tensor:
        forward = partial(net, with_attention=False)
        if self.slices:
            axis = 2 + slice_axis(x.shape[2:])
            stack = x[0].movedim(axis - 1, 0).split(SLICES_AT_ONCE)
            logits = torch.cat([forward(self.execution.place(part, self.device)).logits for part in stack])
            return logits.movedim(0, axis - 1)[None]
        if self.patch is None:
            return forward(self.execution.place(x, self.device)).logits
        from monai.inferers import sliding_window_inference  # seconds to import, and only patches need it

        roi = (self.patch,) * (x.dim() - 2)
        stitched = sliding_window_inference(x, roi, 1, lambda part: forward(part).logits, overlap=PATCH_OVERLAP)
        return cast(Tensor, stitched)


def reads_slices(variant: str, spatial_dims: int) -> bool:
    """Whether the variant is a 2D network on volumes."""
    return spatial_dims == 3 and VARIANTS[variant].spatial_dims == 2


def slice_axis(shape: Sequence[int]) -> int:
    """Axis across which a volume is cut into slices: its shortest. In the paper's box these are the planes of acquisition; the paper
    does not say which it took.
    """
    return int(np.argmin(shape))


def load_segmentor(
    folder: Path | str,
    prediction: Prediction | None = None,
    execution: Execution | None = None,
    upto: int | None = None,
) -> Segmentor:
    """Load a variant's folder (`level1/`, `level2/`, ... each with weights.safetensors and parameters.json).

    `execution` overrides how it was trained to run, adapted to this machine. `upto` loads the first levels only. Raises
    FileNotFoundError for a folder without weights, ValueError where a level is missing.
    """
    folder = Path(folder)
    found = _weights(folder, upto)
    if not found:
        raise FileNotFoundError(
            f"{folder.name}/ holds no level1/weights.safetensors: train the variant first (03_train)"
        )
    parameters = [SegmentorParameters.load(path.with_name("parameters.json")) for path in found]
    expected = upto or VARIANTS[parameters[-1].variant].levels
    if [p.level for p in parameters] != list(range(1, expected + 1)):
        raise ValueError(
            f"{folder.name}/ holds levels {[p.level for p in parameters]}, {parameters[-1].variant} needs "
            f"1 to {expected}: train the missing ones"
        )
    levels = [_load_level(path, p) for path, p in zip(found, parameters, strict=True)]
    execution = execution or parameters[-1].execution.here()
    return Segmentor(levels, parameters[-1], prediction, execution, calibration=Calibration.load(folder))


def _weights(folder: Path, upto: int | None) -> list[Path]:
    found = sorted(folder.glob("level*/weights.safetensors"), key=lambda path: int(path.parent.name[5:]))
    return [path for path in found if upto is None or int(path.parent.name[5:]) <= upto]


MEASURED_BESIDE = ("coverage.csv", "flags.csv")


def export_segmentor(folder: Path | str, destination: Path | str) -> None:
    """Copy a variant's folder to one that ships: weights in half precision, parameters, calibration; `load_segmentor` reads both.

    Raises as `load_segmentor` does, before anything is written.
    """
    load_segmentor(folder)
    for name in (CALIBRATION, *MEASURED_BESIDE):  # of other weights
        (Path(destination) / name).unlink(missing_ok=True)
    for level in Path(destination).glob("level*"):
        shutil.rmtree(level)
    for path in Path(folder).glob("level*/weights.safetensors"):
        target = Path(destination) / path.parent.name / path.name
        half = {name: tensor.half() for name, tensor in load_file(path).items()}
        with atomic_path(target.with_name("parameters.json")) as temporary:
            shutil.copyfile(path.with_name("parameters.json"), temporary)
        with atomic_path(target) as temporary:
            save_file(half, temporary)
    if calibration := Calibration.load(Path(folder)):
        calibration.save(Path(destination))


def _load_level(path: Path, parameters: SegmentorParameters) -> nn.Module:
    net = build_level(parameters.variant, parameters.level, parameters.spatial_dims, parameters.training)
    net.load_state_dict(load_file(path))
    return net


def predict_cases(
    segmentor: Segmentor, cases: Iterable[Mapping[str, Any]], root: Path, folder: Path, model_digest: str
) -> pd.DataFrame:
    """Segment every case of a manifest and write mask and probability beside a row a case; predictions.csv comes last.

    `cases`: manifest rows (case, subject, split, image relative to `root`). The probability is stored as 0-255 (steps of 0.004), in the
    image's own geometry. A case that is complete for the same model, parameters and image is kept, so a killed prediction
    continues. A mask without a voxel has status `missed`.
    """
    code = code_digest("fhlib.inference")
    rows = []
    cases = list(cases)
    for case in progress(cases, "segment"):
        source = root / case["image"]
        content = (
            file_digest(source) if source.is_file() else digest([file_digest(f) for f in sorted(source.iterdir())])
        )
        fingerprint = digest(code, model_digest, segmentor.prediction.model_dump(), content)
        stamp = folder / f"{case['case']}.json"
        known = read_json(stamp) if stamp.exists() else {}
        files = [folder / known["row"][kind] for kind in ("mask", "probability")] if known else []
        if known.get("fingerprint") != fingerprint or not all(file.exists() for file in files):
            stamp.unlink(missing_ok=True)
            known = {"fingerprint": fingerprint, "row": _predict_case(segmentor, case, source, folder)}
            write_json(known, stamp)
        rows.append({**{key: case[key] for key in ("case", "subject", "split")}, **known["row"]})
    frame = pd.DataFrame(
        rows, columns=["case", "subject", "split", "status", "volume_ml", "flags", "mask", "probability"]
    )
    write_csv(frame, folder / "predictions.csv")
    return frame


def _predict_case(segmentor: Segmentor, case: Mapping[str, Any], source: Path, folder: Path) -> dict[str, Any]:
    result = segmentor.segment(read_volume(source))
    names = {kind: f"{case['case']}_{kind}.nrrd" for kind in ("mask", "probability")}
    write_volume(result.mask, folder / names["mask"])
    steps = np.rint(result.probability.array * PROBABILITY_STEPS).astype(np.uint8)
    write_volume(result.probability.with_array(steps), folder / names["probability"])
    return {
        "status": "found" if result.mask.array.any() else "missed",
        "volume_ml": None if np.isnan(result.volume_ml) else round(result.volume_ml, 4),
        "flags": "; ".join(result.flags),
        **names,
    }


def read_prediction(folder: Path, row: Mapping[str, Any]) -> tuple[Volume, Volume]:
    """Mask (bool) and probability (float32, 0-1) of a row of predictions.csv."""
    mask, steps = read_volume(folder / row["mask"]), read_volume(folder / row["probability"])
    probability = steps.with_array(steps.array.astype(np.float32) / PROBABILITY_STEPS)
    return mask.with_array(mask.array > 0), probability


def model_digest(folder: Path, upto: int | None = None) -> str:
    """Hash of the weights of all levels of a variant's folder, or of the first `upto`."""
    return digest([file_digest(path) for path in _weights(folder, upto)])
