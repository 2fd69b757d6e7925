"""What a training does when its numbers run away: back to the last good checkpoint, at a lower learning rate."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.training.options import TrainOptions

RECOVERY_FILE = "recovery.json"
# Far beyond what a training that still learns reports: losses of a few, logits of tens.
RUNAWAY_LOSS = 1e4
SLOWER = 0.5


class Diverged(Exception):
    """The numbers of a training ran away; the message says which."""


class Recovery(BaseModel):
    """How often a run went back, kept in its folder so that a resumed run does not begin counting anew.

    Attributes:
        rollbacks: How often so far.
        learning_rate: That of the options when it last happened; another one given by hand starts over.
    """

    model_config = ConfigDict(extra="forbid")

    rollbacks: int = 0
    learning_rate: float

    @classmethod
    def open(cls, folder: Path, options: TrainOptions) -> "Recovery":
        """Read what a run folder says, or begin anew.

        Raises:
            UserError: If its file is damaged.
        """
        path = folder / RECOVERY_FILE
        if path.is_file():
            try:
                recovery = cls.model_validate(read_json(path))
            except ValidationError:
                raise UserError(f"{path} is not what a training writes: remove it to count ways back anew") from None
            if recovery.learning_rate == options.learning_rate:
                return recovery
        return cls(learning_rate=options.learning_rate)

    @property
    def scale(self) -> float:
        """Factor on the learning rate."""
        return SLOWER**self.rollbacks

    def count(self, folder: Path, reason: str, options: TrainOptions) -> None:
        """Count one more way back and write it down.

        Raises:
            UserError: If the run went back as often as its options allow, with a diagnosis.
        """
        if self.rollbacks >= options.rollbacks:
            raise UserError(
                f"training of {folder} diverged again after {self.rollbacks} ways back, the last one at a "
                f"learning rate of {self.learning_rate * self.scale:g}: {reason}; its last checkpoint is good"
            )
        self.rollbacks += 1
        write_json(folder / RECOVERY_FILE, self.model_dump())


def check_report(values: dict[str, float]) -> None:
    """Raise `Diverged` with a diagnosis where reported numbers ran away.

    Args:
        values: Means of what the phases report.
    """
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    wrong += [name for name in ("loss_generator", "loss_discriminator") if abs(values.get(name, 0.0)) > RUNAWAY_LOSS]
    if wrong:
        raise Diverged(_diagnosis(wrong, values))


def check_arrays(arrays: dict[str, Any]) -> None:
    """Raise `Diverged` where weights or other state are not finite: they must never become a checkpoint."""
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise Diverged(f"{wrong[0]} and {len(wrong) - 1} other arrays are not finite")


def _diagnosis(wrong: list[str], values: dict[str, float]) -> str:
    what = f"{', '.join(sorted(set(wrong)))} ran away"
    if any(name.startswith("path") for name in wrong) and "loss_discriminator" not in wrong:
        return f"{what}, the generator's path lengths first: set a lower path_weight, or 0"
    if any(name.startswith(("r1", "r2")) for name in wrong) and "loss_generator" not in wrong:
        return f"{what}, the discriminator's gradients at the data first: try --precision float32 or another r1_gamma"
    if abs(values.get("logit_real", 0.0)) + abs(values.get("logit_fake", 0.0)) > RUNAWAY_LOSS:
        return f"{what}, the discriminator's logits having grown without bound: set a higher r1_gamma"
    return f"{what}: set a lower learning_rate or a higher r1_gamma, and look at the last lines of log.jsonl"
