"""Which weights of a run are kept for drawing: those nearest to held-out patients, not simply the last."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.evaluation.distances import joint_channels, slice_distance
from synthmed.training.batches import GeneratorBatches
from synthmed.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    checkpoint_paths,
    remove_checkpoint,
    remove_leftovers,
    save_checkpoint,
    step_of,
)
from synthmed.training.run import Run

DRAWN_AT_ONCE = 32
# Items of the distance have seeds of their own, so that no set that is generated later was the one chosen by.
FIRST_SEED = 2**40


class BestCheckpoint:
    """Measures the averaged generator against validation patients and keeps the best one of a run.

    Args:
        run: The run.
        store: Its store; without validation patients nothing is measured and the last checkpoint counts.
        batches: Know the conditioning of slices.
        draw: The engine's `draw`.
    """

    def __init__(self, run: Run, store: Store, batches: GeneratorBatches, draw: Callable[..., dict[str, np.ndarray]]):
        self.run = run
        self.store = store
        self.batches = batches
        self.draw = draw
        held_out = store.indices("val")
        # A slice that nobody has labelled to the end is no example of what a generator should draw.
        held_out = held_out[~store.slice_ignored[held_out]]
        count = min(run.options.distance_slices, len(held_out))
        self.indices = held_out[np.linspace(0, len(held_out) - 1, count).astype(int)] if count else held_out
        remove_leftovers(run.best_folder)

    def measure(self) -> dict[str, float]:
        """Return the distance of as many generated slices, by the names of the log; nothing without patients for it."""
        if not len(self.indices):
            return {}
        store, classes = self.store, len(self.store.classes)
        images, labels = self._drawn()
        real = None if images is None else store.images(self.indices)
        reference = joint_channels(real, store.labels(self.indices), classes)
        distances = slice_distance(reference, joint_channels(images, labels, classes))
        return {"distance" if name == "mean" else f"distance_{name}": value for name, value in distances.items()}

    def keep_if_best(self, distance: float, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> bool:
        """Keep the averaged generator where no earlier one was as near; return whether it was kept.

        Args:
            distance: Of this generator.
            arrays: The engine's state.
            state: What the checkpoint of this step says of itself.
        """
        best = self.run.best()
        nearer = best is None or distance < best.state["distance"]
        if nearer:
            self._save(distance, arrays, state)
            best = self.run.best()
        for path in checkpoint_paths(self.run.best_folder):
            if best is not None and path != best.path:
                remove_checkpoint(path)
        return nearer

    def repair(self, lines: Mapping[int, dict[str, Any]]) -> list[str]:
        """Make damaged best weights anew from the checkpoint of their step, or remove them where there is none.

        Args:
            lines: The lines of the run's log by step, which know the distances.

        Returns:
            A line for each, for the user.
        """
        said = []
        for path in checkpoint_paths(self.run.best_folder):
            try:
                Checkpoint.open(path).arrays()
                continue
            except UserError as error:
                damage = str(error)
            step = step_of(path)
            try:
                source = Checkpoint.open(checkpoint_path(self.run.checkpoint_folder, step))
                self._save(lines[step]["distance"], source.arrays(), source.state)
                said.append(f"{damage}: made anew from {source.path}")
            except (UserError, KeyError):
                remove_checkpoint(path)
                said.append(
                    f"{damage} and removed: no checkpoint has step {step} any more; the nearest of the rest counts"
                )
        return said

    def _save(self, distance: float, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        average = {name: value for name, value in arrays.items() if name.startswith("average/")}
        state = {name: state[name] for name in ("step", "seconds", "kimg")} | {"distance": distance}
        save_checkpoint(self.run.best_folder, average, state, keep=len(checkpoint_paths(self.run.best_folder)) + 1)

    def _drawn(self) -> tuple[np.ndarray | None, np.ndarray]:
        parts = []
        for start in range(0, len(self.indices), DRAWN_AT_ONCE):
            # The last batch is padded: one size is compiled once.
            places = np.minimum(np.arange(start, start + DRAWN_AT_ONCE), len(self.indices) - 1)
            conditioning = self.batches.conditioning(self.indices[places])
            drawn = {"mask": conditioning["label"]} | self.draw(FIRST_SEED + places, conditioning)
            parts.append({name: value[: len(self.indices) - start] for name, value in drawn.items()})
        images = np.concatenate([part["image"] for part in parts]) if "image" in parts[0] else None
        return images, np.concatenate([part["mask"] for part in parts])
