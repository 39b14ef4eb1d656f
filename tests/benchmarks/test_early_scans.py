"""The table of early scans."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fhlib.benchmarks.early_scans import REAL, early_scans, grain_mm


def test_grain_is_the_width_of_the_autocovariance():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(60, 70, 80)), (1.5, 2.5, 0))
    where = np.ones(noise.shape, bool)
    # noise smoothed by a Gaussian of SD s has an autocovariance of SD s sqrt(2)
    for axis, sigma in ((0, 1.5), (1, 2.5)):
        assert grain_mm(noise, where, axis, 0.5) == pytest.approx(0.5 * 2.3548 * np.sqrt(2) * sigma, rel=0.05)


def test_a_row_a_measure_with_its_real_value():
    table = early_scans(2, spacing_mm=1.5).set_index("measure")
    assert list(table.index) == list(REAL)
    assert (table["p10"].dropna() <= table["p90"].dropna()).all()
    assert table.loc["centre distance [mm]", ["real_low", "real_high"]].tolist() == [25, 29]
