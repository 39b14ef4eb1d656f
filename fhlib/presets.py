"""Typed parameter sets: what a run does, validated before anything starts.

A preset is a YAML file in `data/presets/`. Unknown or mistyped names are errors that suggest the nearest known name.
YAML is read as its version 1.2 has it: `1e-3` is a number, `010` is ten, `no` is a word, and a name stands once.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fhlib.files import own_and_shipped, own_or_shipped
from fhlib.variants import VARIANTS

PAPER_NETWORK_SPACING_MM = 0.95

LARGEST_FILE_BYTES = 1_000_000
"""No preset is larger; a small one may still unfold to gigabytes, so values are never shown whole."""

MOST_FAULTS = 20
"""So many faults of one preset are listed."""

SUBJECTS_A_SEED = 10_000
"""A cohort's subjects are numbered below this: a later one would be a subject of the next seed."""


FEW_CASES = 20
"""At most so many simulated training subjects are a few; a preset's own scans stand for those that a user brings."""


class Parameters(BaseModel):
    """Base of all parameter sets: frozen, closed against unknown names, and with finite numbers that are no `true` or `false`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, content: Any) -> Any:
        for name, value in content.items() if isinstance(content, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                raise ValueError(f"{name} is {str(value).lower()} and must be no truth value")
        return content


GestationalAge = Annotated[float, Field(ge=11, le=40)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=0, le=SUBJECTS_A_SEED)]
Share = Annotated[float, Field(gt=0, lt=1)]


class SimulatedCohort(Parameters):
    """The digital cohort of a preset: how many subjects, at which voxel spacing.

    The paper has 50 training and 50 test volumes (section 2.1) and 52 subjects in three directions (section 3.2).
    `train_subjects` include those that become the validation split. Sites are given to subjects in turn; "any" draws probe, settings
    and field of view anew for each scan. Without `ga_weeks` ages follow the paper's (`fhlib.phantom.anatomy.draw_subject`), with it they
    are uniform between its two. `headless_share` of the subjects of each split are scanned beside the head: their mask is empty.
    """

    train_subjects: int = Field(ge=1, le=SUBJECTS_A_SEED)
    test_subjects: Count
    reproducibility_subjects: Count
    spacing_mm: float = Field(ge=0.05, le=5)
    seed: Seed = 2020
    sites: tuple[str, ...] = Field(default=("paper-like",), min_length=1)
    ga_weeks: tuple[GestationalAge, GestationalAge] | None = None
    headless_share: float = Field(default=0.0, ge=0, le=0.5)

    @field_validator("ga_weeks")
    @classmethod
    def _ages(cls, weeks: tuple[float, float] | None) -> tuple[float, float] | None:
        if weeks and weeks[0] > weeks[1]:
            raise ValueError(f"the youngest comes first: write [{weeks[1]:g}, {weeks[0]:g}]")
        return weeks

    @model_validator(mode="after")
    def _numbered(self) -> Self:
        count = self.train_subjects + self.test_subjects + self.reproducibility_subjects
        if count > SUBJECTS_A_SEED:
            raise ValueError(f"{count} subjects are more than one seed has ({SUBJECTS_A_SEED}): take fewer")
        return self


class Preparation(Parameters):
    """What the network reads: isotropic spacing for volumes, a scale for single images (section 3.1 scales each axis by 0.4).

    Volumes go to a spacing instead of by a factor, so that cohorts from different machines meet at one resolution; for the paper's
    0.38 mm it is the same grid (0.95 mm). Single images keep the paper's rule: their pixel size follows the sonographer's zoom.
    `longest_voxels` instead gives every volume so many voxels along its longest side, isotropic in mm: a head of 12 weeks in a small
    box is then seen as finely as one of 40 weeks in a large one.
    A variant whose second level reads the box around the head gives it `box_voxels` along its longest side; the box of the first level's
    mask is enlarged by `box_enlarged`.
    """

    spacing_mm: float = Field(ge=0.05, le=20)
    longest_voxels: int | None = Field(default=None, ge=8, le=1024)
    box_voxels: int = Field(default=80, ge=16, le=1024)
    box_enlarged: float = Field(default=1.4, ge=1, le=4)
    image_scale: float = Field(default=0.4, ge=0.01, le=1)


class Training(Parameters):
    """How one segmentor is trained at one context level (section 3.1).

    The paper: width 32, 30 epochs of 2112 augmented volumes (63360 steps of batch 1), Adam with learning rate 1e-5 and beta1 0.5, weights
    from a truncated normal. `schedule="one-cycle"` warms up over a share of `warm_up` of the steps and anneals, for short
    trainings. Beyond the paper, the first `half_resolution_share` of the steps see volumes of half the resolution, an eighth of the work
    (progressive resizing, the same for every network); `symmetries="all"` also exchanges axes,
    `zoom_probability` zooms, rotates and shifts, and `intensity_probability` changes contrast, brightness, blur and noise
    (`fhlib.training.augment`), `exports` what happens to volumes between machine and reader (`fhlib.phantom.exports`): for sizes and
    machines that training has not seen; `dice_weight` adds a Dice loss, for small heads.
    `attention_kernel` replaces the kernels of the authors' code in the attention modules (3: as the paper prints),
    `convolution` and `activation_checkpointing` are USegNet's.
    With `context_folds` of 2 or more the contexts of the training cases are predicted **out of fold**, each by a model that has not seen
    the case; 0 is in sample, as in the paper. `start_from` names a folder of `data/weights` whose segmentor the first level begins
    with, to learn on from a few cases of one's own; a second level begins with its second, where it has one. `start_share` mixes that share
    of the weights that a training began with into those that it ends with (Wortsman et al. 2022, robust fine-tuning): a few cases
    of one kind then cost less on all others. `box_drawn`: between which
    factors a level that reads boxes has them enlarged in training. With `closer_look_probability` a level that locates for one that reads
    boxes sees the region around the head instead of the whole scan. With `context_erasing_probability` a level after the first one loses
    part of what the level before found, and so learns not to copy what that one misses.
    """

    width: int = Field(ge=2, le=256)
    steps: int = Field(ge=1, le=100_000_000)
    learning_rate: float = Field(gt=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    warm_up: float = Field(default=0.15, gt=0, lt=1)
    l2: float = Field(default=0.0, ge=0, le=1)
    initialisation: Literal["variance-preserving", "truncated-normal"] = "variance-preserving"
    start_from_previous_level: bool = False
    start_from: str = ""
    start_share: float = Field(default=0.0, ge=0, lt=1)
    half_resolution_share: float = Field(default=0.0, ge=0, le=0.9)
    erasing_probability: float = Field(default=0.5, ge=0, le=1)
    closer_look_probability: float = Field(default=0.0, ge=0, le=1)
    context_erasing_probability: float = Field(default=0.0, ge=0, le=1)
    symmetries: Literal["flips", "all"] = "flips"
    zoom_probability: float = Field(default=0.0, ge=0, le=1)
    intensity_probability: float = Field(default=0.0, ge=0, le=1)
    exports: bool = False
    dice_weight: float = Field(default=0.0, ge=0, le=1000)
    attention_kernel: Literal[3, 5] | None = None
    convolution: Literal["full", "pseudo-3D", "separable"] = "full"
    activation_checkpointing: bool = False
    context_folds: int = Field(default=0, ge=0, le=20)
    box_drawn: tuple[Annotated[float, Field(ge=1, le=4)], Annotated[float, Field(ge=1, le=4)]] = (1.2, 1.8)
    batch_size: int = Field(default=1, ge=1, le=4096)
    validate_every: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=50, ge=1)
    seed: Seed = 0

    @field_validator("start_from")
    @classmethod
    def _shipped(cls, name: str) -> str:
        known = own_and_shipped("weights", "*/")
        if name and name not in known:
            raise ValueError(
                f"no weights {name!r} in data/weights{suggestion(name, known)}; there are: {', '.join(known)}"
            )
        return name

    @field_validator("context_folds")
    @classmethod
    def _folds(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("one fold leaves no case out: 0 for contexts in sample, 2 or more for out of fold")
        return folds

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Self:
        if self.start_share and not (self.start_from or self.start_from_previous_level):
            raise ValueError(
                f"start_share is {self.start_share:g}, and the training begins with drawn weights: set start_from, or 0"
            )
        return self

    @field_validator("box_drawn")
    @classmethod
    def _ascending(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if ends[0] > ends[1]:
            raise ValueError(f"box_drawn is {list(ends)}: the smaller factor comes first")
        return ends

    @property
    def contexts(self) -> str:
        """How the contexts of the training cases come about, and whether the level has had the steps of the one before too; for tables."""
        origin = f"out of {self.context_folds} folds" if self.context_folds else "in sample"
        return f"{origin}; from the weights of the level before" if self.start_from_previous_level else origin


class Tuning(Parameters):
    """The same budget for every network before its training: each learning rate with each warm-up for `steps` steps, and the pair with
    the best mean DSC of the validation cases is taken. The paper tunes nothing.
    """

    learning_rates: tuple[Share, ...] = Field(min_length=1)
    warm_ups: tuple[Share, ...] = Field(default=(0.15,), min_length=1)
    steps: int = Field(ge=1, le=100_000_000)

    @field_validator("learning_rates", "warm_ups")
    @classmethod
    def _once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return _each_once(values)

    @property
    def total_steps(self) -> int:
        """Steps that one network is tuned with."""
        return self.steps * len(self.learning_rates) * len(self.warm_ups)


class Prediction(Parameters):
    """From probability to mask."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    largest_component: bool = True


