"""Subjects x scans: whole cohorts of simulated scans, in parallel, resumable, with the truth beside every image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import psutil

from fhlib.cohorts.manifest import Cohort, load_cohort, write_manifest
from fhlib.files import blank_gaps, require_free_space, write_csv
from fhlib.fingerprints import code_digest, digest, file_digest, kept_or_made, stamped_row
from fhlib.images.formats import write_volume
from fhlib.measures import growth
from fhlib.phantom.batch.plan import Task, plan_cohort
from fhlib.phantom.batch.workers import MEMORY_A_VOXEL, default_workers, in_processes
from fhlib.phantom.plane import SHAPE, simulate_plane
from fhlib.phantom.probe import SITES
from fhlib.phantom.scan import ANY, SCAN_DIRECTIONS, simulate_scan
from fhlib.presets import suggestion

if TYPE_CHECKING:
    from fhlib.presets import SimulatedCohort

PLANE, PLANE_SEED = "transthalamic plane", 2020
COLUMNS = (
    "case", "subject", "image", "label", "label_skull", "ga_weeks", "scan_direction", "site", "split", "has_head",
    "reference_hc_mm", "reference_volume_ml",
)  # fmt: skip
SUBJECT_COLUMNS = (
    "subject", "seed", "ga_weeks", "bpd_mm", "ofd_mm", "hc_mm", "tcd_mm", "head_volume_ml", "skull_volume_ml", "site",
)  # fmt: skip
LARGEST_ANY_MM = (280.0, 250.0, 280.0)
IN_VIEW = 0.9
"""Share of a head from which on its true size is the reference of its label."""
BYTES_A_VOXEL = 0.9  # measured at 0.38 mm: 0.7 compressed


Row = dict[str, object]  # of the cohort's table, and what else is known of a scan
Simulation = Callable[[Path, Task], Row]


def simulate_cohort(
    folder: Path | str, spec: SimulatedCohort, workers: int | None = None, *, val_fraction: float = 0.2
) -> Cohort:
    """Simulate a cohort into `folder` and return it as a `Cohort`.

    Writes `images/<case>.nrrd`, `labels/<case>.nrrd`, `labels/<case>_skull.nrrd`, `subjects.csv` and, last,
    `cohort.csv`. A scan whose record says that the same code and parameters made it is kept, any other is redone, so
    a killed run continues.

    Raises ValueError for an unknown site, OSError where the disk is too small, before anything is written.

    Args:
        folder: is made where it is missing.
        spec: subjects, sites, spacing and seed.
        workers: processes; the bytes do not depend on it. None: one a processor, as far as the memory goes.
        val_fraction: share of the training subjects that become `val`.
    """
    folder = Path(folder)
    require_sites(spec)
    frame = simulate_tasks(folder, plan_cohort(spec, val_fraction), workers)
    write_csv(frame[list(SUBJECT_COLUMNS)].drop_duplicates("subject"), folder / "subjects.csv")
    write_csv(frame[list(COLUMNS)], folder / "cohort.csv")
    return load_cohort(folder)


def simulate_tasks(folder: Path, tasks: list[Task], workers: int | None = None) -> pd.DataFrame:
    """Simulate planned scans into `folder`, images, labels and records; returns a row a scan.

    What a record says is done is kept. Raises OSError where the disk is too small.

    Args:
        folder: is made where it is missing.
        tasks: at least one, all with one spacing.
        workers: as in `simulate_cohort`.
    """
    code = digest(code_digest("fhlib.phantom.scan"), file_digest(growth.GROWTH_TABLE))
    voxels = math.prod(_largest_box_mm(task.site for task in tasks)) / tasks[0].spacing_mm ** 3
    frame = _simulate(_simulate_scan, folder, code, tasks, voxels, workers)
    # of a head that the sector cuts off the label is a part, and its true size no measurement of that part
    whole = frame["head_in_view"] >= IN_VIEW
    frame["reference_hc_mm"] = frame["hc_mm"].where(frame["has_head"] & whole)
    frame["reference_volume_ml"] = frame["reference_volume_ml"].where(~frame["has_head"] | whole)
    return frame


def require_sites(spec: SimulatedCohort) -> None:
    """Raise ValueError for a site that there is not."""
    known = (*SITES, ANY)
    for site in spec.sites:
        if site not in known:
            raise ValueError(f"site {site!r} is not known{suggestion(site, known)}; choose from {', '.join(known)}")


def largest_box_mm(spec: SimulatedCohort) -> tuple[float, ...]:
    """Edges of the largest field of view in a cohort, (d, h, w)."""
    return _largest_box_mm(spec.sites)


def _largest_box_mm(sites: Iterable[str]) -> tuple[float, ...]:
    boxes = [SITES[site].box_mm if site in SITES else LARGEST_ANY_MM for site in sites]
    return max(boxes, key=math.prod)


def require_room(folder: Path, spec: SimulatedCohort) -> None:
    """Raise ValueError where one scan exceeds this machine's memory, OSError where all exceed the disk; nothing is written.

    Args:
        folder: of the cohort; scans that lie there count as room.
        spec: subjects, sites and spacing.
    """
    voxels = math.prod(largest_box_mm(spec)) / spec.spacing_mm**3
    needed, there = voxels * MEMORY_A_VOXEL, psutil.virtual_memory().total
    if needed > there:
        raise ValueError(
            f"a scan of {spec.spacing_mm:g} mm voxels has up to {voxels / 1e6:.0f} million of them and needs {needed / 1e9:.0f} GB "
            f"of memory, and this machine has {there / 1e9:.0f} GB: take a larger simulated_cohort.spacing_mm"
        )
    scans = spec.train_subjects + spec.test_subjects + len(SCAN_DIRECTIONS) * spec.reproducibility_subjects
    made = sum(path.stat().st_size for path in folder.glob("*/*.nrrd"))
    require_free_space(folder, scans * voxels * BYTES_A_VOXEL - made)


def _simulate_scan(folder: Path, task: Task) -> Row:
    """Simulate one scan and write its three volumes; returns its row."""
    place = task.ga_weeks, task.scan_direction, task.site, task.spacing_mm
    scan = simulate_scan(task.subject_seed, *place, threads=1, has_head=task.has_head)
    image, label, label_skull = paths = _paths(task)
    for volume, path in zip((scan.image, scan.label, scan.label_skull), paths, strict=True):
        write_volume(volume, folder / path)
    return asdict(task) | asdict(scan.subject) | {
        "subject": task.subject,
        "image": image,
        "label": label,
        "label_skull": label_skull,
        "reference_volume_ml": scan.subject.head_volume_ml if task.has_head else 0.0,
        "box_grown": scan.box_grown,
        "standoff_mm": scan.standoff_mm,
        "head_in_view": scan.head_in_view if task.has_head else 0.0,
    }  # fmt: skip


def add_planes(cohort: Cohort, count: int, val_fraction: float = 0.2, workers: int | None = None) -> Cohort:
    """Simulate planes into the folder of a cohort of real 2D images: the planes train and validate, the others test.

    Rewrites cohort.csv last; planes that are complete are kept, so a killed run continues. The label of a plane is its
    skull, as in HC18.

    Raises ValueError for a 3D cohort or one whose outline is not the skull, OSError where the disk is too small.

    Args:
        cohort: every image in it becomes a test case.
        count: how many planes.
        val_fraction: share of the planes that become `val`.
        workers: as in `simulate_cohort`.
    """
    if cohort.spatial_dims != 2 or not cohort.outlines_skull:
        raise ValueError(
            f"planes with a skull outline are added to 2D images with one (HC18, for instance); {cohort.name} is "
            f"{cohort.spatial_dims}D and its label is the {'skull' if cohort.outlines_skull else 'whole head'}"
        )
    splits = np.full(count, "train", dtype=object)
    splits[np.random.default_rng([PLANE_SEED, 302]).permutation(count)[: round(val_fraction * count)]] = "val"
    tasks = []
    for number, split in enumerate(splits):
        name = f"plane-{number:05d}"
        tasks.append(Task(name, name, PLANE_SEED * 10_000 + number, PLANE, "drawn", split, spacing_mm=0.0))
    code = digest(code_digest("fhlib.phantom.plane"), file_digest(growth.GROWTH_TABLE))
    planes = _simulate(_simulate_plane, cohort.folder, code, tasks, math.prod(SHAPE), workers)
    real = cohort.table[~cohort.table["case"].str.startswith("plane-")].assign(split="test")
    return write_manifest(blank_gaps(pd.concat([real, planes])), cohort.folder)


def _simulate_plane(folder: Path, task: Task) -> Row:
    """Simulate one plane and write image and label; returns its row."""
    plane = simulate_plane(task.subject_seed)
    image, label = _paths(task)
    write_volume(plane.image, folder / image)
    write_volume(plane.label, folder / label)
    return {
        "case": task.case,
        "subject": task.subject,
        "image": image,
        "label": label,
        "label_skull": label,
        "ga_weeks": f"{plane.subject.ga_weeks:.2f}",
        "scan_direction": task.scan_direction,
        "site": "simulated",
        "has_head": "true",
    }


def _paths(task: Task) -> tuple[str, ...]:
    """Image, label and, of a scan, the skull's label."""
    paths = f"images/{task.case}.nrrd", f"labels/{task.case}.nrrd", f"labels/{task.case}_skull.nrrd"
    return paths[:2] if task.scan_direction == PLANE else paths


