"""nnU-Net's raw dataset format, and the Medical Segmentation Decathlon's which it grew from: in and out.

Both have a `dataset.json` beside `imagesTr/` and `labelsTr/`. nnU-Net v2 names channels and labels there and appends
`_0000` to the names of images; the Decathlon (and nnU-Net v1) numbers the labels and lists the files. What is written
here is v2 (nnU-Net's documentation, dataset_format.md), with its `splits_final.json`, whose fold 0 is the cohort's own split.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.manifest import Cohort, leaves_folder
from fhlib.cohorts.pairs import Content, SourceScan, case_name
from fhlib.cohorts.segments import STRUCTURES, told_by
from fhlib.files import is_foreign, progress, read_json, require_free_space, write_json
from fhlib.fingerprints import code_digest, digest, file_digest, kept_or_made
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.parts import files_of
from fhlib.images.volume import Mask, Volume

DATASET, SPLITS = "dataset.json", "splits_final.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
TEST_IMAGES, TEST_LABELS = "imagesTs", "labelsTs"
ENDING, CHANNEL = ".nii.gz", "_0000"
OURS = "fhlib"
"""Key of dataset.json under which an export keeps what nnU-Net does not ask for: the rows of the manifest."""
KEPT = ("subject", "split", "ga_weeks", "scan_direction", "site", "has_head", "reference_hc_mm", "reference_volume_ml")
DATASET_NAME = re.compile(r"Dataset(\d{3})_\w+", re.ASCII)


class _Pair(NamedTuple):
    """An image and its label in the source folder; a test image may have none."""

    name: str
    image: Path
    label: Path | None


class _Structure(NamedTuple):
    """Which values of a label are the structure, and which may stand in it besides."""

    name: str
    values: frozenset[int]
    known: frozenset[int]


def nnunet_scans(source: Path) -> list[SourceScan]:
    """Scans of a dataset in either form; none where the folder has no dataset.json or no imagesTr/.

    Training cases are train and val as fold 0 of `splits_final.json` says, else train. Test images that have a label in
    `labelsTs/` are test; those without are left out, with a warning. Labels named head and skull are taken. Where both
    are there, the whole head is both, since the skull lies in it. A dataset that was exported here keeps its subjects,
    ages and splits.

    Raises ValueError for several channels, labels of which none is named head or skull, and files that do not match.
    """
    file = source / DATASET
    if not file.is_file() or not (source / IMAGES).is_dir():
        return []
    dataset = _read_dataset(file)
    _require_one_channel(dataset)
    structures = _structures(dataset)

    training, tests = _training_pairs(source, dataset), _test_pairs(source, dataset)
    unlabelled = [pair.name for pair in tests if pair.label is None]
    if unlabelled:
        warnings.warn(f"{TEST_IMAGES}/: left out, without a label: {_some(unlabelled)}", stacklevel=2)
    tests = [pair for pair in tests if pair.label is not None]
    splits = _splits(source, training, bool(tests)) | {pair.name: "test" for pair in tests}

    tables = tuple(path for path in (file, source / SPLITS) if path.is_file())
    scans: dict[str, SourceScan] = {}
    for pair in (*training, *tests):
        case = case_name(pair.name)
        if case.lower() in scans:
            raise ValueError(f"{pair.name} and another case both become {case!r}: rename one of them")
        row = {"case": case, "subject": case} | _known(dataset, pair.name) | {"split": splits[pair.name]}
        if splits[pair.name] == "test" and _known(dataset, pair.name).get("split") == "repro":
            row["split"] = "repro"
        assert pair.label is not None
        files = (*files_of(pair.image), *files_of(pair.label))
        read = partial(_read, pair.image, pair.label, structures)
        only_skull = [structure.name for structure in structures] == ["skull"]
        scans[case.lower()] = SourceScan(row, files, read, only_skull, tables)
    return list(scans.values())


def _read_dataset(file: Path) -> dict[str, Any]:
    try:
        dataset = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{file.name} is not JSON ({error}): take it from the dataset again") from error
    if not isinstance(dataset, dict) or not isinstance(dataset.get("labels"), dict):
        raise ValueError(
            f"{file.name} names no labels: expected nnU-Net's (see its dataset_format.md) or the Decathlon's"
        )
    return dataset


def _require_one_channel(dataset: Mapping[str, Any]) -> None:
    channels = dataset.get("channel_names", dataset.get("modality", {"0": "ultrasound"}))
    names = list(channels.values()) if isinstance(channels, dict) else list(channels)
    if len(names) != 1:
        raise ValueError(
            f"the dataset has {len(names)} channels ({', '.join(map(str, names))}) and one is read here: "
            "make a dataset of the ultrasound channel alone"
        )


def _structures(dataset: Mapping[str, Any]) -> list[_Structure]:
    """Head, skull or both, by the names of the labels; the head first."""
    values: dict[str, frozenset[int]] = {}
    for key, value in dataset["labels"].items():
        try:
            if str(key).strip().isdigit():  # the Decathlon: number -> name
                values[str(value)] = frozenset([int(key)])
            else:
                values[str(key)] = frozenset(map(int, value if isinstance(value, list | tuple) else [value]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"label {key!r} in {DATASET} is {value!r}: expected a whole number") from error

    known = frozenset[int]().union(*(numbers for name, numbers in values.items() if name.lower() != "ignore")) | {0}
    found = []
    for structure in STRUCTURES:
        named = [name for name in values if told_by(name) == structure]
        if len(named) > 1:
            raise ValueError(f"{DATASET} has several labels for the {structure}: {', '.join(named)}; keep one")
        if named:
            found.append(_Structure(structure, values[named[0]] - {0}, known))
    if not found:
        listed = ", ".join(f"{name} = {', '.join(map(str, sorted(numbers)))}" for name, numbers in values.items())
        raise ValueError(
            f"no label in {DATASET} is named head or skull, but {listed}: name the one that outlines the head"
        )
    if [structure.name for structure in found] == ["head", "skull"]:
        found[0] = found[0]._replace(values=found[0].values | found[1].values)
    return found


def _training_pairs(source: Path, dataset: Mapping[str, Any]) -> list[_Pair]:
    if isinstance(listed := dataset.get("dataset"), dict):
        entries = [(str(name), entry["images"][0], entry["label"]) for name, entry in listed.items()]
        pairs = [_Pair(name, _inside(source, image), _inside(source, label)) for name, image, label in entries]
    elif isinstance(listed := dataset.get("training"), list):
        pairs = [_listed_pair(source, entry) for entry in listed]
    else:
        pairs = _pairs_in(source, IMAGES, LABELS, dataset)
    missing = [pair.name for pair in pairs if pair.label is None or not pair.label.is_file()]
    missing += [pair.image.name for pair in pairs if not pair.image.is_file()]
    if missing:
        raise ValueError(
            f"image or label is missing in {IMAGES}/ or {LABELS}/ of {_some(missing)}: complete the dataset"
        )
    expected = dataset.get("numTraining", len(pairs))
    if expected != len(pairs):
        raise ValueError(
            f"{DATASET} tells of {expected} training cases, and there are {len(pairs)}: complete the dataset"
        )
    if not pairs:
        raise ValueError(f"{IMAGES}/ has no image named <case>{CHANNEL}{dataset.get('file_ending', ENDING)}")
    return pairs


def _test_pairs(source: Path, dataset: Mapping[str, Any]) -> list[_Pair]:
    """Test images that are there, with their labels where there are any."""
    if "file_ending" in dataset or not isinstance(listed := dataset.get("test"), list):
        return _pairs_in(source, TEST_IMAGES, TEST_LABELS, dataset)
    pairs = [_listed_pair(source, entry) for entry in listed]
    return [pair for pair in pairs if pair.image.is_file()]


def _listed_pair(source: Path, entry: Any) -> _Pair:
    """A case as the Decathlon lists it: image and label, or a test image alone, whose label may lie in labelsTs/."""
    image = entry.get("image") if isinstance(entry, dict) else entry
    if not isinstance(image, str):
        raise ValueError(f"{DATASET} lists {entry!r}: expected the paths of an image and its label")
    path = _inside(source, image)
    name, ending = _split_name(path.name)
    if not path.is_file() and (numbered := path.with_name(f"{name}{CHANNEL}{ending}")).is_file():
        path = numbered  # nnU-Net v1 lists names without the channel's number
    if isinstance(entry, dict) and entry.get("label"):
        return _Pair(name, path, _inside(source, entry["label"]))
    label = source / TEST_LABELS / f"{name}{ending}"
    return _Pair(name, path, label if label.is_file() else None)


def _pairs_in(source: Path, images: str, labels: str, dataset: Mapping[str, Any]) -> list[_Pair]:
    """The cases of a folder of images whose names end in the channel's number."""
    ending = str(dataset.get("file_ending", ENDING))
    folder = source / images
    names = sorted(path.name for path in folder.iterdir() if not is_foreign(path.name)) if folder.is_dir() else []
    pairs = []
    for name in names:
        found = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(ending)}", name)
        if found and found[2] != "0000":
            raise ValueError(
                f"{images}/{name} is channel {int(found[2])}, and one is read here: take the ultrasound alone"
            )
        if found is None and name.endswith(ending):
            raise ValueError(f"{images}/{name} has no channel: expected <case>{CHANNEL}{ending}")
        if found:
            label = source / labels / f"{found[1]}{ending}"
            pairs.append(_Pair(found[1], folder / name, label if label.is_file() else None))

    known = {pair.label.name for pair in pairs if pair.label}
    present = (source / labels).iterdir() if (source / labels).is_dir() else ()
    orphans = sorted(path.name for path in present if path.name.endswith(ending) and not is_foreign(path.name))
    if orphans := [name for name in orphans if name not in known]:
        raise ValueError(f"there is no image in {images}/ for {labels}/{_some(orphans)}: complete the dataset")
    return pairs


