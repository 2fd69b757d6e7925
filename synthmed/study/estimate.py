"""How long a study would take and how much room, before it is begun."""

from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.data.geometry import VIEWS, turn_shape
from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.plan import PlanOptions, explain_plan
from synthmed.segmentation.auto_ratio import SEARCH_TRAININGS
from synthmed.study.config import Configuration
from synthmed.study.grid import Grid, Task
from synthmed.study.sources import Source

LOOKED_AT = 3
"""Cases of a data set that are read; all of them may take long."""
START_SECONDS = 15.0
"""Of each task: imports, and TensorFlow tracing its functions."""
BACKWARD = 3.0
"""A training step of a U-Net in forward passes of its slices."""


@dataclass(frozen=True)
class Shape:
    """What the estimate knows of a data set: it stands in for a store of it.

    Attributes:
        size: Rows and columns of a slice.
        channels: Names.
        classes: Names, background first.
        a_case: Slices of a case.
        cases: Of each part, without training patients being drawn.
        training: Training cases of the draw that is estimated.
    """

    size: tuple[int, int]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    a_case: float
    cases: Counter
    training: int = 0

    def indices(self, split: str) -> range:
        """Return as many numbers as there are slices."""
        return range(round(self.a_case * (self.training if split == "train" else self.cases[split])))

    @property
    def slice_bytes(self) -> int:
        """Bytes of a slice and its label map."""
        return prod(self.size) * (4 * len(self.channels) + 1)


@dataclass(frozen=True)
class Estimate:
    """What is to be done, and what it takes.

    Attributes:
        tasks: How many tasks of each kind are missing.
        hours: Of all of them one after the other, by kind; right within a factor of two or three.
        gib: Of disk that they fill.
    """

    tasks: dict[str, int]
    hours: dict[str, float]
    gib: float


def estimate_study(configuration: Configuration, sources: list[Source], grid: Grid, tasks: list[Task]) -> Estimate:
    """Return what some tasks of a study take.

    The speed of a generator's training is the training engine's own estimate, measured now on this machine; that of a
    U-Net follows from its multiplications at the same rate.

    Args:
        configuration: Of the study.
        sources: Its opened data sets.
        grid: All its tasks.
        tasks: Those that are missing.
    """
    shapes = {str(source.dataset.path.resolve()): shape_of(source) for source in sources}
    costs = _Costs(configuration)
    hours: dict[str, float] = {}
    size = 0.0
    for task in tasks:
        store = grid.tasks[task.of("store") or task.digest]
        split = Counter(store.how["split"].values())
        shape = replace(shapes[store.how["path"]], training=split["train"], cases=split)
        seconds, content = costs.of(task, grid, shape)
        hours[task.kind] = hours.get(task.kind, 0.0) + (START_SECONDS + seconds) / 3600
        size += content
    rounded = {kind: round(value, 2) for kind, value in hours.items()}
    return Estimate(dict(Counter(task.kind for task in tasks)), rounded, round(size / 2**30, 2))


def shape_of(source: Source) -> Shape:
    """Return what the first cases of a data set look like as slices."""
    one = source.options
    first = replace(source.dataset, cases=source.dataset.cases[:LOOKED_AT], orphans=[])
    found = fingerprint(first)
    refuse_problems(found, source.dataset.path)
    options = PlanOptions(axis=one.axis, size=one.size, spacing=one.spacing, slices=one.slices)
    plan = explain_plan(found, split={case.case: "train" for case in found.cases}, options=options).plan
    depths = [
        turn_shape(case.geometry.shape, source=case.orientation, target=VIEWS[plan.axis])[2] for case in found.cases
    ]
    return Shape(plan.size, found.channels, found.classes, float(np.mean(depths)), Counter(source.split.values()))


