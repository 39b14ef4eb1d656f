"""One start of a run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from fhlib.files import BusyError, write_json
from fhlib.presets import load_preset
from fhlib.study.run import Study
from fhlib.workflow.progress import Narrator, TimeLeft, title_of
from fhlib.workflow.run import _run_snakemake, closing_words, end_children, only_start_of, run_study


def test_one_start_of_a_run_at_a_time(tmp_path):
    folder = tmp_path / "quick"
    busy = pytest.raises(BusyError, match=r"run 'quick' is being computed by process \d+")
    with only_start_of(folder), busy, only_start_of(folder):
        pass
    with only_start_of(folder):
        pass


def test_a_step_that_ends_with_the_study_did_not_fail(tmp_path, capsys):
    record = SimpleNamespace(jobid=1, rule_name="prepare")
    narrator = Narrator(tmp_path / "timings.json")
    narrator.stopping.set()
    narrator._job_error(record)
    assert capsys.readouterr().out == ""
    narrator.stopping.clear()
    narrator._job_error(record)
    assert capsys.readouterr().out.startswith("prepare failed; what it printed is above.")


def test_on_a_cluster_the_log_of_a_failed_step_is_named_and_no_times_are_kept(expected, capsys):
    timings = expected.with_name("timings.json")
    narrator = Narrator(timings, on_cluster=True)
    narrator._run_info(SimpleNamespace(stats={"train": 1, "total": 1}))
    job = {"jobid": 3, "job_id": 3, "rule_name": "train", "wildcards": {"seed": "", "variant": "V", "level": "1"}}
    narrator._job_info(SimpleNamespace(**job, reason="Missing output files: a"))
    said = {"rule_msg": "SLURM-job '41' failed.", "log": [str(timings.parent / "slurm_logs" / "41.log")]}
    narrator._job_error(SimpleNamespace(**job, **said))
    narrator._job_finished(SimpleNamespace(**job))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["1 step to be done", "[1/1] 03_train V 1 (not there yet: a)"]
    assert lines[2].startswith(
        "03_train V 1 failed; SLURM-job '41' failed; what it printed is in slurm_logs/41.log. Once"
    )
    assert not timings.exists()


def test_a_step_of_a_further_seed_says_so_at_its_end():
    wildcards = {"seed": "_seed1", "variant": "USegNet-DS", "level": "1"}
    assert title_of("train", wildcards) == "03_train USegNet-DS 1 seed 1"
    assert title_of("train", wildcards | {"seed": ""}) == "03_train USegNet-DS 1"
    assert title_of("accuracy", {"seed": ""}) == "05_accuracy" and title_of("report", {}) == "report"


def test_a_run_of_few_cases_ends_with_its_verdict_and_the_command_that_uses_it(tmp_path):
    study = Study("mine", tmp_path / "mine", load_preset("fine-tune"), None)
    assert closing_words(study) == []
    write_json(
        {"helped": False, "sentence": "It did not help: keep the shipped weights."}, study.tables / "verdict.json"
    )
    sentence, command = closing_words(study)
    assert sentence == "It did not help: keep the shipped weights."
    assert command.endswith("python -m fhlib segment SCANS RESULTS --weights mine")
    assert closing_words(Study("quick", tmp_path / "mine", load_preset("quick"), None)) == []


@pytest.mark.slow
def test_a_run_of_few_cases_has_no_chapters_of_the_paper(tmp_path, capsys):
    study = Study("mine", tmp_path / "mine", load_preset("fine-tune"), None)
    assert run_study(study, dry_run=True) == 0
    steps = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert {"04_predict", "10_segment", "14_few_cases"} < set(steps)
    assert not {"05_accuracy", "06_agreement", "07_reproducibility", "08_attention", "09_claims"} & set(steps)


def test_damaged_timings_are_as_none(tmp_path):
    for content in ("{", "[]", '{"a": "b"}', "null"):
        (tmp_path / "timings.json").write_text(content)
        assert Narrator(tmp_path / "timings.json").seconds == {}


@pytest.fixture
def expected(tmp_path):
    """What 00 expects: two trainings of 60 and 120 s, two predictions of 10 s, claims of 20 s."""
    rows = {"03_train A 1": 60, "03_train B 1": 120, "04_predict A": 10, "04_predict B": 10, "09_claims": 20}
    path = tmp_path / "expected.csv"
    path.write_text("step,seconds\n" + "".join(f"{step},{seconds}\n" for step, seconds in rows.items()))
    return path


def test_what_is_left_is_what_00_expects_corrected_by_what_steps_took(expected):
    left = TimeLeft(expected, {})
    waiting = {"train": 2, "predict": 2, "claims": 1}
    assert left.of(waiting) == 60 + 120 + 10 + 10 + 20
    left.took("03_train A 1", 90)  # half as long again: so will the other, and what has no measure of its own
    assert left.of(waiting | {"train": 1}) == pytest.approx(1.5 * (120 + 10 + 10 + 20))
    left.took("04_predict A", 10)
    assert left.of({"train": 1, "predict": 1, "claims": 1}) == pytest.approx(1.5 * 120 + 10 + 20 * 100 / 70)


def test_a_step_that_was_done_before_takes_as_long_again(expected):
    left = TimeLeft(expected, {"03_train A 1": 33.0})
    assert left.of({"train": 2}) == 33 + 120


def test_nothing_is_said_before_00_has_measured(tmp_path):
    left = TimeLeft(tmp_path / "expected.csv", {})
    assert left.of({"train": 2, "claims": 1}) == 0
    (tmp_path / "expected.csv").write_text("step,seconds\n09_claims,12\n")
    left.took("00_start_here", 20)
    assert left.of({"claims": 1}) == 12
    (tmp_path / "expected.csv").write_text("damaged")
    assert TimeLeft(tmp_path / "expected.csv", {}).expected == {}


def test_in_a_file_a_step_is_one_line_with_what_is_left(expected, capsys):
    narrator = Narrator(expected.with_name("timings.json"))
    reason = "Missing output files: models/A"
    narrator._run_info(SimpleNamespace(stats={"train": 2, "total": 2}))
    for number, variant in enumerate("AB"):
        wildcards = {"variant": variant, "level": 1}
        narrator._job_info(SimpleNamespace(jobid=number, rule_name="train", wildcards=wildcards, reason=reason))
        narrator._job_finished(SimpleNamespace(job_id=number))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 steps to be done; about 3 min left"
    assert lines[1] == "[1/2] 03_train A 1 (not there yet: models/A); about 3 min left"
    assert lines[2].startswith("[2/2] 03_train B 1 (not there yet: models/A)") and len(lines) == 3


def test_children_and_theirs_are_ended_even_if_they_will_not():
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stubborn!r}], start_new_session=True)"
    process = psutil.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    inner = process.children()
    end_children(process)
    assert len(inner) == 1 and psutil.wait_procs([process, *inner], 5)[1] == []


@pytest.mark.parametrize("on_cluster", [False, True])
def test_a_signal_ends_the_running_step_though_snakemake_waits_for_it(tmp_path, monkeypatch, on_cluster):
    steps, cancelled = [], []
    monkeypatch.setattr("fhlib.workflow.run.cancel_jobs", lambda run: cancelled.append(run) or ["7"])

    def wait_for_a_step(arguments: list[str]) -> None:
        steps.append(psutil.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        steps[0].wait()

    def stop(number, _):
        raise KeyboardInterrupt(number)

    def send() -> None:
        while not steps:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("snakemake.cli.main", wait_for_a_step)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        threading.Thread(target=send, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            _run_snakemake([], Narrator(tmp_path / "timings.json", on_cluster=on_cluster), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - start < 10 and not steps[0].is_running()
    assert set(cancelled) == ({tmp_path} if on_cluster else set())
