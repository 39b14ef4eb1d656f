"""The weights that ship: small, documented, and good for scans that no cohort holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from fhlib.files import SHIPPED as FILES
from fhlib.fingerprints import file_digest
from fhlib.models.parameters import SegmentorParameters
from fhlib.models.weights import model_digest, save_level
from fhlib.phantom.scan import simulate_scan
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.ship_weights import export_segmentor
from fhlib.training.trainer import fit
from tests.small_cohort import parameters


def test_exported_weights_are_half_as_large_and_segment_alike(cohort, cases, tmp_path):
    fit(cases, parameters("USegNet-DS"), tmp_path / "whole" / "level1")
    with pytest.raises(FileNotFoundError, match="03_train"):
        export_segmentor(tmp_path / "nothing", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()
    for stale in ("level2/weights.safetensors", "coverage.csv", "flags.csv"):  # of a cascade that was shipped before
        (tmp_path / "shipped" / stale).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shipped" / stale).write_text("")
    export_segmentor(tmp_path / "whole", tmp_path / "shipped")
    files = {path.relative_to(tmp_path / "shipped").as_posix() for path in (tmp_path / "shipped").rglob("*.*")}
    assert files == {"level1/weights.safetensors", "level1/parameters.json"}
    sizes = [(tmp_path / name / "level1" / "weights.safetensors").stat().st_size for name in ("whole", "shipped")]
    assert sizes[1] < 0.6 * sizes[0]
    image = cohort.read_image("c4")
    first, second = (load_segmentor(tmp_path / name).segment(image).probability for name in ("whole", "shipped"))
    assert np.abs(first.array - second.array).max() < 0.01
    # half precision ends at 65504; what was there stays
    level = tmp_path / "whole" / "level1"
    tensors = load_file(level / "weights.safetensors")
    tensors["head.bias"] = tensors["head.bias"] + 1e5
    save_level(tensors, SegmentorParameters.load(level / "parameters.json"), level)
    before = model_digest(tmp_path / "shipped")
    with pytest.raises(ValueError, match=r"NaN or infinite weights in head\.bias"):
        export_segmentor(tmp_path / "whole", tmp_path / "shipped")
    assert model_digest(tmp_path / "shipped") == before and not list((tmp_path / "shipped").glob(".partial*"))


SHIPPED = sorted(path.parent.parent for path in (FILES / "weights").glob("*/level1/weights.safetensors"))
FOR_VOLUMES = [
    folder for folder in SHIPPED if SegmentorParameters.load(folder / "level1/parameters.json").spatial_dims == 3
]
each, each_for_volumes = (
    pytest.mark.parametrize("folder", folders, ids=lambda path: path.name) for folders in (SHIPPED, FOR_VOLUMES)
)


def test_weights_are_small_and_have_a_card():
    assert SHIPPED and sum(path.stat().st_size for path in (FILES / "weights").rglob("*")) < 15e6
    card = (FILES / "weights" / "README.md").read_text(encoding="utf-8")
    headings = ("Intended use", "Training", "Measured", "Limits", "Not a medical device")
    assert not [heading for heading in headings if heading not in card]
    assert not [folder.name for folder in SHIPPED if f"`{folder.name}`" not in card]


def test_the_card_has_a_header_that_model_hubs_read():
    text = (FILES / "weights" / "README.md").read_text(encoding="utf-8")
    opening, header, _ = text.split("---\n", 2)
    card = yaml.safe_load(header)
    assert opening == "" and (card["license"], card["library_name"]) == ("apache-2.0", "fhlib")
    assert card["pipeline_tag"] == "image-segmentation" and "dice" in card["metrics"]
    assert all(isinstance(word, str) for word in (*card["tags"], *card["datasets"]))
    told = {one["name"]: one["results"][0]["metrics"][0]["value"] for one in card["model-index"]}
    tables = {folder.name: pd.read_csv(folder / "coverage.csv") for folder in SHIPPED}
    heads = {name: seen[seen["has_head"]] if "has_head" in seen else seen for name, seen in tables.items()}
    assert told == {name: round(100 * seen["dsc"].mean(), 1) for name, seen in heads.items()}


@each
def test_checksums_are_of_the_files_that_ship(folder):
    for weights in folder.glob("level*/weights.safetensors"):
        parameters = SegmentorParameters.load(weights.with_name("parameters.json"))
        assert parameters.weights_digest == file_digest(weights)
    segmentor = load_segmentor(folder)
    assert segmentor.calibration and segmentor.calibration.weights_digest == model_digest(folder)


@each
def test_intervals_and_flags_were_measured_on_scans_of_their_own(folder):
    segmentor = load_segmentor(folder)
    assert segmentor.calibration and segmentor.calibration.cases >= 50
    assert segmentor.calibration.headless >= 5 or folder not in FOR_VOLUMES
    seen = pd.read_csv(folder / "coverage.csv")
    assert len(seen) >= 150 and 0.9 <= seen["covered"].mean() <= 0.98
    card = (FILES / "weights" / "README.md").read_text(encoding="utf-8")
    assert f"{100 * seen['covered'].mean():.1f} %" in card, "the card tells the coverage of coverage.csv"


@pytest.mark.slow
@each_for_volumes
def test_a_head_that_no_cohort_holds_is_found(folder):
    segmentor = load_segmentor(folder)
    scores = []
    for seed, site, weeks in ((990101, "paper-like", 24.0), (990102, "any", 33.0), (990103, "any", 19.0)):
        scan = simulate_scan(seed, ga_weeks=weeks, site=site, spacing_mm=2.0)
        label = scan.label if segmentor.parameters.outline == "skin" else scan.label_skull
        found, truth = segmentor.segment(scan.image).mask.array > 0, label.array > 0
        scores.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert np.mean(scores) > 0.75, scores


@pytest.mark.slow
@each_for_volumes
def test_scans_without_a_head_are_empty_or_flagged(folder):
    segmentor = load_segmentor(folder)
    results = [
        segmentor.segment(simulate_scan(990110 + k, site="any", spacing_mm=2.5, has_head=False).image) for k in range(4)
    ]
    assert sum("no head" in result.flags for result in results) >= 3
