"""A run: the folder that training makes."""

import itertools
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from synthmed import __version__
from synthmed.backend import backend_name
from synthmed.data.attributes import AttributeTable, attribute_table
from synthmed.data.geometry import Template
from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.training.checkpoint import Checkpoint, checkpoint_paths, find_newest, list_checkpoints
from synthmed.training.options import ResolvedOptions

RUN_FILE = "run.json"
CHECKPOINTS, BEST, MASK_GENERATOR = "checkpoints", "best", "mask-generator"


class DataSummary(BaseModel):
    """What a run remembers of the store it was trained on.

    Attributes:
        store: Where the store was.
        store_hash: Its content hash.
        dataset: Name of the data set.
        licence: Licence of the data set.
        size: (height, width) of a slice.
        channels: Names of the image channels.
        classes: Names of the classes, background first.
        slices: How many training slices there are.
        training_patients: Content hashes of all cases that it was taught by.
        templates: Geometry and intensity scale of the training cases; they name nobody.
        attributes: What the training slices show and where they lie, as counts; None in runs of earlier versions.
    """

    model_config = ConfigDict(extra="forbid")

    store: str
    store_hash: str
    dataset: str
    licence: str
    size: tuple[int, int]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    slices: int
    training_patients: list[str]
    templates: list[Template]
    attributes: AttributeTable | None = None

    @classmethod
    def of_store(cls, store: Store, *, others: Iterable[str] = ()) -> "DataSummary":
        """Summarise an open store.

        Args:
            store: The store.
            others: Content hashes of patients beyond it whose images teach the generator, too.

        Raises:
            UserError: If the store holds no label maps.
        """
        store.require_labels()
        return cls(
            store=str(store.path.resolve()),
            store_hash=store.content_hash,
            dataset=store.dataset,
            licence=store.licence or "not stated",
            size=store.size,
            channels=tuple(store.channels),
            classes=tuple(store.classes),
            slices=len(store.indices("train")),
            training_patients=sorted({*store.training_hashes, *others}),
            templates=store.templates(),
            attributes=attribute_table(store) if len(store.indices("train")) else None,
        )


class Start(BaseModel):
    """When a process took up the training of a run.

    Attributes:
        backend: Its Keras backend.
        step: Steps done before.
        synthmed: Its version.
    """

    model_config = ConfigDict(extra="forbid")

    backend: str
    step: int
    synthmed: str = __version__


