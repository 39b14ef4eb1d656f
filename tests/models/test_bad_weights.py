"""Folders of weights that are damaged, of another training or not as they say: one line, with the file, and exit code 2."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fhlib.__main__ import main
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume
from fhlib.models.weights import load_cascade, model_digest, save_level
from fhlib.networks.build import build_network
from fhlib.segmentation.quality import Calibration
from fhlib.segmentation.segmentor import load_segmentor
from tests.small_cohort import TRAINING, parameters

WEIGHTS, PARAMETERS, CALIBRATION = "level1/weights.safetensors", "level1/parameters.json", "calibration.json"
NORMAL = Calibration(20, 5, 2, 0.8, 0.8, 0.0, 0.1, 1.0, (-1.0,) * 5, (2.0,) * 5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights of USegNet-DS, width 4, as initialised, with a calibration."""
    folder = tmp_path_factory.mktemp("weights") / "mine"
    torch.manual_seed(0)
    save_level(build_network("USegNet-DS", 4).state_dict(), parameters("USegNet-DS"), folder / "level1")
    replace(NORMAL, weights_digest=model_digest(folder)).save(folder)
    return folder


def written(name, content):
    """Put bytes, or a text, in a file's place."""
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def cut(share):
    def spoil(folder):
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[: round(share * len(data))])

    return spoil


def flip_a_bit(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-100] ^= 0x40
    (folder / WEIGHTS).write_bytes(data)


def tensors(change, honest=False):
    """Change the tensors; `honest`: with a checksum that fits."""

    def spoil(folder):
        changed = {name: tensor.contiguous() for name, tensor in change(load((folder / WEIGHTS).read_bytes())).items()}
        (folder / WEIGHTS).write_bytes(save(changed))
        if honest:
            values(PARAMETERS, weights_digest="")(folder)

    return spoil


def values(name, section=None, drop="", **changes):
    """Change values of a JSON file, or of a section of it, or drop one."""

    def spoil(folder):
        content = json.loads((folder / name).read_text())
        inner = content[section] if section else content
        inner |= changes
        inner.pop(drop, None)
        (folder / name).write_text(json.dumps(content))

    return spoil


def renamed(name):
    return lambda folder: (folder / "level1").rename(folder / name)


def beside(name):
    return lambda folder: shutil.copytree(folder / "level1", folder / name)


