"""The arms of a comparison, and what their scores say of each other, with intervals over patients."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed import __version__
from synthmed.data.schema import CaseRecord
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.score_table import Interval, Score, average, difference, summarise
from synthmed.segmentation.store_scores import patient_dice
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
        blending = blending.model_copy(update={"keep_fraction": 1.0, "filter_model": ""})
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


FEW_PATIENTS = 8
"""Below this a percentile interval over patients is markedly too narrow."""


class ArmResult(BaseModel):
    """One arm's scores, means over its trainings.

    Attributes:
        name: Which arm.
        words: What it was trained on.
        trainings: How many.
        dice: Mean Dice over classes of the means over patients.
        spread: Standard deviation of that over trainings; None of one.
        classes: Mean Dice of each class.
        hd95: Mean HD95 in mm.
        surface_dice: Mean surface Dice.
        gain: Mean Dice beyond that of `real`; None of `real`.
        share_of_oracle: The gain as a share of the oracle's; None without an oracle, or one that gained nothing.
    """

    model_config = ConfigDict(frozen=True)

    name: ArmName
    words: str
    trainings: int
    dice: float | None
    spread: float | None
    classes: dict[str, float | None]
    hd95: float | None
    surface_dice: float | None
    gain: Interval | None = None
    share_of_oracle: float | None = None


class Comparison(BaseModel):
    """All that a comparison found.

    Attributes:
        version: synthmed's version.
        about: Options, store and data set.
        patients: Patients that were scored.
        arms: In the order of `ARMS`.
        over_duplicated: Gain of the blended arm over the duplicated one.
        notes: What a reader must know.
        verdict: The answer in a sentence.
    """

    model_config = ConfigDict(frozen=True)

    version: str = __version__
    about: dict[str, Any]
    patients: int
    arms: list[ArmResult]
    over_duplicated: Interval | None
    notes: list[str]
    verdict: str

    def markdown(self) -> str:
        """Return a page with the verdict, the table and the notes."""
        return "\n".join(_page(self)) + "\n"


def conclude(
    arms: Sequence[Arm],
    rows: Mapping[ArmName, Sequence[Sequence[Score]]],
    *,
    draws: Sequence[int],
    notes: Iterable[str] = (),
    about: dict[str, Any] | None = None,
) -> Comparison:
    """Return what the scores of all arms say.

    Args:
        arms: The arms; `real` among them.
        rows: Of each arm, the scores of each training; trainings in the same order in all arms.
        draws: Of each training, which draw of patients it is of.
        notes: Added to the result's.
        about: Kept in the result.
    """
    tables: dict[str, np.ndarray] = {}
    for arm in arms:
        tables[arm.name], patients = patient_dice(rows[arm.name])
    gains = {name: difference(table, tables["real"], draws=draws) for name, table in tables.items() if name != "real"}
    oracle = gains.get("oracle")
    results = [_result(arm, rows[arm.name], gains.get(arm.name), oracle) for arm in arms]
    over = None
    if "blended" in tables and "duplicated" in tables:
        over = difference(tables["blended"], tables["duplicated"], draws=draws)
    notes = list(notes)
    if len(draws) == 1:
        notes.append("One training an arm: intervals are over patients alone, another seed may say otherwise.")
    if len(patients) < FEW_PATIENTS:
        notes.append(f"{len(patients)} patients are too few for an interval that holds what it says.")
    return Comparison(
        about=about or {},
        patients=len(patients),
        arms=results,
        over_duplicated=over,
        notes=notes,
        verdict=verdict(gains.get("blended"), over),
    )


def verdict(gain: Interval | None, over_duplicated: Interval | None = None) -> str:
    """Return the answer in a sentence.

    Args:
        gain: Of the blended arm over the real one.
        over_duplicated: Of the blended arm over the duplicated one.
    """
    if gain is None:
        return "no arm blends synthetic slices: nothing to decide"
    figures = f"blended - real: {points(gain)} points of Dice"
    if gain.high < 0:
        return f"{figures}: synthetic slices harm here; do not augment"
    if not gain.low > 0:
        return f"{figures}: no evidence that synthetic slices help here; do not augment"
    if over_duplicated is not None and not over_duplicated.low > 0:
        return f"{figures}: blending helps, but not more than copies of real slices do ({points(over_duplicated)})"
    return f"{figures}: synthetic slices help here"


def points(interval: Interval) -> str:
    """Return a difference of Dice in points (hundredths), with its interval."""
    return f"{100 * interval.value:+.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _result(
    arm: Arm, repetitions: Sequence[Sequence[Score]], gain: Interval | None, oracle: Interval | None
) -> ArmResult:
    means = [summarise(list(rows)) for rows in repetitions]
    overall = [mean.overall.dice for mean in means if mean.overall.dice is not None]
    names = [mean.name for mean in means[0].classes]
    return ArmResult(
        name=arm.name,
        words=arm.words,
        trainings=len(repetitions),
        dice=average(mean.overall.dice for mean in means),
        spread=float(np.std(overall, ddof=1)) if len(overall) > 1 else None,
        classes={
            name: average(mean.dice for table in means for mean in table.classes if mean.name == name) for name in names
        },
        hd95=average(mean.overall.hd95 for mean in means),
        surface_dice=average(mean.overall.surface_dice for mean in means),
        gain=gain,
        share_of_oracle=gain.value / oracle.value if gain and oracle and oracle.value > 0 else None,
    )


def _page(comparison: Comparison) -> Iterable[str]:
    about = comparison.about
    yield f"# {about.get('dataset', 'Comparison of arms')}"
    yield ""
    yield f"**{comparison.verdict}**"
    yield ""
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|---|---|" + "---:|" * (len(HEADINGS) - 2)
    for result in comparison.arms:
        yield "| " + " | ".join(cells(result)) + " |"
    yield ""
    yield (
        f"Scored on {comparison.patients} {about.get('split', '')} patients; {about.get('draws', '?')} draws of "
        f"training patients, {about.get('seeds', '?')} seeds each; {about.get('steps', '?')} steps "
        f"of {about.get('batch', '?')} slices. Gains are in points of Dice (hundredths) with 95 % bootstrap intervals "
        "over patients and trainings."
    )
    if comparison.over_duplicated:
        yield f"Blended - duplicated: {points(comparison.over_duplicated)}."
    yield ""
    yield from (f"- {note}" for note in comparison.notes)


HEADINGS = ("arm", "trained on", "Dice", "spread", "HD95 (mm)", "surface Dice", "gain", "of the oracle's gain")


def cells(result: ArmResult) -> list[str]:
    """Return a row of the table, under `HEADINGS`."""

    def number(text: str, value: float | None) -> str:
        return "-" if value is None else text.format(value)

    return [
        result.name,
        result.words,
        number("{:.4f}", result.dice),
        number("{:.4f}", result.spread),
        number("{:.2f}", result.hd95),
        number("{:.4f}", result.surface_dice),
        points(result.gain) if result.gain else "-",
        number("{:.0%}", result.share_of_oracle),
    ]
