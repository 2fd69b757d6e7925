"""The configuration of a study: its models, data sets, patients and seeds, read from YAML and checked whole."""

from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from synthmed.configuration import Document, parse_yaml, read_yaml
from synthmed.data.schema import Split
from synthmed.errors import UserError
from synthmed.segmentation.augment import Augmentation
from synthmed.segmentation.options import SegmentOptions, check_options
from synthmed.segmentation.postprocess import Flips
from synthmed.segmentation.schedule import Blending
from synthmed.training.options import TrainOptions
from synthmed.training.options import check_options as check_training

Variant = Literal["real", "duplicated", "base", "cond"]
Words = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^\S([^\r\n\t]*\S)?$")]
Count = Annotated[int, Field(ge=1)]

UNUSED_MASK_KIMG = 0.05
"""Of a mask generator that no model draws from: `masks: deformed` takes real label maps."""
_SET_BY_THE_STUDY = ("variant", "kimg", "minutes", "seed", "init_from", "unlabelled", "strategy")


def as_list(value: Any) -> Any:
    """Let one value stand for a list of one."""
    return value if isinstance(value, (list, tuple)) else [value]


class Part(BaseModel):
    """Base of all parts: immutable, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Generator(Part):
    """How a generator is trained; models with equal ones share them.

    Attributes:
        patients: "own" is taught by the training patients of its trial. "others" is taught by patients of the data set
            that train no U-Net beside which the model is compared, as if another hospital had given its generator: one
            for all draws and numbers of patients.
        kimg: Thousand images that it is shown.
        mask_kimg: The same of the mask generator of `cond`; by default `kimg`, and next to nothing where the masks are
            deformed real ones.
        seed: Of the training.
        settings: Options of `synthmed train --set`.
    """

    patients: Literal["own", "others"] = "own"
    kimg: float = Field(25.0, gt=0)
    mask_kimg: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**31)
    settings: dict[str, Any] = {}

    @field_validator("settings")
    @classmethod
    def _known(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if name in _SET_BY_THE_STUDY:
                raise ValueError(f"{name} is set by the study, not under settings")
        in_words(check_training, {"variant": "base", **settings})
        return settings

    def options(self, variant: str) -> TrainOptions:
        """Return the options of its training."""
        return check_training({**self.settings, "variant": variant, "kimg": self.kimg, "seed": self.seed})


class Recipe(Part):
    """How synthetic slices are blended with real ones, see `synthmed.segmentation.options.Blending`.

    Attributes:
        ratio: Synthetic slices for each real one in a batch; "auto" searches it on validation patients; None pours
            them into one pool, in which every slice, real or synthetic, is offered equally often.
        ratio_end: Ratio at the last step.
        pretrain: Share of the steps, at the start, on synthetic slices alone.
        weight: What a synthetic slice counts in the loss.
        sampling: "balanced" offers slices of rare classes more often.
        filter: Share of the synthetic slices that is kept after they were judged.
        judge: Whether a U-Net that is trained on this trial's real slices judges as well.
    """

    ratio: Annotated[float, Field(ge=0)] | Literal["auto"] | None = None
    ratio_end: float | None = Field(None, ge=0)
    pretrain: float = Field(0.0, ge=0, le=1)
    weight: float = Field(1.0, gt=0)
    sampling: Literal["uniform", "balanced"] = "uniform"
    filter: float = Field(1.0, gt=0, le=1)
    judge: bool = True

    def blending(self) -> Blending:
        """Return the blending of a U-Net training, but for the filter model."""
        return Blending(
            ratio_end=self.ratio_end,
            pretrain=self.pretrain,
            synthetic_weight=self.weight,
            sampling=self.sampling,
            keep_fraction=self.filter,
        )


class Model(Part):
    """One model of the comparison, or several: one for each number of added patients, with and without augmentation.

    Attributes:
        name: In tables and figures; models of one line there share it.
        variant: "real" adds nothing, "duplicated" adds copies of real slices, the others what a generator draws.
        added_patients: Numbers of synthetic patients; one counts as many slices as a training patient has on average.
        generator: How it is trained.
        masks: Of `cond`: drawn by the mask generator, or deformed ones of the patients who taught the generator.
        psi: Truncation of what is drawn.
        draw_seed: Of what is drawn.
        recipe: How it is blended.
        augmentation: Whether slices are augmented classically; a list gives a model each.
        patients: Numbers of real patients that it is trained beside; by default all of the study.
        seeds: How many of the study's seeds it has; by default all.
    """

    name: Words
    variant: Variant
    added_patients: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(as_list)] = ()
    generator: Generator = Generator()
    masks: Literal["generated", "deformed"] = "generated"
    psi: float = Field(1.0, ge=0, le=1)
    draw_seed: int = Field(1, ge=0, lt=2**31)
    recipe: Recipe = Recipe()
    augmentation: Annotated[tuple[bool, ...], BeforeValidator(as_list)] = (True,)
    patients: Annotated[tuple[Count, ...], BeforeValidator(as_list)] | None = None
    seeds: Count | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Model":
        if (self.variant == "real") != (not self.added_patients):
            raise ValueError(
                "a real model adds nothing: leave out added_patients"
                if self.added_patients
                else f"{self.variant} needs added_patients, such as [5, 10]"
            )
        if self.variant == "real" and self.recipe.ratio == "auto":
            raise ValueError("a real model blends nothing, so there is no ratio to search: leave out ratio")
        if self.variant != "cond" and self.masks != "generated":
            raise ValueError("masks: deformed goes with variant: cond")
        if self.variant in ("real", "duplicated") and "generator" in self.model_fields_set:
            raise ValueError(f"a {self.variant} model has no generator: leave it out")
        return self

    @property
    def mask_kimg(self) -> float | None:
        """Thousand images that the mask generator is shown; None where the model has none."""
        if self.variant != "cond":
            return None
        unused = UNUSED_MASK_KIMG if self.masks == "deformed" else self.generator.kimg
        return self.generator.mask_kimg or unused


def in_words(check: Any, values: dict[str, Any]) -> None:
    """Run a check of options whose errors are ours, inside of pydantic's."""
    try:
        check(values)
    except UserError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[\w.+-]+( [\w.+-]+)*$")]

