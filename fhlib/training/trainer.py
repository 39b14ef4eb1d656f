"""Fit one segmentor at one context level (sections 2.3, 2.5 and 3.1)."""

from __future__ import annotations

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
from torch import Tensor, nn

from fhlib.files import atomic_path, own_or_shipped, progress, read_json, write_csv
from fhlib.fingerprints import code_digest, digest
from fhlib.measures.metrics import dice
from fhlib.models.cascade import Cascade
from fhlib.models.device import process_group
from fhlib.models.parameters import CHECKPOINT_FILE, HISTORY_FILE, PARAMETERS_FILE, WEIGHTS_FILE, SegmentorParameters
from fhlib.models.weights import load_cascade, model_digest, save_level, weights_files
from fhlib.networks.build import build_level, initialise
from fhlib.presets import Training
from fhlib.training.augment import intensity_changes
from fhlib.training.boxes import BoxCases
from fhlib.training.contexts import contexts_of
from fhlib.training.losses import composite_loss
from fhlib.training.prepared import PreparedCases
from fhlib.training.samples import sampler_for
from fhlib.training.tracking import Tracking, told
from fhlib.variants import VARIANTS

MISSING = math.nan

Watch = Callable[[pd.DataFrame], None]


ALGORITHMS_TRIED = 4
STEPS_AHEAD = 50
"""A GPU is given so many steps before their losses are read: reading waits for it, and leaves it without work."""


class TrainingPaused(RuntimeError):
    """Its time is over; the checkpoint lets the same call continue."""


class TrainingDiverged(RuntimeError):
    """The loss of a case, or a weight after a step, is not finite; the last checkpoint before it is kept."""


def fit(
    cases: PreparedCases,
    parameters: SegmentorParameters,
    folder: Path,
    previous: Path | None = None,
    watch: Watch | None = None,
    contexts: Path | None = None,
    pause: Callable[[], bool] | None = None,
    track: Tracking | None = None,
) -> pd.DataFrame:
    """Train one segmentor of `parameters.variant` at `parameters.level`; write its weights, parameters and history to `folder`.

    An interrupted training continues from its last checkpoint, on the CPU to the same weights bit for bit. One that is complete for the
    same data, parameters and code returns at once. The last weights are kept: nothing is selected by validation. The last checkpoint stays
    too, so that lost weights are written again without training.

    A level above 1 reads image + probability of the level before (Eq. 5), predicted once for each training case. That is **in sample**, by
    the model that trained on it, as in the paper; with `context_folds` it is out of fold. With `start_from_previous_level` the level also
    starts from the weights of the one before, and so has had more steps (the paper draws new ones). A 2D variant on volumes learns from
    slices of the original resolution, `SLICES_A_VOLUME` of each volume of a batch. A level that reads boxes learns from `BoxCases`, which
    hold what the level before found.

    Of several processes (started by `accelerate launch`) each takes `batch_size` volumes a step: a larger batch, not fewer steps. The
    history's losses are their mean. What they finished counts as finished for one process too.

    Args:
        cases: with their splits; `train` is trained on, `val` is watched.
        parameters: what to train; the fingerprint is filled in here.
        folder: for weights, parameters, history and the checkpoint.
        previous: folder of the variant whose levels come before this one.
        watch: called with the history at each validation.
        contexts: where several trainings share their contexts; by default they lie in `folder` until the training ends.
        pause: asked now and then whether to stop here, with a checkpoint.
        track: what is told of each step as it comes.

    Returns the history, a row a step: step, case, loss and its parts, learning_rate, and where validated val_dsc (0 to 1, at the
    network's resolution). Raises TrainingDiverged, TrainingPaused, and ValueError where the variant cannot be trained on these cases.
    """
    if not cases.cases("train"):
        raise ValueError("no case has split 'train': mark some in cohort.csv, or leave the column empty")
    parameters = _as_finished(replace(parameters, processes=process_group().num_processes), cases, folder, previous)
    parameters = replace(parameters, fingerprint=fingerprint_of(parameters, cases, previous))
    finished = read_json(folder / PARAMETERS_FILE) if (folder / WEIGHTS_FILE).exists() else {}
    if finished.get("fingerprint") == parameters.fingerprint:
        return pd.read_csv(folder / HISTORY_FILE)
    trainer = _Trainer(cases, parameters, folder, previous, contexts, track)
    # a GPU tries a few algorithms for each layer, once a shape, and keeps the fastest
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, benchmark_limit=ALGORITHMS_TRIED):
        return trainer.run(watch, pause)


