"""A study for a GPU that is had for minutes: cohort, checks, throughput, trainings and scores by one command.

It needs torch, numpy, scipy, pandas, statsmodels, safetensors, accelerate, tqdm, pyyaml, pydantic and grimp, and no SimpleITK: scans are
simulated on the network's own grid, and scored there.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fhlib.benchmarks.card import check_device, describe_device, survey, throughput
from fhlib.figures.charts.training import learning_curves
from fhlib.figures.style import save_figure
from fhlib.files import atomic_path, read_json, require_free_space, write_csv, write_json
from fhlib.fingerprints import code_digest, digest, kept_or_made
from fhlib.measures.comparison import compare_trainings
from fhlib.measures.metrics import MEASURES, evaluate
from fhlib.models.boxes import largest_component
from fhlib.models.device import Execution
from fhlib.models.inputs import in_unit_range
from fhlib.models.parameters import HISTORY_FILE, PARAMETERS_FILE, WEIGHTS_FILE, SegmentorParameters
from fhlib.models.weights import load_cascade
from fhlib.phantom.batch.plan import Task, plan_cohort
from fhlib.phantom.batch.workers import default_workers, in_processes
from fhlib.phantom.probe import SITES
from fhlib.phantom.scan import simulate_scan
from fhlib.presets import Preset, suggestion
from fhlib.training.prepared import TRAINED_ON, PreparedCases
from fhlib.training.trainer import TrainingPaused, fit
from fhlib.variants import VARIANTS, levels_of

BYTES_A_VOXEL = 5  # float32 image, uint8 label
LARGEST_BOX_ML = 3000.0  # of a paper-like box that has grown to hold its head
ROUND_STEPS_TO = 50
SHARE_FOR_STEPS = 0.85
"""Of the time that is left; the rest is for starting, validating and scoring."""
SCORERS = 4
REPORTED = ("dsc", "conf", "jacc", "adb_mm", "hdb_mm", "hd95_mm", "absolute_relative_volume_error")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a start decided, and every further one keeps."""

    preset: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    shape: tuple[int, ...]
    execution: Execution
    seconds_a_step: dict[str, float]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(asdict(self), path)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read what `save` wrote."""
        content = read_json(path)
        lists = {name: tuple(content[name]) for name in ("variants", "seeds", "shape")}
        return cls(**{**content, **lists, "execution": Execution(**content["execution"])})


class GpuStudy:
    """One folder of results, one deadline.

    Args:
        out: folder for tables, histories and weights; `work/` in it keeps scans and checkpoints for the next start.
        preset: network grid, cohort and training.
        minutes: until when it runs; what is not finished then, the same call continues.
        variants: which networks, the most telling first.
        seeds: of the trainings. All networks are trained with one before the next begins.
        say: is told what happens.
    """

    def __init__(
        self,
        out: Path,
        preset: Preset,
        minutes: float,
        variants: Sequence[str],
        seeds: Sequence[int],
        say: Say = print,
    ) -> None:
        _require_sense(preset, minutes, variants, seeds)
        self.out, self.preset, self.say = Path(out), preset, say
        self.variants, self.seeds = tuple(variants), tuple(seeds)
        self.started = time.monotonic()
        self.deadline = self.started + 60 * minutes
        self.work = self.out / "work"
        self.cases, self.tests = PreparedCases(self.work / "cases"), PreparedCases(self.work / "tests")
        self.tasks = plan_cohort(preset.simulated_cohort, preset.val_fraction)

    def dry_run(self) -> str:
        """What would be made, in sentences: scans, trainings, bytes."""
        spacing, scans = self.preset.preparation.spacing_mm, len(self.tasks)
        gigabytes = scans * self._largest_voxels() * BYTES_A_VOXEL / 1e9
        names = ", ".join(self.variants)
        return "\n".join(
            [
                f"{scans} scans at {spacing} mm: up to {gigabytes:.1f} GB in {self.work}",
                f"{len(self.variants) * len(self.seeds)} trainings: {names}; seeds {', '.join(map(str, self.seeds))}",
                f"up to {self.preset.training.steps} steps each, fewer where the measured speed says so",
                f"device: {describe_device(self._device())['device']}",
            ]
        )

    def run(self, with_survey: bool = False) -> bool:
        """All of it, as far as the time goes; returns whether it is complete.

        Args:
            with_survey: measure batches, memory formats and `torch.compile` too.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        voxels = self._largest_voxels()
        require_free_space(self.out, len(self.tasks) * voxels * BYTES_A_VOXEL)
        write_json(describe_device(self._device()), self.out / "device.json")
        execution = Execution().here()
        self._checked("checks.csv", partial(check_device, self._device(), tuple({"no": 0, execution.precision: 0})))
        self.say(f"the device was checked after {self._minutes():.1f} minutes")
        with ThreadPoolExecutor(1) as beside, _scorers() as pool:  # the processor simulates while the card is measured
            scans = beside.submit(self._simulate, self.cases.folder, TRAINED_ON, voxels)
            tests = beside.submit(self._simulate, self.tests.folder, ("test",), voxels)
            speed = self._checked("throughput.csv", partial(self._throughput, execution, with_survey))
            scans.result()
            self.say(f"scans and throughput after {self._minutes():.1f} minutes")
            plan = self._plan(execution, speed)
            complete = self._train_all(plan, pool, tests)
        self.compare()
        return complete

    def _largest_voxels(self) -> float:
        return LARGEST_BOX_ML * 1000 / self.preset.preparation.spacing_mm**3

    def _device(self) -> torch.device:
        return Execution().here().accelerator().device

    def _minutes(self) -> float:
        return (time.monotonic() - self.started) / 60

    def _checked(self, name: str, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table of an earlier start, or a new one."""
        path = self.out / name
        if not path.exists():
            write_csv(measure(), path)
        return pd.read_csv(path)

    # --- scans ---

    def _simulate(self, folder: Path, splits: Sequence[str], voxels: float) -> None:
        """Scans of these splits on the network's grid, and their index; those of an earlier start are kept."""
        tasks = [task for task in self.tasks if task.split in splits]
        make = partial(_prepared_scan, folder, code_digest("fhlib.phantom.scan"), self.preset.preparation.spacing_mm)
        in_processes(make, tasks, min(default_workers(voxels), len(tasks)), len(tasks))
        rows = [make(task) for task in tasks]
        write_csv(pd.DataFrame(rows), folder / "index.csv")

    # --- speed ---

    def _shape(self) -> tuple[int, ...]:
        """The first site's box on the network's grid, in multiples of 8, as the network pads it."""
        site = SITES[self.preset.simulated_cohort.sites[0]]
        spacing = self.preset.preparation.spacing_mm
        return tuple(-(-round(side / spacing) // 8) * 8 for side in reversed(site.box_mm))

    def _throughput(self, execution: Execution, with_survey: bool) -> pd.DataFrame:
        measure = survey if with_survey else throughput
        names = dict.fromkeys(name for variant in self.variants for name, _ in levels_of(variant)[:1])
        return measure(tuple(names), self._shape(), execution, self.preset.training.width)

    def _plan(self, execution: Execution, speed: pd.DataFrame) -> Plan:
        """Steps that the time allows; an earlier start's plan is kept."""
        path = self.work / "plan.json"
        if path.exists():
            return self._kept(Plan.load(path))
        steps = speed[(speed["what"] == "training step") & (speed["batch"] == 1) & ~speed["compiled"]]
        steps = steps[steps["channels_last"] == execution.channels_last].set_index("variant")["seconds"]
        seconds = {name: self._seconds_a_step(name, steps) for name in self.variants}
        available = SHARE_FOR_STEPS * (self.deadline - time.monotonic())
        affordable = available / (sum(seconds.values()) * len(self.seeds))
        rounded = max(ROUND_STEPS_TO, int(affordable / ROUND_STEPS_TO) * ROUND_STEPS_TO)
        count = min(self.preset.training.steps, rounded)
        plan = Plan(self.preset.name, self.variants, self.seeds, count, self._shape(), execution, seconds)
        plan.save(path)
        self.say(f"{count} steps for each of {len(self.variants) * len(self.seeds)} trainings")
        return plan

    def _seconds_a_step(self, variant: str, measured: pd.Series) -> float:
        """Mean over the schedule: a step at half the resolution is an eighth of the work, and on a GPU a third of the time."""
        share = self.preset.training.half_resolution_share
        whole = sum(measured[levels_of(variant)[0][0]] for _ in levels_of(variant))
        return float(whole * (1 - share * 2 / 3))

    def _kept(self, plan: Plan) -> Plan:
        asked = (self.preset.name, self.variants, self.seeds)
        if asked != (plan.preset, plan.variants, plan.seeds):
            raise ValueError(
                f"{self.out} holds a study of preset {plan.preset}, variants {', '.join(plan.variants)}, seeds "
                f"{', '.join(map(str, plan.seeds))}: continue that, or name another folder"
            )
        return plan

    # --- trainings ---

    def _train_all(self, plan: Plan, pool: ProcessPoolExecutor, tests: Future[None]) -> bool:
        """Seed by seed; returns False where the time was over before the last."""
        waiting: list[tuple[Path, list[dict[str, Any]], list[Future[dict[str, float]]]]] = []
        complete = True
        for seed in plan.seeds:
            for variant in plan.variants:
                scores = self.out / "scores" / f"{variant}-seed{seed}.csv"
                if scores.exists():
                    continue
                try:
                    folder = self._train(plan, variant, seed)
                except TrainingPaused as pause:
                    self.say(str(pause))
                    complete = False
                    break
                tests.result()
                waiting.append((scores, *self._score(plan, folder, variant, seed, pool)))
            if not complete:
                break
        for path, rows, futures in waiting:
            found = [row | future.result() for row, future in zip(rows, futures, strict=True)]
            write_csv(pd.DataFrame(found), path)
        return complete

    def _train(self, plan: Plan, variant: str, seed: int) -> Path:
        """Train all levels of a variant with one seed; returns its folder, and keeps history, time and weights in half precision."""
        training = self.preset.training.model_copy(
            update={
                "steps": plan.steps,
                "seed": seed,
                "validate_every": plan.steps,
                "checkpoint_every": max(1, plan.steps // 4),
            }
        )
        previous: Path | None = None
        for name, level in levels_of(variant):
            folder = self.work / "models" / f"seed{seed}" / name
            parameters = SegmentorParameters(name, level, 3, self.preset.preparation, training, plan.execution)
            begun = time.monotonic()
            fit(
                self.cases,
                parameters,
                folder / f"level{level}",
                previous,
                pause=lambda: time.monotonic() > self.deadline,
            )
            self._keep(folder / f"level{level}", name, level, seed, time.monotonic() - begun)
            previous = folder
        return folder

    def _keep(self, level_folder: Path, variant: str, level: int, seed: int, seconds: float) -> None:
        """What is small of a training, outside of work/; seconds only of a training that ran now."""
        kept = self.out / "trainings" / f"{variant}-seed{seed}-level{level}"
        if (kept / PARAMETERS_FILE).exists():
            return
        history = pd.read_csv(level_folder / HISTORY_FILE)
        write_csv(history, kept / HISTORY_FILE)
        half = {name: tensor.half() for name, tensor in load_file(level_folder / WEIGHTS_FILE).items()}
        with atomic_path(kept / WEIGHTS_FILE) as temporary:
            save_file(half, temporary)
        write_json({"seconds": seconds, "steps": len(history)}, kept / "time.json")
        SegmentorParameters.load(level_folder / PARAMETERS_FILE).save(kept / PARAMETERS_FILE)
        dsc = history["val_dsc"].iloc[-1]
        self.say(f"{variant} seed {seed}: {len(history)} steps in {seconds:.0f} s, validation DSC {dsc:.4f}")

    # --- scores ---

    def _score(
        self, plan: Plan, folder: Path, variant: str, seed: int, pool: ProcessPoolExecutor
    ) -> tuple[list[dict[str, Any]], list[Future[dict[str, float]]]]:
        """Segment the test scans; the measures are computed beside the next training."""
        cascade = load_cascade(folder, plan.execution)
        index = self.tests.index.set_index("case")
        rows, futures = [], []
        for case in self.tests.cases("test"):
            image = np.asarray(self.tests.image(case))
            begun = time.perf_counter()
            probability = cascade.probability(image)
            seconds = time.perf_counter() - begun
            mask = largest_component(probability >= self.preset.prediction.threshold)
            row = {"variant": variant, "seed": seed, "case": case, "subject": index.loc[case, "subject"]}
            rows.append(row | {"seconds": seconds})
            label = self.tests.folder / f"{case}.label.npy"
            futures.append(
                pool.submit(_measures, np.packbits(mask), mask.shape, label, self.preset.preparation.spacing_mm)
            )
        return rows, futures

    def compare(self) -> None:
        """Tables and a figure of the trainings that are there.

        scores.csv and its means and SD in summary.csv; comparison.csv against the first variant; timings.csv; learning.png.
        """
        trainings = itertools.product(self.seeds, self.variants)
        files = [self.out / "scores" / f"{variant}-seed{seed}.csv" for seed, variant in trainings]
        files = [path for path in files if path.exists()]
        if not files:
            return
        scores = pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
        write_csv(scores, self.out / "scores.csv")
        summary = scores.groupby(["variant", "seed"], sort=False)[[*REPORTED, "seconds"]].agg(["mean", "std"])
        summary.columns = ["_".join(pair) for pair in summary.columns]
        write_csv(summary.reset_index(), self.out / "summary.csv")
        tables = [compare_trainings(scores, measure, self.variants[0]) for measure in REPORTED]
        write_csv(pd.concat(tables, ignore_index=True), self.out / "comparison.csv")
        times = [
            {"training": path.parent.name, **read_json(path)} for path in sorted(self.out.glob("trainings/*/time.json"))
        ]
        write_csv(pd.DataFrame(times), self.out / "timings.csv")
        paths = sorted(self.out.glob(f"trainings/*/{HISTORY_FILE}"))
        histories = {
            path.parent.name.replace("-seed", ", seed ").removesuffix("-level1"): pd.read_csv(path) for path in paths
        }
        save_figure(learning_curves(histories), self.out, "learning")


def _require_sense(preset: Preset, minutes: float, variants: Sequence[str], seeds: Sequence[int]) -> None:
    """Raises ValueError before anything starts."""
    for name in variants:
        if name not in VARIANTS:
            raise ValueError(f"variant {name!r} is not known{suggestion(name, VARIANTS)}; known: {', '.join(VARIANTS)}")
        if VARIANTS[name].spatial_dims == 2 or VARIANTS[name].patch or VARIANTS[name].reads_box:
            raise ValueError(
                f"{name} reads slices, patches or boxes: train it with `study --preset gpu`; gpu-study is for whole volumes"
            )
    for what, values in (("variants", variants), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{what} {', '.join(map(str, values)) or '(none)'}: name each once, and at least one")
    if not (math.isfinite(minutes) and minutes > 0):
        raise ValueError(f"--minutes {minutes}: give a number above 0")
    if min(seeds) < 0:
        raise ValueError(f"seeds {', '.join(map(str, seeds))}: a seed is 0 or more")
    spec, grid = preset.simulated_cohort, preset.preparation
    if grid.longest_voxels or not math.isclose(spec.spacing_mm, grid.spacing_mm):
        raise ValueError(
            f"preset {preset.name} simulates at {spec.spacing_mm} mm and its networks read {grid.longest_voxels or grid.spacing_mm}: "
            "gpu-study simulates on the network's own grid, so make simulated_cohort.spacing_mm and preparation.spacing_mm the same"
        )


def _prepared_scan(folder: Path, code: str, spacing_mm: float, task: Task) -> dict[str, Any]:
    """Simulate a scan on the network's grid and write what the network reads; its row of the index."""
    arrays = [folder / f"{task.case}.{kind}.npy" for kind in ("image", "label")]
    fingerprint = digest(code, {name: value for name, value in asdict(task).items() if name != "split"})

    def make() -> dict[str, Any]:
        place = task.ga_weeks, task.scan_direction, task.site, spacing_mm
        scan = simulate_scan(task.subject_seed, *place, threads=1, has_head=task.has_head)
        for path, array in zip(arrays, (in_unit_range(scan.image).array, scan.label.array), strict=True):
            with atomic_path(path) as temporary:
                np.save(temporary, array)
        return {"shape": "x".join(map(str, scan.image.shape)), "ga_weeks": scan.subject.ga_weeks}

    row = kept_or_made(folder / f"{task.case}.json", fingerprint, arrays, make)
    return {"case": task.case, "subject": task.subject, "split": task.split, **row, "fingerprint": fingerprint}


@contextmanager
def _scorers() -> Iterator[ProcessPoolExecutor]:
    """Processes that compute measures; they wait for work before the first mask comes."""
    with ProcessPoolExecutor(SCORERS, get_context("spawn")) as pool:
        yield pool


def _measures(packed: NDArray[np.uint8], shape: tuple[int, ...], label: Path, spacing_mm: float) -> dict[str, float]:
    mask = np.unpackbits(packed, count=math.prod(shape)).reshape(shape).astype(bool)
    scores = evaluate(mask, np.load(label) > 0, (spacing_mm,) * 3).asdict()
    return {name: scores[name] for name in MEASURES}
