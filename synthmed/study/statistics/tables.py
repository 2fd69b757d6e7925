"""From the folder of a study, finished or half done, to a table: a combination a row, a model a column."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from synthmed.data.people import without_places
from synthmed.errors import UserError
from synthmed.files import read_json
from synthmed.segmentation.score_table import Score
from synthmed.segmentation.store_scores import patient_dice

STUDY, TRIAL, FAILED = "study.json", "trial.json", "failed.json"
REAL, ORACLE = "real", "oracle"
"""Variants of a model; an oracle is made by the statistics, no trial is one."""


class Block(NamedTuple):
    """A combination of the paper: a data set and a number of its patients; draws of these patients repeat it."""

    dataset: str
    patients: int

    @property
    def label(self) -> str:
        """What a reader sees."""
        return f"{self.dataset}, {self.patients} patient" + ("s" if self.patients != 1 else "")


class Repetition(NamedTuple):
    """One of several trainings that differ by chance alone."""

    draw: int
    seed: int


class Combination(BaseModel):
    """Whom a trial's U-Net was trained on.

    Attributes:
        dataset: Name of the data set.
        patients: Real training patients.
        draw: Which choice of these patients.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    patients: int
    draw: int = 0

    @property
    def block(self) -> Block:
        """The combination without its draw."""
        return Block(self.dataset, self.patients)


class Model(BaseModel):
    """One way of training.

    Attributes:
        name: Models that share it are one line of a figure.
        variant: "real" adds nothing.
        added_patients: Synthetic patients beside the real ones.
        recipe: How they are blended.
        augmentation: Whether slices are augmented classically.
        other_patients: How many patients taught its generator who train no U-Net, as if another hospital had given it;
            0 where the training patients themselves did.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    variant: str
    added_patients: float = 0.0
    recipe: dict[str, Any] = {}
    augmentation: bool = True
    other_patients: int = 0

    @property
    def line(self) -> str:
        """What it is called, whatever it adds."""
        return self.name + ("" if self.augmentation else " without augmentation")

    @property
    def label(self) -> str:
        """What tells it from all other models of a study."""
        added = f" +{self.added_patients:g}" if self.added_patients else ""
        return f"{self.name}{added}" + ("" if self.augmentation else " without augmentation")


class Cell(BaseModel):
    """What a trial is.

    Attributes:
        combination: Whom it is trained on.
        model: How.
        seed: Of the U-Net.
    """

    model_config = ConfigDict(frozen=True)

    combination: Combination
    model: Model
    seed: int

    @property
    def repetition(self) -> Repetition:
        """Which repetition of its combination and model it is."""
        return Repetition(self.combination.draw, self.seed)


class Trial(Cell):
    """A finished trial: its scores and the hours of its generator, training and scoring."""

    scores: list[Score]
    hours: dict[str, float] = {}


@dataclass(frozen=True)
class Study:
    """What the folder of a study says.

    Attributes:
        name: Of the study.
        hash: Of its configuration.
        version: Of synthmed that ran it.
        planned: By hash every trial that belongs to it.
        trials: The finished ones of these.
        failures: Causes of the failed ones.
        generators: Of each trial with synthetic patients, what it shares a generator by.
    """

    name: str
    hash: str
    version: str
    planned: Mapping[str, Cell]
    trials: Mapping[str, Trial]
    failures: Mapping[str, str]
    generators: Mapping[str, str]

    @property
    def models(self) -> tuple[Model, ...]:
        """All models, in the order of the configuration."""
        return tuple({cell.model.label: cell.model for cell in self.planned.values()}.values())

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All combinations without their draws, in the order of the configuration."""
        return tuple(dict.fromkeys(cell.combination.block for cell in self.planned.values()))


def read_study(folder: Path | str) -> Study:
    """Read a study from `study.json` and its trials' files; trials of other configurations are passed over.

    A trial whose file cannot be read counts as failed.

    Raises:
        UserError: If there is no study, or two of its models have the same name.
    """
    folder = Path(folder)
    file = folder / STUDY
    if not file.is_file():
        raise UserError(f"{folder} is no study: it has no {STUDY}; give the --out of `synthmed study run`")
    value = read_json(file)
    try:
        planned = {digest: Cell.model_validate(cell) for digest, cell in value["trials"].items()}
    except (ValidationError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file} does not list its trials: run the study again with this version") from None
    trials: dict[str, Trial] = {}
    failures: dict[str, str] = {}
    places = _places(folder, value.get("configuration"))
    for digest, cell in planned.items():
        home = folder / "trials" / digest
        if (home / TRIAL).is_file():
            try:
                trials[digest] = _trial(home / TRIAL, cell)
            except (UserError, ValidationError, TypeError, AttributeError, KeyError) as error:
                why = without_places(" ".join(str(error).split()), places)[:120]
                failures[digest] = f"{TRIAL} cannot be read ({why})"
        elif (home / FAILED).is_file():
            failures[digest] = without_places(_cause(home / FAILED), places)
    study = Study(
        name=str((value.get("configuration") or {}).get("name", "study")),
        hash=str(value.get("hash", "")),
        version=str(value.get("synthmed", value.get("version", ""))),
        planned=planned,
        trials=trials,
        failures=failures,
        generators=_generators(planned, value.get("tasks") or {}),
    )
    _check_names(study)
    return study


