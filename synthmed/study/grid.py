"""From a configuration to tasks: what has to be made, from what, and which trials it is for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from synthmed.data.schema import Split
from synthmed.errors import UserError
from synthmed.files import sha256_json
from synthmed.segmentation.auto_ratio import FEWEST_PATIENTS
from synthmed.study.config import Configuration, Model
from synthmed.study.folder import Kind
from synthmed.study.sources import Source

FORMATS: dict[Kind, int] = {"store": 1, "generator": 1, "slices": 1, "judge": 1, "trial": 1}
"""Raised where the same options make something else than before: what is kept is then made anew."""
JUDGE_SEED = 0
NO_RESULT = {"steps_ahead"}
"""Options of a generator's training that change how it is run, not what comes out."""


@dataclass(frozen=True)
class Task:
    """Something to make.

    Attributes:
        kind: What.
        digest: Hash over all that determines it, the name of its folder.
        identity: What determines it.
        how: What else it takes to make it, such as where the data set lies.
        needs: Kind and hash of the tasks that come first.
        words: What it is, for people.
    """

    kind: Kind
    digest: str
    identity: dict[str, Any]
    how: dict[str, Any] = field(default_factory=dict)
    needs: tuple[tuple[Kind, str], ...] = ()
    words: str = ""

    def of(self, kind: Kind) -> str | None:
        """Return the hash of the task of a kind that this one needs, or None."""
        return next((digest for other, digest in self.needs if other == kind), None)


@dataclass(frozen=True)
class Grid:
    """All tasks of a study.

    Attributes:
        tasks: By hash, each after those that it needs.
        trials: By hash, what each trial is: its combination, model and seed.
    """

    tasks: dict[str, Task]
    trials: dict[str, dict[str, Any]]

    def needed(self, trials: Iterable[str], finished: Any) -> list[Task]:
        """Return the tasks that are missing for some trials, in an order in which they can be made.

        Args:
            trials: Hashes of the trials.
            finished: Tells of a task whether it is there.
        """
        wanted: set[str] = set()
        pending = list(trials)
        while pending:
            task = self.tasks[pending.pop()]
            if task.digest not in wanted and not finished(task):
                wanted.add(task.digest)
                pending += [digest for _, digest in task.needs]
        return [task for digest, task in self.tasks.items() if digest in wanted]


def make_grid(configuration: Configuration, sources: list[Source]) -> Grid:
    """Return all tasks of a study.

    Raises:
        UserError: If two trials are the same, which would count twice.
    """
    builder = _Builder(configuration)
    for source in sources:
        for patients in source.options.patients or configuration.patients:
            for draw in range(configuration.draws):
                builder.combination(source, patients, draw)
    return Grid(builder.tasks, builder.trials)


