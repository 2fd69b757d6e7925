"""How many synthetic slices, if any: short trainings at several ratios, scored on validation patients.

The rule, so that the answer costs nothing where synthetic slices are worth nothing:

1. Every ratio is trained with the same seed and scored on whole validation patients. The best one stays in the race if
   its gain over ratio 0 exceeds the gain's bootstrap standard error over these patients.
2. The best of several looks better than it is, and a single training is a matter of luck. So it is trained once more,
   and ratio 0 too, with the next seed: its gain must exceed its standard error in this round by itself.

In any other case the answer is 0. What that does, simulated with 4 to 40 validation patients, four ratios, 2 points of
Dice of noise a patient and 0.4 points of luck a training: where every ratio costs half a point, one is taken in 2 to
4 % of the searches; where none differs from 0, in 9 to 14 %, which costs nothing; a gain of 1 point is found in half to
three quarters of them from 10 patients on, and one of 2 points in more than four of five.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError, present
from synthmed.files import read_json, sha256_json, write_json
from synthmed.progress import Progress, silent, stage
from synthmed.segmentation.blend import GeneratedSlices
from synthmed.segmentation.filter import filter_model_hash
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.score_table import Interval, difference, mean_dice
from synthmed.segmentation.store_scores import StoreScoring, kept_scores, patient_dice
from synthmed.segmentation.train import synthetic_record, train

RATIOS = (0.0, 0.25, 0.5, 1.0, 2.0)
SEARCH_TRAININGS = (len(RATIOS) + 2) / 2
"""What a search takes at most, in trainings of full length: half as long ones at each ratio, and of two once more."""
RECORD = "ratio.json"
FEWEST_PATIENTS = 2


class SearchStopped(UserError):
    """The process was asked to stop in the search; what is done so far is kept."""


class Trial(BaseModel):
    """One short training.

    Attributes:
        round: 1 of the search, 2 of the confirmation.
        ratio: Synthetic slices for each real one.
        seed: Of the training.
        dice: Mean Dice of the validation patients.
        gain: Beyond ratio 0 of the same round; None of that itself.
    """

    model_config = ConfigDict(frozen=True)

    round: Literal[1, 2]
    ratio: float
    seed: int
    dice: float
    gain: Interval | None = None


class RatioChoice(BaseModel):
    """The answer and its evidence.

    Attributes:
        ratio: The ratio to train with.
        sentence: Why.
        steps: Gradient steps of each short training.
        patients: Validation patients.
        trials: All short trainings.
        asked: SHA-256 of what the answer follows from.
    """

    model_config = ConfigDict(frozen=True)

    ratio: float
    sentence: str
    steps: int
    patients: int
    trials: list[Trial]
    asked: str

    def lines(self) -> list[str]:
        """Return what a user should read: a line a trial, then why."""
        found = []
        for trial in self.trials:
            gain = f", {_points(trial.gain, of='')}" if trial.gain else ""
            found.append(f"ratio {trial.ratio:g}, seed {trial.seed}: validation Dice {trial.dice:.4f}{gain}")
        return [*found, self.sentence]


def choose_ratio(
    store: Store,
    folder: Path | str,
    options: SegmentOptions,
    synthetic: SyntheticSet | GeneratedSlices,
    *,
    steps: int | None = None,
    ratios: Sequence[float] = RATIOS,
    progress: Progress | None = None,
) -> RatioChoice:
    """Search the ratio on the store's validation patients; nothing of its test patients is looked at.

    Args:
        store: Real slices.
        folder: For the short trainings and the answer, `ratio.json`. What is in it already is not done again.
        options: Of the training that the ratio is for; those of the short ones but for ratio, steps and seed.
        synthetic: Slices to blend in.
        steps: Gradient steps of each short training; by default half of the options' steps.
        ratios: What is tried; 0 always is.
        progress: Told after each step.

    Raises:
        UserError: If the store has fewer than two validation patients, or the set does not fit.
        SearchStopped: If the process was asked to stop.
    """
    patients = validation_patients(store)
    if patients < FEWEST_PATIENTS:
        raise UserError(
            f"{store.path} has {patients} validation patients, and --ratio auto needs at least {FEWEST_PATIENTS}: "
            "give prepare another --split, or choose a --ratio"
        )
    steps = steps or max(1, options.steps // 2)
    search = _Search(store, Path(folder), options, synthetic, steps, progress or silent)
    wanted = sorted({0.0, *ratios})
    identity = synthetic_record(synthetic).hash
    # The filter model's folder may be spelt in many ways; its weights are what counts.
    given = options.model_dump(mode="json", exclude={"blending": {"filter_model"}})
    asked = sha256_json([store.content_hash, given, filter_model_hash(options.blending), identity, wanted, steps])
    path = Path(folder) / RECORD
    if path.is_file() and (kept := RatioChoice.model_validate(read_json(path))).asked == asked:
        return kept
    # Two more trainings follow if a ratio is to be confirmed.
    search.planned = len(wanted) + 2
    trials = search.round(1, wanted, options.seed)
    best = max((trial for trial in trials if trial.gain), key=_gain, default=None)
    confirmed: Trial | None = None
    if best is not None and _convinces(best):
        trials += search.round(2, [0.0, best.ratio], options.seed + 1)
        confirmed = trials[-1]
    choice = RatioChoice(
        ratio=best.ratio if best and confirmed and _convinces(confirmed) else 0.0,
        sentence=_sentence(best, confirmed, patients),
        steps=steps,
        patients=patients,
        trials=trials,
        asked=asked,
    )
    write_json(path, choice.model_dump(mode="json"))
    return choice


def with_ratio(options: SegmentOptions, ratio: float) -> SegmentOptions:
    """Return the options at a ratio; at 0 without anything that would still use synthetic slices."""
    blending = options.blending if ratio else options.blending.without_synthetic()
    return options.model_copy(update={"ratio": ratio, "blending": blending})


def validation_patients(store: Store) -> int:
    """Return how many patients a ratio is chosen by; fewer than `FEWEST_PATIENTS` cannot."""
    return len({case.patient for case in store.cases("val")})


def was_searched(run: Path, search: Path) -> bool:
    """Tell whether the ratio of a run that exists was found by a search."""
    return any((folder / RECORD).is_file() for folder in (run, search))


def search_folder(run: Path) -> Path:
    """Return where the short trainings for a run are kept: beside its folder, which holds one training alone."""
    return run.with_name(f"{run.name}-ratio")


def keep_choice(run: Path, search: Path) -> None:
    """Copy the answer of a run's search into its folder, unless it is there already."""
    source, target = search / RECORD, run / RECORD
    if source.is_file() and not target.is_file():
        write_json(target, read_json(source))