def in_place_of(name):
    """A folder of a file's name."""

    def spoil(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def with_first(value):
    def change(found):
        found["head.bias"][0] = value
        return found

    return change


BAD = {
    # how the weights are damaged: (what is done, words of the message)
    "no level": (lambda folder: shutil.rmtree(folder / "level1"), "holds no level1/weights.safetensors"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "holds no level1/weights.safetensors"),
    "empty": (written(WEIGHTS, b""), f"{WEIGHTS} is damaged"),
    "a text": (written(WEIGHTS, "version https://git-lfs.github.com/spec/v1"), f"{WEIGHTS} is damaged"),
    "a pickle": (written(WEIGHTS, pickle.dumps({"head": [0.0] * 500})), f"{WEIGHTS} is damaged"),
    "cut in half": (cut(0.5), f"{WEIGHTS} is damaged"),
    "header only": (cut(0.01), f"{WEIGHTS} is damaged"),
    "a folder": (in_place_of(WEIGHTS), "it is no file"),
    "a bit flipped": (flip_a_bit, "its checksum differs"),
    "no tensors": (tensors(lambda found: {}), "lacks 50 of 50 tensors"),
    "one tensor lacking": (tensors(lambda found: {k: found[k] for k in found if k != "head.bias"}), "head.bias"),
    "one tensor more": (tensors(lambda found: found | {"extra": torch.zeros(3)}), "has not, such as extra"),
    "names of a wrapper": (tensors(lambda found: {f"module.{k}": v for k, v in found.items()}), "lacks 50 of 50"),
    "another shape": (tensors(lambda found: found | {"head.bias": torch.zeros(3)}), "shape [3] and not [2]"),
    "whole numbers": (tensors(lambda found: {k: v.to(torch.int8) for k, v in found.items()}), "no real number"),
    "NaN": (tensors(with_first(float("nan")), honest=True), "NaN or infinite weights in head.bias"),
    "infinite": (tensors(with_first(float("inf")), honest=True), "NaN or infinite weights in head.bias"),
    "other weights": (tensors(with_first(7.0)), "its checksum differs"),
    # parameters
    "no parameters": (lambda folder: (folder / PARAMETERS).unlink(), f"{PARAMETERS} is missing"),
    "parameters empty": (written(PARAMETERS, ""), f"{PARAMETERS} cannot be read"),
    "parameters broken": (written(PARAMETERS, '{"variant": '), f"{PARAMETERS} cannot be read"),
    "parameters a list": (written(PARAMETERS, "[1]"), "it holds a list"),
    "parameters in another encoding": (written(PARAMETERS, '{"é": 1}'.encode("latin-1")), f"{PARAMETERS} cannot be"),
    "parameters nested": (written(PARAMETERS, "[" * 100_000), f"{PARAMETERS} cannot be read"),
    "parameters huge": (written(PARAMETERS, " " * 2_000_000), "it has 2 MB"),
    "parameters a folder": (in_place_of(PARAMETERS), f"{PARAMETERS} is no file"),
    "no variant": (values(PARAMETERS, drop="variant"), "variant is missing"),
    "no training": (values(PARAMETERS, drop="training"), "training is missing"),
    "no preparation": (values(PARAMETERS, drop="preparation"), "preparation is missing"),
    "no width": (values(PARAMETERS, "training", drop="width"), "training.width is missing"),
    "an unknown name": (values(PARAMETERS, colour="red"), "colour is no parameter"),
    "an unknown option": (values(PARAMETERS, "training", widht=4), "training.widht is no parameter"),
    "an unknown way to run": (values(PARAMETERS, "execution", gpu=1), "execution.gpu is no parameter"),
    "an unknown variant": (values(PARAMETERS, variant="USegNet-DSS"), "did you mean 'USegNet-DS'?"),
    "a variant that is no name": (values(PARAMETERS, variant=[]), "variant: "),
    "another variant": (values(PARAMETERS, variant="USegNet-DS-HAS"), "it is not of USegNet-DS-HAS in 3D of width 4"),
    "a cascade's variant": (values(PARAMETERS, variant="USegNet-DS-HAS-Ctx"), "USegNet-DS-HAS-Ctx needs 1 to 2"),
    "level 2 by itself": (values(PARAMETERS, level=2), "is level 2 of USegNet-DS by its parameters"),
    "level zero": (values(PARAMETERS, level=0), "level: "),
    "another dimension": (values(PARAMETERS, spatial_dims=2), "it is not of USegNet-DS in 2D"),
    "four dimensions": (values(PARAMETERS, spatial_dims=4), "spatial_dims: "),
    "another width": (values(PARAMETERS, "training", width=8), "it is not of USegNet-DS in 3D of width 8"),
    "a width that fills memory": (values(PARAMETERS, "training", width=256), "it is not of USegNet-DS in 3D of width"),
    "an absurd width": (values(PARAMETERS, "training", width=10**9), "training.width: "),
    "a negative width": (values(PARAMETERS, "training", width=-4), "training.width: "),
    "width NaN": (values(PARAMETERS, "training", width=float("nan")), "training.width: "),
    "spacing NaN": (values(PARAMETERS, "preparation", spacing_mm=float("nan")), "preparation.spacing_mm: "),
    "spacing infinite": (values(PARAMETERS, "preparation", spacing_mm=float("inf")), "preparation.spacing_mm: "),
    "a grid that fills memory": (values(PARAMETERS, "preparation", spacing_mm=1e-6), "preparation.spacing_mm"),
    "an unknown outline": (values(PARAMETERS, outline="tummy"), "outline: "),
    "an unknown precision": (values(PARAMETERS, "execution", precision="fp64"), "execution.precision: "),
    "threads in words": (values(PARAMETERS, "execution", threads="many"), "execution.threads: "),
    "a retired option": (values(PARAMETERS, "training", join="concatenation"), "see CHANGELOG.md"),
    # levels
    "level1x": (renamed("level1x"), "(but level1x)"),
    "level01": (renamed("level01"), "(but level01)"),
    "level without a number": (renamed("level"), "(but level)"),
    "level 2 only": (renamed("level2"), "holds levels [2], USegNet-DS needs 1 to 1"),
    "one level more": (beside("level2"), "holds levels [1, 2], USegNet-DS needs 1 to 1"),
    "a gap": (beside("level3"), "holds levels [1, 3]"),
    # calibration
    "calibration empty": (written(CALIBRATION, ""), f"{CALIBRATION} cannot be read"),
    "calibration a list": (written(CALIBRATION, "[]"), f"{CALIBRATION} cannot be read"),
    "calibration a folder": (in_place_of(CALIBRATION), f"{CALIBRATION} is no file"),
    "calibration without flips": (values(CALIBRATION, drop="flips"), "flips is missing"),
    "calibration of 99 flips": (values(CALIBRATION, flips=99), "flips: "),
    "calibration NaN": (values(CALIBRATION, floor=float("nan")), "floor: "),
    "calibration infinite": (values(CALIBRATION, quantile=float("inf")), "quantile: "),
    "calibration of four looks": (values(CALIBRATION, intensity_low=[0] * 4), "intensity_low: "),
    "calibration of other weights": (values(CALIBRATION, weights_digest="0" * 16), "was measured with other weights"),
}


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "a.nrrd"
    write_volume(Volume(np.arange(8 * 10 * 12, dtype=np.uint8).reshape(8, 10, 12), (2.0, 3.0, 4.0)), path)
    return path


@pytest.mark.parametrize("fault", BAD)
def test_bad_weights_are_told_in_one_line(whole, volume, tmp_path, capsys, fault):
    spoil, words = BAD[fault]
    shutil.copytree(whole, tmp_path / "mine")
    spoil(tmp_path / "mine")
    code = main(["segment", str(volume), str(tmp_path / "out"), "--weights", str(tmp_path / "mine")])
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert words in err and len(err.splitlines()) == 1 and str(tmp_path) not in err, err
    assert not list((tmp_path / "out").iterdir())


def test_many_kinds_of_bad_weights_are_tried():
    assert len(BAD) >= 60


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nowhere/mine", "weights 'mine' are not there"),
        ("mien", "did you mean 'mine'?"),
        ("mine/level1", "level1/ is one level of some weights: give the folder above it"),
        ("mine/calibration.json", "are a file, and weights are a folder"),
        (".", "holds no level1/weights.safetensors"),
    ],
)
def test_a_path_that_holds_no_weights_is_told(whole, given, words):
    with pytest.raises(FileNotFoundError) as told:
        load_segmentor(whole.parent / given)
    assert words in str(told.value)


