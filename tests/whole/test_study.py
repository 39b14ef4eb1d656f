"""The whole study small, from an empty folder to its report; killed, resumed, changed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fhlib.__main__ import main
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume
from fhlib.presets import load_preset
from fhlib.study.few_cases import learn_from_few
from fhlib.study.run import Study, StudyError
from fhlib.workflow.report import write_report
from fhlib.workflow.run import only_start_of
from tests.clones import copy_clone, edited, execute_notebook, run_study

pytestmark = pytest.mark.slow


VARIANTS = ("USegNet-DS", "USegNet-DS-HAS", "USegNet-DS-HAS-Ctx")
STEPS = [
    *("00_start_here", "01_cohort", "02_prepare"),
    *("03_train USegNet-DS 1", "03_train USegNet-DS-HAS 1", "03_train USegNet-DS-HAS-Ctx 2"),
    *(f"04_predict {variant}" for variant in VARIANTS),
    *("05_accuracy", "06_agreement", "07_reproducibility", "08_attention", "09_claims", "10_segment", "report"),
]


def listed(text: str) -> list[str]:
    """Titles of the steps in what a start printed."""
    return re.findall(r"^\[\d+/\d+\] (.*?) \(", text, flags=re.MULTILINE)


def finish(clone: Path, *arguments: str) -> str:
    """Run `python -m fhlib study --preset smoke` to its end and return what it printed."""
    process = run_study(clone, "--preset", "smoke", *arguments)
    text = process.communicate(timeout=1500)[0]
    assert process.returncode == 0, text
    return text


def kill_when_written(clone: Path, pattern: str, kind: signal.Signals = signal.SIGKILL) -> str:
    """Start the smoke study, send it a signal as soon as a file of that pattern is there; what it printed. Nothing is left running."""
    process = run_study(clone, "--preset", "smoke")
    run, deadline = clone / "data" / "runs" / "smoke", time.monotonic() + 600
    while not next(run.glob(pattern), None) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(kind)
    text = process.communicate(timeout=60)[0]
    assert psutil.wait_procs(processes, 15)[1] == []
    return text


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> tuple[Path, str, str]:
    """A clone whose run `smoke` was killed in a training and ended in a prediction, then finished, and whose run `whole` ran through;
    what the first and the last start of `smoke` printed.
    """
    clone = copy_clone(tmp_path_factory.mktemp("clone"))
    first = kill_when_written(clone, "models/*/level1/checkpoint.pt")
    killed, whole = (clone / "data" / "runs" / name for name in ("smoke", "whole"))
    whole.mkdir()
    # precision and memory format are measured at a run's first start; both runs shall use the same
    (whole / "execution.json").write_bytes((killed / "execution.json").read_bytes())
    uninterrupted = run_study(clone, "--preset", "smoke", "--run", "whole")
    ended = kill_when_written(clone, "predictions/*/*/*_mask.nrrd", signal.SIGTERM)
    assert ended.endswith("stopped (SIGTERM); to continue: python -m fhlib study --preset smoke --run smoke\n")
    assert not re.search("Traceback|failed", ended)
    last = finish(clone)
    text = uninterrupted.communicate(timeout=1500)[0]
    assert uninterrupted.returncode == 0, text
    return clone, first, last


@pytest.fixture
def finished(studies) -> Path:
    """The clone, its studies at their end."""
    return studies[0]


def test_the_whole_study_runs_to_its_report_through_a_kill(studies):
    clone, killed, resumed = studies
    run = clone / "data" / "runs" / "smoke"
    before, after = listed(killed), listed(resumed)
    assert set(before) | set(after) <= set(STEPS)
    # which of the independent trainings and predictions comes first is Snakemake's choice
    assert before[-1].startswith("03_train") and any(step.startswith("04_predict") for step in after)
    assert after[-1] == "report" and not {"01_cohort", "02_prepare"} & set(after)
    assert (run / "report" / "index.html").stat().st_size > 10_000
    assert "report: data/runs/smoke/report/index.html" in resumed
    executed = {path.stem for path in (run / "notebooks").glob("*.ipynb")}
    assert len(executed) == len(STEPS) - 1 and not [name for name in executed if name.endswith(".failed")]
    for name in ("cohort", "scores", "summary", "agreement", "repeatability", "claims", "segment"):
        assert (run / "tables" / f"{name}.csv").stat().st_size > 0


def test_a_study_killed_twice_has_the_tables_of_an_uninterrupted_one(finished):
    killed, whole = (finished / "data" / "runs" / name for name in ("smoke", "whole"))
    tables = {path.name for path in (killed / "tables").glob("*.csv")}
    assert len(tables) >= 9
    differing = {
        name for name in tables if (killed / "tables" / name).read_bytes() != (whole / "tables" / name).read_bytes()
    }
    assert differing == set()


def test_nothing_in_the_results_says_where_they_were_made(finished):
    run = finished / "data" / "runs" / "smoke"
    texts = [path for kind in ("csv", "json", "ipynb", "html") for path in run.rglob(f"*.{kind}")]
    texts += (run / ".snakemake" / "metadata").glob("*")
    assert len(texts) > len(STEPS)
    named = [
        str(path.relative_to(run))
        for path in texts
        if re.search(f"{finished}|{Path.home()}/", path.read_text(encoding="utf-8"))
    ]
    assert named == []


PLANTED = ("planted_user", "Doe, Jane", "DOE^JANE 1984", "Jane")


def telling(folder: Path) -> list[str]:
    """Files, whatever they are, that hold a planted name.

    Encoded pictures are left out: among 400,000 of their letters four in a row are a short name's by chance.
    """
    names = [name.encode() for name in PLANTED]
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    texts = {path: re.sub(rb"[A-Za-z0-9+/=]{200,}", b"", path.read_bytes()) for path in files}
    found = [str(path) for path, text in texts.items() if any(name in text for name in names)]
    return found + [str(path) for path in folder.rglob("*") if any(name in path.name for name in PLANTED)]


def test_no_folder_above_a_users_scans_is_named_anywhere_in_a_run(finished, tmp_path, monkeypatch):
    scans = tmp_path / "planted_user" / "Doe, Jane" / "DOE^JANE 1984" / "ward"
    shutil.copytree(finished / "data" / "cohorts" / "simulated-smoke", scans)
    finish(finished, "--run", "planted", "--cohort", str(scans), "--until", "01_cohort")
    write_report(finished / "data" / "runs" / "planted")
    assert telling(finished / "data" / "runs" / "planted") == []

    volumes, run = scans.with_name("volumes"), finished / "data" / "runs" / "smoke"
    volumes.mkdir()
    shutil.copy(next(scans.glob("images/*.nrrd")), volumes / "good.nrrd")
    (volumes / "bad.nrrd").write_bytes((volumes / "good.nrrd").read_bytes()[:3000])
    (volumes / "detached.mhd").write_text(
        "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = gone.raw\n"
    )
    table = (run / "tables" / "segment.csv").read_bytes()
    own = finished / "data" / "segmented"
    execute_notebook(finished, "10_segment", run / "10.ipynb", volumes=volumes)
    with pytest.raises(AssertionError, match=r"there is no 'none\.nrrd'"):
        execute_notebook(finished, "10_segment", run / "11.ipynb", volumes=volumes / "none.nrrd")
    rows = pd.read_csv(own / "volumes" / "segment.csv").set_index("case")
    assert rows.loc["bad", "status"] == rows.loc["detached", "status"] == "failed"
    assert (run / "11.failed.ipynb").exists() and telling(run) == telling(own) == []
    assert (run / "tables" / "segment.csv").read_bytes() == table

    shutil.rmtree(own)
    for name in ("10", "11.failed"):
        (run / f"{name}.ipynb").unlink()
    shutil.rmtree(finished / "data" / "runs" / "planted")


def test_a_scan_without_a_head_goes_through_every_notebook(finished):
    tables = finished / "data" / "runs" / "smoke" / "tables"
    cohort = pd.read_csv(tables / "cohort.csv", dtype=str).query("has_head == 'false'")
    assert cohort["split"].tolist() == ["test"]
    scores = pd.read_csv(tables / "scores.csv")
    assert set(scores.loc[scores["case"] == cohort["case"].iloc[0], "dsc"]) <= {0.0, 1.0}


def test_the_ablation_notebook_reads_a_finished_run(finished):
    run = finished / "data" / "runs" / "smoke"
    execute_notebook(finished, "13_ablation", run / "13.ipynb")
    compared = pd.read_csv(run / "tables" / "ablation.csv")
    pairs = set(zip(compared["variant"], compared["baseline"], strict=True))
    assert pairs == {(name, "USegNet-DS") for name in VARIANTS[1:]} | {("USegNet-DS-HAS-Ctx", "USegNet-DS-HAS")}
    assert compared["measure"].value_counts().to_dict() == {"dsc": 3, "adb_mm": 3, "hdb_mm": 3}
    text = (run / "13.ipynb").read_text(encoding="utf-8")
    (run / "13.ipynb").unlink()
    assert "One training each: the spread between trainings is not known." in text and "warm_up" in text


def test_a_finished_run_gets_another_seed_and_only_that_is_done(finished):
    text = finish(finished, "--run", "smoke", "--dry-run", "--set", "seeds=[0,1]")
    of_each = [step for step in STEPS if step.startswith(("03", "04", "05"))]
    assert set(listed(text)) == {"00_start_here", "13_ablation", "report", *(f"{step} seed 1" for step in of_each)}
    assert "changes" not in json.loads((finished / "data" / "runs" / "smoke" / "run.json").read_text())


def test_a_further_seed_has_the_scores_of_a_run_of_its_own(finished):
    runs = finished / "data" / "runs"
    for name, changes in (("seeds", ["seeds=[0,1]"]), ("alone", ["training.seed=1"])):
        (runs / name).mkdir()
        (runs / name / "execution.json").write_bytes((runs / "smoke" / "execution.json").read_bytes())
        until = ["--until", "13_ablation"] if name == "seeds" else ["--until", "05_accuracy"]
        finish(finished, "--run", name, *until, "--set", "variants=[USegNet-DS]", *changes)
    tables = runs / "seeds" / "tables"
    assert (tables / "scores_seed1.csv").read_bytes() == (runs / "alone" / "tables" / "scores.csv").read_bytes()
    own = pd.read_csv(runs / "smoke" / "tables" / "scores.csv").query("variant == 'USegNet-DS'").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        pd.read_csv(tables / "scores.csv").dropna(axis=1, how="all"), own.dropna(axis=1, how="all")
    )
    by_seed = pd.read_csv(tables / "ablation_seeds.csv")
    assert list(by_seed.columns) == ["variant", "0", "1", "mean", "sd_between_trainings"]
    for name in ("seeds", "alone"):
        shutil.rmtree(runs / name)


def test_learning_from_few_cases_reads_a_finished_run(finished):
    run = finished / "data" / "runs" / "smoke"
    execute_notebook(finished, "14_few_cases", run / "14.ipynb", run="smoke", preset="smoke", counts="[1, 2]")
    (run / "14.ipynb").unlink()
    curve = pd.read_csv(run / "tables" / "learning_curve.csv")
    assert curve.groupby("training_cases")["case"].nunique().to_dict() == {1: 3, 2: 3}
    variant = "USegNet-DS-Zoom"
    states = [load_file(run / "learning_curve" / str(n) / variant / "level1" / "weights.safetensors") for n in (1, 2)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    study = Study("smoke", run, load_preset("smoke"), finished / "data" / "cohorts" / "simulated-smoke")
    for variant, counts, remedy in (
        ("USegNet-DS", [0, 1], "set training.start_from"),
        ("USegNet-DS", [99], "99 training cases are asked for, the cohort has 2"),
        ("USegNet-DSS", [1], "did you mean 'USegNet-DS'"),
    ):
        with pytest.raises(StudyError, match=remedy):
            learn_from_few(study, variant, counts)


def test_the_explorer_opens_a_volume_of_ones_own(finished, tmp_path):
    run = finished / "data" / "runs" / "smoke"
    scan = np.random.default_rng(0).integers(0, 255, (28, 36, 44), np.uint8)
    write_volume(Volume(scan, (2.0, 1.5, 1.8)), tmp_path / "own.nrrd")
    execute_notebook(finished, "08_attention", run / "08.ipynb", volume=tmp_path / "own.nrrd")
    cells = nbformat.read(run / "08.ipynb", as_version=4).cells
    (run / "08.ipynb").unlink()
    explorer = next(cell for cell in cells if "explorer.show()" in cell.source)
    kinds = [kind for output in explorer.outputs for kind in output.get("data", {})]
    assert "image/png" in kinds and "text/html" in kinds
    assert [output.output_type for cell in cells for output in cell.get("outputs", [])].count("error") == 0


def test_a_second_start_does_nothing_in_seconds(finished):
    start = time.monotonic()
    text = finish(finished)
    assert "nothing to do" in text and listed(text) == []
    assert time.monotonic() - start < 30


def test_a_start_can_stop_after_a_step(finished, capsys):
    before = contents(finished / "data")
    text = finish(finished, "--run", "part", "--dry-run", "--until", "02_prepare")
    assert listed(text) == ["01_cohort", "02_prepare"]
    assert contents(finished / "data") == before  # a dry run writes nothing
    assert main(["study", "--until", "02_prepar"]) == 2
    assert "there is no step '02_prepar'; did you mean '02_prepare'?" in capsys.readouterr().err


def test_a_start_until_training_trains_every_level(finished):
    changes = ["--set", "variants=[USegNet-DS-Zoom]", "training.steps=2", "tuning=null"]
    finish(finished, "--run", "levels", "--until", "03_train", *changes)
    weights = (finished / "data" / "runs" / "levels" / "models").glob("*/*/weights.safetensors")
    assert {path.parent.parent.name for path in weights} == {"USegNet-DS", "USegNet-DS-Zoom"}


def contents(folder: Path) -> dict[str, int]:
    """Everything in a folder, with its date."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_of_a_finished_run_writes_nothing(finished):
    before = contents(finished / "data")
    assert "nothing to do" in finish(finished, "--dry-run")
    assert contents(finished / "data") == before