class RunFile(BaseModel):
    """Content of run.json.

    Attributes:
        starts: Every start of its training, the first one first; none in runs of earlier versions.
        adopted: Whether this is a mask generator that was copied from another run: it draws, but cannot be resumed.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal["synthmed-run"] = "synthmed-run"
    format_version: Literal[1] = 1
    synthmed: str = __version__
    options: ResolvedOptions
    data: DataSummary
    adopted: bool = False
    starts: tuple[Start, ...] = ()


class Run:
    """An opened run folder.

    Attributes:
        path: The folder.
        options: Its options.
        data: What it was trained on.
    """

    def __init__(self, path: Path, content: RunFile):
        self.path = path
        self.content = content
        self.options = content.options
        self.data = content.data

    @classmethod
    def create(cls, path: Path, options: ResolvedOptions, data: DataSummary, *, adopted: bool = False) -> "Run":
        """Write run.json into a new folder and return the run."""
        run = cls(path, RunFile(options=options, data=data, adopted=adopted))
        run.save()
        return run

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Open a run folder.

        Raises:
            UserError: If the folder is no run or its run.json is damaged.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path} is no run: the folder does not exist; make one with `synthmed train --out {path}`")
        if not (path / RUN_FILE).is_file():
            raise UserError(f"{path} is no run: it has no {RUN_FILE}; name a folder that `synthmed train` made")
        try:
            return cls(path, RunFile.model_validate(read_json(path / RUN_FILE)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(f"{path / RUN_FILE}: {where}: {first['msg'].lower()}; was it edited by hand?") from None

    def save(self) -> None:
        """Write run.json."""
        self.content = self.content.model_copy(update={"options": self.options})
        write_json(self.path / RUN_FILE, self.content.model_dump(mode="json"))

    def note_start(self, step: int) -> None:
        """Write into run.json that a training of the run starts, on which backend and from which step."""
        starts = (*self.content.starts, Start(backend=backend_name(), step=step))
        self.content = self.content.model_copy(update={"starts": starts})
        self.save()

    def discard(self) -> None:
        """Remove what making the run wrote; anything else in the folder stays, and with it the folder."""
        if self.has_adopted_masks:
            shutil.rmtree(self.mask_generator)
        (self.path / RUN_FILE).unlink(missing_ok=True)
        with suppress(OSError):
            # Anything else in it keeps it.
            self.path.rmdir()

    @property
    def checkpoint_folder(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINTS

    @property
    def best_folder(self) -> Path:
        """Where the averaged weights are that came nearest to held-out patients."""
        return self.path / BEST

    @property
    def mask_generator(self) -> Path:
        """Where a `cond` run keeps the run of its mask generator."""
        return self.path / MASK_GENERATOR

    @property
    def has_adopted_masks(self) -> bool:
        """Whether the mask generator of this `cond` run was copied from another run."""
        return (self.mask_generator / RUN_FILE).is_file() and Run.open(self.mask_generator).content.adopted

    def checkpoints(self) -> list[Checkpoint]:
        """Return the run's checkpoints, oldest first."""
        return list_checkpoints(self.checkpoint_folder)

    def last_arrays(self) -> tuple[Checkpoint, dict[str, Any], list[str]]:
        """Return the newest checkpoint that can be read, its arrays, and lines about each newer one that cannot.

        Raises:
            UserError: If there is none.
        """
        found = find_newest(self.checkpoint_folder)
        if found is None:
            raise UserError(
                f"{self.path} has no checkpoint yet: train it longer (`synthmed train --resume --out {self.path}`)"
            )
        return found.checkpoint, found.arrays, found.lines()

    def best(self) -> Checkpoint | None:
        """Return the averaged weights that came nearest to held-out patients; None where none were measured.

        One that is damaged is not among them.
        """
        known = [one for one in list_checkpoints(self.best_folder) if "distance" in one.state]
        return min(known, key=lambda one: one.state["distance"], default=None)

    def chosen_arrays(self) -> tuple[Checkpoint, dict[str, Any]]:
        """Return the weights to draw with: the nearest to held-out patients, else the newest.

        Raises:
            UserError: If they are damaged, or there are none. Others in their place would draw other samples.
        """
        paths = checkpoint_paths(self.best_folder)
        try:
            found = [Checkpoint.open(path) for path in paths]
            if found:
                best = min(found, key=lambda one: one.state.get("distance", math.inf))
                return best, best.arrays()
        except UserError as error:
            if not all(path.exists() for path in paths):
                # A training that is under way has just found a nearer one.
                return self.chosen_arrays()
            raise self._refused(error) from None
        try:
            checkpoint, arrays, damage = self.last_arrays()
        except UserError as error:
            raise self._refused(error) if self.content.adopted else error from None
        if damage:
            raise self._refused(damage[0])
        return checkpoint, arrays

    def _refused(self, damage: object) -> UserError:
        if self.content.adopted:
            return UserError(f"{damage}: remove {self.path}, and resume its run with --masks-from to copy it again")
        again = f"synthmed train --variant {self.options.variant} --out {self.path} --resume"
        return UserError(f"{damage}: `{again}` makes it anew where it can, and says what is drawn from else")

    def refuse_removed(self) -> None:
        """Do nothing where the folder is still there.

        Raises:
            UserError: If it was removed or moved while it was trained.
        """
        if not (self.path / RUN_FILE).is_file():
            raise UserError(f"{self.path} was removed or moved while it was trained: train it again, or put it back")


def next_run_paths(runs: Path, variant: str) -> Iterator[Path]:
    """Yield `runs/NNNNN-VARIANT` with the numbers after the highest that is there, or that a process has locked."""
    numbers = [int(match[1]) for path in runs.glob("*") if (match := re.match(r"\.?(\d{5})-", path.name))]
    for number in itertools.count(max(numbers, default=-1) + 1):
        yield runs / f"{number:05d}-{variant}"


def find_latest_run(folder: Path, *, variant: str | None = None, with_checkpoint: bool = True) -> Path | None:
    """Return the run at most two levels below `folder` that was written to last, or None.

    Args:
        folder: Where to look.
        variant: Only runs of this variant, where given.
        with_checkpoint: Only runs that can generate.
    """
    newest: tuple[float, Path] | None = None
    for file in [*folder.glob(f"*/{RUN_FILE}"), *folder.glob(f"*/*/{RUN_FILE}")]:
        if file.parent.name == MASK_GENERATOR:
            continue
        try:
            run = Run.open(file.parent)
        except UserError:
            continue
        states = [path.stat().st_mtime for path in run.checkpoint_folder.glob("step-*/state.json")]
        if (variant and run.options.variant != variant) or (with_checkpoint and not states):
            continue
        newest = max(newest or (0.0, run.path), (max([*states, file.stat().st_mtime]), run.path))
    return newest[1] if newest else None
