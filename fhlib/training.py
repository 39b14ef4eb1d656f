"""Fit one segmentor at one context level (sections 2.3, 2.5 and 3.1)."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from fhlib.augment import augment, intensity_changes
from fhlib.cascade import join
from fhlib.device import Execution, process_group
from fhlib.files import WEIGHTS as WEIGHTS_FOLDER
from fhlib.files import atomic_path, digest, progress, read_json, write_csv, write_json
from fhlib.inference import (
    Segmentor,
    SegmentorParameters,
    load_segmentor,
    model_digest,
    reads_slices,
    slice_axis,
)
from fhlib.losses import composite_loss
from fhlib.metrics import dice
from fhlib.networks.attention import AttentionModule
from fhlib.networks.build import build_level, initialise
from fhlib.prepare import PreparedCases
from fhlib.presets import Training, Tuning
from fhlib.reach import code_digest
from fhlib.variants import VARIANTS

WEIGHTS, PARAMETERS, HISTORY, CHECKPOINT = "weights.safetensors", "parameters.json", "history.csv", "checkpoint.pt"
DIVERGED = "diverged.json"
MISSING = math.nan
SLICES_A_VOLUME = 8

Sample = tuple[NDArray[Any], NDArray[Any]]
"""Image (c, ...) and label (...)."""
Watch = Callable[[pd.DataFrame], None]


class TrainingDiverged(RuntimeError):
    """The loss of a case, or a weight after a step, is not finite; the last checkpoint before it is kept."""


def fit(
    cases: PreparedCases,
    parameters: SegmentorParameters,
    folder: Path,
    previous: Path | None = None,
    watch: Watch | None = None,
    contexts: Path | None = None,
) -> pd.DataFrame:
    """Train one segmentor of `parameters.variant` at `parameters.level`; write its weights, parameters and history to `folder`.

    Returns the history, a row a step: step, case, loss and its parts, learning_rate, val_dsc (where validated,
    at the network's resolution).
    A training that was interrupted continues from its last checkpoint, to the same weights bit for bit on the CPU (the last
    checkpoint stays, so that lost weights are written again without training); one that is
    complete for the same data, parameters and code returns at once. The last weights are kept: nothing is selected by validation.

    A level above 1 reads image + probability of the level before (Eq. 5), found in the folder `previous` and predicted once for each
    training case: **in sample**, by the model that trained on it, as in the paper, or with `context_folds` out of fold. These contexts are
    kept in `folder` until its training ends, or in a folder `contexts` that several trainings share. With `start_from_previous_level` the
    level also starts from the weights of the one before, and so has had more steps (the paper draws new ones). A 2D variant on volumes
    learns from slices of the original resolution, `SLICES_A_VOLUME` of each volume of a batch.

    Of several processes (started by `accelerate launch`) each takes `batch_size` volumes a step, so that they are a larger batch and not
    fewer steps; the history's losses are their mean. What they finished counts as finished for one process too.
    Raises TrainingDiverged, and ValueError where the variant cannot be trained on these cases.
    """
    if not cases.cases("train"):
        raise ValueError("no case has split 'train': mark some in cohort.csv, or leave the column empty")
    parameters = _as_finished(cases, parameters, folder, previous)
    if (folder / WEIGHTS).exists() and read_json(folder / PARAMETERS)["fingerprint"] == parameters.fingerprint:
        return pd.read_csv(folder / HISTORY)
    return _Trainer(cases, parameters, folder, previous, contexts).run(watch)


def tune(
    cases: PreparedCases, parameters: SegmentorParameters, tuning: Tuning, folder: Path, previous: Path | None = None
) -> pd.DataFrame:
    """Try every learning rate with every warm-up for `tuning.steps` steps; returns learning_rate, warm_up, val_dsc, best one first.

    Each is a training of its own in `folder` with its whole schedule, so an interrupted tuning continues. One that diverges has no DSC,
    and is not tried again with the same data, parameters and code (by any number of processes).
    Raises ValueError without validation cases, TrainingDiverged where none is left.
    """
    if not cases.cases("val"):
        raise ValueError("tuning needs validation cases: set val_fraction above 0, or leave tuning out of the preset")
    rows: list[dict[str, float]] = []
    diverged: TrainingDiverged | None = None
    for rate, warm_up in itertools.product(tuning.learning_rates, tuning.warm_ups):
        changes = {"learning_rate": rate, "warm_up": warm_up, "steps": tuning.steps, "validate_every": tuning.steps}
        training = parameters.training.model_copy(update=changes)
        fingerprint = fingerprint_of(
            parameters.variant, parameters.level, cases, training, parameters.execution, previous
        )
        candidate = replace(parameters, training=training, fingerprint=fingerprint)
        place = folder / f"{rate:g}-{warm_up:g}"
        mark = place / DIVERGED
        known = read_json(mark) if mark.exists() else None
        if known and known["fingerprint"] != fingerprint_of(
            parameters.variant, parameters.level, cases, training, parameters.execution, previous, known["processes"]
        ):
            known = None  # other data, parameters or code
        try:
            if known:
                raise TrainingDiverged(known["reason"])
            dsc = fit(cases, candidate, place, previous, contexts=folder / "contexts")["val_dsc"].iloc[-1]
        except TrainingDiverged as error:
            dsc, diverged = MISSING, error
            if not known:
                count = process_group().num_processes
                write_json({"fingerprint": fingerprint, "processes": count, "reason": str(error)}, mark)
        rows.append({"learning_rate": rate, "warm_up": warm_up, "val_dsc": dsc})
    if diverged and all(math.isnan(row["val_dsc"]) for row in rows):
        raise diverged
    return pd.DataFrame(rows).sort_values("val_dsc", ascending=False, kind="stable", ignore_index=True)


def fingerprint_of(
    variant: str,
    level: int,
    cases: PreparedCases,
    training: Training,
    execution: Execution,
    previous: Path | None,
    processes: int | None = None,
) -> str:
    """Hash of all that decides the weights, the number of processes (default: those that run) among it. How often one validates or saves
    does not.
    """
    chosen = training.model_dump(exclude={"validate_every", "checkpoint_every"})
    row = repr(VARIANTS[variant])
    before = model_digest(previous, level - 1) if previous else ""
    before += model_digest(WEIGHTS_FOLDER / training.start_from) if training.start_from else ""
    code = code_digest("fhlib.training")
    count = processes or process_group().num_processes
    return digest(row, level, cases.fingerprint, chosen, repr(execution), before, count, code)


def _as_finished(
    cases: PreparedCases, parameters: SegmentorParameters, folder: Path, previous: Path | None
) -> SegmentorParameters:
    """The parameters with the number of processes that finished this very training in `folder`, if any did."""
    if not (folder / CHECKPOINT).exists():
        return parameters
    state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
    p, processes = parameters, state.get("processes", 1)
    if state["step"] < p.training.steps or processes == process_group().num_processes:
        return p
    fingerprint = fingerprint_of(p.variant, p.level, cases, p.training, p.execution, previous, processes)
    return replace(p, fingerprint=fingerprint, processes=processes) if fingerprint == state["fingerprint"] else p


class _Trainer:
    """State of one training: network, optimiser, schedule, step and history."""

    def __init__(
        self,
        cases: PreparedCases,
        parameters: SegmentorParameters,
        folder: Path,
        previous: Path | None,
        contexts: Path | None,
    ) -> None:
        self.cases, self.parameters, self.folder, self.previous = cases, parameters, folder, previous
        self.contexts_folder, self.contexts_are_shared = contexts or folder / "contexts", contexts is not None
        self.contexts: dict[str, NDArray[np.float32]] = {}
        self.training_cases = cases.cases("train")
        training, execution = parameters.training, parameters.execution
        self.accelerator: Accelerator = execution.accelerator(keep_memory=not training.activation_checkpointing)
        torch.manual_seed(training.seed)
        self.slices = reads_slices(parameters.variant, cases.spatial_dims)
        net = build_level(parameters.variant, parameters.level, cases.spatial_dims, training)
        initialise(net, training.initialisation)
        if previous is not None and training.start_from_previous_level:
            _start_from(net, load_segmentor(previous, execution=execution, upto=parameters.level - 1).levels[-1])
        elif training.start_from and previous is None:
            _continue_weights(
                net, load_segmentor(WEIGHTS_FOLDER / training.start_from, execution=execution), parameters
            )
        net = execution.place(net, self.accelerator.device)
        optimiser = torch.optim.Adam(
            _parameter_groups(net, training),
            training.learning_rate,
            betas=(training.beta1, 0.999),
            weight_decay=training.l2,
        )
        self.net, self.optimiser = self.accelerator.prepare(net, optimiser)
        self.schedule = _schedule(self.optimiser, training)
        self.step = 0
        self.history: list[dict[str, Any]] = []

    def run(self, watch: Watch | None) -> pd.DataFrame:
        self._resume()
        training = self.parameters.training
        if self.previous is not None and self.step < training.steps:
            self.contexts = _contexts(self.cases, self.parameters, self.previous, self.contexts_folder)
        description = f"{self.parameters.variant} level {self.parameters.level}"
        bar = progress(range(self.step, training.steps), description, total=training.steps, initial=self.step)
        if training.intensity_probability:
            intensity_changes()
        with ThreadPoolExecutor(1) as ahead:  # draws the next step's samples while this one is computed
            drawn = ahead.submit(self._draw, self.step)
            for _ in bar:
                names, images, labels = drawn.result()
                if self.step + 1 < training.steps:
                    drawn = ahead.submit(self._draw, self.step + 1)
                row = self._train_step(names, images, labels)
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

    def _draw(self, step: int) -> tuple[list[str], Tensor, Tensor]:
        """The cases of a step (of all processes), and this process's images and labels."""
        size, rank = self.parameters.training.batch_size, self.accelerator.process_index
        whole = size * self.accelerator.num_processes
        positions = range(step * whole, (step + 1) * whole)
        names = [self._case(position) for position in positions]
        mine = slice(rank * size, (rank + 1) * size)
        samples = [s for name, position in zip(names[mine], positions[mine]) for s in self._samples(name, position)]
        return names, *_batch(samples)

    def _train_step(self, names: list[str], images: Tensor, labels: Tensor) -> dict[str, Any]:
        training = self.parameters.training
        x = self.parameters.execution.place(images, self.accelerator.device)
        y = labels.to(self.accelerator.device, non_blocking=True)
        with self.parameters.execution.autocast(self.accelerator.device):
            output = self.net(x, with_attention=False)
        loss, parts = composite_loss(output, y, training.dice_weight)
        values = {"loss": float(loss.detach()), **parts}
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(torch.tensor(list(values.values()), device=self.accelerator.device), "mean")
            values = dict(zip(values, mean.tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise TrainingDiverged(
                f"the loss became {values['loss']} at step {self.step} on {', '.join(names)}: look at that case, or lower learning_rate "
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
            **values,
            "learning_rate": learning_rate,
            "val_dsc": MISSING,
        }

    def _case(self, position: int) -> str:
        """Each epoch is a seeded permutation of the training cases, so the position alone is the sampler's state."""
        names = self.training_cases
        epoch, place = divmod(position, len(names))
        return names[int(np.random.default_rng([self.parameters.training.seed, epoch]).permutation(len(names))[place])]

    def _samples(self, name: str, position: int) -> list[Sample]:
        """What one case at this place in the sampler's order is trained on: the augmented volume, a patch of it, or slices."""
        training, patch = self.parameters.training, self.parameters.patch
        rng = np.random.default_rng([training.seed, 1, position])
        image, label = (read(name, original=self.slices) for read in (self.cases.image, self.cases.label))
        context = self.contexts.get(name)
        chosen: list[Any] = [...]
        if self.slices:
            axis = slice_axis(image.shape)
            places = rng.choice(image.shape[axis], min(SLICES_A_VOLUME, image.shape[axis]), replace=False)
            chosen = [(slice(None),) * axis + (int(place),) for place in places]
        samples = []
        for part in chosen:
            x, y, before = augment(
                np.asarray(image[part], np.float32),
                np.asarray(label[part]),
                None if context is None else np.asarray(context[part]),
                rng,
                training,
            )
            joined = join(x[None], None if before is None else before[None], training.join)
            samples.append((joined, y) if patch is None else _random_patch(joined, y, patch, rng))
        return samples

    def _validate(self) -> float:
        """Mean DSC over the validation cases at the network's resolution; nan without any."""
        names = self.cases.cases("val")
        net = self.accelerator.unwrap_model(self.net)
        segmentor = Segmentor([net], self.parameters, accelerator=self.accelerator)
        scores = []
        for name in names:
            label = np.asarray(self.cases.label(name, original=self.slices)) > 0
            image = np.asarray(self.cases.image(name, original=self.slices))
            found = segmentor.probability(image, context=self.contexts.get(name)) >= 0.5
            scores.append(dice(found, label))
        return float(np.mean(scores)) if scores else MISSING

    def _save_checkpoint(self) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in self.net.parameters()):
            raise TrainingDiverged(
                f"weights are no longer finite after step {self.step}: lower learning_rate ({self.parameters.training.learning_rate}); "
                "the checkpoint before it is kept"
            )
        if not self.accelerator.is_main_process:
            return
        state = {
            "fingerprint": self.parameters.fingerprint,
            "processes": self.accelerator.num_processes,
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
                name: tensor.cpu()
                .contiguous()
                .clone()  # DynUNet names some twice, and safetensors wants each by itself
                for name, tensor in self.accelerator.unwrap_model(self.net).state_dict().items()
            }
            (self.folder / WEIGHTS).unlink(missing_ok=True)
            write_csv(history, self.folder / HISTORY)
            self.parameters.save(self.folder / PARAMETERS)
            with atomic_path(self.folder / WEIGHTS) as temporary:
                save_file(weights, temporary)
            if not self.contexts_are_shared:
                shutil.rmtree(self.contexts_folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        return pd.read_csv(self.folder / HISTORY)


def _schedule(optimiser: Any, training: Training) -> torch.optim.lr_scheduler.LRScheduler:
    if training.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [group["lr"] for group in optimiser.param_groups],
        total_steps=training.steps + 1,
        pct_start=training.warm_up,
        cycle_momentum=False,
    )


def _parameter_groups(net: nn.Module, training: Training) -> list[dict[str, Any]]:
    """All parameters at the learning rate, or those of the attention modules apart at theirs (last)."""
    modules = [module for module in net.modules() if isinstance(module, AttentionModule)]
    apart = {id(parameter) for module in modules for parameter in module.parameters()}
    if training.attention_learning_rate_factor == 1 or not apart:
        return [{"params": list(net.parameters())}]
    return [
        {"params": [p for p in net.parameters() if id(p) not in apart]},
        {
            "params": [p for p in net.parameters() if id(p) in apart],
            "lr": training.learning_rate * training.attention_learning_rate_factor,
        },
    ]


def _continue_weights(net: nn.Module, given: Segmentor, parameters: SegmentorParameters) -> None:
    known, name = given.parameters, parameters.training.start_from
    options = ("width", "attention_kernel", "attention_unit_mean", "attention_normalisation", "convolution")
    theirs, ours = (
        {"variant": p.variant, "spatial_dims": p.spatial_dims} | p.training.model_dump(include=set(options))
        for p in (known, parameters)
    )
    if different := [key for key, value in theirs.items() if ours[key] != value]:
        told = [", ".join(f"{key} {side[key]}" for key in different) for side in (theirs, ours)]
        raise ValueError(f"weights {name!r} have {told[0]}, and this training has {told[1]}: make them the same")
    net.load_state_dict(given.levels[0].state_dict())


def _start_from(net: nn.Module, previous: nn.Module) -> None:
    """Copy the weights of the level before; input channels that it has not (a concatenated context) begin with zeros."""
    own, given = net.state_dict(), dict(previous.state_dict())
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            wider = torch.zeros_like(own[name])
            wider[:, : tensor.shape[1]] = tensor
            given[name] = wider
    net.load_state_dict(given)


def _batch(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    """Stack samples, padded with zeros at the far end to a common shape: (b, c, ...) images and (b, ...) labels."""
    shape = np.max([label.shape for _, label in samples], axis=0)

    def pad(array: NDArray[Any]) -> Tensor:
        space = array.shape[-len(shape) :]
        missing = [(0, 0)] * (array.ndim - len(shape)) + [(0, int(n - m)) for n, m in zip(shape, space, strict=True)]
        return torch.from_numpy(np.pad(array, missing))

    return torch.stack([pad(image) for image, _ in samples]), torch.stack([pad(label) for _, label in samples])


def _random_patch(image: NDArray[Any], label: NDArray[Any], edge: int, rng: np.random.Generator) -> Sample:
    corner = [int(rng.integers(max(n - edge, 0) + 1)) for n in label.shape]
    box = tuple(slice(start, start + edge) for start in corner)
    return np.ascontiguousarray(image[(slice(None), *box)]), np.ascontiguousarray(label[box])


def _contexts(
    cases: PreparedCases, parameters: SegmentorParameters, previous: Path, folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Probability of the level before for each training and validation case, kept in `folder`.

    Out of fold, training cases are predicted by models that are trained as the level before was, on the subjects of the other folds
    (validation cases by the level before itself, which has not seen them).
    """
    folds, level, execution = parameters.training.context_folds, parameters.level - 1, parameters.execution
    train, val = cases.cases("train"), cases.cases("val")
    if not folds:
        return _predict_contexts(cases, [*train, *val], previous, level, execution, folder)
    if level > 1:
        raise ValueError(f"contexts out of fold are for level 2, not level {parameters.level}: set context_folds to 0")
    subjects = cases.index.set_index("case")["subject"][train]
    if subjects.nunique() < folds:
        raise ValueError(
            f"context_folds is {folds} and there are {subjects.nunique()} training subjects: use fewer folds"
        )
    drawn = np.random.default_rng([parameters.training.seed, 2]).permutation(sorted(subjects.unique()))
    before = SegmentorParameters.load(previous / "level1" / PARAMETERS)
    found = _predict_contexts(cases, val, previous, level, execution, folder)
    for fold in range(folds):
        held_out = subjects.index[subjects.isin(drawn[fold::folds])].tolist()
        others, model = cases.without(held_out), folder / "folds" / str(fold + 1)
        fingerprint = fingerprint_of(before.variant, 1, others, before.training, before.execution, None)
        fit(others, replace(before, fingerprint=fingerprint), model / "level1")
        found |= _predict_contexts(cases, held_out, model, 1, execution, folder)
    return found


def _predict_contexts(
    cases: PreparedCases, names: list[str], previous: Path, level: int, execution: Execution, folder: Path
) -> dict[str, NDArray[np.float32]]:
    segmentor, source = load_segmentor(previous, execution=execution, upto=level), model_digest(previous, level)
    contexts = {}
    for name in progress(names, "contexts"):
        path = folder / f"{name}-{source}.npy"
        if not path.exists():
            with atomic_path(path) as temporary:
                np.save(temporary, segmentor.probability(np.asarray(cases.image(name, original=segmentor.slices))))
        contexts[name] = np.load(path, mmap_mode="r")
    return contexts


def copy_levels(source: Path, destination: Path) -> None:
    """Copy the context levels of a variant's folder beside another's, so that a cascade's folder is whole by itself."""
    for weights in source.glob(f"level*/{WEIGHTS}"):
        for name in (PARAMETERS, HISTORY, WEIGHTS):
            with atomic_path(destination / weights.parent.name / name) as temporary:
                shutil.copyfile(weights.with_name(name), temporary)