def test_two_runs_that_make_one_cohort_wait_for_each_other(finished):
    changes = ["--set", "simulated_cohort.seed=7", "simulated_cohort.train_subjects=1", "tuning=null"]
    given = ["--preset", "smoke", "--until", "01_cohort", *changes]
    both = [run_study(finished, "--run", f"race-{k}", *given) for k in (1, 2)]
    texts = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    waited = [text for text in texts if "another run is making the scans of cohort" in text]
    tables = {(finished / "data" / "runs" / f"race-{k}" / "tables" / "cohort.csv").read_bytes() for k in (1, 2)}
    assert len(waited) <= 1 and len(tables) == 1


def test_a_home_that_cannot_be_written_to_is_told_and_stops_nothing(finished, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "/proc/no-home")
    text = finish(finished, "--run", "homeless", "--dry-run", "--until", "01_cohort")
    assert "the home folder cannot be written to: caches go to .home" in text and "Traceback" not in text


def test_new_dates_and_new_prose_redo_nothing(finished):
    clone = finished
    trainer = clone / "fhlib" / "training" / "trainer.py"
    with edited(trainer, '"""', '"""In other words: '):
        for path in (*clone.glob("notebooks/*"), *clone.glob("fhlib/**/*.py"), *clone.glob("data/presets/*")):
            path.touch()
        assert listed(finish(clone, "--dry-run")) == []