class _Search:
    """Short trainings and their scores."""

    planned = 0

    def __init__(
        self,
        store: Store,
        folder: Path,
        options: SegmentOptions,
        synthetic: SyntheticSet | GeneratedSlices,
        steps: int,
        report: Progress,
    ):
        self.store, self.folder, self.options, self.synthetic = store, folder, options, synthetic
        self.steps, self.report = steps, report
        self.done = 0

    def round(self, number: Literal[1, 2], ratios: Sequence[float], seed: int) -> list[Trial]:
        """Return the trials of a round, ratio 0 first."""
        tables = [self._dice(ratio, seed % 2**31) for ratio in ratios]
        one = np.ones((1, 1))
        return [
            Trial(
                round=number,
                ratio=ratio,
                seed=seed % 2**31,
                dice=float(mean_dice(table, one, np.ones((1, table.shape[1])))[0]),
                gain=difference(table, tables[0], draws=[0]) if ratio else None,
            )
            for ratio, table in zip(ratios, tables, strict=True)
        ]

    def _dice(self, ratio: float, seed: int) -> np.ndarray:
        """Return Dice `[1, patients, classes]` of one short training."""
        name = f"ratio-{ratio:g}-seed-{seed}"
        options = with_ratio(self.options, ratio).model_copy(
            update={
                "seed": seed,
                "steps": self.steps,
                # The patients that choose the ratio must not choose the weights as well.
                "validate_every": self.steps,
                "keep": "last",
                "patience": None,
            }
        )

        before, left = self.done * self.steps, (self.planned - self.done - 1) * self.steps
        run = train(
            self.store,
            self.folder / name,
            options,
            synthetic=self.synthetic if ratio else None,
            resume=True,
            progress=stage(self.report, before, self.steps, left, name),
        )
        if not run.finished:
            raise SearchStopped(f"stopped in the search of a ratio; {self.folder} is saved: go on with --resume")
        self.done += 1
        # Dice alone decides: no distances.
        return patient_dice([kept_scores(run, self.store, StoreScoring("val", tolerance=None))])[0]


_MEASURED = "each trial above 0 is compared with the real baseline"


def _gain(trial: Trial) -> float:
    value = present(trial.gain, _MEASURED).value
    return value if not np.isnan(value) else -np.inf


def _convinces(trial: Trial) -> bool:
    gain = present(trial.gain, _MEASURED)
    return gain.value > gain.error


def _sentence(best: Trial | None, confirmed: Trial | None, patients: int) -> str:
    over = f"over {patients} validation patients"
    if best is None or best.gain is None:
        return "no ratio above 0 was tried"
    if confirmed is None or confirmed.gain is None:
        return (
            f"ratio 0: the best gain, {_points(best.gain)} at ratio {best.ratio:g}, is not above its standard error "
            f"{over}; do not augment"
        )
    if not _convinces(confirmed):
        return (
            f"ratio 0: ratio {best.ratio:g} gained {_points(best.gain)}, but {_points(confirmed.gain)} with another "
            f"seed, {over}; do not augment"
        )
    return (
        f"ratio {best.ratio:g}: it gained {_points(best.gain)} and, with another seed, {_points(confirmed.gain)} {over}"
    )


def _points(gain: Interval, *, of: str = " of Dice") -> str:
    return f"{100 * gain.value:+.1f} +/- {100 * gain.error:.1f} points{of}"