@dataclass(frozen=True)
class Table:
    """Dice of all finished trials, with the same test patients and classes throughout a block.

    Attributes:
        blocks: In the order of the study; also those that no trial is finished of.
        models: In the order of the study.
        dice: By block and label of a model, `[patients, classes]` of each repetition; NaN where a patient has nothing
            of a class.
        classes: Names of the classes of each block.
        patients: Names of the test patients of each block.
        planned: Labels of the models of each block, finished or not.
    """

    blocks: tuple[Block, ...]
    models: tuple[Model, ...]
    dice: Mapping[tuple[Block, str], Mapping[Repetition, NDArray[np.float64]]]
    classes: Mapping[Block, tuple[str, ...]]
    patients: Mapping[Block, tuple[str, ...]]
    planned: Mapping[Block, frozenset[str]]

    @property
    def compared(self) -> tuple[Block, ...]:
        """Blocks with more than one model; the others are there for what more real patients gain."""
        return tuple(block for block in self.blocks if len(self.planned[block]) > 1)

    def repetitions(self, block: Block, labels: Iterable[str]) -> list[Repetition]:
        """Return the repetitions of a block that all of some models have, sorted."""
        found = [set(self.dice.get((block, label), {})) for label in labels]
        return sorted(set.intersection(*found)) if found else []

    def values(self, block: Block, label: str, repetitions: Iterable[Repetition]) -> NDArray[np.float64]:
        """Return Dice as `[repetitions, patients, classes]`."""
        return np.stack([self.dice[block, label][repetition] for repetition in repetitions])

    def baseline(self, model: Model) -> Model | None:
        """Return the model of real patients alone that a model is compared with: of the same augmentation."""
        if model.variant == REAL:
            return None
        return next(
            (one for one in self.models if one.variant == REAL and one.augmentation == model.augmentation), None
        )


def make_table(study: Study) -> Table:
    """Return the scores of a study as a table."""
    dice: dict[tuple[Block, str], dict[Repetition, NDArray[np.float64]]] = {}
    classes: dict[Block, tuple[str, ...]] = {}
    patients: dict[Block, tuple[str, ...]] = {}
    for block in study.blocks:
        own = [trial for trial in study.trials.values() if trial.combination.block == block]
        if not own:
            continue
        values, names = patient_dice([trial.scores for trial in own])
        patients[block] = tuple(names)
        classes[block] = tuple(
            {row.label: row.name for row in sorted(own[0].scores, key=lambda row: row.label)}.values()
        )
        for trial, value in zip(own, values, strict=True):
            dice.setdefault((block, trial.model.label), {})[trial.repetition] = value
    planned = {
        block: frozenset(cell.model.label for cell in study.planned.values() if cell.combination.block == block)
        for block in study.blocks
    }
    return Table(study.blocks, study.models, dice, classes, patients, planned)


def _trial(file: Path, cell: Cell) -> Trial:
    value = read_json(file)
    if value.get("status", "finished") != "finished" or not value["scores"]:
        raise UserError("it is not finished, or has no scores")
    # What it is called may have changed since it was run: the study knows.
    about = cell.model_dump()
    return Trial.model_validate({**about, "scores": value["scores"], "hours": value.get("hours") or {}})


def _places(folder: Path, configuration: Any) -> list[str]:
    """Return the paths that causes of failures may name: reports go further than the folders that they are of."""
    data = configuration.get("data") if isinstance(configuration, dict) else None
    named = [one.get(key) for one in data or () if isinstance(one, dict) for key in ("path", "split")]
    paths = [folder, folder.resolve(), Path.home(), *(Path(one) for one in named if isinstance(one, str))]
    return [str(path) for path in paths]


def _cause(file: Path) -> str:
    try:
        return str(read_json(file).get("cause") or "no cause was written")
    except (UserError, AttributeError):
        return f"{FAILED} cannot be read"


def _generators(planned: Mapping[str, Cell], tasks: Mapping[str, Any]) -> dict[str, str]:
    """Return what each trial shares its generator by: the generator's hash, or combination and model where unknown."""
    found = {}
    for digest, cell in planned.items():
        ancestors: set[str] = set()
        pending = [("trial", digest)]
        while pending:
            kind, one = pending.pop()
            if kind == "generator":
                ancestors.add(one)
            pending += [(str(need[0]), str(need[1])) for need in tasks.get(one, ())]
        if ancestors:
            found[digest] = " ".join(sorted(ancestors))
        elif cell.model.variant != REAL:
            found[digest] = f"{cell.combination.model_dump_json()} {cell.model.name}"
    return found


def _check_names(study: Study) -> None:
    seen: dict[tuple[Combination, str, int], str] = {}
    for digest, cell in study.planned.items():
        first = seen.setdefault((cell.combination, cell.model.label, cell.seed), digest)
        if first != digest:
            raise UserError(f"two models of the study are called {cell.model.label!r}: give them different names")