def test_weights_of_earlier_versions_and_other_floats_are_read(whole, tmp_path):
    for name, kind in (("double", torch.float64), ("half", torch.float16), ("brain", torch.bfloat16)):
        folder = shutil.copytree(whole, tmp_path / name)
        (folder / CALIBRATION).unlink()
        tensors(lambda found, kind=kind: {k: v.to(kind) for k, v in found.items()}, honest=True)(folder)
        values(PARAMETERS, drop="weights_digest")(folder)
        (folder / "level1" / ".DS_Store").write_bytes(b"x")
        beside("level1 (copy)")(folder)
        net = load_cascade(folder).levels[0]
        torch.testing.assert_close(net.head.bias, load_cascade(whole).levels[0].head.bias, rtol=0.01, atol=1e-4)


def test_what_a_training_began_with_may_be_gone(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "mine")
    began = {"start_from": "gone", "start_share": 0.5}
    values(PARAMETERS, "training", **began)(folder)
    assert load_segmentor(folder).parameters.training == TRAINING.model_copy(update=began)


def test_levels_of_two_trainings_make_no_cascade(tmp_path):
    net = build_network("USegNet-DS-HAS", 4).state_dict()
    first, second = parameters("USegNet-DS-HAS"), parameters("USegNet-DS-HAS-Ctx", level=2)
    save_level(net, first, tmp_path / "level1")
    save_level(net, second, tmp_path / "level2")
    assert len(load_cascade(tmp_path).levels) == 2
    save_level(net, replace(second, outline="skull"), tmp_path / "level2")
    with pytest.raises(ValueError, match="other grids or outlines than level 1"):
        load_cascade(tmp_path)
    save_level(net, replace(second, variant="USegNet-DS", level=1), tmp_path / "level2")
    with pytest.raises(ValueError, match=r"holds levels \[1, 2\], USegNet-DS needs 1 to 1"):
        load_cascade(tmp_path)


def test_checking_draws_no_random_numbers(whole):
    torch.manual_seed(3)
    build_network("USegNet-DS", 4)
    after_one = torch.get_rng_state()
    torch.manual_seed(3)
    load_cascade(whole)
    assert torch.equal(torch.get_rng_state(), after_one)