def _inside(source: Path, relative: Any) -> Path:
    if reason := leaves_folder(source, str(relative)):
        raise ValueError(f"{DATASET}: {reason}")
    return source / str(relative)


def _split_name(name: str) -> tuple[str, str]:
    """A file's name before its suffix, and the suffix."""
    end = len(name) - len(ENDING) if name.lower().endswith(ENDING) else name.rfind(".")
    return name[:end], name[end:]


def _splits(source: Path, training: Sequence[_Pair], tested: bool) -> dict[str, str]:
    """Split of each training case: as fold 0 says, train, or nothing where all are to be drawn."""
    names = [pair.name for pair in training]
    file = source / SPLITS
    if not tested:
        if file.is_file():
            warnings.warn(f"{SPLITS} is not used: no test case has a label, so that all splits are drawn", stacklevel=3)
        return dict.fromkeys(names, "")
    if not file.is_file():
        return dict.fromkeys(names, "train")
    try:
        fold = read_json(file)[0]
        train, val = ([str(name) for name in fold[key]] for key in ("train", "val"))
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{SPLITS} has no fold with train and val: take it from the dataset again") from error
    if unknown := sorted({*train, *val} - set(names)):
        raise ValueError(f"{SPLITS} names {_some(unknown)}, and no image in {IMAGES}/ is called so")
    if both := sorted(set(train) & set(val)):
        raise ValueError(f"{SPLITS} has {_some(both)} in train and in val: keep each in one")
    if rest := sorted(set(names) - {*train, *val}):
        raise ValueError(f"{SPLITS} leaves out {_some(rest)} in its first fold: add them to train or val")
    return dict.fromkeys(train, "train") | dict.fromkeys(val, "val")


