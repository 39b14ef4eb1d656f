"""Hashes of contents and of code: what counts and what does not; results that fit their stamp are kept."""

from __future__ import annotations

import pytest

from fhlib.fingerprints import code_reached, digest, file_digest, kept_or_made, stamped_row


def test_a_digest_is_of_the_content(tmp_path):
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1}) != digest({"a": 1, "b": [3, 2]})
    (tmp_path / "slice").write_bytes(b"abc")
    # SHA-256 of "abc" begins ba7816bf 8f01cfea (FIPS 180-2)
    assert file_digest(tmp_path / "slice") == "ba7816bf8f01cfea"


def test_code_counts_along_its_imports():
    reached = code_reached("fhlib.training.trainer")
    assert {"fhlib.training.trainer", "fhlib.training.losses", "fhlib.networks.usegnet", "fhlib.files"} <= set(reached)
    assert not [module for module in reached if module.startswith(("fhlib.segmentation", "fhlib.study"))]
    assert "fhlib.variants" not in reached and "fhlib.presets" not in reached  # their values are parameters
    assert set(code_reached("fhlib.training.losses")) < set(reached)
    assert set(code_reached("fhlib.files")) == {"fhlib.files", "fhlib.kernel"}


def test_code_is_found_by_its_imports_in_a_source():
    metrics = code_reached("fhlib.measures.metrics")
    for line in ("from fhlib.measures.metrics import evaluate", "import fhlib.measures.metrics as m",
                 "from fhlib.measures import metrics", "from fhlib import evaluate"):  # fmt: skip
        assert code_reached(source=line) == metrics, line
    assert code_reached(source="import numpy\nx = 1") == {}


def test_a_module_of_ones_own_counts_by_itself(tmp_path, monkeypatch):
    (tmp_path / "networks_of_mine.py").write_text("import fhlib.files\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(code_reached("networks_of_mine")) == {"networks_of_mine"}
    with pytest.raises(ModuleNotFoundError, match="no module 'networks_of_others': install it, or mend its name"):
        code_reached("networks_of_others")


def test_a_result_is_kept_where_its_stamp_fits_and_made_again_where_not(tmp_path):
    stamp, file, made = tmp_path / "case.json", tmp_path / "case.npy", []

    def make():
        assert not stamp.exists()  # so that a killed start leaves none
        made.append(1)
        file.write_text("voxels")
        return {"shape": [3, 4]}

    for _ in range(2):
        assert kept_or_made(stamp, "first", [file], make) == {"shape": [3, 4]}
    assert len(made) == 1 and stamped_row(stamp, "first", [file]) == {"shape": [3, 4]}
    assert stamped_row(stamp, "second") is None
    kept_or_made(stamp, "second", [file], make)
    file.unlink()
    kept_or_made(stamp, "second", [file], make)
    assert len(made) == 3

    def be_killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_or_made(stamp, "third", [file], be_killed)
    assert not stamp.exists()