class _Costs:
    def __init__(self, configuration: Configuration):
        self.configuration = configuration
        self._known: dict[Any, Any] = {}

    def of(self, task: Task, grid: Grid, shape: Shape) -> tuple[float, float]:
        """Return seconds and bytes of a task."""
        slices = shape.slice_bytes
        if task.kind == "store":
            content = sum(shape.cases.values()) * shape.a_case * slices
            return content / 20e6, content
        if task.kind == "generator":
            return self._generator(task, shape)
        generator = task.identity["generator"] if task.kind == "slices" else None
        if generator is not None:
            options = grid.tasks[generator].identity["options"]
            count = task.identity["patients"] * shape.a_case * shape.training / max(self._patients(task, grid), 1)
            return count / (3 * self._engine(options, shape)["images_a_second"]), count * slices
        return self._unet(task, shape)

    def _patients(self, task: Task, grid: Grid) -> int:
        store = grid.tasks[task.of("store") or task.digest]
        cases = store.identity["cases"].values()
        return len({patient for patient, part, _ in cases if part == "train"})

    def _engine(self, options: dict[str, Any], shape: Shape) -> dict[str, Any]:
        """Return the training engine's estimate for a generator."""
        key = (repr(options), shape.size, len(shape.channels), len(shape.classes))
        if key not in self._known:
            from synthmed.training.options import check_options, resolve
            from synthmed.training.plan import TrainingPlan, estimate

            given = {name: value for name, value in options.items() if value is not None}
            resolved = resolve(check_options(given), size=shape.size)
            stand_in: Any = shape
            self._known[key] = estimate(TrainingPlan(Path("estimate"), resolved, stand_in))
        found: dict[str, Any] = self._known[key]
        return found

    def _generator(self, task: Task, shape: Shape) -> tuple[float, float]:
        options = task.identity["options"]
        kimg = [(options, options["kimg"])]
        if task.identity["mask_kimg"]:
            kimg.append(({**options, "variant": "mask"}, task.identity["mask_kimg"]))
        seconds, content = 0.0, 0.0
        for given, thousands in kimg:
            found = self._engine(given, shape)
            seconds += thousands * 1000 / max(found["images_a_second"], 0.01)
            weights = 4 * (4 * found["generator_parameters"] + 3 * found["discriminator_parameters"])
            content += weights * (given["keep_checkpoints"] + 0.3)
        return seconds, content

    def _unet(self, task: Task, shape: Shape) -> tuple[float, float]:
        options = task.identity["options"]
        flops, weights = self._unet_size(options, shape)
        engine = self._engine({"variant": "base", "kimg": 1.0, "batch": 8}, shape)
        rate = engine["gflop_a_step"] * 1e9 * engine["images_a_second"] / 8
        scored = len(shape.indices(self.configuration.scoring.split)) if task.kind == "trial" else 0
        searched = SEARCH_TRAININGS if task.identity.get("recipe", {}).get("ratio") == "auto" else 0
        passes = BACKWARD * (1 + searched) * options["steps"] * options["batch"] + scored
        # What prediction uses; checkpoints go when the training is finished.
        return flops * passes / rate, 4.0 * weights

    def _unet_size(self, options: dict[str, Any], shape: Shape) -> tuple[float, int]:
        """Return operations of a slice's way through the U-Net, and its weights."""
        inputs = len(shape.channels) * (2 * options["context"] + 1)
        slices = len(shape.indices("train"))
        key = ("unet", options["width"], options["levels"], inputs, len(shape.classes), shape.size, slices)
        if key not in self._known:
            from synthmed.models.unet import UNet, levels_for, width_for

            levels = options["levels"] or levels_for(shape.size)
            width = options["width"] or width_for(shape.size, slices)
            network = UNet(len(shape.classes), width=width, levels=levels)
            network.build((None, *shape.size, inputs))
            parts = [(block, level) for level, block in enumerate(network.encoder)]
            parts += [(block, level) for level, block in enumerate(network.decoder)]
            parts += [(block, level + 1) for level, block in enumerate(network.narrow)]
            kernels = [
                (prod(weight.shape), level) for block, level in parts for weight in block.weights if weight.ndim == 4
            ]
            flops = sum(2 * count * prod(shape.size) / 4**level for count, level in kernels)
            self._known[key] = flops, network.count_params()
        found: tuple[float, int] = self._known[key]
        return found
