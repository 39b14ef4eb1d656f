"""Populations: heads like the simulator's, protocols, errors of a segmentor, and scans."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from fhlib.files import own_or_shipped
from fhlib.measures import growth
from fhlib.phantom.anatomy import draw_subject
from fhlib.population.drawn.errors import ErrorModel, fit_error_model, segmentor_error
from fhlib.population.drawn.heads import COLUMNS, DRAWN_TABLE, head_model
from fhlib.population.drawn.protocol import Protocol, Tracking
from fhlib.population.drawn.scans import anatomy_weeks, simulate_visits
from fhlib.population.drawn.visits import draw_population, measure, true_centiles, write_population


def test_the_kept_heads_are_those_that_the_simulator_draws():
    kept = pd.read_csv(DRAWN_TABLE)
    assert list(kept) == list(COLUMNS) and len(kept) == 1200
    for row in kept.iloc[[0, 900]].itertuples():
        drawn = draw_subject(int(row.seed), row.ga_weeks, detailed=True)
        assert (row.bpd_mm, row.ofd_mm, row.hc_mm, row.head_volume_ml) == pytest.approx(
            (drawn.bpd_mm, drawn.ofd_mm, drawn.hc_mm, drawn.head_volume_ml), abs=1e-4
        )


def test_volumes_follow_from_diameters_at_every_age():
    kept = pd.read_csv(DRAWN_TABLE)
    model = head_model()
    off = np.log(kept["head_volume_ml"] / model.volume_ml(kept["bpd_mm"], kept["ofd_mm"], kept["ga_weeks"]))
    by_age = off.groupby(((kept["ga_weeks"] - 12) // 4).clip(upper=6)).mean()
    assert by_age.abs().max() < 0.005 and off.std() == pytest.approx(model.form_sd, rel=0.01)


def test_diameters_are_intergrowths_and_follow_over_time():
    protocol = Protocol(4000, ((24.0, 24.0), (32.0, 32.0)), seed=3)
    drawn = draw_population(protocol)
    z = growth.zscore("bpd", drawn["bpd_mm"], drawn["ga_weeks"]).reshape(-1, 2)
    assert z.mean(0) == pytest.approx([0, 0], abs=0.05) and z.std(0) == pytest.approx([1, 1], abs=0.04)
    assert np.corrcoef(z.T)[0, 1] == pytest.approx(0.5 + 0.5 * np.exp(-0.8), abs=0.02)
    assert Tracking().correlation(np.array([24.0, 32.0]))[0, 1] == pytest.approx(0.7247, abs=1e-4)
    assert np.median(drawn["volume_ml"].to_numpy().reshape(-1, 2), axis=0) == pytest.approx(
        true_centiles([24, 32], [50]).ravel(), rel=0.01
    )


def test_a_disorder_changes_diameters_and_volume_as_it_says():
    """Of the same subjects, fluid at 36 weeks in full: BPD and height 10 % wider, OFD 4 %, times each one's severity."""
    visits = ((18.0, 18.0), (36.0, 36.0))
    healthy, fluid = (draw_population(Protocol(50, visits, shares, seed=2)) for shares in ({}, {"fluid": 1.0}))
    before, after = (slice(0, None, 2), slice(1, None, 2))
    columns = ["bpd_mm", "ofd_mm", "hc_mm", "volume_ml"]
    assert fluid[columns].to_numpy()[before] == pytest.approx(healthy[columns].to_numpy()[before])
    ratio = (fluid[columns] / healthy[columns])[after]
    severity = fluid["severity"][after]
    assert severity.between(0.6, 1.4).all()
    bpd, ofd = 1 + 0.10 * severity, 1 + 0.04 * severity
    assert ratio["bpd_mm"].to_numpy() == pytest.approx(bpd) and ratio["ofd_mm"].to_numpy() == pytest.approx(ofd)
    power = head_model().cross_power
    assert ratio["volume_ml"].to_numpy() == pytest.approx(ofd**3 * (bpd / ofd) ** (2 * power))


def test_shares_sites_and_time():
    begin = time.perf_counter()
    protocol = Protocol(1000, conditions={"microcephaly": 0.05, "fluid": 0.1}, sites=("any", "paper-like"))
    drawn = draw_population(protocol)
    measured = measure(drawn, ErrorModel(0.1))
    assert time.perf_counter() - begin < 10
    assert len(drawn) == len(measured) == 3000 and not drawn.isna().any().any()
    one = drawn.drop_duplicates("subject")
    assert one["condition"].value_counts().to_dict() == {"healthy": 850, "fluid": 100, "microcephaly": 50}
    assert one["site"].tolist()[:3] == ["any", "paper-like", "any"] and one["seed"].is_unique
    assert (drawn.groupby("subject")["ga_weeks"].diff().dropna() >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"visits": ((11.0, 14.0),)}, "visit 11 to 14 weeks"),
        ({"visits": ((20.0, 18.0),)}, "visit 20 to 18 weeks"),
        ({"subjects": 0}, "got 0 and 3"),
        ({"conditions": {"fluids": 0.1}}, "'fluids' is not known; choose from healthy"),
        ({"conditions": {"fluid": 0.7, "microcephaly": 0.6}}, "sum to 1.3"),
        ({"sites": ("nowhere",)}, "'nowhere' is not known"),
    ],
)
def test_protocols_that_cannot_be(wrong, said):
    with pytest.raises(ValueError) as error:
        Protocol(**wrong)
    assert said in str(error.value)


