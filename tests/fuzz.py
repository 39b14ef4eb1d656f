"""Mutate small files of every format that is read, and hold what becomes of each against one rule.

    python tests/fuzz.py --files 20000 --seed 1

The rule: a mutated file is refused with a clear error that names it, or it is read as the original, or as an independent
tool reads it where a header then says something else. Two things cannot be noticed, and are allowed:

- bits that changed among voxels that have no checksum (raw NRRD, MHA and NIfTI, DICOM, Kretz): shape and geometry stay;
- a header of text or tags that says another valid thing, such as 0.7 mm where it was 0.5: the voxels' bytes stay.

Files are read in processes of their own, so that a native crash is seen, too.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fhlib.cohorts.manifest import load_cohort
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.kretz import write_kretz
from fhlib.images.volume import Volume, to_sitk
from tests.images.made import oblique, right_handed
from tests.images.made_dicom import US, dataset, grouped, save, slices

BATCH = 250
SECONDS_A_BATCH = 300
WORDS = (
    "0",
    "-1",
    "1",
    "2",
    "3",
    "0.5",
    "1e9",
    "99999999999",
    "nan",
    "inf",
    "",
    "none",
    "7",
    "1e-30",
    "(1,0,0)",
    "mm",
    "%",
    "\x00",
)
"""What a number or name in a header of text is replaced by."""
NIFTI_FIELDS = {
    "dim": (0, 1, 2, 3, 5, 7, -1, 30000),
    "datatype": (0, 2, 4, 8, 16, 32, 64, 128, 512, 1536, 2304, 9999),
    "bitpix": (0, 8, 16, 64),
    "pixdim": (0.0, -1.0, np.nan, np.inf, 0.5, 1e9),
    "vox_offset": (0.0, 351.0, 352.0, 368.0, 1e12, np.nan),
    "xyzt_units": (0, 1, 2, 3, 4, 10),
    "scl_slope": (0.0, 2.0, np.nan, np.inf, 1e38),
    "scl_inter": (0.0, 5.0, np.nan),
    "qform_code": (0, 1, 2, -1),
    "sform_code": (0, 1, 2, -1),
    "quatern_b": (0.0, 0.5, 2.0, np.nan),
    "srow_x": (0.0, np.nan, 1.0, 1e30),
    "magic": (b"n+1", b"ni1", b"", b"n+2"),
    "sizeof_hdr": (0, 348, 540),
}


@dataclass(frozen=True)
class Original:
    """A file that is whole, with those it needs.

    Attributes:
        name: of the file that is read.
        header: bytes of the mutated file that are no voxels.
        checked: whether the rest has a checksum.
        mutated: the file that is mutated.
        kind: which independent tool reads it.
    """

    name: str
    header: int
    checked: bool
    mutated: str
    kind: str


def make_originals(folder: Path) -> list[Original]:
    """One small valid file of every kind in a folder, oblique and anisotropic."""
    volume = oblique(3, np.int16)
    image = to_sitk(volume)
    for name in ("a.nii", "a.nii.gz", "pair.hdr", "raw.nrrd", "raw.mha", "b.mhd", "b.nhdr"):
        sitk.WriteImage(image, str(folder / name))
    for name in ("z.nrrd", "z.mha"):
        write_volume(volume, folder / name)
    _write_text_nrrd(volume, folder / "text.nrrd")
    write_volume(oblique(2, np.uint8), folder / "a.png")
    angles = np.linspace(-0.4, 0.3, 6)
    voxels = np.random.default_rng(0).integers(0, 255, (6, 6, 20)).astype(np.uint8)
    write_kretz(folder / "a.vol", voxels, 1.0, angles, angles, 30.0, 0.0)
    _write_dicom(folder)
    rows = [f"c{i},s{i % 3},z.nrrd,z.nrrd,{'train' if i % 3 else 'test'},{20 + i}.5,site {i}" for i in range(6)]
    (folder / "cohort.csv").write_text("case,subject,image,label,split,ga_weeks,site\n" + "\n".join(rows) + "\n")

    def text_header(name: str, end: bytes) -> int:
        return (folder / name).read_bytes().index(end) + len(end)

    whole = 1 << 30
    return [
        Original("a.nii", 352, False, "a.nii", "nifti"),
        Original("a.nii.gz", 0, True, "a.nii.gz", "nifti"),
        Original("pair.hdr", whole, False, "pair.hdr", "nifti"),
        Original("pair.hdr", 0, False, "pair.img", "nifti"),
        Original("raw.nrrd", text_header("raw.nrrd", b"\n\n"), False, "raw.nrrd", "itk"),
        Original("z.nrrd", text_header("z.nrrd", b"\n\n"), True, "z.nrrd", "itk"),
        Original("text.nrrd", whole, False, "text.nrrd", "itk"),
        Original("raw.mha", text_header("raw.mha", b"LOCAL\n"), False, "raw.mha", "itk"),
        Original("z.mha", text_header("z.mha", b"LOCAL\n"), True, "z.mha", "itk"),
        Original("b.mhd", whole, False, "b.mhd", "itk"),
        Original("b.mhd", 0, False, "b.raw", "itk"),
        Original("b.nhdr", whole, False, "b.nhdr", "itk"),
        Original("b.nhdr", 0, False, "b.raw", "itk"),
        Original("a.png", 0, True, "a.png", "none"),
        Original("a.dcm", text_header("a.dcm", b"\xe0\x7f\x10\x00") + 8, False, "a.dcm", "dicom"),
        Original(
            "series", text_header("series/IM002.dcm", b"\xe0\x7f\x10\x00") + 8, False, "series/IM002.dcm", "dicom"
        ),
        Original("k.dcm", whole, False, "k.dcm", "none"),
        Original("a.vol", text_header("a.vol", b"\x00\xd0\x01\x00") + 4, False, "a.vol", "none"),
        Original("cohort.csv", whole, False, "cohort.csv", "csv"),
    ]


def _write_text_nrrd(volume: Volume, path: Path) -> None:
    fields = {"type": "short", "dimension": "3", "sizes": " ".join(map(str, volume.shape[::-1])), "encoding": "ascii"}
    fields["spacings"] = " ".join(map(str, volume.spacing_mm[::-1]))
    header = "\n".join(f"{key}: {value}" for key, value in fields.items())
    path.write_text(f"NRRD0004\n{header}\n\n{' '.join(map(str, volume.array.ravel()))}\n")


def _write_dicom(folder: Path) -> None:
    """An Enhanced US Volume, a series, and a Kretz file in a screenshot; with the same UIDs each time."""
    numbers = itertools.count(1)
    with mock.patch("tests.images.made_dicom.generate_uid", lambda: f"1.2.826.0.1.3680043.8.498.{next(numbers)}"):
        save(grouped(right_handed(np.uint8)), folder / "a.dcm")
        slices(right_handed(np.uint8), folder / "series")
        screenshot = dataset(US, np.zeros((8, 9)))
        screenshot.private_block(0x7FE1, "KRETZ_US", create=True).add_new(0x01, "OB", (folder / "a.vol").read_bytes())
        save(screenshot, folder / "k.dcm")


Change = tuple[bytes, int, bool]
"""The new bytes, the first one that differs, and whether there are as many as before."""


def mutate(content: bytes, original: Original, rng: np.random.Generator) -> Change:
    """One to three mutations of a file, at random places, among which the header is likely."""
    data = bytearray(content)
    structured = {"nifti": _nifti_field, "itk": _word, "csv": _word}.get(original.kind, _flip)
    choices = (_flip, _flip, _set, _cut, _grow, _delete, _repeat, _zeros, structured, structured, structured)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        near = min(len(data), original.header or len(data), 1 << 16)
        end = near if rng.random() < 0.5 else len(data)
        if data:
            data = choices[int(rng.integers(len(choices)))](data, max(end, 1), rng)
    new = bytes(data)
    shorter = min(len(new), len(content))
    differs = np.flatnonzero(np.frombuffer(new[:shorter], np.uint8) != np.frombuffer(content[:shorter], np.uint8))
    return new, int(differs[0]) if len(differs) else shorter, len(new) == len(content)


def _flip(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    data[int(rng.integers(end))] ^= 1 << int(rng.integers(8))
    return data


def _set(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    data[int(rng.integers(end))] = int(rng.choice([0, 255, 10, 44, 34, int(rng.integers(256))]))
    return data


def _cut(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(end))]


def _grow(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    return data + bytearray(rng.bytes(int(rng.integers(1, 40))))


def _delete(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(end))
    del data[start : start + int(rng.integers(1, 30))]
    return data


def _repeat(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(end))
    piece = data[start : start + int(rng.integers(1, 60))]
    return data[:start] + piece + data[start:]


def _zeros(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    start, count = int(rng.integers(end)), int(rng.integers(1, 64))
    data[start : start + count] = bytes(len(data[start : start + count]))
    return data


def _word(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    """Another word for one of a header of text."""
    words = list(re.finditer(rb"[^\s,]+", data[: min(end, 2000)]))
    if not words:
        return data
    chosen = words[int(rng.integers(len(words)))]
    data[chosen.start() : chosen.end()] = str(rng.choice(WORDS)).encode()
    return data


def _nifti_field(data: bytearray, end: int, rng: np.random.Generator) -> bytearray:
    """Another value for a field of NIfTI-1; within gzip where it is packed."""
    packed = data[:2] == b"\x1f\x8b"
    try:
        whole = bytearray(gzip.decompress(data)) if packed else data
    except (OSError, EOFError, gzip.zlib.error):
        return data
    if len(whole) < 348:
        return data
    header = np.frombuffer(bytes(whole[:348]), nib.Nifti1Header.template_dtype).copy()
    field = str(rng.choice(list(NIFTI_FIELDS)))
    values = NIFTI_FIELDS[field]
    value = values[int(rng.integers(len(values)))]
    if header[field].ndim > 1:
        header[field][0, int(rng.integers(header[field].shape[1]))] = value
    else:
        header[field] = value
    whole[:348] = header.tobytes()
    return bytearray(gzip.compress(bytes(whole), mtime=0)) if packed else whole


def judge(original: Original, place: Path, truth: object, change: Change) -> str:
    """What became of a mutated file: `refused`, `same`, or `other`; AssertionError where it breaks the rule."""
    try:
        found = load_cohort(place).table if original.kind == "csv" else _read(place / original.name)
    except (ValueError, OSError) as error:
        names = {original.name, Path(original.mutated).name, place.name}
        assert any(name in str(error) for name in names), f"no file is named: {type(error).__name__}: {error}"
        assert str(place.parent) not in str(error), f"a path is told: {error}"
        return "refused"
    _, first, as_long = change
    if original.kind == "csv":
        return _judge_table(found, truth, place)
    if _equal(found, truth):
        return "same"
    if first >= original.header and not original.mutated.endswith(".nii.gz"):
        assert not original.checked, "voxels with a checksum were read and differ"
        # DICOM and Kretz say where their voxels end, and what follows is none of them
        tagged = original.mutated.endswith((".dcm", ".vol"))
        assert as_long or tagged, f"a file of another length was read: {found.shape}"
        assert _same_place(found, truth), f"voxels changed, and the geometry with them: {found.spacing_mm}"
        return "other"
    _agree(original, place / original.name, found, np.array_equal(_bytes(found), _bytes(truth)))
    return "other"


def _read(path: Path) -> Volume:
    with warnings.catch_warnings(action="ignore"):
        return read_volume(path)


def _bytes(volume: Volume) -> np.ndarray:
    """Those of the voxels, sorted, so that order and type do not count."""
    return np.sort(np.frombuffer(volume.array.tobytes(), np.uint8))


def _equal(one: Volume, other: Volume) -> bool:
    return _same_place(one, other) and np.array_equal(one.array, other.array)


def _same_place(one: Volume, other: Volume) -> bool:
    return one.same_geometry(other, 1e-5) and np.allclose(one.spacing_mm, other.spacing_mm, rtol=1e-6)


def _judge_table(found, truth, place: Path) -> str:
    if found.equals(truth):
        return "same"
    assert list(found.columns[:4]) == list(truth.columns[:4]), f"other columns: {list(found.columns)}"
    known = {tuple(row) for row in truth[["image", "label"]].to_numpy()}
    others = set(truth.drop(columns=["image", "label"]).to_numpy().ravel())
    for image, label in found[["image", "label"]].to_numpy():
        if (image, label) not in known:
            # a file that is not there is refused when it is read
            moved = {image, label} & others
            assert not any((place / name).is_file() for name in moved), f"cells have moved: {image!r}, {label!r}"
    return "other"


def _agree(original: Original, path: Path, found: Volume, same_bytes: bool) -> None:
    """AssertionError unless an independent tool reads what was found, where there is one.

    Args:
        original: what was mutated.
        path: of the mutated file.
        found: what was read.
        same_bytes: whether the voxels have the bytes that they had. Then their values are not compared: the tools, too, fail on
            damaged headers.
    """
    if original.kind == "nifti":
        try:
            with warnings.catch_warnings(action="ignore"):
                image = nib.load(path)
                voxels, steps = np.asanyarray(image.dataobj), image.header.get_zooms()
        except Exception:  # nibabel stops at extensions, too, which are no voxels
            assert same_bytes, "other voxels, and nibabel refuses the file"
            return
        while voxels.ndim > 3:
            voxels = voxels[..., 0]
        _compare(found, voxels.T, np.array(steps[: found.ndim])[::-1], same_bytes)
    elif original.kind == "itk":
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError:
            assert same_bytes, "other voxels, and SimpleITK refuses the file"
            return
        voxels, steps = sitk.GetArrayFromImage(image), np.array(image.GetSpacing()[::-1])
        if voxels.ndim > found.ndim:  # a last axis of length 1, whose spacing ITK loses
            voxels, steps = voxels.reshape(found.shape), None
        _compare(found, voxels, steps, same_bytes)
    elif original.kind == "dicom" and not same_bytes:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        values = np.concatenate([pydicom.dcmread(file).pixel_array.ravel() for file in files])
        assert np.array_equal(np.sort(found.array, axis=None), np.sort(values)), "the voxels are not pydicom's"


def _compare(found: Volume, voxels: np.ndarray, steps: np.ndarray | None, same_bytes: bool) -> None:
    assert found.shape == voxels.shape, f"the shape is {found.shape}, the other tool's {voxels.shape}"
    if not same_bytes:
        assert np.allclose(found.array.astype(float), voxels.astype(float), rtol=1e-5, equal_nan=True), "other voxels"
    if steps is not None:
        ratios = np.array(found.spacing_mm) / steps
        # ITK passes over units
        units = np.isclose(ratios[0], (1, 10, 1000, 0.001), rtol=1e-4).any()
        assert units and np.allclose(ratios, ratios[0], rtol=1e-4), f"{found.spacing_mm} mm, the other tool's {steps}"


def work(seed: int, first: int, count: int, folder: Path, only: str) -> None:
    """Judge a batch, a JSON line before and after each file."""
    place = folder / "case"
    place.mkdir()
    originals = [one for one in make_originals(place) if only in one.mutated]
    contents = {one.mutated: (place / one.mutated).read_bytes() for one in originals}
    table = load_cohort(place).table
    truths = {one.name: None if one.kind == "csv" else _read(place / one.name) for one in originals}
    for index in range(first, first + count):
        print(json.dumps({"begins": index}), flush=True)
        rng = np.random.default_rng([seed, index])
        original = originals[int(rng.integers(len(originals)))]
        change = mutate(contents[original.mutated], original, rng)
        (place / original.mutated).write_bytes(change[0])
        truth = table if original.kind == "csv" else truths[original.name]
        try:
            verdict, why = judge(original, place, truth, change), ""
        except Exception as error:
            verdict, why = "BROKEN", f"{type(error).__name__}: {error}"
            if not isinstance(error, AssertionError):
                why += " at " + traceback.format_exc().strip().splitlines()[-3].strip()
        (place / original.mutated).write_bytes(contents[original.mutated])
        print(json.dumps({"index": index, "file": original.mutated, "verdict": verdict, "why": why}), flush=True)


def batch(seed: int, first: int, count: int, only: str = "") -> list[dict]:
    """The verdicts on a batch; a file at which the process died is one of them, and the next one begins behind it."""
    verdicts: list[dict] = []
    while count > 0:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        words = [sys.executable, __file__, "--worker", str(seed), str(first), str(count), str(folder), only]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_A_BATCH)
            code, lines, error = done.returncode, done.stdout.splitlines(), done.stderr
        except subprocess.TimeoutExpired as expired:
            code, lines, error = "no end", (expired.stdout or b"").decode().splitlines(), ""
        shutil.rmtree(folder, ignore_errors=True)
        said = [json.loads(line) for line in lines if line.startswith("{")]
        verdicts += [entry for entry in said if "verdict" in entry]
        if code == 0:
            break
        begun = [entry["begins"] for entry in said if "begins" in entry]
        died = begun[-1] if begun else first
        verdicts.append({"index": died, "file": "?", "verdict": "CRASHED", "why": f"exit {code}: {error[-400:]}"})
        first, count = died + 1, first + count - died - 1
    return verdicts


def fuzz(files: int, seed: int, only: str = "", processes: int = 2) -> Iterator[dict]:
    """Verdicts on so many mutated files."""
    starts = range(0, files, BATCH)
    with ThreadPoolExecutor(processes) as pool:
        for verdicts in pool.map(lambda start: batch(seed, start, min(BATCH, files - start), only), starts):
            yield from verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="mutate the files with this in their name, such as .mha")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    broken = 0
    for entry in fuzz(options.files, options.seed, options.only):
        counts[entry["file"], entry["verdict"]] += 1
        if entry["verdict"] in ("BROKEN", "CRASHED"):
            broken += 1
            print(f"{entry['index']} {entry['file']}: {entry['verdict']}: {entry['why']}")
    for file in sorted({file for file, _ in counts}):
        print(file, {verdict: count for (name, verdict), count in sorted(counts.items()) if name == file})
    print(f"{sum(counts.values())} files, {broken} break the rule")
    return 1 if broken else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        work(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), sys.argv[6])
    else:
        sys.exit(main())
