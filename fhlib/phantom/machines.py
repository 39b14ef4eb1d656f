"""Machines: a probe with its settings, the four site profiles, and machines that are nobody's.

Numbers in this module without a named source are unconfirmed: set by eye beside real images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fhlib.phantom.probe import Probe

PROBE = Probe()


@dataclass(frozen=True)
class Site:
    """A machine with its settings.

    Resolutions are full widths at half maximum (-6 dB) of the amplitude: axial in mm, lateral and elevation as a
    share of the depth, with a floor in mm (lateral 1.2 / 2.0 / 2.7 and elevation 2.0 / 3.3 / 4.6 mm at 60 / 100 / 140
    mm, derived for 3.5 MHz); before its focus the beam narrows in elevation from the width of the aperture. `top_db` is the
    echo shown white, `shadow_degrees` the angle over which shadows are averaged, `smoothing` the filter of the displayed
    levels as a share of the point spread, `box_mm` is (x, y, z). The default is faithful to what the paper states (75 degrees, box, 3.5 MHz
    assumed); all else, and all of the other sites, is unconfirmed: set by eye beside HC18 images, and so that a quarter
    to a half of the head's surface shows no edge (`fhlib.phantom.edges`).
    """

    name: str = "paper-like"
    probe: Probe = PROBE
    box_mm: tuple[float, float, float] = (147.44, 98.04, 167.2)
    frequency_mhz: float = 3.5
    axial_mm: float = 0.6
    lateral_share: float = 0.0195
    elevation_share: float = 0.033
    lateral_floor_mm: float = 0.9
    elevation_floor_mm: float = 1.6
    elevation_focus_mm: float = 60.0
    elevation_aperture_mm: float = 6.0
    dynamic_range_db: float = 62.0
    top_db: float = 14.0
    tgc_db: float = 0.36
    noise_db: float = -72.0
    clutter_db: float = -26.0
    reverberation_db: float = -40.0
    reverberation_mm: float = 6.0
    shadow_degrees: float = 2.0
    smoothing: float = 0.6


SITES = {
    site.name: site
    for site in (
        Site(),
        Site(
            "high-frequency",
            Probe(40, 42, 70, 70),
            frequency_mhz=5.0,
            axial_mm=0.45,
            lateral_share=0.015,
            elevation_share=0.026,
            noise_db=-66.0,
        ),
        Site(
            "low-cost",
            Probe(50, 46, 68, 65),
            frequency_mhz=3.0,
            axial_mm=0.8,
            dynamic_range_db=55.0,
            top_db=11.0,
            noise_db=-64.0,
            clutter_db=-22.0,
            smoothing=0.3,
        ),
        Site(
            "speckle-reduced",
            Probe(45, 55, 80, 80),
            (160.0, 120.0, 160.0),
            dynamic_range_db=70.0,
            top_db=16.0,
            clutter_db=-34.0,
            smoothing=1.2,
        ),
    )
}


def drawn_machine(rng: np.random.Generator, probe: Probe, ofd_mm: float) -> Site:
    """A machine that is nobody's: one of the sites on `probe`, with frequency, resolution, gain, dynamic range, noise, clutter and
    smoothing drawn widely. Small heads are seen at higher frequencies. The ranges are unconfirmed; their middles give planes about
    the grey levels and grain of real images, but for the skull, which stands out less (`fhlib.phantom.plane`, notebook 12).
    """
    frequency = float(np.clip(rng.normal(6.5 - 0.025 * ofd_mm, 0.8), 2.5, 7.5))
    sharp = float(np.clip(3.5 / frequency, 0.55, 1.3))
    return replace(
        SITES[str(rng.choice(list(SITES)))],
        name="drawn",
        probe=probe,
        frequency_mhz=frequency,
        axial_mm=0.65 * sharp * float(rng.uniform(0.7, 1.4)),
        lateral_share=0.027 * sharp * float(rng.uniform(0.7, 1.3)),
        lateral_floor_mm=0.9 * sharp,
        elevation_floor_mm=1.6 * sharp,
        dynamic_range_db=float(rng.uniform(60, 90)),
        top_db=float(rng.uniform(5, 19)),
        tgc_db=float(rng.uniform(0.2, 0.42)),
        noise_db=float(rng.uniform(-102, -80)),
        clutter_db=float(rng.uniform(-46, -27)),
        smoothing=float(rng.uniform(0.3, 1.4)),
    )
