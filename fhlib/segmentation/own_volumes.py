"""Segment volumes of your own with trained or shipped weights: masks, measures, flags, and files for other programs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fhlib import __version__
from fhlib.cohorts.tables import gestational_ages, pixel_sizes
from fhlib.files import progress, write_csv
from fhlib.fingerprints import digest, file_digest
from fhlib.images.dicom import Source, read_dicom
from fhlib.images.formats import is_picture, read_volume, suffix_of
from fhlib.images.kretz import SUFFIXES as KRETZ_SUFFIXES
from fhlib.images.volume import ReadWarning, Volume, is_binary
from fhlib.models.card import Card
from fhlib.models.parameters import PARAMETERS_FILE
from fhlib.models.weights import weights_files, weights_folder
from fhlib.segmentation.head_circumference import hc_interval_mm
from fhlib.segmentation.outputs import (
    Record,
    earlier_rows,
    only_writer,
    reason_of,
    require_space,
    require_usable,
    write_mask,
    write_probability,
)
from fhlib.segmentation.page import case_page
from fhlib.segmentation.quality import CALIBRATION, SPACING_MISSING
from fhlib.segmentation.rows import Found, in_mm, measures, rounded, table_of
from fhlib.segmentation.segmentor import Segmentation, Segmentor, load_segmentor
from fhlib.segmentation.sources import (
    TABLE,
    named,
    place_of,
    plain_name,
    printable,
    require_utf8,
    source_digest,
    volumes_in,
)

__all__ = ["segment_files", "volumes_in", "weights_digest"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the begin of a formula."""

LONGEST_WEEKS = 45
"""Beyond it an age is in days, or a slip."""
FORMAT = 3
"""Of rows and pages: what was written in an earlier one is written anew."""


def segment_files(
    segmentor: Segmentor,
    sources: Sequence[Source],
    folder: Path,
    skull: Segmentor | None = None,
    ga_weeks: float | None = None,
    keep: int = 6,
    weights: str = "",
    spacing_mm: Sequence[float] | None = None,
    image_weights: Path | str = "",
    pixel_mm: float | None = None,
    cards: Mapping[str, Card] | None = None,
) -> tuple[pd.DataFrame, dict[str, Found]]:
    """Segment volumes that the study has not seen; returns a row a volume (COLUMNS) and the first results by name.

    Writes for each volume `<name>_mask.nii.gz` and `<name>_mask.seg.nrrd` (2D: `.nrrd`), `<name>_probability.nrrd` (0-255), `<name>.html`
    and, for a DICOM series, `<name>_mask.dcm`; with `skull` also `<name>_skull...`. `<name>.fhlib.json` records them, and `segment.csv`
    grows by a row a volume; rows of earlier calls stay in it as long as their files do. A mask that was changed by hand is kept, and the
    new one goes to `<name>~new_mask...`.

    The status is `found`, `nothing found`, `uncertain` (a mask, with the flag `no head`: no sizes are given) or `failed`. BPD, OFD and HC
    are of the skull where there is one, else named `skin_bpd_mm` ....; of a volume whose skull has a flag there are none. `ga_weeks`
    stands in the row where it was given. What cannot be read, segmented, written or drawn is told in the row's note and stops nothing.
    Of two calls into one folder the second waits. The table on the disk has rounded numbers.

    Args:
        segmentor: outlines the whole head. One that outlines the skull is taken at its word: its files and its page speak of the skull.
        sources: files, folders with a DICOM series, or series (see `volumes_in`).
        folder: for the results.
        skull: a second one that outlines the skull.
        ga_weeks: gestational age of those that no table beside them gives one (`gestational_ages`); the skull's HC then has a centile.
        keep: how many results are returned (some 300 MB each at the paper's size).
        weights: `weights_digest` of all segmentors that are given. With it, a volume that is complete for the same bytes, weights and age
            is not computed again, and is not among the results.
        spacing_mm: of all of them, in place of what their files state; where one states another, its note says so.
        image_weights: folder or name of the weights that outline single images, loaded with the first of them. Without it `segmentor` has
            to read them.
        pixel_mm: size of a pixel of the pictures (PNG, JPEG, BMP, TIFF) among them, which state none that can be trusted, where no table
            beside them does (`pixel_sizes`). A picture without either fails.
        cards: what is known of the weights, of `head`, `skull` and `image`: rows, pages and DICOM SEG name them.

    Raises ValueError for an age that is no positive number and for a `skull` that outlines something else, OSError where the folder
    cannot be written to or its disk is full.
    """
    _require_age(ga_weeks)
    if skull is not None and skull.outline != "skull":
        raise ValueError(f"the second weights outline the {skull.outline}: give some that outline the skull, or none")
    require_usable(folder)
    task = _Task(segmentor, skull, folder, ga_weeks, weights, spacing_mm, image_weights, pixel_mm, cards or {})
    with only_writer(folder):
        return task.table(sources, keep)