def test_changed_code_redoes_what_depends_on_it_only(finished):
    clone = finished
    trainer, flags = clone / "fhlib" / "training" / "trainer.py", clone / "fhlib" / "segmentation" / "quality.py"
    with edited(trainer, "\nclass TrainingDiverged", "\nassert True\n\n\nclass TrainingDiverged"):
        text = finish(clone, "--dry-run")
    assert "03_train USegNet-DS 1 (changed: fhlib.training.trainer)" in text and "02_prepare" not in listed(text)
    with edited(flags, "LEAST_CONFIDENCE = 0.8", "LEAST_CONFIDENCE = 0.7"):
        text = finish(clone, "--dry-run")
    assert "04_predict USegNet-DS (changed: fhlib.segmentation.quality)" in text
    assert not [title for title in listed(text) if title.startswith("03_train")]


def test_a_changed_training_parameter_redoes_training_and_what_follows_only(finished):
    clone = finished
    path = clone / "data" / "presets" / "smoke.yaml"
    original = path.read_text(encoding="utf-8")
    content = yaml.safe_load(original)
    content["training"]["learning_rate"] = 0.004
    path.write_text(yaml.safe_dump(content))
    text = finish(clone, "--dry-run")
    path.write_text(original)
    assert "03_train USegNet-DS 1 (training.learning_rate: 0.003 -> 0.004)" in text
    assert set(STEPS) - set(listed(text)) <= {"00_start_here", "01_cohort", "02_prepare"}
    assert not {"01_cohort", "02_prepare"} & set(listed(text))


def test_a_lost_table_is_made_again(finished):
    clone = finished
    table = clone / "data" / "runs" / "smoke" / "tables" / "agreement.csv"
    kept = table.read_bytes()
    table.unlink()
    assert listed(finish(clone, "--dry-run"))[0] == "06_agreement"
    table.write_bytes(kept)


def test_a_second_start_beside_a_running_one_says_so(finished):
    clone = finished
    with only_start_of(clone / "data" / "runs" / "smoke"):
        process = run_study(clone, "--preset", "smoke")
        text = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and "is being computed by process" in text