_SET_BY_THE_MODEL = ("seed", "ratio", "train_patients", "augmentation", "blending")
NO_AUGMENTATION = Augmentation(
    geometry=0.0, elastic=0.0, sharpness=0.0, intensity=0.0, flip_rows=False, flip_columns=False
)


def _as_seeds(value: Any) -> Any:
    """Let a number stand for the seeds from 0 on."""
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else value


def _as_size(value: Any) -> Any:
    """Read `64x48`, as the command line writes it."""
    return [part.strip() for part in value.lower().split("x")] if isinstance(value, str) else value


def _as_fractions(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and "," in value else value


class Phantom(Part):
    """A data set that the study draws itself, see `synthmed phantom`."""

    cases: int = Field(24, ge=3)
    size: int = Field(64, ge=16)
    channels: int = Field(2, ge=1)
    seed: int = Field(0, ge=0)


class DataSet(Part):
    """A data set and how it is prepared.

    Attributes:
        name: In tables and figures.
        path: Its folder; relative to that of the configuration, of a preset to the current one.
        phantom: Drawn instead of read.
        split: Fractions of patients for training, validation and test, or a JSON file of names as for `prepare`.
        seed: Of the split, and of the order in which training patients are drawn.
        axis: As `prepare`; so are the next five.
        size: Rows and columns of a slice.
        spacing: Pixel size.
        normalise: How channels are scaled.
        bias_correction: Whether MRI is freed of slow shading.
        slices: Which training slices are offered.
        patient_pattern: Finds the patient in a case's name.
        patients: Numbers of real training patients; by default those of the study.
    """

    name: Name
    path: Path | None = None
    phantom: Phantom | None = None
    split: Annotated[tuple[float, float, float] | Path, BeforeValidator(_as_fractions)] = (0.7, 0.15, 0.15)
    seed: int = Field(0, ge=0)
    axis: Literal["sagittal", "coronal", "axial"] | None = None
    size: Annotated[tuple[Count, Count], BeforeValidator(_as_size)] | None = None
    spacing: tuple[float, float] | None = None
    normalise: tuple[str, ...] = ()
    bias_correction: bool = False
    slices: Literal["all", "foreground", "balanced"] = "all"
    patient_pattern: str | None = None
    patients: Annotated[tuple[Count, ...], BeforeValidator(as_list)] | None = None
    seeds: Count | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "DataSet":
        if (self.path is None) == (self.phantom is None):
            raise ValueError("give either path, the folder of the data set, or phantom")
        return self


class Scoring(Part):
    """How a trained U-Net is scored.

    Attributes:
        split: On which patients.
        geometry: Against the label maps of the store, or of the source.
        flips: As `segment predict`.
        largest_component: As `segment predict`.
        tolerance: Of the surface Dice, mm; None leaves distances out, which take longer than the prediction.
    """

    split: Split = "test"
    geometry: Literal["store", "source"] = "store"
    flips: Flips = "none"
    largest_component: bool = False
    tolerance: float | None = Field(1.0, ge=0)


class Configuration(Part):
    """A study: every data set x number of patients x draw x model x seed is a trial.

    Attributes:
        name: Of the study.
        data: Data sets.
        patients: Numbers of real training patients.
        draws: How many choices of these patients.
        models: What is compared.
        seeds: Of the U-Nets; a number stands for the seeds from 0 on.
        fewer_seeds: By a number of real patients, how many of the seeds it is trained with; by default all.
        training: Options of every U-Net.
        scoring: How they are scored.
        threads: Of each training; results depend on them by rounding, so they do not follow from the machine.
    """

    name: Name = "study"
    data: Annotated[tuple[DataSet, ...], Field(min_length=1)]
    patients: Annotated[tuple[Count, ...], BeforeValidator(as_list)] = ()
    draws: Count = 1
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1), BeforeValidator(_as_seeds)
    ] = (0,)
    fewer_seeds: dict[Count, Count] = {}
    training: dict[str, Any] = {}
    scoring: Scoring = Scoring()
    threads: Count = 1

    @field_validator("training")
    @classmethod
    def _known(cls, training: dict[str, Any]) -> dict[str, Any]:
        for name in training:
            if name in _SET_BY_THE_MODEL and name != "augmentation":
                raise ValueError(f"{name} is set by models and seeds, not under training")
        in_words(check_options, training)
        return training

    @model_validator(mode="after")
    def _fits(self) -> "Configuration":
        for what, values in (
            ("data sets", [one.name for one in self.data]),
            ("seeds", list(self.seeds)),
            ("patients", list(self.patients)),
        ):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise ValueError(f"{what}: {twice[0]} stands there twice")
        for one in self.data:
            if not (one.patients or self.patients):
                raise ValueError(f"data set {one.name}: say how many training patients, such as patients: [5, 10]")
        known = {number for one in self.data for number in one.patients or self.patients}
        asked = [(f"model {model.name}", number) for model in self.models for number in model.patients or ()]
        for where, number in [*asked, *(("fewer_seeds", number) for number in self.fewer_seeds)]:
            if number not in known:
                raise ValueError(f"{where}: no data set has {number} training patients: {sorted(known)}")
        return self

    def seeds_for(self, model: Model, patients: int) -> tuple[int, ...]:
        """Return the seeds of a model's U-Nets beside a number of real patients."""
        everything = len(self.seeds)
        return self.seeds[: min(model.seeds or everything, self.fewer_seeds.get(patients, everything))]

    def segment_options(self, *, augmentation: bool) -> SegmentOptions:
        """Return the options that all U-Nets share, with or without classical augmentation."""
        options = check_options(self.training)
        return options if augmentation else options.model_copy(update={"augmentation": NO_AUGMENTATION})


