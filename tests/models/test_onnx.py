"""Networks as ONNX give torch's numbers."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch

from fhlib.models import onnx
from fhlib.models.onnx import write_onnx
from fhlib.models.weights import load_cascade
from fhlib.training.contexts import copy_levels


def test_every_level_gives_torchs_logits_at_any_size(cascade_folder, tmp_path):
    copy_levels(cascade_folder, tmp_path)
    files = write_onnx(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["level1/network.onnx", "level2/network.onnx"]
    rng = np.random.default_rng(0)
    for level, (path, net) in enumerate(zip(files, load_cascade(tmp_path).levels, strict=True), 1):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for shape in ((1, 1, 16, 24, 8), (1, 1, 13, 22, 9)):
            x = rng.random(shape, dtype=np.float32)
            (found,) = session.run(["logits"], {"image": x})
            with torch.inference_mode():
                wanted = net.eval()(torch.from_numpy(x)).logits.numpy()
            assert found.shape == (1, 2, *shape[2:])
            np.testing.assert_allclose(found, wanted, atol=2e-5)
        about = session.get_modelmeta().custom_metadata_map
        assert about["level"] == str(level) and about["variant"].startswith("USegNet-DS-HAS")
        assert (
            json.loads(about["preparation"])["spacing_mm"] == load_cascade(tmp_path).parameters.preparation.spacing_mm
        )


def test_without_the_package_the_extra_is_named(cascade_folder, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"fhlib\[onnx\]"):
        write_onnx(cascade_folder)