def weights_digest(*folders: Path | str) -> str:
    """Short hash of the weights, parameters and calibration of segmentors, by folder or name."""
    parts = []
    for folder in map(weights_folder, folders):
        weights = weights_files(folder)
        files = [*weights, *(path.with_name(PARAMETERS_FILE) for path in weights), folder / CALIBRATION]
        parts.append([file_digest(path) for path in files if path.exists()])
    return digest(parts)


@dataclass(frozen=True)
class _Task:
    """What is done with each volume (see `segment_files`)."""

    segmentor: Segmentor
    skull: Segmentor | None
    folder: Path
    ga_weeks: float | None
    weights: str
    spacing_mm: Sequence[float] | None
    image_weights: Path | str = ""
    pixel_mm: float | None = None
    cards: Mapping[str, Card] = field(default_factory=dict)

    @cached_property
    def for_images(self) -> Segmentor | None:
        """What outlines single images, where it is another than the segmentor of volumes."""
        return load_segmentor(self.image_weights) if self.image_weights else None

    def table(self, sources: Sequence[Source], keep: int) -> tuple[pd.DataFrame, dict[str, Found]]:
        """Rows and first results of `segment_files`; the table on the disk grows with them."""
        pairs = named(sources, self.folder)
        require_space(self.folder, pairs)
        rows: list[dict[str, Any]] = []
        earlier = earlier_rows(self.folder, dict(pairs))
        results: dict[str, Found] = {}
        _write_table([*rows, *earlier], self.folder)
        for name, source in progress(pairs, "segment", total=len(pairs)):
            row, found = self.row_of(name, source)
            rows.append(row)
            if found is not None and len(results) < keep:
                results[name] = found
            _write_table([*rows, *earlier], self.folder)
        return table_of(rows), results

    def row_of(self, name: str, source: Source) -> tuple[dict[str, Any], Found | None]:
        """The row of one volume, and its result where it was computed.

        Whatever goes wrong is of this volume only: it is foreign data, read by five libraries.
        """
        try:
            require_utf8(source if isinstance(source, Path) else source.files[0])
            record, content = Record.open(self.folder, name), source_digest(source)
            fingerprint = self._fingerprint(content, self._spacing_of(source), self._age_of(source))
            kept = record.kept_row(fingerprint) if self.weights else None
            if kept is not None:
                return kept | {"case": name}, None
            record.begin(place_of(source), content)
            return self._make(record, source, fingerprint)
        except Exception as error:
            return {"case": name, "status": "failed", "note": reason_of(error)}, None

    def _fingerprint(self, content: str, spacing_mm: Sequence[float] | None, ga_weeks: float | None) -> str:
        dicom = bool(list(distributions(name="highdicom")))  # once it is installed, a series lacks its DICOM SEG
        options = (self.weights, bool(self.skull), ga_weeks, spacing_mm, dicom, *self.cards.items())
        return digest(__version__, FORMAT, *options, content)

    def _make(self, record: Record, source: Source, fingerprint: str) -> tuple[dict[str, Any], Found | None]:
        """Segment and write one volume; the result is returned where it could be drawn.

        A skull or a page that fails leaves the head, and the record without a row.
        """
        volume, warned = _read_with_warnings(source, self._spacing_of(source))
        if volume.array.min() == 0 and volume.array.max() in (1, 255) and is_binary(volume.array):
            raise ValueError(f"it holds 0 and {volume.array.max():g} alone, as a mask or a label does: give the scan")
        ga_weeks = self._age_of(source)
        found, faults = self._segmented(volume, ga_weeks)
        found = replace(found, in_probe_axes=_is_scan_converted(source, volume))
        row = {"case": record.name, **measures(found, ga_weeks)}
        files = [write_probability(found.head, record)]
        notes = [*_about_name(record.name, source), *warned, *self._about_spacing(source, volume), *faults]
        notes += [row["note"]] if row["note"] else []
        given = {"mask": found.head} | ({"skull": found.skull} if found.skull else {})
        made_by = dict(zip(given, (card.version for card in found.cards), strict=False))
        for label, result in given.items():
            written, said = write_mask(result, label, source, record, made_by.get(label, ""))
            files += written
            notes += said
        try:
            files.append(self._draw(found, row | {"note": "; ".join(notes)}, record))
        except Exception as error:
            faults.append(f"no page: {reason_of(error)}")
            notes.append(faults[-1])
        row["note"] = "; ".join(notes)
        if not faults:
            record.complete(fingerprint, self.weights, row, files)
        drawn = f"{record.name}.html" in files
        return row, found if drawn else None

    def _age_of(self, source: Source) -> float | None:
        """Gestational age of a scan: by a table beside it, else that of all. Raises ValueError for an age that is none."""
        place = source if isinstance(source, Path) else source.files[0].parent
        ages = gestational_ages(place.parent)
        age = ages.get(place.name, ages.get(plain_name(source), self.ga_weeks))
        _require_age(age)
        return age

    def _spacing_of(self, source: Source) -> Sequence[float] | None:
        """What takes the place of a file's own spacing. Raises ValueError for a picture whose pixel size nobody states."""
        if self.spacing_mm or not (isinstance(source, Path) and is_picture(source)):
            return self.spacing_mm
        size = pixel_sizes(source.parent).get(source.name, self.pixel_mm)
        if size is None:
            raise ValueError(
                f"{source.name} is a picture: it is measured as a single image (HC alone), and states no pixel size that can be trusted "
                "(dots per inch are of print): give it with "
                "--pixel-mm, or in a CSV file beside it with the columns `filename` and `pixel size(mm)`"
            )
        return (size,)

    def _segmented(self, volume: Volume, ga_weeks: float | None) -> tuple[Found, list[str]]:
        """Head and skull; a skull that fails in words. Of an image the skull alone, by the segmentor of images."""
        if volume.ndim == 2 and self.for_images is not None:
            result = self._without_doubt(self.for_images.segment(volume))
            interval_mm = hc_interval_mm(self.for_images, volume, result)
            return Found(volume, result, None, interval_mm, self._cards_of("image")), []
        head = self._without_doubt(self.segmentor.segment(volume, ga_weeks=ga_weeks))
        alone = Found(volume, head, None, cards=self._cards_of("head"))
        if self.skull is None:
            return alone, []
        try:
            skull = self._without_doubt(self.skull.segment(volume))
        except Exception as error:
            return alone, [f"no skull: {reason_of(error)}"]
        return replace(alone, skull=skull, cards=self._cards_of("head", "skull")), []

    def _cards_of(self, *names: str) -> tuple[Card, ...]:
        """Of the segmentors that made a result, in their order; none where one is not known."""
        known = tuple(self.cards[name] for name in names if name in self.cards)
        return known if len(known) == len(names) else ()

    def _without_doubt(self, found: Segmentation) -> Segmentation:
        """A spacing that the caller gave is not missing, though it be 1 mm."""
        if not self.spacing_mm:
            return found
        return replace(found, flags=tuple(flag for flag in found.flags if flag != SPACING_MISSING))

    def _about_spacing(self, source: Source, volume: Volume) -> list[str]:
        """What a file states of its spacing where the caller gave another; nothing where it states none."""
        if self.pixel_mm and isinstance(source, Path) and is_picture(source):
            differs = not math.isclose(volume.spacing_mm[0], self.pixel_mm, rel_tol=1e-3)
            by_table = f"{volume.spacing_mm[0]:g} mm a pixel by the table beside it, not {self.pixel_mm:g} mm"
            return [by_table] if differs and not self.spacing_mm else []
        if not self.spacing_mm:
            return []
        try:
            with warnings.catch_warnings(action="error"):
                stated = _read(source, None).spacing_mm
        except Exception:  # it cannot be read without one, or a warning says that there is none
            return []
        if np.allclose(stated, volume.spacing_mm, rtol=1e-3):
            return []
        return [f"spacing {in_mm(volume.spacing_mm)} mm as given, in place of the file's {in_mm(stated)} mm"]

    def _draw(self, found: Found, row: dict[str, Any], record: Record) -> str:
        path = case_page(record.name, row, found, self.folder / f"{record.name}.html")
        record.add({path.name: file_digest(path)})
        return path.name


