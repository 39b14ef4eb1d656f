"""Presets and options that cannot be used are told in words before anything starts, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhlib import files
from fhlib.__main__ import main
from fhlib.study import run as study_run

COHORT = "simulated_cohort: {{train_subjects: {train}, test_subjects: {test}, reproducibility_subjects: 0, spacing_mm: {spacing}{more}}}"
TRAINING = "{{width: {width}, steps: 2, learning_rate: {rate}{more}}}"


def preset(
    train: object = 3,
    test: object = 2,
    spacing: object = 4,
    cohort: str = "",
    width: object = 4,
    rate: object = "1e-3",
    training: str = "",
    variants: str = "[USegNet-DS]",
    preparation: str = "{spacing_mm: 8}",
    more: str = "",
) -> str:
    """A whole preset in YAML with some values exchanged."""
    of_cohort = COHORT.format(train=train, test=test, spacing=spacing, more=cohort)
    of_training = TRAINING.format(width=width, rate=rate, more=training)
    sections = f"training: {of_training}\ntraining_2d: {of_training}"
    return f"purpose: bad\nvariants: {variants}\n{of_cohort}\npreparation: {preparation}\n{sections}\n{more}\n"


BAD_PRESETS = {
    "empty": ("", "is empty"),
    "comments only": ("# nothing\n", "is empty"),
    "a list": ("- a\n- b\n", "holds a list"),
    "a word": ("quick\n", "holds a str"),
    "a bracket left open": ("purpose: x\nvariants: [USegNet-DS\n", "line 3: expected ',' or ']'"),
    "a tab": ("purpose: x\ntraining:\n\twidth: 3\n", "line 3: found character '\\t'"),
    "a line shifted": ("purpose: x\n variants: [a]\n", "line 2"),
    "a name twice": (preset(more="val_fraction: 0.1\nval_fraction: 0.2"), 'found duplicate key "val_fraction"'),
    "two documents": ("purpose: x\n---\npurpose: y\n", "but found another document"),
    "code of Python's": ("purpose: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
    "too deep": ("a: " + "[" * 3000, "cannot be read as YAML"),
    "a control character": ("purpose: \x07\n", "cannot be read as YAML"),
    "another name": ("name: quick\n" + preset(), "a preset has its file's name"),
    "an unknown section": (preset(more="trainin: {}"), "unknown parameter; did you mean 'training'"),
    "an unknown parameter": (preset(training=", widht: 3"), "training.widht: unknown parameter; did you mean 'width'"),
    "numbers for names": (preset(more="1: 2"), "1: Keys should be strings"),
    "variants named twice": (preset(variants="[USegNet-DS, USegNet-DS]"), "'USegNet-DS' is named twice"),
    "no variants": (preset(variants="[]"), "variants: Tuple should have at least 1 item"),
    "variants in one word": (preset(variants="USegNet-DS"), "variants: Input should be a valid tuple"),
    "an unknown variant": (preset(variants="[USegNet-SD]"), "did you mean 'USegNet-DS'"),
    "no test subjects": (preset(test=0), "simulates no test subjects"),
    "no training subjects": (preset(train=0), "train_subjects: Input should be greater than or equal to 1"),
    "nobody left to train on": (preset(train=2, more="val_fraction: 0.9"), "leaves none to train on"),
    "half a subject": (preset(train=2.5), "Input should be a valid integer"),
    "more subjects than numbers": (preset(train=6000, test=6000), "12000 subjects are more than one seed has"),
    "a billion subjects": (preset(train=10**9), "less than or equal to 10000"),
    "truth for a number": (preset(train="true"), "train_subjects is true and must be no truth value"),
    "clock time for a number": (preset(train="1:30"), "train_subjects: Input should be a valid integer"),
    "an unknown site": (preset(cohort=", sites: [low_cost]"), "site 'low_cost' is not known; did you mean 'low-cost'"),
    "no site": (preset(cohort=", sites: []"), "sites: Tuple should have at least 1 item"),
    "ages reversed": (preset(cohort=", ga_weeks: [30, 20]"), "the youngest comes first: write [20, 30]"),
    "ages outside the model": (preset(cohort=", ga_weeks: [2, 20]"), "greater than or equal to 11"),
    "one age": (preset(cohort=", ga_weeks: [20]"), "ga_weeks.1: Field required"),
    "mostly without heads": (preset(cohort=", headless_share: 0.9"), "less than or equal to 0.5"),
    "spacing that is no number": (preset(spacing=".nan"), "finite number"),
    "infinite spacing": (preset(spacing=".inf"), "finite number"),
    "negative spacing": (preset(spacing=-1), "greater than or equal to 0.05"),
    "a decimal comma": (preset(rate="'0,003'"), "Input should be a valid number"),
    "scans above the memory": (preset(spacing=0.06), "GB of memory, and this machine has"),
    "a network above the memory": (preset(width=256, preparation="{spacing_mm: 0.2}"), "one training step on"),
    "a batch above the memory": (preset(preparation="{spacing_mm: 1}", training=", batch_size: 4096"), "batches of 4096 needs more"),
    "an infinite rate": (preset(rate=".inf"), "finite number"),
    "a rate of one": (preset(rate=1), "less than 1"),
    "an absurd number of steps": (preset(training=", steps: 3").replace("steps: 2", f"steps: {10**30}"), "steps"),
    "a negative seed": (preset(training=", seed: -1"), "greater than or equal to 0"),
    "a seed above torch's": (preset(training=", seed: 99999999999"), "less than 4294967296"),
    "one fold": (preset(training=", context_folds: 1"), "one fold leaves no case out"),
    "more folds than subjects": (
        preset(training=", context_folds: 20", variants="[USegNet-DS-HAS-Ctx]"),
        "context_folds is 20 and 2 subjects train",
    ),
    "unknown weights": (preset(training=", start_from: haed"), "did you mean 'head'"),
    "a rate tried twice": (preset(more="tuning: {learning_rates: [0.1, 0.1], steps: 2}"), "0.1 is named twice"),
    "a rate of tuning that is none": (preset(more="tuning: {learning_rates: [5], steps: 2}"), "less than 1"),
    "a bomb of aliases": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + preset(variants="*i"),
        "variants",
    ),
}  # fmt: skip

BAD_OPTIONS = {
    "unknown preset": (["--preset", "smok"], "did you mean 'smoke'"),
    "preset with its suffix": (["--preset", "smoke.yaml"], "give its name without the folder and .yaml: smoke"),
    "preset outside": (["--preset", "../../quick"], "is not known"),
    "preset without a name": (["--preset", ""], "preset '' is not known"),
    "cores 0": (["--cores", "0"], "'0' is no number of cores"),
    "cores below 0": (["--cores", "-1"], "'-1' is no number of cores"),
    "cores in words": (["--cores", "all"], "'all' is no number of cores"),
    "unknown step": (["--until", "02_prepar"], "did you mean '02_prepare'"),
    "another name": (["--set", "name=x"], "'name' belongs to the preset's file"),
    "another purpose": (["--set", "purpose=x"], "'purpose' belongs to the preset's file"),
    "unknown parameter": (["--set", "training.sede=1"], "did you mean 'seed'"),
    "unknown section": (["--set", "trainin.seed=1"], "did you mean 'training'"),
    "part of a number": (["--set", "training.width.x=1"], "'width' has no parts"),
    "part of a list": (["--set", "variants.0=USegNet-DS"], "'variants' has no parts"),
    "a section for a number": (["--set", "training=5"], "training: Input should be a valid dictionary"),
    "inner names of Python": (["--set", "__class__=x"], "unknown parameter"),
    "no value": (["--set", "training.seed="], "changes nothing: write NAME=VALUE"),
    "no name": (["--set", "=1"], "changes nothing: write NAME=VALUE"),
    "no sign": (["--set", "training.seed"], "changes nothing: write NAME=VALUE"),
    "twice": (["--set", "training.seed=1", "training.seed=2"], "'training.seed' is changed twice"),
    "whole and part": (["--set", "training.seed=1", "training={}"], "is changed twice"),
    "part and whole": (["--set", "training={}", "training.seed=1"], "is part of 'training', which is changed too"),
    "broken YAML": (["--set", "variants=[USegNet-DS"], "the value of variants, line 1"),
    "infinite": (["--set", "training.learning_rate=.inf"], "finite number"),
    "run above": (["--run", "../x"], "must begin with a letter or digit"),
    "run with blanks": (["--run", "my run"], "must begin with a letter or digit"),
    "run with a dot at its end": (["--run", "x."], "which is not the last"),
    "run with a line break": (["--run", "x\n"], "must begin with a letter or digit"),
    "run of Windows": (["--run", "NUL"], "kept for a device on Windows"),
    "run too long": (["--run", "x" * 300], "has 300 characters"),
    "no such cohort": (["--cohort", "/none/Doe, Jane"], "there is no cohort folder 'Doe, Jane'"),
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder of one's own."""
    for module in (files, study_run):
        monkeypatch.setattr(module, "DATA", tmp_path)
    (tmp_path / "presets").mkdir()
    return tmp_path


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Start a study that cannot be; what was said, in a few lines."""
    try:
        code = main(["study", *arguments])
    except SystemExit as end:  # argparse
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and len(said) < 3000 and "Traceback" not in said
    return said


@pytest.mark.parametrize("what", BAD_PRESETS)
def test_a_bad_preset_is_refused_in_words(what, data, capsys):
    text, expected = BAD_PRESETS[what]
    (data / "presets" / "bad.yaml").write_text(text, encoding="utf-8")
    assert expected in refused(["--preset", "bad"], capsys)
    assert not (data / "runs").exists()


@pytest.mark.parametrize("what", BAD_OPTIONS)
def test_a_bad_option_is_refused_in_words(what, data, capsys):
    options, expected = BAD_OPTIONS[what]
    given = [] if "--preset" in options else ["--preset", "smoke"]
    assert expected in refused([*given, *options], capsys)
    assert not (data / "runs").exists()


def test_a_preset_that_is_no_text_is_refused(data, capsys):
    bad = data / "presets" / "bad.yaml"
    for content, expected in (
        ("purpose: für".encode("latin-1"), "no UTF-8 text"),
        ("purpose: x".encode("utf-16"), "no UTF-8 text"),
        (b"\x00" * 2_000_000, "has 2.0 MB"),
        (b"\x1f\x8b\x08\x00", "no UTF-8 text"),
    ):
        bad.write_bytes(content)
        assert expected in refused(["--preset", "bad"], capsys)
    bad.unlink()
    bad.mkdir()
    assert "bad.yaml is no file" in refused(["--preset", "bad"], capsys)


def test_the_test_s_own_preset_is_good(data):
    (data / "presets" / "good.yaml").write_text(preset(), encoding="utf-8-sig")
    assert study_run.open_study("good", "good", record=False).preset.training.learning_rate == 0.001


def test_too_small_a_disk_is_told_with_the_figure(data, capsys, monkeypatch):
    monkeypatch.setattr(files, "_free_bytes", lambda folder: 3e6)
    # 12 scans of 147 x 98 x 167 mm at 4 mm are 38 thousand voxels of 0.9 bytes each: 0.4 MB; at 0.4 mm a thousand times that
    said = refused(["--preset", "smoke", "--set", "simulated_cohort.spacing_mm=0.4"], capsys)
    assert "0.4 GB are needed" in said and "3.0 MB are free" in said


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("{", "run.json is damaged"),
        ("[]", "names no preset"),
        ('{"cohort": ""}', "names no preset"),
        ('{"preset": "gone"}', "preset 'gone' is not known"),
        ('{"preset": "smoke", "cohort": "gone"}', "the folder 'gone', which is gone"),
        ('{"preset": "quick"}', "was started with preset 'quick', not with 'smoke'"),
    ],
)
def test_a_damaged_record_of_a_run_is_told(record, expected, data, capsys):
    (data / "runs" / "x").mkdir(parents=True)
    (data / "runs" / "x" / "run.json").write_text(record)
    asked = ["--run", "x", "--preset", "gone" if "gone" in record and "cohort" not in record else "smoke"]
    assert expected in refused(asked, capsys)


@pytest.mark.parametrize(
    "command",
    [["train", "--variant", "USegNet-DS"], ["report"], ["export", "--variant", "USegNet-DS", "--name", "mine"]],
)
def test_a_mistyped_run_is_told_and_not_made(command, data, capsys):
    (data / "runs" / "quick").mkdir(parents=True)
    (data / "runs" / "quick" / "run.json").write_text('{"preset": "quick", "cohort": ""}')
    assert main([*command, "--run", "quikc"]) == 2
    assert "there is no run 'quikc'; did you mean 'quick'" in capsys.readouterr().err
    assert [path.name for path in (data / "runs").iterdir()] == ["quick"]


@pytest.mark.parametrize("given", [20240115, 1000.0, True, None])
def test_papermill_s_numbers_for_names_are_told(given, data):
    with pytest.raises(study_run.StudyError, match="give it with -r run NAME"):
        study_run.open_study(given, "smoke")
    with pytest.raises(study_run.StudyError, match="give it with -r preset NAME"):
        study_run.open_study("x", given)
