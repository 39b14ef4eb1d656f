"""The audit of the printed numbers, against simulations."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.paper import audit


def test_audit_numbers():
    table = audit.audit()
    value = table.set_index("item")["recomputed"]
    assert value["distinct copies a volume"] == 8
    assert value["repeatability coefficient, ddof 1"] == pytest.approx(36, abs=0.1)
    assert value["repeatability coefficient, ddof 0"] == pytest.approx(44.1, abs=0.1)
    assert value["largest SD of 52 groups"] == pytest.approx(27, abs=0.1)
    assert value["mean head if 19.5 is 1.96 SD"] == pytest.approx(237, abs=1)
    assert value["SD between subjects"] == pytest.approx(70, abs=1)
    assert value["SAM lowers Adb"] == pytest.approx(13.9, abs=0.05)
    assert value["USegNet-DS-HAS over USegNet-DS"] == pytest.approx(5.7, abs=0.02)
    boundary = table[table["check"] == "Adb against DSC"]
    assert len(boundary) == 9 and (boundary["printed"] / boundary["recomputed"]).between(0.455, 0.555).all()
    assert (table["finding"] != "").all()


def test_operations_of_the_printed_layouts():
    every = (1, 2, 3)
    layouts = [audit.forward_gflop(*x) for x in ((), ((3,),), ((2, 3),), (every,), (every, every))]
    assert [round(x) for x in layouts] == [77, 87, 103, 235, 442]


def test_largest_sd_against_simulation():
    mean, top, groups = 11.524, 24.0, 52
    rng = np.random.default_rng(0)
    largest = rng.normal(0, mean / audit.c4(3), (4000, groups, 3)).std(axis=2, ddof=1).max(axis=1)
    median, chance = audit.largest_sd_chance(mean, top, groups, 3)
    assert median == pytest.approx(np.median(largest), rel=0.02)
    assert chance == pytest.approx((largest >= top).mean(), abs=0.025)
    assert audit.largest_sd_chance(mean, 49.869, groups, 3)[1] == pytest.approx(2e-5, rel=0.15)


def test_implied_spread_of_dsc_against_simulation():
    rng = np.random.default_rng(1)
    dsc = rng.normal(0.95, 0.015, 200_000)
    assert audit.implied_dsc_sd(float(dsc.mean()), float(np.mean(3 - 2 / dsc))) == pytest.approx(0.015, rel=0.03)


def test_boundary_experiment_tells_the_definitions_apart():
    table = audit.boundary_experiment(volumes_ml=(100.0,), spacings_mm=(0.95, 1.6), error_mm=(0.9, 1.4))
    assert len(table) == 4 and table["dsc"].between(0.9, 0.99).all()
    assert table["symmetric"].between(0.85, 1.25).all()
    assert table["filled"].between(0.42, 0.65).all()  # the printed ratio is 0.46 to 0.55
    fine, coarse = (table[table["spacing_mm"] == s]["eq7_mm3"].mean() for s in (0.95, 1.6))
    assert fine / coarse == pytest.approx(
        (1.6 / 0.95) ** 2, rel=0.15
    )  # a sum over surface voxels grows with their number