def fingerprint_of(parameters: SegmentorParameters, cases: PreparedCases, previous: Path | None = None) -> str:
    """Hash of all that decides the weights: data, code, parameters, the level before, and the number of processes.

    How often one validates or saves does not.

    Args:
        parameters: of the training, `processes` among them.
        cases: that it reads.
        previous: folder of the variant whose levels come before.
    """
    p, row = parameters, VARIANTS[parameters.variant]
    chosen = p.training.model_dump(exclude={"validate_every", "checkpoint_every"})
    before = model_digest(previous, p.level - 1) if previous else ""
    before += model_digest(own_or_shipped("weights", p.training.start_from)) if p.training.start_from else ""
    code = code_digest("fhlib.training.trainer", *row.modules)
    return digest(repr(row), p.level, cases.fingerprint, chosen, repr(p.execution), before, p.processes, code)


def _as_finished(
    parameters: SegmentorParameters, cases: PreparedCases, folder: Path, previous: Path | None
) -> SegmentorParameters:
    """The parameters with the number of processes that finished this very training in `folder`, if any did."""
    if not (folder / CHECKPOINT_FILE).exists():
        return parameters
    state = torch.load(folder / CHECKPOINT_FILE, map_location="cpu", weights_only=True, mmap=True)
    if state["step"] < parameters.training.steps:
        return parameters
    theirs = replace(parameters, processes=state.get("processes", 1))
    return theirs if fingerprint_of(theirs, cases, previous) == state["fingerprint"] else parameters


