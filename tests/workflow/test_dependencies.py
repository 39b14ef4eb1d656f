"""The run map: what depends on what, what makes a training stale, and why a step is redone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fhlib.files import write_text
from fhlib.presets import load_preset
from fhlib.variants import VARIANTS
from fhlib.workflow.dependencies import explain, folder_state, module_state, notebook_state, preset_state
from tests.clones import copy_clone, edited, run_python

# A process of its own sees the code as it stands on disk: what a training of each variant depends on, by name
STATES = """
import json, sys
from pathlib import Path
from fhlib.fingerprints import code_digest
from fhlib.models.device import Execution
from fhlib.models.parameters import SegmentorParameters
from fhlib.files import write_text
from fhlib.presets import load_preset
from fhlib.training.prepared import PreparedCases
from fhlib.training.trainer import fingerprint_of
from fhlib.variants import VARIANTS
from fhlib.workflow.dependencies import notebook_state, variant_state

preset, cases = load_preset("smoke"), PreparedCases(Path(sys.argv[1]))
states = {"trainer": code_digest("fhlib.training.trainer"), "notebook 03": notebook_state("03_train")}
states |= {"predictions": code_digest("fhlib.segmentation.predictions")}
for name, row in VARIANTS.items():
    parameters = SegmentorParameters(name, row.levels, 3, preset.preparation, preset.training, Execution())
    states[name] = fingerprint_of(parameters, cases), variant_state(name)
print(json.dumps(states))
"""
MINE = """
from torch import nn
from fhlib.networks.competitors import Competitor

def mine(width, spatial_dims):
    return Competitor(nn.Sequential(nn.Conv3d(1, width, 3, padding=1), nn.Conv3d(width, 2, 1)), spatial_dims, multiple=1)
"""


def test_parameters_are_recorded_one_by_one():
    smoke = load_preset("smoke")
    assert "training.width=4" in preset_state(smoke, "training")
    assert preset_state(smoke, "val_fraction") == ("val_fraction=0.2",)
    assert "simulated_cohort.sites=paper-like" in preset_state(smoke, "simulated_cohort")


def names(states: tuple[str, ...]) -> set[str]:
    return {text.split("@")[0] for text in states}


def test_a_notebook_depends_on_what_its_imports_reach_but_not_on_other_variants():
    modules = names(notebook_state("03_train"))
    assert {"notebook 03_train", "fhlib.training.trainer", "fhlib.training.losses", "fhlib.files"} <= modules
    assert "fhlib.variants" not in modules
    assert not [name for name in names(module_state("fhlib.measures.metrics")) if name.startswith("fhlib.figures")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copied clone with two prepared cases."""
    clone = copy_clone(tmp_path_factory.mktemp("clone"))
    index = "case,subject,split,shape,fingerprint\na,a,train,8x9x10,1\nb,b,val,8x9x10,2\n"
    write_text(index, clone / "prepared" / "index.csv")
    return clone


def states_of(clone: Path) -> dict[str, Any]:
    """What a training depends on and what tells one of each variant from another, as the clone's code says."""
    return json.loads(run_python(clone, STATES, clone / "prepared"))


@pytest.fixture(scope="module")
def before(clone: Path) -> dict[str, Any]:
    """The states of the code as it is."""
    return states_of(clone)


def test_a_flags_threshold_makes_predictions_stale_and_no_training(clone, before):
    with edited(clone / "fhlib" / "segmentation" / "quality.py", "LEAST_CONFIDENCE = 0.8", "LEAST_CONFIDENCE = 0.7"):
        after = states_of(clone)
    assert after.pop("predictions") != before["predictions"]
    assert after == {name: state for name, state in before.items() if name != "predictions"}


def test_a_competitor_is_a_row_and_a_function_and_makes_no_other_training_stale(clone, before):
    mine, rows = clone / "fhlib" / "networks" / "mine.py", clone / "fhlib" / "variants.py"
    last = 'network="fhlib.networks.competitors:swin_unetr"),\n'
    with (
        edited(mine, "", MINE),
        edited(rows, last, last + '    Variant("Mine", network="fhlib.networks.mine:mine"),\n'),
    ):
        after = states_of(clone)
        shape = run_python(
            clone,
            "import torch; from fhlib import build_network\n"
            "print(*build_network('Mine', width=4)(torch.zeros(1, 1, 5, 6, 7)).logits.shape)",
        )
        with edited(mine, "padding=1", "padding='same'"):
            changed = states_of(clone)
    assert shape.split() == ["1", "2", "5", "6", "7"]
    assert {name: state for name, state in after.items() if name != "Mine"} == before
    # code of its own counts for it alone
    assert [name for name, state in changed.items() if state != after[name]] == ["Mine"]


def test_a_loss_makes_every_training_stale_its_prose_none(clone, before):
    losses = clone / "fhlib" / "training" / "losses.py"
    with edited(losses, '"""', '"""In other words: '), edited(losses, "\ndef _loss", "\n# A comment.\n\n\ndef _loss"):
        assert states_of(clone) == before
    with edited(losses, "loss = F.cross_entropy(", "loss = 2 * F.cross_entropy("):
        after = states_of(clone)
    stale = {name for name, state in after.items() if state != before[name]}
    assert stale == {"trainer", "notebook 03", *VARIANTS}


def test_reasons_name_what_changed():
    snakemake_says = (
        "Params have changed since last execution: Union of exclusive params before and now across all output: "
        "before: 'fhlib.training.losses@0123456789abcdef','training.steps=400' "
        "now: 'fhlib.training.losses@fedcba9876543210','training.steps=500' "
    )
    assert explain(snakemake_says) == "changed: fhlib.training.losses; training.steps: 400 -> 500"
    assert explain("Missing output files: a.csv, b.csv, c.csv") == "not there yet: a.csv, b.csv and 1 more"
    assert explain("Input files updated by another job: tables/cohort.csv") == "follows from tables/cohort.csv"


def test_a_cohort_is_known_by_its_contents_not_by_its_place_or_dates(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "cohort.csv").write_text("case,subject,image,label\na,a,images/a.nrrd,\n")
        (tmp_path / name / "images" / "a.nrrd").write_bytes(b"voxels")
    first = folder_state(tmp_path / "one", tmp_path / "one.json")
    assert first == folder_state(tmp_path / "two", tmp_path / "two.json")
    (tmp_path / "two" / "images" / "a.nrrd").write_bytes(b"VOXELS")
    assert first != folder_state(tmp_path / "two", tmp_path / "two.json")
    assert first == folder_state(tmp_path / "one", tmp_path / "one.json")
    for name in (".git/HEAD", "images/Thumbs.db", "notes.txt", ".ipynb_checkpoints/cohort-checkpoint.csv"):
        (tmp_path / "one" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_text("x")
    assert first == folder_state(tmp_path / "one", tmp_path / "one.json")  # none is read
    (tmp_path / "one" / "cohort.csv").write_text("case,subject,image,label,spacing_mm\na,a,images/a.nrrd,,0.5\n")
    assert first != folder_state(tmp_path / "one", tmp_path / "one.json")
