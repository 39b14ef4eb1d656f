"""What a reader must know of weights before using a number from them: name, hash, what they learnt from, how far they err."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib.files import read_json
from fhlib.models.parameters import SegmentorParameters
from fhlib.models.weights import PARAMETERS_FILE, model_digest, weights_files

ABOUT = "about.json"
"""Beside weights, in words: `trained_on`, `measured_on`, and `real` where they were measured on real scans of their kind."""
COVERAGE = "coverage.csv"
"""Beside weights: what was found in each scan of neither training nor calibration."""
NOT_RECORDED = "not recorded beside these weights"
NEVER_REAL = "Never measured on real 3D scans of fetal heads."
LENGTHS = {"hc_mm": "HC", "bpd_mm": "BPD", "ofd_mm": "OFD"}
FEWEST = 40
"""Heads whose errors have a 2.5th and a 97.5th percentile."""
SHORT = 8
"""Digits of a hash that are shown."""


@dataclass(frozen=True)
class Card:
    """What is known of some weights.

    `overlap`: with the true outline, of all measured heads. `errors`, by what is measured (`volume`, `HC`): of those without a flag.
    Both are empty where nothing was measured. `real` tells of measurements on real scans, or that there are none; empty where that is not
    known. `uncalibrated` says why there is no calibration. `hc_error_mm`: between which ends 95 % of HC's errors lie (found less true),
    of heads in volumes without a flag; None where that was not measured.
    """

    name: str
    digest: str
    trained_on: str = NOT_RECORDED
    measured_on: str = NOT_RECORDED
    real: str = ""
    overlap: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    uncalibrated: str = ""
    hc_error_mm: tuple[float, float] | None = None

    @property
    def version(self) -> str:
        """Name and short hash, as tables and DICOM show them."""
        return f"{self.name} {self.digest[:SHORT]}"


def card_of(folder: Path, name: str = "") -> Card:
    """The card of a variant's folder; its name is by default the folder's.

    Raises ValueError where about.json is no mapping of texts.
    """
    card = Card(name or folder.absolute().name, model_digest(folder))
    about, coverage = folder / ABOUT, folder / COVERAGE
    if about.exists():
        said = _texts(about)
        trained_on, measured_on = (said.get(name, NOT_RECORDED) for name in ("trained_on", "measured_on"))
        card = replace(card, trained_on=trained_on, measured_on=measured_on, real=said.get("real", ""))
    if not coverage.exists():
        return card

    measured = pd.read_csv(coverage)
    heads = measured[measured["has_head"]] if "has_head" in measured else measured
    three = SegmentorParameters.load(weights_files(folder)[-1].with_name(PARAMETERS_FILE)).spatial_dims == 3
    unflagged = heads[heads["flags"].isna()]
    return replace(
        card,
        real=card.real or (NEVER_REAL if three else ""),
        overlap=f"mean DSC {100 * heads['dsc'].mean():.0f} % of {len(heads)} heads",
        errors=_errors(unflagged),
        hc_error_mm=_hc_error_mm(unflagged) if three else None,
    )


def _texts(path: Path) -> dict[str, str]:
    content: Any = read_json(path)
    known = ("trained_on", "measured_on", "real")
    whole = isinstance(content, dict) and all(isinstance(text, str) for text in content.values())
    if not whole or not set(content) <= set(known):
        raise ValueError(
            f"{path.parent.name}/{path.name} must be texts by the names {', '.join(known)}: write it so, or move it away"
        )
    return content


def _errors(heads: pd.DataFrame) -> dict[str, str]:
    """The error of what these weights measure: lengths where they were measured, else the volume."""
    if heads.empty:
        return {}
    lengths = [name for name in LENGTHS if f"true_{name}" in heads]
    if not lengths:
        return {"volume": _spread(100 * (heads["volume_ml"] / heads["true_ml"] - 1), "%")}
    return {LENGTHS[name]: _spread(heads[name] - heads[f"true_{name}"], "mm") for name in lengths}


def _hc_error_mm(heads: pd.DataFrame) -> tuple[float, float] | None:
    """Ends of the middle 95 % of HC's errors, found less true; None for fewer than `FEWEST` heads."""
    known = (heads["hc_mm"] - heads["true_hc_mm"]).dropna() if "true_hc_mm" in heads else pd.Series(dtype=float)
    if len(known) < FEWEST:
        return None
    low, high = known.quantile([0.025, 0.975])
    return float(low), float(high)


def _spread(errors: pd.Series, unit: str) -> str:
    """Within what half and 95 % of the errors lie, and their median."""
    known = errors.dropna()
    half, most = known.abs().median(), known.abs().quantile(0.95)
    return (
        f"median {known.median():+.0f} {unit}, half within {half:.0f} {unit}, 95 % within {most:.0f} {unit} "
        f"({len(known)} heads without a flag)"
    )


def sentences(cards: Sequence[Card]) -> list[str]:
    """What a reader is warned of, each thing once."""
    return list(dict.fromkeys(card.real for card in cards if card.real))
