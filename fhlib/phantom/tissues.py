"""Acoustic properties of the tissues in the phantom.

Echogenicity is the backscattered power in dB relative to a reference soft tissue; attenuation is one way,
in dB/cm/MHz. Attenuations of fat, muscle and blood follow the tables of NVIDIA raysim (0.63, 1.09, 0.18;
water 0.002, bone 5). Those of fetal brain (0.2-0.4), amniotic fluid (0.005-0.02), fetal bone (5-15) and all
others are unconfirmed general knowledge.

Echogenicities, texture and streaks are unconfirmed too. Only their order is what sonographers describe,
from bright to dark:

    - skull plates
    - skull base, face bones, vertebrae
    - choroid plexus, midline
    - vermis, sulci
    - scalp, cheeks, uterine wall, placenta
    - cerebellum, cerebrum, thalami and fluid, one after the other
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tissues = NDArray[np.uint8]
"""Which tissue lies at each point: indices into `TISSUES`."""


@dataclass(frozen=True)
class Tissue:
    """One tissue.

    `echogenicity_db` and `attenuation_db` (one way, dB/cm/MHz) are explained above. `texture_db` is the SD
    of its slow echogenicity variation. `streak_db` says how much layers across the beam stand out in it (dB for each SD
    beyond `STREAK_FROM`): septa, fascia, vessel walls, sulci.
    """

    name: str
    echogenicity_db: float
    attenuation_db: float
    texture_db: float = 1.5
    streak_db: float = 0.0


TISSUES = (
    Tissue("amniotic fluid", -54, 0.01, 2.0),
    Tissue("maternal skin", -3, 1.0, 1.0),
    Tissue("fat", -14, 0.63, 3.5, 13.0),
    Tissue("muscle", -13, 1.09, 4.0, 13.0),
    Tissue("uterine wall", -12, 0.75, 3.0, 9.0),
    Tissue("placenta", -9, 0.6, 2.0, 4.0),
    Tissue("maternal tissue", -14, 0.7, 5.0, 9.0),
    Tissue("blood", -42, 0.18, 0.0),
    Tissue("cord", -10, 0.5, 1.0),
    Tissue("fetal soft tissue", -12, 0.7, 3.0, 6.0),
    Tissue("scalp", -11, 0.7, 1.0, 2.0),
    Tissue("bone", 6, 9.0, 1.5),
    Tissue("lung", -9, 0.9, 2.0, 4.0),
    Tissue("brain", -24, 0.28, 2.5, 13.0),
    Tissue("thalamus", -27, 0.28, 1.0, 7.0),
    Tissue("cerebrospinal fluid", -44, 0.01, 0.0),
    Tissue("choroid plexus", -9, 0.4, 2.5, 3.0),
    Tissue("midline", -11, 0.4, 4.0, 6.0),
    Tissue("cerebellum", -20, 0.35, 1.5, 5.0),
    Tissue("vermis", -12, 0.4, 1.0, 3.0),
    Tissue("sulcus", -14, 0.3, 2.0, 4.0),
    Tissue("globe", -44, 0.02, 0.0),
    Tissue("lens", -12, 0.3, 0.0),
    Tissue("skull base", 0, 6.0, 2.5, 4.0),
    Tissue("face bone", 5, 4.5, 2.0),
    Tissue("tongue", -19, 0.6, 1.5, 4.0),
    Tissue("pharynx", -44, 0.05, 0.0),
    Tissue("yolk sac", -4, 0.4, 1.0),
    Tissue("vessel", -8, 0.4, 2.0),
    Tissue("viscera", -15, 0.6, 4.0, 5.0),
)
EARLIEST = 24  # so many tissues had a gain when the default machines' scans were fixed
ID = {tissue.name: index for index, tissue in enumerate(TISSUES)}
ECHOGENICITY_DB = np.array([tissue.echogenicity_db for tissue in TISSUES], np.float32)
ATTENUATION_DB = np.array([tissue.attenuation_db for tissue in TISSUES], np.float32)
TEXTURE_DB = np.array([tissue.texture_db for tissue in TISSUES], np.float32)
STREAK_DB = np.array([tissue.streak_db for tissue in TISSUES], np.float32)
STREAK_FROM = 1.2


def tissue_gains(rng: np.random.Generator, spread_db: float) -> NDArray[np.float32]:
    """A gain (dB) for each of `TISSUES`, drawn from a normal distribution of SD `spread_db`.

    Only the first `EARLIEST` are drawn from `rng` itself: later ones have a stream of their own, so that what is
    drawn next does not depend on how many tissues there are.
    """
    first = rng.normal(0, spread_db, EARLIEST).astype(np.float32)
    later = np.random.default_rng(first.view(np.uint32).tolist()).normal(0, spread_db, len(TISSUES) - EARLIEST)
    return np.concatenate([first, later.astype(np.float32)])