def _is_scan_converted(source: Source, volume: Volume) -> bool:
    """Whether a volume was made of a GE Kretz file's beams; a Cartesian one has no position."""
    kretz = isinstance(source, Path) and suffix_of(source) in KRETZ_SUFFIXES
    return kretz and volume.ndim == 3 and any(volume.origin)


def _read(source: Source, spacing_mm: Sequence[float] | None) -> Volume:
    return read_volume(source, spacing_mm) if isinstance(source, Path) else read_dicom(source, spacing_mm)


def _read_with_warnings(source: Source, spacing_mm: Sequence[float] | None) -> tuple[Volume, list[str]]:
    """The volume, and what our readers warned of; not what libraries say, which may hold a patient's tags."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = _read(source, spacing_mm)
    ours = [one for one in caught if issubclass(one.category, ReadWarning) or Path(one.filename) == Path(__file__)]
    return volume, [str(one.message) for one in ours]


def _write_table(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    table = rounded(table_of(rows))
    table["note"] = [f"'{note}" if str(note).startswith(FORMULA) else note for note in table["note"]]
    write_csv(table, folder / TABLE)


def _about_name(name: str, source: Source) -> list[str]:
    """Which of several scans of one name this is."""
    plain = plain_name(source)
    if name == plain:
        return []
    path = source if isinstance(source, Path) else source.files[0]
    return [f"the name {plain} is another scan's: this one is {printable(f'{path.parent.name}/{path.name}')}"]


def _require_age(ga_weeks: float | None) -> None:
    if ga_weeks is not None and not (math.isfinite(ga_weeks) and ga_weeks > 0):
        raise ValueError(f"gestational age {ga_weeks:g} weeks is none: give a positive number of weeks, such as 26.5")
    if ga_weeks is not None and ga_weeks > LONGEST_WEEKS:
        days = f"; {ga_weeks:g} days are {ga_weeks / 7:.1f} weeks" if 10 <= ga_weeks / 7 <= LONGEST_WEEKS else ""
        raise ValueError(
            f"gestational age {ga_weeks:g} weeks is no pregnancy's: give weeks, up to {LONGEST_WEEKS}{days}"
        )
