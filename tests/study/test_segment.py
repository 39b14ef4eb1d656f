"""Notebook 10: what it finds of one's own goes to a folder of its own."""

from __future__ import annotations

import pandas as pd
import pytest

from fhlib.files import SHIPPED
from fhlib.presets import load_preset
from fhlib.segmentation.rows import table_of
from fhlib.study import segment
from fhlib.study.run import Study
from fhlib.study.segment import figures_folder, keep_table, results_folder, shown_rows


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A run `quick` that has a table of its own."""
    monkeypatch.setattr(segment, "DATA", tmp_path / "data")
    run = Study("quick", tmp_path / "data" / "runs" / "quick", load_preset("quick"), None)
    run.tables.mkdir(parents=True)
    (run.tables / "segment.csv").write_text("the run's own")
    return run


def test_ones_own_volumes_leave_the_run_alone(study, tmp_path):
    scans = tmp_path / "ward 7"
    scans.mkdir()
    places = {scans: "ward 7", str(scans): "ward 7", scans / "a.nrrd": "a"}  # a folder above a scan may name a woman
    for volumes, name in places.items():
        own = tmp_path / "data" / "segmented" / name
        assert results_folder(study, volumes) == own and figures_folder(study, volumes) == own / "figures"
        keep_table(study, table_of([{"case": "a"}]), volumes)
    assert (study.tables / "segment.csv").read_text() == "the run's own"
    assert [path.name for path in study.folder.rglob("*")] == ["tables", "segment.csv"]


def test_rows_to_read_hold_no_nan():
    rows = table_of([{"case": "a", "volume_ml": 314.1612, "note": ""}, {"case": "b", "note": "failed"}])
    shown = shown_rows(rows)
    assert shown.to_dict("index") == {"a": {"volume_ml": 314.2, "note": ""}, "b": {"volume_ml": "", "note": "failed"}}


def test_a_simulated_subject_is_the_runs(study):
    assert results_folder(study, "") == study.folder / "segmented" and figures_folder(study, "") == study.figures
    keep_table(study, table_of([{"case": "a", "volume_ml": 314.1612}]), "")
    table = pd.read_csv(study.tables / "segment.csv")
    assert table["case"].tolist() == ["a"] and table["volume_ml"].tolist() == [314.2]


def test_the_run_map_of_a_few_cases_compares_with_the_shipped_weights_alone():
    assert load_preset("fine-tune").learns_from_few
    others = [path.stem for path in (SHIPPED / "presets").glob("*.yaml") if path.stem != "fine-tune"]
    assert "all-ages" in others and not any(load_preset(name).learns_from_few for name in others)
