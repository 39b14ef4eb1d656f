"""Fit one segmentor at one context level (sections 2.3, 2.5 and 3.1)."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from fhlib.augment import augment
from fhlib.cascade import join
from fhlib.device import Execution
from fhlib.files import atomic_path, digest, progress, read_json, write_csv
from fhlib.inference import Segmentor, SegmentorParameters, load_segmentor, model_digest
from fhlib.losses import composite_loss
from fhlib.networks.build import build_network, initialise
from fhlib.prepare import PreparedCases
from fhlib.presets import Training
from fhlib.reach import code_digest
from fhlib.variants import VARIANTS

WEIGHTS, PARAMETERS, HISTORY, CHECKPOINT = "weights.safetensors", "parameters.json", "history.csv", "checkpoint.pt"
MISSING = math.nan

Watch = Callable[[pd.DataFrame], None]


class TrainingDiverged(RuntimeError):
    """The loss of a case is not finite; the last checkpoint before it is kept."""


def fit(
    cases: PreparedCases,
    parameters: SegmentorParameters,
    folder: Path,
    previous: Path | None = None,
    watch: Watch | None = None,
) -> pd.DataFrame:
    """Train one segmentor of `parameters.variant` at `parameters.level`; write its weights, parameters and history to `folder`.

    Returns the history, a row a step: step, case, loss and its parts, learning_rate, val_dsc (where validated,
    at the network's resolution).
    A training that was interrupted continues from its last checkpoint, to the same weights bit for bit on the CPU (the last
    checkpoint stays, so that lost weights are written again without training); one that is
    complete for the same data, parameters and code returns at once. The last weights are kept: nothing is selected by validation.

    A level above 1 reads image + probability of the level before (Eq. 5), predicted once for each training case **in sample**, by the
    model that trained on it, as in the paper; with `start_from_previous_level` it also starts from that level's weights (the paper draws
    new ones). Raises TrainingDiverged, and ValueError where the variant cannot be trained on these cases.
    """
    variant = parameters.variant
    if VARIANTS[variant].spatial_dims not in (None, cases.spatial_dims):
        raise ValueError(
            f"{variant} reads {VARIANTS[variant].spatial_dims}D images, the cohort is {cases.spatial_dims}D: "
            "take it out of the preset's variants"
        )
    if not cases.cases("train"):
        raise ValueError("no case has split 'train': mark some in cohort.csv, or leave the column empty")
    if (folder / WEIGHTS).exists() and read_json(folder / PARAMETERS)["fingerprint"] == parameters.fingerprint:
        return pd.read_csv(folder / HISTORY)
    return _Trainer(cases, parameters, folder, previous).run(watch)


def fingerprint_of(
    variant: str, level: int, cases: PreparedCases, training: Training, execution: Execution, previous: Path | None
) -> str:
    """Hash of all that decides the weights. How often one validates or saves does not."""
    chosen = training.model_dump(exclude={"validate_every", "checkpoint_every"})
    row = repr(VARIANTS[variant])
    before = model_digest(previous) if previous else ""
    return digest(row, level, cases.fingerprint, chosen, repr(execution), before, code_digest("fhlib.training"))


class _Trainer:
    """State of one training: network, optimiser, schedule, step and history."""

    def __init__(
        self,
        cases: PreparedCases,
        parameters: SegmentorParameters,
        folder: Path,
        previous: Path | None,
    ) -> None:
        self.cases, self.parameters, self.folder, self.previous = cases, parameters, folder, previous
        self.contexts: dict[str, NDArray[np.float32]] = {}
        self.training_cases = cases.cases("train")
        training, execution = parameters.training, parameters.execution
        self.accelerator: Accelerator = execution.accelerator()
        torch.manual_seed(training.seed)
        net = build_network(parameters.variant, training.width, cases.spatial_dims)
        initialise(net, training.initialisation)
        if previous is not None and training.start_from_previous_level:
            net.load_state_dict(load_segmentor(previous, execution=execution).levels[-1].state_dict())
        net = execution.place(net, self.accelerator.device)
        optimiser = torch.optim.Adam(
            net.parameters(), training.learning_rate, betas=(training.beta1, 0.999), weight_decay=training.l2
        )
        self.net, self.optimiser = self.accelerator.prepare(net, optimiser)
        self.schedule = _schedule(self.optimiser, training)
        self.step = 0
        self.history: list[dict[str, Any]] = []

    def run(self, watch: Watch | None) -> pd.DataFrame:
        self._resume()
        training, execution = self.parameters.training, self.parameters.execution
        if self.previous is not None and self.step < training.steps:
            self.contexts = _predict_contexts(self.cases, self.previous, execution, self.folder / "contexts")
        description = f"{self.parameters.variant} level {self.parameters.level}"
        bar = progress(range(self.step, training.steps), description, total=training.steps, initial=self.step)
        for _ in bar:
            row = self._train_step()
            self.step += 1
            last = self.step == training.steps
            if last or self.step % training.validate_every == 0:
                row["val_dsc"] = self._validate()
                bar.set_postfix_str(f"loss {row['loss']:.3f}, val DSC {row['val_dsc']:.3f}")
            self.history.append(row)
            if watch is not None and (last or self.step % training.validate_every == 0):
                watch(pd.DataFrame(self.history))
            if last or self.step % training.checkpoint_every == 0:
                self._save_checkpoint()
        return self._finish()

    def _train_step(self) -> dict[str, Any]:
        training, rank = self.parameters.training, self.accelerator.process_index
        start = (self.step * self.accelerator.num_processes + rank) * training.batch_size
        names = [self._case(position) for position in range(start, start + training.batch_size)]
        samples = [self._sample(name, start + i) for i, name in enumerate(names)]
        images, labels = _batch(samples)
        x = self.parameters.execution.place(images, self.accelerator.device)
        y = labels.to(self.accelerator.device, non_blocking=True)
        with self.accelerator.autocast():
            output = self.net(x, with_attention=False)
        loss, parts = composite_loss(output, y, training.dice_weight)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the loss became {float(loss)} at step {self.step} on {', '.join(names)}: look at that case, or lower learning_rate "
                f"({training.learning_rate}); the checkpoint before it is kept"
            )
        learning_rate = self.optimiser.param_groups[0]["lr"]
        self.accelerator.backward(loss)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        cases = "; ".join(names)
        return {
            "step": self.step + 1,
            "case": cases,
            "loss": float(loss.detach()),
            **parts,
            "learning_rate": learning_rate,
            "val_dsc": MISSING,
        }

    def _case(self, position: int) -> str:
        """Each epoch is a seeded permutation of the training cases, so the position alone is the sampler's state."""
        names = self.training_cases
        epoch, place = divmod(position, len(names))
        return names[int(np.random.default_rng([self.parameters.training.seed, epoch]).permutation(len(names))[place])]

    def _sample(self, name: str, position: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rng = np.random.default_rng([self.parameters.training.seed, 1, position])
        image, label, context = augment(
            np.asarray(self.cases.image(name)),
            np.asarray(self.cases.label(name)),
            self.contexts.get(name),
            rng,
            self.parameters.training,
        )
        image = join(image, context)
        patch = VARIANTS[self.parameters.variant].patch
        return (image, label) if patch is None else _random_patch(image, label, patch, rng)

    def _validate(self) -> float:
        """Mean DSC over the validation cases at the network's resolution; nan without any."""
        names = self.cases.cases("val")
        net = self.accelerator.unwrap_model(self.net)
        segmentor = Segmentor([net], self.parameters, accelerator=self.accelerator)
        scores = []
        for name in names:
            label = np.asarray(self.cases.label(name)) > 0
            found = segmentor.probability(join(np.asarray(self.cases.image(name)), self.contexts.get(name))) >= 0.5
            total = int(found.sum()) + int(label.sum())
            scores.append(2 * int((found & label).sum()) / total if total else 1.0)
        return float(np.mean(scores)) if scores else MISSING

    def _save_checkpoint(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {
            "fingerprint": self.parameters.fingerprint,
            "step": self.step,
            "network": self.accelerator.unwrap_model(self.net).state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "random": torch.get_rng_state(),
            "history": self.history,
        }
        with atomic_path(self.folder / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        if state["fingerprint"] != self.parameters.fingerprint:
            return  # made by other data, parameters or code
        self.accelerator.unwrap_model(self.net).load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"].cpu())
        self.step, self.history = state["step"], state["history"]

    def _finish(self) -> pd.DataFrame:
        history = pd.DataFrame(self.history)
        if self.accelerator.is_main_process:
            weights = {
                name: tensor.contiguous().cpu()
                for name, tensor in self.accelerator.unwrap_model(self.net).state_dict().items()
            }
            (self.folder / WEIGHTS).unlink(missing_ok=True)
            write_csv(history, self.folder / HISTORY)
            self.parameters.save(self.folder / PARAMETERS)
            with atomic_path(self.folder / WEIGHTS) as temporary:
                save_file(weights, temporary)
            shutil.rmtree(self.folder / "contexts", ignore_errors=True)
        self.accelerator.wait_for_everyone()
        return pd.read_csv(self.folder / HISTORY)


def _schedule(optimiser: Any, training: Training) -> torch.optim.lr_scheduler.LRScheduler:
    if training.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.learning_rate, total_steps=training.steps + 1, pct_start=0.15, cycle_momentum=False
    )


def _batch(samples: list[tuple[NDArray[Any], NDArray[Any]]]) -> tuple[Tensor, Tensor]:
    """Stack samples, padded with zeros at the far end to a common shape: (b, 1, ...) images and (b, ...) labels."""
    shape = np.max([image.shape for image, _ in samples], axis=0)

    def pad(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.pad(array, [(0, int(n - m)) for n, m in zip(shape, array.shape, strict=True)]))

    return torch.stack([pad(image)[None] for image, _ in samples]), torch.stack([pad(label) for _, label in samples])


def _random_patch(
    image: NDArray[Any], label: NDArray[Any], edge: int, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    corner = [int(rng.integers(max(n - edge, 0) + 1)) for n in image.shape]
    box = tuple(slice(start, start + edge) for start in corner)
    return np.ascontiguousarray(image[box]), np.ascontiguousarray(label[box])


def _predict_contexts(
    cases: PreparedCases, previous: Path, execution: Execution, folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Probability of the level before for each training and validation case, kept on disk while this level trains."""
    segmentor, source = load_segmentor(previous, execution=execution), model_digest(previous)
    contexts = {}
    for name in progress([*cases.cases("train"), *cases.cases("val")], "contexts"):
        path = folder / f"{name}-{source}.npy"
        if not path.exists():
            with atomic_path(path) as temporary:
                np.save(temporary, segmentor.probability(np.asarray(cases.image(name))))
        contexts[name] = np.load(path, mmap_mode="r")
    return contexts


def copy_levels(source: Path, destination: Path) -> None:
    """Copy the context levels of a variant's folder beside another's, so that a cascade's folder is whole by itself."""
    for weights in source.glob(f"level*/{WEIGHTS}"):
        for name in (PARAMETERS, HISTORY, WEIGHTS):
            with atomic_path(destination / weights.parent.name / name) as temporary:
                shutil.copyfile(weights.with_name(name), temporary)