def _stamp(folder: Path, code: str, task: Task) -> tuple[Path, str, list[Path]]:
    """Where a scan's record lies, the fingerprint that it must have (its split may change), and the scan's files."""
    parameters = {key: value for key, value in asdict(task).items() if key != "split"}
    return folder / "records" / f"{task.case}.json", digest(code, parameters), [folder / path for path in _paths(task)]


def _work(simulate: Simulation, folder: Path, code: str, task: Task) -> None:
    kept_or_made(*_stamp(folder, code, task), partial(simulate, folder, task))


def _simulate(
    simulate: Simulation, folder: Path, code: str, tasks: list[Task], voxels: float, workers: int | None
) -> pd.DataFrame:
    """Do what is not recorded as done, in parallel; the rows of all tasks, with their present splits."""
    waiting = [task for task in tasks if stamped_row(*_stamp(folder, code, task)) is None]
    require_free_space(folder, len(waiting) * voxels * BYTES_A_VOXEL)
    workers = min(workers or default_workers(voxels), max(1, len(waiting)))
    in_processes(partial(_work, simulate, folder, code), waiting, workers, len(tasks))
    rows = []
    for task in tasks:
        row = stamped_row(*_stamp(folder, code, task))
        if row is None:
            raise OSError(f"what was simulated of {task.case} has gone from {folder.name}/: start again")
        rows.append(row | {"split": task.split})
    return pd.DataFrame(rows)
