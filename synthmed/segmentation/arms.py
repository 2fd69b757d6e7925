"""The arms of a fair comparison: what each U-Net is trained on, at equal steps of equally many slices."""

import math
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed.data.schema import CaseRecord
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.train import training_cases

ArmName = Literal["real", "duplicated", "blended", "synthetic", "oracle"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
_DRAW_SEEDS = 1_000_003
"""Between the seeds of two draws of training patients; stores are prepared with small seeds."""


class Arm(BaseModel):
    """What one U-Net is trained on.

    Attributes:
        name: Which arm.
        patients: Real training patients; None for all.
        ratio: Synthetic slices, or copies, for each real slice.
        words: What it is, in a few words.
    """

    model_config = ConfigDict(frozen=True)

    name: ArmName
    patients: int | None
    ratio: float
    words: str


class CopiedSlices(SyntheticSet):
    """Copies of real training slices in the place of a synthetic set: what more of the same does.

    Args:
        store: Where the slices are.
        cases: Training cases to copy from.
        count: How many copies; each slice is copied equally often, up to one.
        seed: Which slices are copied once more than others.
    """

    def __init__(self, store: Store, cases: list[CaseRecord], *, count: int, seed: int):
        numbers = store.training_indices(cases, fully_labelled=True)
        rounds = -(-count // len(numbers))
        random = np.random.default_rng(seed)
        self._store = store
        self._numbers = np.concatenate([random.permutation(numbers) for _ in range(rounds)])[:count]
        owners = [store.case_of(int(number)) for number in self._numbers]
        common = {"model_hash": "copies of real slices", "channels": store.channels, "classes": store.classes}
        super().__init__(
            store.path,
            sidecars=[{**common, "format": "store", "training_patients": [case.hash]} for case in owners],
            cases=[case.case for case in owners],
            planes=[int(number) - case.first for number, case in zip(self._numbers, owners, strict=True)],
        )

    def images(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Return float32 [n, H, W, C] in [-1, 1] of the chosen copies, or of all."""
        return self._store.images(self._numbers if indices is None else self._numbers[indices])

    def labels(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Return uint8 [n, H, W] of class indices of the chosen copies, or of all."""
        return self._store.labels(self._numbers if indices is None else self._numbers[indices])


def drawn_store(store: Store, draw: int) -> Store:
    """Return the store with another order of its training patients, of which the first N are taken; 0 is its own."""
    if draw == 0:
        return store
    return Store(store.path, store.manifest.model_copy(update={"seed": store.manifest.seed + draw * _DRAW_SEEDS}))


def refuse_equal_draws(store: Store, *, draws: int, patients: int | None) -> None:
    """Do nothing where each draw takes other training patients: equal ones are no repetitions to take an interval over.

    Args:
        store: Whose training patients are drawn.
        draws: How many draws.
        patients: Training patients of each; None for all.

    Raises:
        UserError: If two draws take the same patients, or there are fewer patients than asked for.
    """
    seen: dict[frozenset[str], int] = {}
    for draw in range(draws):
        chosen = frozenset(case.patient for case in training_cases(drawn_store(store, draw), patients))
        first = seen.setdefault(chosen, draw)
        if first != draw:
            everybody = len({case.patient for case in store.cases("train")})
            raise UserError(
                f"--draws {draws}: draws {first} and {draw} are the same {len(chosen)} of the {everybody} training "
                f"patients of {store.path} (different choices: {math.comb(everybody, len(chosen))}): give --draws "
                f"{draw} or fewer, or another --train-patients"
            )


def arm_options(arm: Arm, training: SegmentOptions, *, seed: int) -> SegmentOptions:
    """Return the options of one training: those of all arms, and what only arms with synthetic slices have.

    Args:
        arm: Which arm.
        training: Options that all share; its `blending` is for the blended arm.
        seed: Of the training.
    """
    blending = training.blending
    if arm.name in ("real", "oracle"):
        blending = blending.without_synthetic()
    elif arm.name == "duplicated":
        blending = blending.model_copy(update={"keep": 1.0, "judge": ""})
    elif arm.name == "synthetic":
        blending = blending.model_copy(update={"ratio_end": None, "pretrain": 0.0})
    changes = {"seed": seed, "ratio": arm.ratio, "train_patients": arm.patients, "blending": blending}
    return training.model_copy(update=changes)


def plan_arms(
    names: tuple[ArmName, ...], store: Store, *, patients: int | None, ratio: float, more: int | None = None
) -> tuple[list[Arm], list[str]]:
    """Return the arms and what a reader of their comparison should know of them.

    Args:
        names: Which arms; `real` comes first in any case, since all are compared with it.
        store: Whose training patients there are.
        patients: Real training patients of each arm but the oracle's.
        ratio: Synthetic slices for each real slice of the blended arm.
        more: Patients that the oracle has beyond `patients`; by default as many as the blended arm's synthetic slices
            stand for, `ratio` times `patients`, at least one.

    Raises:
        UserError: If the ratio is not above 0 and finite, or there are too few patients.
    """
    if not 0 < ratio < float("inf"):
        raise UserError(f"--ratio {ratio:g}: give the blended arm a ratio above 0, such as 0.5")
    everybody = len({case.patient for case in store.cases("train")})
    count = len({case.patient for case in training_cases(store, patients)})
    wanted = count + (max(1, round(ratio * count)) if more is None else more)
    arms = {
        "real": Arm(name="real", patients=patients, ratio=0.0, words=f"{count} patients"),
        "duplicated": Arm(name="duplicated", patients=patients, ratio=ratio, words="copies for synthetic slices"),
        "blended": Arm(name="blended", patients=patients, ratio=ratio, words=f"{ratio:g} synthetic for each real"),
        "synthetic": Arm(name="synthetic", patients=patients, ratio=float("inf"), words="no real slices"),
        "oracle": Arm(
            name="oracle", patients=min(wanted, everybody), ratio=0.0, words=f"{min(wanted, everybody)} patients"
        ),
    }
    chosen = [arms[name] for name in ARMS if name == "real" or name in names]
    notes = [
        "Every arm takes the same number of gradient steps of the same number of slices with the same classical "
        "augmentation, so that real only with equal steps is the arm `real`."
    ]
    if "oracle" in names and everybody <= count:
        chosen = [arm for arm in chosen if arm.name != "oracle"]
        notes.append("There is no oracle: the store has no training patients beyond these.")
    elif "oracle" in names and everybody < wanted:
        notes.append(
            f"The oracle has {everybody - count} more patients, all that there are, instead of {wanted - count}."
        )
    return chosen, notes
