"""Notebook 10: what it finds of one's own goes to a folder of its own."""

from __future__ import annotations

import pandas as pd
import pytest

from fhlib import files
from fhlib.files import SHIPPED
from fhlib.presets import load_preset
from fhlib.segmentation.rows import table_of
from fhlib.study import segment
from fhlib.study.run import Study
from fhlib.study.segment import (
    choose_segmentor,
    figures_folder,
    keep_table,
    notes_in_words,
    results_folder,
    segmentation_findings,
    shown_rows,
    sources_of,
)


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
    rows = table_of(
        [{"case": "a", "volume_ml": 314.1612, "note": ""}, {"case": "b", "note": "give *one* volume: " + 60 * "long "}]
    )
    shown = shown_rows(rows)
    assert shown.to_dict("index") == {"a": {"volume_ml": 314.2}, "b": {"volume_ml": ""}}
    assert notes_in_words(rows) == "- `b`: give *one* volume: " + 60 * "long "


def test_volumes_that_may_be_no_head_are_not_among_the_findings():
    rows = [
        {"case": "a", "status": "found", "volume_ml": 314.1},
        {"case": "b", "status": "uncertain", "volume_ml": 73.0},
    ]
    said = segmentation_findings(table_of(rows))
    assert "may be no head" in said[1] and said[2] == "Volumes 314 mL."


def test_a_path_counts_from_the_clone_too(study, tmp_path, monkeypatch):
    """JupyterLab copies paths from the top of its list of files, and notebooks run in a folder below it."""
    scan = tmp_path / "scans" / "a.nrrd"
    scan.parent.mkdir()
    scan.touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(files, "ROOT", tmp_path)
    assert [list(sources_of(study, path)) for path in ("scans/a.nrrd", "scans")] == [[scan], [scan]]
    assert [path.resolve() for path in sources_of(study, "../scans/a.nrrd")] == [scan]
    with pytest.raises(FileNotFoundError, match=r"there is no 'b\.nrrd'"):
        sources_of(study, "scans/b.nrrd")


def test_an_untrained_run_names_the_weights_that_ship(study):
    with pytest.raises(FileNotFoundError, match=r"'quick' has not trained 'USegNet-DS-HAS-Ctx'.* `weights = \"head\"`"):
        choose_segmentor(study)


def test_a_simulated_subject_is_the_runs(study):
    assert results_folder(study, "") == study.folder / "segmented" and figures_folder(study, "") == study.figures
    keep_table(study, table_of([{"case": "a", "volume_ml": 314.1612}]), "")
    table = pd.read_csv(study.tables / "segment.csv")
    assert table["case"].tolist() == ["a"] and table["volume_ml"].tolist() == [314.2]


def test_the_run_map_of_a_few_cases_compares_with_the_shipped_weights_alone():
    assert load_preset("fine-tune").learns_from_few
    others = [path.stem for path in (SHIPPED / "presets").glob("*.yaml") if path.stem != "fine-tune"]
    assert "all-ages" in others and not any(load_preset(name).learns_from_few for name in others)
