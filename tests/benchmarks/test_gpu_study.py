"""The study for a GPU, small and on a processor: it is the same code."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from fhlib.benchmarks.card import CHECK_SHAPES, check_device, throughput
from fhlib.benchmarks.gpu_study import GpuStudy
from fhlib.models.device import Execution
from fhlib.presets import load_preset

SMALL = {
    "training.width": 2,
    "training.steps": 3,
    "preparation.spacing_mm": 5.0,
    "simulated_cohort.spacing_mm": 5.0,
    "simulated_cohort.train_subjects": 3,
    "simulated_cohort.test_subjects": 2,
    "simulated_cohort.reproducibility_subjects": 0,
    "val_fraction": 0.34,
}
# what a GPU machine may lack
ABSENT = (
    "SimpleITK",
    "monai",
    "pandera",
    "pydicom",
    "snakemake",
    "papermill",
    "plotly",
    "IPython",
    "filelock",
    "seaborn",
)


def small_study(folder, **changes):
    given = {"minutes": 9, "variants": ("USegNet-DS", "USegNet"), "seeds": (0, 1)} | changes
    return GpuStudy(folder, load_preset("gpu", SMALL), say=lambda text: None, **given)


@pytest.mark.slow
def test_a_device_that_is_the_processor_is_right_and_a_wrong_one_is_not(monkeypatch):
    monkeypatch.setitem(CHECK_SHAPES, 3, (16, 16, 16))
    table = check_device(torch.device("cpu"), ("no",))
    assert table["right"].all() and table["loss_difference"].max() < 1e-6 and len(table) == 4

    honest = torch.nn.functional.relu
    monkeypatch.setattr(torch.nn.ReLU, "forward", lambda self, x: honest(x) * 1.02)
    from fhlib.benchmarks import card

    references = iter([True, False, False] * 2)
    outcome = card._outcome

    def second_is_wrong(*arguments):
        if next(references):
            with monkeypatch.context() as patched:
                patched.setattr(torch.nn.ReLU, "forward", lambda self, x: honest(x))
                return outcome(*arguments)
        return outcome(*arguments)

    monkeypatch.setattr(card, "_outcome", second_is_wrong)
    assert not check_device(torch.device("cpu"), ("no",))["right"].any()


def test_throughput_is_of_the_whole_batch_and_by_volume():
    table = throughput(["USegNet-DS"], (16, 8, 16), Execution(), 2, batches=(1, 2), repeats=1)
    one, two = (table[(table["batch"] == batch) & (table["what"] == "forward")].iloc[0] for batch in (1, 2))
    assert two["gflop"] == pytest.approx(2 * one["gflop"])
    assert two["seconds_a_volume"] == pytest.approx(two["seconds"] / 2)
    assert (table["share"] * table["peak_gflops"]).to_numpy() == pytest.approx(table["gflops"].to_numpy())


@pytest.mark.slow
def test_the_command_runs_where_there_is_no_simpleitk_and_a_second_start_continues(tmp_path):
    changes = [f"{name}={value}" for name, value in SMALL.items()]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        "import fhlib.benchmarks.card as card\n"
        "card.CHECK_SHAPES[3] = (16, 16, 16)\n"
        "from fhlib.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "gpu-study", "--variants", "USegNet-DS,USegNet", "--seeds", "0,1"]
    command += ["--out", str(tmp_path), "--set", *changes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores.groupby(["variant", "seed"]).size().tolist() == [2] * 4 and scores["dsc"].between(0, 1).all()
    comparison = pd.read_csv(tmp_path / "comparison.csv").set_index("measure")
    by_seed = scores.pivot_table(index="seed", columns="variant", values="dsc")
    difference = (by_seed["USegNet"] - by_seed["USegNet-DS"]).mean()
    assert comparison.loc["dsc", "difference"] == pytest.approx(difference) and comparison.loc["dsc", "seeds"] == 2
    assert json.loads((tmp_path / "work" / "plan.json").read_text())["steps"] == 3
    assert (tmp_path / "learning.png").stat().st_size > 10_000
    half = sorted(tmp_path.glob("trainings/*/weights.safetensors"))
    assert len(half) == 4

    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and {path: path.read_bytes() for path in before} == before
    other = subprocess.run([*command, "--seeds", "5"], capture_output=True, text=True)
    assert other.returncode == 2 and "continue that, or name another folder" in other.stderr


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"variants": ("USegNet-D",)}, "did you mean 'USegNet-DS'"),
        ({"variants": ("USegNet", "USegNet")}, "name each once"),
        ({"variants": ("2D-USegNet",)}, "slices, patches or boxes"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (-1,)}, "0 or more"),
        ({"minutes": np.nan}, "above 0"),
        ({"minutes": 0}, "above 0"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        small_study(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_scans_must_lie_on_the_networks_grid(tmp_path):
    preset = load_preset("gpu", SMALL | {"preparation.spacing_mm": 4.0})
    with pytest.raises(ValueError, match=r"simulates at 5\.0 mm and its networks read 4\.0"):
        GpuStudy(tmp_path, preset, 1, ("USegNet",), (0,))


def test_a_dry_run_says_bytes_and_trainings_and_writes_nothing(tmp_path):
    said = small_study(tmp_path / "out").dry_run()
    # 5 scans of up to 3 litres in voxels of 125 mm3, five bytes each
    assert "5 scans at 5.0 mm: up to 0.0 GB" in said and "4 trainings: USegNet-DS, USegNet; seeds 0, 1" in said
    assert not (tmp_path / "out").exists()
