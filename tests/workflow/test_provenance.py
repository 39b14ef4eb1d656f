"""What a report says of its origin."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from fhlib.workflow.provenance import provenance


def test_provenance_names_versions_seeds_and_hashes(tmp_path: Path) -> None:
    run = tmp_path / "trial"
    level = run / "models" / "USegNet-DS" / "level1"
    level.mkdir(parents=True)
    (level / "weights.safetensors").write_bytes(b"abc")
    (level / "parameters.json").write_text(json.dumps({"fingerprint": "0123456789abcdef"}))
    (run / "run.json").write_text(json.dumps({"preset": "quick", "cohort": "", "changes": {"training.seed": 7}}))
    found = provenance(run)
    assert list(found) == ["Run", "Environment", "Parameters", "Seeds", "Hashes"]
    assert found["Run"]["started with preset"] == "quick"
    assert found["Environment"]["torch"] == version("torch") and {"fhlib", "monai", "plotly"} <= set(
        found["Environment"]
    )
    assert found["Seeds"]["training.seed"] == "7" and not any("seed" in name for name in found["Parameters"])
    assert found["Parameters"]["training.width"] == "16"
    # SHA-256 of "abc" begins ba7816bf 8f01cfea (FIPS 180-2)
    assert found["Hashes"]["models/USegNet-DS/level1/weights.safetensors"] == "ba7816bf8f01cfea"
    assert "0123456789abcdef" in found["Hashes"].values()
