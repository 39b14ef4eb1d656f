"""Lengths of the body by gestational age.

Crown-rump length up to 14 weeks follows Robinson and Fleming (1975): days = 8.052 sqrt(CRL in mm) + 23.73. Later
values, and those of the limbs, are unconfirmed general knowledge.
"""

from __future__ import annotations

import numpy as np

ROBINSON_TO_WEEKS = 14.0
LATER_WEEKS = (14.0, 16.0, 20.0, 24.0, 28.0, 32.0, 36.0, 40.0)
LATER_MM = (85.1, 116.0, 162.0, 208.0, 250.0, 285.0, 320.0, 355.0)
# Femur as a share of the OFD; the other long bones are shares of it
FEMUR_WEEKS, FEMUR_SHARE = (11.0, 14.0, 20.0, 30.0, 40.0), (0.36, 0.44, 0.53, 0.58, 0.64)
# Radius of the trunk at the abdomen as a share of the OFD
ABDOMEN_WEEKS, ABDOMEN_SHARE = (11.0, 14.0, 20.0, 30.0, 40.0), (0.41, 0.40, 0.39, 0.42, 0.47)


def crown_rump_mm(ga_weeks: float) -> float:
    """Crown-rump length (mm) at a gestational age in weeks."""
    if ga_weeks <= ROBINSON_TO_WEEKS:
        return float(((7 * ga_weeks - 23.73) / 8.052) ** 2)
    return float(np.interp(ga_weeks, LATER_WEEKS, LATER_MM))


def femur_share(ga_weeks: float) -> float:
    """Length of the femur over the OFD."""
    return float(np.interp(ga_weeks, FEMUR_WEEKS, FEMUR_SHARE))


def abdomen_share(ga_weeks: float) -> float:
    """Radius of the abdomen over the OFD."""
    return float(np.interp(ga_weeks, ABDOMEN_WEEKS, ABDOMEN_SHARE))
