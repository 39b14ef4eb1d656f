"""A segmentor as a MONAI bundle gives fhlib's masks, in the volume's own geometry."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from fhlib.files import SHIPPED
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume
from fhlib.measures.metrics import dice
from fhlib.phantom.scan import simulate_scan
from fhlib.segmentation.bundle import volume_of, write_bundle
from fhlib.segmentation.segmentor import load_segmentor

HEAD = SHIPPED / "weights" / "head"
OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def test_nibabels_image_is_the_volume_that_was_written(tmp_path):
    array = np.random.default_rng(0).random((4, 5, 7)).astype(np.float32)
    volume = Volume(array, (2.0, 1.5, 0.5), (5.0, -7.0, 11.0), OBLIQUE)
    write_volume(volume, tmp_path / "a.nii.gz")
    image = nibabel.load(tmp_path / "a.nii.gz")
    found = volume_of(np.asarray(image.dataobj)[None], image.affine)
    assert found.same_geometry(volume)
    np.testing.assert_array_equal(found.array, array)
    with pytest.raises(ValueError, match="one volume of grey levels"):
        volume_of(np.zeros((2, 7, 5, 4)), image.affine)


def test_a_bundle_is_whole_and_takes_nobodys_place(tmp_path):
    bundle = write_bundle(HEAD, write_bundle(HEAD, tmp_path / "bundle"))
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    models = {f"models/{name}" for name in ("level1/weights.safetensors", "level1/parameters.json", "calibration.json")}
    assert files >= models | {"configs/metadata.json", "configs/inference.json", "docs/README.md"}
    about = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert "fhlib" in about["required_packages_version"] and "not a medical device" in about["intended_use"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(FileExistsError, match="something else than a bundle"):
        write_bundle(HEAD, tmp_path / "mine")


@pytest.mark.slow
def test_monai_runs_a_bundle_from_anywhere(tmp_path):
    bundle = write_bundle(HEAD, tmp_path / "bundle")
    scan = simulate_scan(3, ga_weeks=26, spacing_mm=3.0).image
    scan = replace(scan, spacing_mm=(3.0, 2.8, 3.1), origin=(5.0, -7.0, 11.0), direction=OBLIQUE)
    (tmp_path / "scans").mkdir()
    write_volume(scan, tmp_path / "scans" / "a.nii.gz")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(bundle / "configs/inference.json")]
    folders = ["--dataset_dir", str(tmp_path / "scans"), "--output_dir", str(tmp_path / "masks")]
    done = subprocess.run([*command, *folders], cwd=tmp_path / "scans", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found, wanted = read_volume(tmp_path / "masks" / "a_mask.nii.gz"), load_segmentor(HEAD).segment(scan).mask
    assert found.same_geometry(wanted, tolerance_mm=0.01) and wanted.array.any()
    assert dice(found.array > 0, wanted.array > 0) > 0.999