class _Trainer:
    """State of one training: network, optimiser, schedule, step and history."""

    def __init__(
        self,
        cases: PreparedCases,
        parameters: SegmentorParameters,
        folder: Path,
        previous: Path | None,
        contexts: Path | None,
        track: Tracking | None,
    ) -> None:
        self.cases, self.parameters, self.folder, self.previous = cases, parameters, folder, previous
        self.contexts_folder, self.contexts_are_shared = contexts or folder / "contexts", contexts is not None
        training, execution = parameters.training, parameters.execution
        keeps = not training.activation_checkpointing
        self.accelerator: Accelerator = execution.accelerator(keeps, **(track.options if track else {}))
        self.track, self.told = track, 0
        self.sampler = sampler_for(cases, parameters, self.accelerator.device)
        torch.manual_seed(training.seed)
        net = execution.place(self._initial_network(), self.accelerator.device)
        # `prepare` and the optimiser change the network in place
        self.start = {name: value.clone() for name, value in net.state_dict().items()} if training.start_share else {}
        betas = (training.beta1, 0.999)
        adam = torch.optim.Adam(net.parameters(), training.learning_rate, betas=betas, weight_decay=training.l2)
        self.net, self.optimiser = self.accelerator.prepare(net, adam)
        self.schedule = _schedule(self.optimiser, training)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.unread: list[
            tuple[dict[str, Any], dict[str, Tensor]]
        ] = []  # rows of history, and their losses on the device

    def _initial_network(self) -> nn.Module:
        """Drawn weights, or those of the level before or of shipped weights, as the parameters say."""
        p, training, execution = self.parameters, self.parameters.training, self.parameters.execution
        net = build_level(p.variant, p.spatial_dims, training)
        initialise(net, training.initialisation)
        if self.previous is not None and training.start_from_previous_level:
            before = load_cascade(self.previous, execution, upto=p.level - 1)
            net.load_state_dict(before.levels[-1].state_dict())
        elif training.start_from:
            start = own_or_shipped("weights", training.start_from)
            there = len(weights_files(start))
            if there >= p.level or p.level == 1:
                _continue_weights(net, load_cascade(start, execution, upto=p.level), p)
            elif training.start_share:
                raise ValueError(
                    f"weights {training.start_from!r} have {there} level(s), and start_share {training.start_share:g} would mix drawn "
                    f"weights into level {p.level}: set start_share to 0, or start from weights of {p.level} levels"
                )
        return net

    def run(self, watch: Watch | None, pause: Callable[[], bool] | None) -> pd.DataFrame:
        try:
            return self._run(watch, pause)
        finally:
            for tracker in self.accelerator.trackers:
                tracker.finish()

    def _run(self, watch: Watch | None, pause: Callable[[], bool] | None) -> pd.DataFrame:
        self._resume()
        training = self.parameters.training
        if self.previous is not None and self.step < training.steps and not isinstance(self.cases, BoxCases):
            found = contexts_of(self.cases, self.parameters, self.previous, self.contexts_folder, fit)
            self.sampler.contexts = found
        description = f"{self.parameters.variant} level {self.parameters.level}"
        bar = progress(range(self.step, training.steps), description, total=training.steps, initial=self.step)
        if training.intensity_probability:
            intensity_changes()
        if self.track:
            settings = {"variant": self.parameters.variant, "level": self.parameters.level, **training.model_dump()}
            self.track.start(self.accelerator, settings, self.step)
            self.told = len(self.history)

        with ThreadPoolExecutor(1) as ahead:  # draws the next step's samples while this one is computed
            drawn = ahead.submit(self._draw, self.step)
            for _ in bar:
                names, images, labels = drawn.result()
                if self.step + 1 < training.steps:
                    drawn = ahead.submit(self._draw, self.step + 1)
                self._train_step(names, images, labels)
                self.step += 1
                if self.step == training.steps:
                    self._mix_in_start()
                self._after_step(bar, watch, pause)
        return self._finish()

    def _after_step(self, bar: Any, watch: Watch | None, pause: Callable[[], bool] | None) -> None:
        """Read losses, validate, save and stop, each where it is due."""
        training, last = self.parameters.training, self.step == self.parameters.training.steps
        validates = last or self.step % training.validate_every == 0
        saves = last or self.step % training.checkpoint_every == 0
        if not (validates or saves or len(self.unread) >= self.steps_ahead):
            return
        self._read_losses()
        if validates:
            row = self.history[-1]
            row["val_dsc"] = self._validate()
            bar.set_postfix_str(f"loss {row['loss']:.3f}, val DSC {row['val_dsc']:.3f}")
            if watch is not None:
                watch(pd.DataFrame(self.history))
        self._tell()
        stops = not last and pause is not None and pause()
        if saves or stops:
            self._save_checkpoint()
        if stops:
            raise TrainingPaused(
                f"{self.parameters.variant} stopped after {self.step} of {training.steps} steps: the same command continues"
            )

    def _tell(self) -> None:
        """Tell the tracker what is new in the history."""
        for row in self.history[self.told :] if self.track else []:
            self.accelerator.log(told(row), step=row["step"])
        self.told = len(self.history)

    def _mix_in_start(self) -> None:
        """Move the weights back towards those that the training began with, by `start_share` of the way."""
        share, net = self.parameters.training.start_share, self.accelerator.unwrap_model(self.net)
        if share:
            with torch.no_grad():
                for name, value in net.state_dict().items():
                    if value.is_floating_point():
                        value.lerp_(self.start[name], share)

    @property
    def steps_ahead(self) -> int:
        return STEPS_AHEAD if self.accelerator.device.type == "cuda" else 1

    def _draw(self, step: int) -> tuple[list[str], Tensor, Tensor]:
        return self.sampler.draw(step, self.accelerator.process_index, self.accelerator.num_processes)

    def _train_step(self, names: list[str], images: Tensor, labels: Tensor) -> None:
        training, device = self.parameters.training, self.accelerator.device
        x = self.parameters.execution.place(images, device)
        y = labels.to(device, non_blocking=True)
        with self.parameters.execution.autocast(device):
            output = self.net(x, with_attention=False)
        loss, parts = composite_loss(output, y, training.dice_weight)
        row = {"step": self.step + 1, "case": "; ".join(names)}
        row |= dict.fromkeys(["loss", *parts], MISSING)
        row |= {"learning_rate": self.optimiser.param_groups[0]["lr"], "val_dsc": MISSING}
        self.unread.append((row, {"loss": loss.detach(), **parts}))
        self.accelerator.backward(loss)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()

    def _read_losses(self) -> None:
        """Take the losses of the last steps into the history. Raises TrainingDiverged at the first that is not finite."""
        if not self.unread:
            return
        losses = torch.stack([torch.stack(list(values.values())) for _, values in self.unread])
        if self.accelerator.num_processes > 1:
            losses = self.accelerator.reduce(losses, "mean")
        for (row, values), numbers in zip(self.unread, losses.tolist(), strict=True):
            row |= dict(zip(values, numbers, strict=True))
            if not math.isfinite(row["loss"]):
                raise TrainingDiverged(
                    f"the loss became {row['loss']} at step {row['step'] - 1} on {row['case']}: look at that case, "
                    f"or lower learning_rate ({self.parameters.training.learning_rate}); the checkpoint before it is kept"
                )
            self.history.append(row)
        self.unread = []

    def _validate(self) -> float:
        """Mean DSC over the validation cases at the network's resolution; nan without any."""
        names = self.cases.cases("val")
        net = self.accelerator.unwrap_model(self.net)
        cascade = Cascade([net], self.parameters, accelerator=self.accelerator)
        scores = []
        for name in names:
            image, label, context = self.sampler.whole(name)
            scores.append(dice(cascade.probability(image, context=context) >= 0.5, label > 0))
        return float(np.mean(scores)) if scores else MISSING

    def _save_checkpoint(self) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in self.net.parameters()):
            raise TrainingDiverged(
                f"weights are no longer finite after step {self.step}: lower learning_rate "
                f"({self.parameters.training.learning_rate}); the checkpoint before it is kept"
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
        with atomic_path(self.folder / CHECKPOINT_FILE) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT_FILE
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
            weights = {}
            for name, tensor in self.accelerator.unwrap_model(self.net).state_dict().items():
                weights[name] = (
                    tensor.cpu().contiguous().clone()
                )  # DynUNet names some twice; safetensors wants them apart
            (self.folder / WEIGHTS_FILE).unlink(missing_ok=True)
            write_csv(history, self.folder / HISTORY_FILE)
            save_level(weights, self.parameters, self.folder)
            if not self.contexts_are_shared:
                shutil.rmtree(self.contexts_folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        return pd.read_csv(self.folder / HISTORY_FILE)


def _schedule(optimiser: Any, training: Training) -> torch.optim.lr_scheduler.LRScheduler:
    if training.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        training.learning_rate,
        total_steps=training.steps + 1,
        pct_start=training.warm_up,
        cycle_momentum=False,
    )


def _continue_weights(net: nn.Module, given: Cascade, parameters: SegmentorParameters) -> None:
    """Load shipped weights. Raises ValueError where they are of another network."""
    options = {"width", "attention_kernel", "convolution"}
    sides = []
    for p in (given.parameters, parameters):
        sides.append({"variant": p.variant, "spatial_dims": p.spatial_dims, **p.training.model_dump(include=options)})
    theirs, ours = sides
    for key, value in theirs.items():
        if ours[key] != value:
            raise ValueError(
                f"weights {parameters.training.start_from!r} have {key} {value}, "
                f"and this training has {key} {ours[key]}: make them the same"
            )
    net.load_state_dict(given.levels[-1].state_dict())