def test_bias_and_error_of_a_segmentor_by_hand():
    """ln(measured / true) = -0.1 + 0.05 (ln(true) - centre), plus 0.02 up and down in turn."""
    log_true = np.repeat(np.linspace(3, 7, 20), 2)
    wobble = np.tile([0.02, -0.02], 20)
    model = fit_error_model(np.exp(log_true), np.exp(log_true - 0.1 + 0.05 * (log_true - 5) + wobble))
    assert (model.offset, model.slope, model.centre) == pytest.approx((-0.1, 0.05, 5.0))
    assert model.sd == pytest.approx(0.02 * np.sqrt(40 / 38)) and model.n == 40
    assert model.calibrated(np.exp(6 - 0.1 + 0.05)) == pytest.approx(np.exp(6.0))
    assert model.calibrated_sd == pytest.approx(model.sd / 1.05)
    offset, slope, sd = model.neighbours()
    assert offset.offset - model.offset == pytest.approx(model.sd / np.sqrt(40))
    assert sd.sd / model.sd - 1 == pytest.approx(1 / np.sqrt(76)) and slope.sd == model.sd
    with pytest.raises(ValueError, match="20 heads of known volume, got 3"):
        fit_error_model([1, 2, 3], [1, 2, 3])


def test_the_shipped_weights_error_counts_every_head():
    error = segmentor_error("head")
    table = pd.read_csv(own_or_shipped("weights", "head") / "coverage.csv")
    assert error.n + error.left_out == int((table["has_head"] & (table["true_ml"] > 0)).sum())
    assert 0 < error.sd < 0.3 and abs(error.offset) < 0.2


def test_a_volume_that_a_head_has_at_no_age_is_refused():
    with pytest.raises(ValueError, match="3000 mL is outside"):
        anatomy_weeks(5, 3000.0, detailed=True)


def test_scans_want_a_population(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no subjects\.csv"):
        simulate_visits(tmp_path)


@pytest.mark.slow
def test_the_age_at_which_a_head_has_a_volume():
    volume = draw_subject(5, 24.0, detailed=True).head_volume_ml
    assert anatomy_weeks(5, volume, detailed=True) == pytest.approx(24.0, abs=0.02)


@pytest.mark.slow
def test_visits_are_scanned_with_their_volumes_and_a_second_start_keeps_them(tmp_path):
    write_population(tmp_path, Protocol(2, ((16.0, 17.0),), seed=4), ErrorModel(0.1))
    cohort = simulate_visits(tmp_path, spacing_mm=3.0, workers=1)
    truth = pd.read_csv(tmp_path / "subjects.csv")
    assert cohort.table["reference_volume_ml"].astype(float).tolist() == pytest.approx(
        truth["volume_ml"].tolist(), rel=0.003
    )
    assert cohort.table["ga_weeks"].astype(float).tolist() == truth["ga_weeks"].tolist()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").iterdir()}
    simulate_visits(tmp_path, spacing_mm=3.0, workers=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "images").iterdir()} == before and len(before) == 2


@pytest.mark.parametrize("name", ["subjects.csv", "measurements.csv"])
def test_a_group_s_own_table_is_never_replaced(tmp_path, name):
    (tmp_path / name).write_text("patient,weeks\n1,20\n")
    with pytest.raises(OSError, match=f"{name} is a table of another origin"):
        write_population(tmp_path, Protocol(2, ((16.0, 17.0),), seed=4), ErrorModel(0.1))
    assert [path.name for path in tmp_path.iterdir()] == [name] and (
        tmp_path / name
    ).read_text() == "patient,weeks\n1,20\n"


def test_an_earlier_population_is(tmp_path):
    for seed in (4, 5):
        write_population(tmp_path, Protocol(2, ((16.0, 17.0),), seed=seed), ErrorModel(0.1))
    assert (
        pd.read_csv(tmp_path / "subjects.csv")["ga_weeks"].tolist()
        == draw_population(Protocol(2, ((16.0, 17.0),), seed=5))["ga_weeks"].tolist()
    )