class Preset(Parameters):
    """Everything a run needs. `training` is for volumes, `training_2d` for cohorts of single images.

    `tracker` follows the trainings and changes nothing about them (`fhlib.training.tracking`).
    `growth_subjects`: of the drawn population whose growth notebooks 15 and 16 look at; without it they are no part of the run.
    Every network is trained once with each of `seeds`; without any, with the seed of its training alone. That one is among them, and is
    the run's own: what is not about the spread between trainings is about it.
    `target` is what the network outlines: the whole head to its skin, as in the paper, or the outer skull (the cohort's `label_skull`),
    which growth charts are made of.
    """

    name: str
    purpose: str
    variants: tuple[str, ...] = Field(min_length=1)
    simulated_cohort: SimulatedCohort
    preparation: Preparation
    training: Training
    training_2d: Training
    seeds: tuple[Seed, ...] = ()
    growth_subjects: Annotated[int, Field(ge=200, le=100_000)] | None = None
    tracker: Literal["", "tensorboard", "mlflow"] = ""
    target: Literal["head", "skull"] = "head"
    tuning: Tuning | None = None
    prediction: Prediction = Prediction()
    val_fraction: float = Field(default=0.2, ge=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    split_seed: Seed = 2020

    @property
    def reads_slices(self) -> bool:
        """Whether a variant is 2D, and so reads volumes in slices of their original resolution."""
        return any(VARIANTS[name].spatial_dims == 2 for name in self.variants)

    @property
    def learns_from_few(self) -> bool:
        """Whether it learns on from trained weights with a few cases: a run then compares both, and has no tables of the paper."""
        return bool(self.training.start_from) and self.simulated_cohort.train_subjects <= FEW_CASES

    @property
    def further_seeds(self) -> tuple[int, ...]:
        """Those of `seeds` that are not the run's own."""
        return tuple(seed for seed in self.seeds if seed != self.training.seed)

    def with_seed(self, seed: int) -> Preset:
        """The same with another seed of the trainings."""
        trainings = {
            name: getattr(self, name).model_copy(update={"seed": seed}) for name in ("training", "training_2d")
        }
        return self.model_copy(update=trainings)

    def training_for(self, spatial_dims: int) -> Training:
        """`training` for volumes, `training_2d` for single images."""
        return self.training if spatial_dims == 3 else self.training_2d

    @field_validator("seeds", mode="before")
    @classmethod
    def _no_truth_for_seeds(cls, seeds: Any) -> Any:
        for seed in seeds if isinstance(seeds, list | tuple) else ():
            if isinstance(seed, bool):
                raise ValueError(f"{str(seed).lower()} is no seed: name whole numbers, such as [0, 1, 2]")
        return seeds

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return _each_once(seeds)

    @model_validator(mode="after")
    def _own_seed_among_them(self) -> Self:
        own = (self.training.seed, self.training_2d.seed)
        if self.seeds and not (own[0] == own[1] and own[0] in self.seeds):
            raise ValueError(
                f"seeds are {list(self.seeds)}, training.seed is {own[0]} and training_2d.seed {own[1]}: "
                "make these two the same, and name it among the seeds"
            )
        if self.further_seeds and self.learns_from_few:
            raise ValueError(
                f"seeds are {list(self.seeds)}, and a preset that learns on from a few cases trains once: leave seeds out"
            )
        return self

    @field_validator("variants")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in VARIANTS:
                raise ValueError(
                    f"variant {name!r} is not known{suggestion(name, VARIANTS)}; known: {', '.join(VARIANTS)}"
                )
        return _each_once(names)


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if again := next((value for k, value in enumerate(values) if value in values[:k]), None):
        raise ValueError(f"{again!r} is named twice: name it once")
    return values


SHIPPED_EXAMPLE = "data/presets/quick.yaml"


class PresetError(ValueError):
    """A preset that cannot be used; the message lists each fault with its remedy."""


def suggestion(name: str, known: Any) -> str:
    """`; did you mean 'x'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name)[:100], list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def preset_path(name: str) -> Path:
    """The file of a preset: one's own in `data/presets`, else the one that comes with fhlib. Raises PresetError where there is none."""
    known = [file.removesuffix(".yaml") for file in own_and_shipped("presets", "*.yaml")]
    if name not in known:
        meant = f"; give its name without the folder and .yaml: {Path(name).stem}" if Path(name).stem in known else ""
        raise PresetError(
            f"preset {_short(name)} is not known{meant or suggestion(name, known)}; there are: {', '.join(known)}"
        )
    return own_or_shipped("presets", f"{name}.yaml")


def load_preset(name: str, changes: Mapping[str, Any] | None = None) -> Preset:
    """Read and validate `data/presets/<name>.yaml`, with `changes` by dotted name (`{"training.seed": 1}`). Raises PresetError."""
    path = preset_path(name)
    content = _read_preset(path)
    if "name" in content:
        raise PresetError(f"{path.name}: a preset has its file's name: rename the file, and take the line `name` out")
    content["name"] = path.stem
    for place, value in (changes or {}).items():
        _change(content, place, value)
    return parse_preset(content)


def _read_preset(path: Path) -> dict[str, Any]:
    """What a preset's file says, by name."""
    if not path.is_file():
        raise PresetError(f"{path.name} is no file: a preset is a text file, such as {SHIPPED_EXAMPLE}")
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise PresetError(f"{path.name} has {path.stat().st_size / 1e6:.1f} MB: a preset has some lines of text")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PresetError(
            f"{path.name} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None
    content = _parse_yaml(text, path.name)
    if not isinstance(content, dict):
        kind = "is empty" if content is None else f"holds a {type(content).__name__}"
        raise PresetError(f"{path.name} {kind}: a preset has lines of NAME: VALUE, such as {SHIPPED_EXAMPLE}")
    return content


def _parse_yaml(text: str, where: str) -> Any:
    """YAML 1.2; a name that stands twice, a tag of Python's or another document is an error."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = str(error.problem or error.context).splitlines()[0]
        raise PresetError(f"{where}{line}: {problem[:200]}: mend it, with {SHIPPED_EXAMPLE} as an example") from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise PresetError(f"{where} cannot be read as YAML: {reason}") from None


def _change(content: dict[str, Any], place: str, value: Any) -> None:
    """Put one value in its place, by dotted name."""
    *sections, last = place.split(".")
    if place in ("name", "purpose"):
        raise PresetError(f"{place!r} belongs to the preset's file and cannot be changed for a run: copy the file")
    inner = content
    for section in sections:
        if not isinstance(inner.get(section) or {}, dict):
            raise PresetError(f"{place!r} changes nothing: {section!r} has no parts")
        inner[section] = dict(inner.get(section) or {})  # sections may be one and the same in the file
        inner = inner[section]
    inner[last] = value


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """`["training.seed=1", "variants=[USegNet-DS]"]` by name, values read as YAML.

    Raises PresetError for a text without `=`, for one that is no YAML, and for a name that is changed twice.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not (name and sign and value):
            raise PresetError(f"{_short(text)} changes nothing: write NAME=VALUE, for example training.seed=1")
        if again := next((other for other in changes if f"{other}.".startswith(f"{name}.")), None):
            raise PresetError(f"{again!r} is changed twice, by {_short(text)} too: give it once")
        if outer := next((other for other in changes if name.startswith(f"{other}.")), None):
            raise PresetError(f"{name!r} is part of {outer!r}, which is changed too: give one of them")
        changes[name] = _parse_yaml(value, f"the value of {name}")
    return changes


def parse_preset(content: dict[str, Any]) -> Preset:
    """Validate the content of a preset. Raises PresetError that lists every fault."""
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        faults = [_fault(item) for item in error.errors()[:MOST_FAULTS]]
        raise PresetError("\n".join([f"preset {content.get('name')!r} cannot be used:", *faults])) from None


def _fault(item: Any) -> str:
    *section, name = item["loc"] or ("",)
    place = ".".join(map(str, item["loc"]))
    if item["type"] != "extra_forbidden":
        value = "" if isinstance(item["input"], dict | Parameters) else f" (got {_short(item['input'])})"
        return f"  {place}: {item['msg'].removeprefix('Value error, ')}{value}"
    model: Any = Preset
    for part in section:
        field = model.model_fields[part].annotation
        model = next((one for one in get_args(field) if hasattr(one, "model_fields")), field)  # `Tuning | None`
    return f"  {place[:100]}: unknown parameter{suggestion(name, model.model_fields)}"


def _short(value: Any) -> str:
    """A value as messages show it: a few bytes of YAML may stand for gigabytes."""
    shown = reprlib.Repr()
    shown.maxlevel = 2
    return shown.repr(value)[:200]