def _known(dataset: Mapping[str, Any], name: str) -> dict[str, str]:
    """What an export of fhlib kept of a case."""
    kept = dataset.get(OURS)
    row = kept.get("cases", {}).get(name, {}) if isinstance(kept, dict) else {}
    return {key: str(row[key]) for key in KEPT if row.get(key)}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _read(image: Path, label: Path, structures: Sequence[_Structure]) -> Content:
    scan, given = read_volume(image), read_volume(label)
    unknown = sorted(set(np.unique(given.array).tolist()) - structures[0].known)
    if unknown:
        shown, known = _some([f"{value:g}" for value in unknown]), ", ".join(map(str, sorted(structures[0].known)))
        raise ValueError(
            f"{label.name} holds {shown}, and {DATASET} names {known} as what is to be read: mend one of them"
        )
    masks = [given.with_array(_among(given, structure.values)) for structure in structures]
    return Content(scan, masks[0], {}, masks[1] if len(masks) > 1 else None)


def _among(label: Volume, values: Iterable[int]) -> Mask:
    return np.isin(label.array, list(values))


def export_nnunet(cohort: Cohort, table: pd.DataFrame, folder: Path, name: str) -> Path:
    """Write a cohort as a raw dataset of nnU-Net v2, whole or not at all; a start that was interrupted continues.

    Train and val become `imagesTr/` and `labelsTr/`, test and repro `imagesTs/` and `labelsTs/`. Fold 0 of
    `splits_final.json` has train and val; without a val case there is no such file (train nnU-Net's fold `all`). The
    label is called head, or skull where it is the skull. Labels lie in the grid of their images.

    Args:
        cohort: of scans that `check_cohort` finds no error in.
        table: its manifest with every split assigned.
        folder: where the dataset's own folder comes, such as nnU-Net's `nnUNet_raw`.
        name: of that folder, such as `Dataset501_Heads`.

    Returns the dataset's folder. Raises ValueError for another name, CohortError for a cohort with errors, FileExistsError
    where the folder or its number is taken.
    """
    if DATASET_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no dataset of nnU-Net: expected three digits and a name, as in Dataset501_Heads")
    code = code_digest("fhlib.cohorts.nnunet")
    rows = table.to_dict("records")
    columns = ("image", "label", "spacing_mm")
    sources = [digest([row.get(column, "") for column in columns], _contents(cohort, row)) for row in rows]
    fingerprint = digest(sources, [{key: row.get(key, "") for key in ("case", *KEPT)} for row in rows])
    destination = folder / name
    if _is_there(destination, fingerprint):
        return destination

    check_cohort(cohort, raise_errors=True)
    sizes = [file.stat().st_size for row in rows for file in files_of(cohort.folder / row["image"])]
    require_free_space(folder, 1.5 * sum(sizes))
    partial_folder = folder / f".partial-{name}"
    for row, source in zip(progress(rows, f"Writing {name}"), sources, strict=True):
        files = [partial_folder / place for place in _places(row)]
        stamp = partial_folder / "records" / f"{row['case']}.json"
        make = partial(_export_case, cohort, row["case"], files)
        kept_or_made(stamp, digest(code, source, _places(row)), files, make)
    _complete(partial_folder, cohort, rows, fingerprint)
    partial_folder.rename(destination)
    return destination