class _Builder:
    def __init__(self, configuration: Configuration):
        self.configuration = configuration
        self.tasks: dict[str, Task] = {}
        self.trials: dict[str, dict[str, Any]] = {}
        # Of a generator the most slices that any model takes: smaller amounts are the first of them.
        self.most: dict[str, float] = {}
        for model in configuration.models:
            if model.variant in ("base", "cond"):
                key = _shared_by(model)
                self.most[key] = max(self.most.get(key, 0.0), *model.added_patients)

    def combination(self, source: Source, patients: int, draw: int) -> None:
        """Add what is trained on one draw of the patients of a data set."""
        about = {"dataset": source.options.name, "patients": patients, "draw": draw}
        words = f"{source.options.name}, {patients} patients, draw {draw}"
        store = self._store(source, source.drawn(patients, draw), words)
        for model in self.configuration.models:
            if model.patients is not None and patients not in model.patients:
                continue
            if model.recipe.ratio == "auto":
                _refuse_few(source, model)
            taught, whose = (store, words) if model.generator.patients == "own" else self._others(source, model)
            others = 0 if taught is store else source.count(taught.how["split"], "train")
            slices = self._slices(model, taught, whose)
            seeds = self.configuration.seeds_for(model, patients)
            for augmentation, added, seed in product(model.augmentation, model.added_patients or (0.0,), seeds):
                about_model = {
                    "name": model.name,
                    "variant": model.variant,
                    "added_patients": added,
                    "recipe": model.recipe.model_dump(mode="json"),
                    "augmentation": augmentation,
                    "other_patients": others,
                }
                self._trial(model, store, slices, {"combination": about, "model": about_model, "seed": seed})

    def _add(self, kind: Kind, identity: dict[str, Any], needs: Iterable[Task], words: str, **how: Any) -> Task:
        identity = {"kind": kind, "format": FORMATS[kind], **identity}
        digest = sha256_json(identity)[:16]
        task = Task(kind, digest, identity, how, tuple((task.kind, task.digest) for task in needs), words)
        return self.tasks.setdefault(digest, task)

    def _store(self, source: Source, assigned: dict[str, Split], words: str) -> Task:
        how = {
            "path": str(source.dataset.path.resolve()),
            "split": assigned,
            "patient_pattern": source.options.patient_pattern,
            "options": source.options.model_dump(mode="json"),
        }
        return self._add("store", source.identity(assigned), (), f"slices of {words}", **how)

    def _others(self, source: Source, model: Model) -> tuple[Task, str]:
        """Return the store of the patients that train no U-Net beside which the model is compared, and their name."""
        numbers = source.options.patients or self.configuration.patients
        largest = max(number for number in numbers if model.patients is None or number in model.patients)
        assigned = source.others(largest, self.configuration.draws)
        words = f"{source.options.name}, patients of no draw of {largest}"
        return self._store(source, assigned, words), words

    def _slices(self, model: Model, store: Task, words: str) -> Task | None:
        """Return what a model draws, or None; `store` holds the patients who teach its generator, `words` name them."""
        if model.variant not in ("base", "cond"):
            return None
        drawing = _drawing(model)
        generator = self._add(
            "generator",
            {"store": store.digest, **drawing["generator"], "threads": self.configuration.threads},
            (store,),
            f"generator {model.variant} of {words}",
        )
        most = self.most[_shared_by(model)]
        identity = {
            "generator": generator.digest,
            "masks": model.masks,
            "psi": model.psi,
            "seed": model.draw_seed,
            "patients": most,
        }
        return self._add("slices", identity, (store, generator), f"{most:g} patients drawn by {generator.words}")

    def _trial(self, model: Model, store: Task, slices: Task | None, cell: dict[str, Any]) -> None:
        about, seed = cell["model"], cell["seed"]
        added = about["added_patients"]
        options = self.configuration.segment_options(augmentation=about["augmentation"]).model_dump(mode="json")
        needs = [store] + ([slices] if slices else [])
        if slices is not None and model.recipe.filter < 1 and model.recipe.judge:
            identity = {"store": store.digest, "options": options, "seed": JUDGE_SEED}
            identity["threads"] = self.configuration.threads
            needs.append(self._add("judge", identity, (store,), f"judge on {store.words}"))
        drawn = {name: value for name, value in slices.identity.items() if name != "patients"} if slices else None
        identity = {
            "store": store.digest,
            "slices": drawn,
            "judge": next((task.digest for task in needs if task.kind == "judge"), None),
            "variant": "real" if slices is None and not added else "duplicated" if slices is None else "drawn",
            "added_patients": added,
            "recipe": about["recipe"],
            "options": options,
            "scoring": self.configuration.scoring.model_dump(mode="json"),
            "seed": seed,
            "threads": self.configuration.threads,
        }
        words = trial_words(cell)
        task = self._add("trial", identity, needs, words, path=store.how["path"], cell=cell)
        if self.trials.setdefault(task.digest, cell) is not cell:
            raise UserError(f"{words} and {trial_words(self.trials[task.digest])} are the same trial: take one out")


def trial_words(cell: dict[str, Any]) -> str:
    """Return what a trial is in one line."""
    where, model = cell["combination"], cell["model"]
    added = f" +{model['added_patients']:g}" if model["added_patients"] else ""
    plain = "" if model["augmentation"] else " without augmentation"
    what = f"{where['dataset']}, {where['patients']} patients, draw {where['draw']}"
    return f"{what}: {model['name']}{added}{plain}, seed {cell['seed']}"


def combinations(grid: Grid) -> Iterator[tuple[str, int]]:
    """Yield each data set and number of patients once."""
    seen: dict[tuple[str, int], None] = {}
    for cell in grid.trials.values():
        seen[cell["combination"]["dataset"], cell["combination"]["patients"]] = None
    yield from seen


def models(grid: Grid) -> Iterator[tuple[str, float, bool]]:
    """Yield name, added patients and augmentation of each model once."""
    seen: dict[tuple[str, float, bool], None] = {}
    for cell in grid.trials.values():
        seen[cell["model"]["name"], cell["model"]["added_patients"], cell["model"]["augmentation"]] = None
    yield from seen


def _refuse_few(source: Source, model: Model) -> None:
    """Refuse a search of the ratio without the patients that decide it."""
    patients = source.count(source.split, "val")
    if patients < FEWEST_PATIENTS:
        raise UserError(
            f"model {model.name}: ratio: auto needs {FEWEST_PATIENTS} validation patients or more, and data set "
            f"{source.options.name} has {patients}: give it another split, or the model a ratio"
        )


def _shared_by(model: Model) -> str:
    """Return what models share that draw the same slices beside the same real patients."""
    return sha256_json([model.generator.patients, _drawing(model)])


def _drawing(model: Model) -> dict[str, Any]:
    """Return all that what a model draws follows from, beside the store."""
    return {
        "generator": {
            "variant": model.variant,
            "options": model.generator.options(model.variant).model_dump(mode="json", exclude=NO_RESULT),
            "mask_kimg": model.mask_kimg,
        },
        "masks": model.masks,
        "psi": model.psi,
        "seed": model.draw_seed,
    }