def preset_names() -> list[str]:
    """Return the names of the configurations that ship."""
    return sorted(one.name.removesuffix(".yaml") for one in _presets().iterdir() if one.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """Return the YAML of a configuration that ships."""
    return (_presets() / f"{name}.yaml").read_text(encoding="utf-8")


def read_configuration(source: str, *, paths: dict[str, Path] | None = None) -> Configuration:
    """Return the configuration of a YAML file, or of a preset by its name, with absolute paths.

    Args:
        source: The file, or the name of a preset; a file of that name goes before it.
        paths: Folders of data sets by name, instead of what the configuration says.

    Raises:
        UserError: If there is none, or something in it is wrong; the line is named.
    """
    path = Path(source)
    if path.is_file():
        folder, document = path.resolve().parent, read_yaml(path)
    elif source in preset_names():
        folder, document = Path.cwd(), parse_yaml(preset_text(source), f"preset {source}")
    else:
        raise UserError(f"{source} is no file and no preset: give a YAML file, or one of {', '.join(preset_names())}")
    return _located(_checked(document), folder, paths or {})


def parse_configuration(text: str, where: str) -> Configuration:
    """Return the configuration that a YAML text says; `where` names the text in messages.

    Raises:
        UserError: If something in it is wrong.
    """
    return _checked(parse_yaml(text, where))


def _checked(document: Document) -> Configuration:
    if not isinstance(document.value, dict):
        raise UserError(f"{document.where}: write a mapping with data, patients, models and seeds")
    return document.check(Configuration)


def _presets() -> Any:
    return files("synthmed.study") / "presets"


def _located(configuration: Configuration, folder: Path, paths: dict[str, Path]) -> Configuration:
    """Return the configuration with absolute paths."""
    unknown = set(paths) - {one.name for one in configuration.data}
    if unknown:
        known = ", ".join(one.name for one in configuration.data)
        raise UserError(f"--data {sorted(unknown)[0]}=...: the study has no such data set, but {known}")
    data = []
    for one in configuration.data:
        changes: dict[str, Any] = {}
        if one.name in paths:
            changes = {"path": paths[one.name].resolve(), "phantom": None}
        elif one.path is not None:
            changes = {"path": (folder / one.path.expanduser()).resolve()}
        if isinstance(one.split, Path):
            changes["split"] = (folder / one.split.expanduser()).resolve()
        data.append(one.model_copy(update=changes))
    return configuration.model_copy(update={"data": tuple(data)})
