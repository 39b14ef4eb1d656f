"""A cluster's profile, and the jobs that a run has on SLURM; SLURM's own commands are small scripts here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from fhlib import cluster, files
from fhlib.cluster import ClusterError, cancel_jobs, end_left_jobs, job_prefix, jobs_of, open_profile
from fhlib.files import SHIPPED
from fhlib.workflow.steps import TITLES


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of one's own profiles; the shipped ones are there too."""
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    (tmp_path / "data" / "profiles").mkdir(parents=True)
    return tmp_path / "data" / "profiles"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs that come first."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def write_profile(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(text)


def test_a_profile_that_cannot_be_used_is_refused_in_a_sentence(own, programs, monkeypatch):
    write_profile(own / "mine", "executor: slurm\n")
    write_profile(own / "empty", "jobs: 3\n")
    write_profile(own / "broken", "executor: [\n")
    with pytest.raises(
        ClusterError, match=r"profile 'slrum' is not known; did you mean 'slurm'\?; there are: broken, .*mine, slurm"
    ):
        open_profile("slrum")
    with pytest.raises(
        ClusterError, match=r"profile 'empty': config\.yaml names no executor: write `executor: slurm` into it"
    ):
        open_profile("empty")
    with pytest.raises(ClusterError, match=r"profile 'broken': config\.yaml cannot be read"):
        open_profile("broken")
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    said = "profile 'mine' needs the package snakemake-executor-plugin-slurm: python -m pip install snakemake-executor-plugin-slurm"
    with pytest.raises(ClusterError, match=said):
        open_profile("mine")
    monkeypatch.setattr(cluster, "find_spec", lambda name: name == "snakemake_executor_plugin_slurm" or None)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ClusterError, match="needs SLURM's sbatch, which is not on this machine: start on a login node"):
        open_profile("mine")
    write_program(programs / "sbatch", "true")
    found = open_profile("mine")
    assert found.folder == own / "mine" and open_profile("slurm").folder == SHIPPED / "profiles" / "slurm"
    run = own.parent / "runs" / "a"
    named = ["--profile", own / "mine", "--slurm-jobname-prefix", job_prefix(run)]
    assert found.arguments(run) == [*named, "--slurm-status-command", "squeue"]  # no accounting
    write_program(programs / "sacct", "true")
    assert found.arguments(run) == named


def test_a_profile_for_another_scheduler_names_no_slurm_option(own, monkeypatch):
    write_profile(own / "lsf", "executor: lsf\n")
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    assert open_profile("lsf").arguments(own) == ["--profile", own / "lsf"]


def test_the_shipped_profile_asks_for_a_gpu_to_train_and_names_rules_that_there_are():
    content = yaml.safe_load((SHIPPED / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    assert content["set-resources"]["train"] == {"gres": "gpu:1", "mem_mb": 32000, "runtime": 1440}
    assert {*content["set-resources"], *content["set-threads"]} <= set(TITLES)


def test_names_of_jobs_are_a_runs_own_and_fit_snakemakes_plugin(tmp_path):
    run = tmp_path / ("a.long_name" * 9)
    assert len(job_prefix(run)) <= 50 and job_prefix(run).replace("-", "").isalnum()
    assert job_prefix(run) != job_prefix(tmp_path / "other" / run.name)


def test_the_jobs_that_a_killed_start_left_are_ended_and_no_others(tmp_path, programs, monkeypatch):
    run = tmp_path / "quick"
    assert jobs_of(run) == [] == cancel_jobs(run)  # no SLURM here
    other = job_prefix(tmp_path / "elsewhere" / "quick")
    queue = f"11 {job_prefix(run)}_c0ffee\n12 {other}_c0ffee\n13 interactive\n14 {job_prefix(run)}_decade\n15\n"
    (programs / "queue").write_text(queue)
    write_program(programs / "squeue", f'cat "{programs}/queue"')
    write_program(
        programs / "scancel",
        f'for id; do echo $id >> "{programs}/cancelled"; sed -i "/^$id /d" "{programs}/queue"; done',
    )
    assert jobs_of(run) == ["11", "14"]
    assert end_left_jobs(run) == 2
    assert (programs / "cancelled").read_text() == "11\n14\n" and "12 " in (programs / "queue").read_text()
    assert end_left_jobs(run) == 0

    (programs / "queue").write_text(queue)
    write_program(programs / "scancel", "true")
    monkeypatch.setattr(cluster, "ENDING_SECONDS", 0)
    with pytest.raises(files.BusyError, match=r"jobs of run 'quick' on the cluster do not end \(11, 14\)"):
        end_left_jobs(run)
    write_program(programs / "squeue", "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1")
    assert jobs_of(run) == []
