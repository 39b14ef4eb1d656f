"""A study on a real SLURM: its node fails in the middle, and the tables are those of a local one."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from tests.slurm.one_node import compare, lacking

pytestmark = pytest.mark.slow


def test_a_study_whose_node_fails_has_the_tables_of_a_local_one():
    if not os.environ.get("FHLIB_SLURM"):
        pytest.skip("it starts SLURM's daemons, and takes ten minutes: set FHLIB_SLURM=1")
    if why := lacking():
        pytest.skip(why)
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip('no plugin of Snakemake for SLURM: python -m pip install "snakemake-executor-plugin-slurm>=2.8"')
    count, differing = compare(short=False)
    assert count >= 9 and differing == []