def _contents(cohort: Cohort, row: Mapping[Any, str]) -> list[str]:
    paths = [cohort.folder / row[column] for column in ("image", "label") if row[column]]
    return [file_digest(file) for path in paths if path.exists() for file in files_of(path)]


def _places(row: Mapping[Any, str]) -> list[str]:
    """Where the image of a row comes and, if it has a reference, its label."""
    images, labels = (IMAGES, LABELS) if row["split"] in ("train", "val") else (TEST_IMAGES, TEST_LABELS)
    places = [f"{images}/{row['case']}{CHANNEL}{ENDING}"]
    if row["label"] or row["has_head"] == "false":
        places.append(f"{labels}/{row['case']}{ENDING}")
    return places


def _is_there(destination: Path, fingerprint: str) -> bool:
    """Whether this export is complete already. Raises FileExistsError where something else has its place or number."""
    folder, number = destination.parent, destination.name[: len("Dataset000")]
    taken = [path.name for path in folder.glob(f"{number}_*")] if folder.is_dir() else []
    if others := [name for name in taken if name != destination.name]:
        raise FileExistsError(
            f"{folder.name}/ has {others[0]} already, and nnU-Net wants each number once: choose another"
        )
    if not destination.exists():
        return False
    file = destination / DATASET
    dataset = read_json(file) if file.is_file() else {}
    if isinstance(dataset, dict) and (dataset.get(OURS) or {}).get("fingerprint") == fingerprint:
        return True
    raise FileExistsError(
        f"{destination.name}/ is there and holds something else: choose another number, or move it away"
    )


def _export_case(cohort: Cohort, case: str, files: Sequence[Path]) -> dict[str, Any]:
    image = cohort.read_image(case)
    write_volume(image, files[0])
    if len(files) > 1:
        label = cohort.read_label(case)
        # its own geometry differs by rounding at most, which the check has seen to
        write_volume(image.with_array(label.array), files[1])
    return {}


def _complete(folder: Path, cohort: Cohort, rows: Sequence[Mapping[Any, str]], fingerprint: str) -> None:
    """Write what nnU-Net asks for beside the cases, and take away the records of this export, and cases of earlier ones."""
    splits = {split: [row["case"] for row in rows if row["split"] == split] for split in ("train", "val")}
    places = {folder / place for row in rows for place in _places(row)}
    for path in [path for path in folder.glob("*T[rs]/*") if path not in places]:
        path.unlink()
    if splits["val"]:
        write_json([splits], folder / SPLITS)
    else:
        (folder / SPLITS).unlink(missing_ok=True)
    dataset = {
        "channel_names": {"0": "ultrasound"},
        "labels": {"background": 0, "skull" if cohort.outlines_skull else "head": 1},
        "numTraining": len(splits["train"]) + len(splits["val"]),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
        "name": cohort.name,
        "description": "Written by fhlib; for research only, not a medical device.",
        OURS: {
            "fingerprint": fingerprint,
            "cases": {row["case"]: {key: row[key] for key in KEPT if row.get(key)} for row in rows},
        },
    }
    write_json(dataset, folder / DATASET)
    shutil.rmtree(folder / "records")
