"""Choosing the synthetic slices that are blended in: each scored by what the training patients' slices say of it."""

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from synthmed.data.schema import IGNORE, CaseRecord
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError, check_leak
from synthmed.evaluation.distances import coarse_vectors, nearest_distances
from synthmed.evaluation.selection import MaskRanges
from synthmed.files import atomic_file, sha256_file, sha256_json
from synthmed.segmentation.metrics import dice
from synthmed.segmentation.run import ChoiceRecord, SegmentationRun
from synthmed.segmentation.schedule import Blending

if TYPE_CHECKING:
    from synthmed.segmentation.run import SegmentationRun

QUANTILE = 0.01
"""Share of held-out training slices at either end of their distances beyond which a sample is a copy or an outlier."""
MOST_REFERENCES = 4000
"""Training slices that distances are measured to at most; of more, every second or third is taken, and so on."""
_BLOCK = 256
_TRAINING_ALONE = "a filter may look at training cases alone"


class TrainingSlices:
    """The slices of some training cases and no others: a fit that looks elsewhere fails.

    Args:
        store: Where they are.
        cases: Training cases of the store.
    """

    def __init__(self, store: Store, cases: list[CaseRecord]):
        check_leak(all(case.split == "train" for case in cases), _TRAINING_ALONE)
        self._store = store
        self.hashes = {case.hash for case in cases}
        self.numbers = np.unique(store.training_indices(cases))
        patients = {patient: number for number, patient in enumerate(sorted({case.patient for case in cases}))}
        self.patient = np.array([patients[store.case_of(int(number)).patient] for number in self.numbers])

    def images(self, numbers: np.ndarray) -> np.ndarray:
        """Return slices as float32 `[n, H, W, C]` in [-1, 1]."""
        return self._store.images(self._checked(numbers))

    def labels(self, numbers: np.ndarray) -> np.ndarray:
        """Return class indices as uint8 `[n, H, W]`."""
        return self._store.labels(self._checked(numbers))

    def _checked(self, numbers: np.ndarray) -> np.ndarray:
        check_leak(bool(np.isin(numbers, self.numbers).all()), _TRAINING_ALONE)
        return numbers


@dataclass(frozen=True)
class SampleTable:
    """What was found out about `n` samples.

    Attributes:
        names: Case and slice of each.
        shown: Which foreground classes each label map shows, bool `[n, classes - 1]`.
        agreement: Mean Dice between a segmenter's answer and the label map, `[n]` in 0..1; None without a segmenter.
        oddity: What is unlike the training slices' label maps, in words; "" where nothing is.
        distance: Root-mean-square distance to the nearest training slice on a coarse grid, `[n]`.
        usual: The same of training slices to those of other patients: lower limit, median, upper limit.
    """

    names: list[str]
    shown: np.ndarray
    agreement: np.ndarray | None
    oddity: list[str]
    distance: np.ndarray
    usual: tuple[float, float, float]


@dataclass(frozen=True)
class Choice:
    """Which samples are kept.

    Attributes:
        indices: Their numbers, ascending, int64.
        reasons: Why each sample was dropped; "" for a kept one.
    """

    indices: np.ndarray
    reasons: list[str]

    def summary(self) -> dict[str, int]:
        """Return how many samples were dropped for each kind of reason."""
        return dict(Counter(reason.split(":")[0] for reason in self.reasons if reason))


def score_samples(
    synthetic: SyntheticSet, store: Store, cases: list[CaseRecord], segmenter: "SegmentationRun | None" = None
) -> SampleTable:
    """Return what speaks for and against each sample of a set that fits the store.

    Args:
        synthetic: The set.
        store: Real slices.
        cases: Training cases, the only ones that are looked at.
        segmenter: A U-Net trained on real slices of these cases or of some of them.

    Raises:
        UserError: If the segmenter saw other patients or synthetic slices, or does not fit.
    """
    training = TrainingSlices(store, cases)
    if segmenter is not None:
        check_segmenter(segmenter, store, training.hashes)
    ranges = MaskRanges(training.labels(training.numbers), classes=len(store.classes))
    blocks = [np.arange(first, min(first + _BLOCK, len(synthetic))) for first in range(0, len(synthetic), _BLOCK)]
    labels = np.concatenate([synthetic.labels(block) for block in blocks])
    reference = training.numbers[:: math.ceil(len(training.numbers) / MOST_REFERENCES)]
    real = coarse_vectors(training.images(reference))
    drawn = np.concatenate([coarse_vectors(synthetic.images(block)) for block in blocks])
    return SampleTable(
        names=[f"{case}/{plane}" for case, plane in zip(synthetic.cases, synthetic.planes, strict=True)],
        shown=np.stack([(labels == index).any(axis=(1, 2)) for index in range(1, len(store.classes))], axis=1),
        agreement=None if segmenter is None else _agreement(synthetic, labels, blocks, segmenter),
        oddity=[ranges.outlier(label, store.classes) for label in labels],
        distance=nearest_distances(drawn, real),
        usual=_usual_distances(real, training.patient[np.searchsorted(training.numbers, reference)]),
    )


def choose(table: SampleTable, *, keep: float) -> Choice:
    """Return the samples to blend in, at most a share of them.

    Implausible label maps, copies and outliers go first. Of the rest those stay that a segmenter agrees with most
    or, without one, whose distance to the training slices is most usual; the share is taken from the slices of each
    combination of classes by itself, since agreement alone would prefer the easy ones.

    Args:
        table: Of `score_samples`.
        keep: Share to keep, above 0 to 1.

    Raises:
        UserError: If none is left.
    """
    low, median, high = table.usual
    reasons = list(table.oddity)
    for number, distance in enumerate(table.distance):
        if not reasons[number] and distance < low:
            reasons[number] = f"copy: nearest training slice at {distance:.4f}, other patients' from {low:.4f}"
        elif not reasons[number] and distance > high:
            reasons[number] = f"outlier: nearest training slice at {distance:.4f}, other patients' to {high:.4f}"
    usual = -np.abs(np.log((table.distance + 1e-6) / (median + 1e-6)))
    score = usual if table.agreement is None else table.agreement
    for number in _beyond_share(table, score, reasons, keep):
        reasons[number] = f"rank: {'distance' if table.agreement is None else 'agreement'} beyond the share to keep"
    indices = np.array([number for number, reason in enumerate(reasons) if not reason], np.int64)
    choice = Choice(indices, reasons)
    if not len(indices):
        found = ", ".join(f"{kind} {count}" for kind, count in choice.summary().items())
        raise UserError(f"--filter leaves none of the {len(reasons)} slices ({found}): train their generator longer")
    return choice


def _beyond_share(table: SampleTable, score: np.ndarray, reasons: list[str], keep: float) -> list[int]:
    groups: dict[bytes, list[int]] = {}
    for number, shown in enumerate(table.shown):
        groups.setdefault(shown.tobytes(), []).append(number)
    beyond: list[int] = []
    kept: list[int] = []
    for group in groups.values():
        ranked = sorted((number for number in group if not reasons[number]), key=lambda number: -score[number])
        quota = math.ceil(keep * len(group))
        kept += ranked[:quota]
        beyond += ranked[quota:]
    # Rounding up adds one for each group.
    kept.sort(key=lambda number: -score[number])
    return beyond + kept[math.ceil(keep * len(reasons)) :]


def _usual_distances(vectors: np.ndarray, patient: np.ndarray) -> tuple[float, float, float]:
    """Return limits and median of the distances of slices to those of other patients; no limits for one patient."""
    patients = np.unique(patient)
    if len(patients) < 2:
        return 0.0, 0.0, math.inf
    distances = np.concatenate(
        [nearest_distances(vectors[patient == own], vectors[patient != own]) for own in patients]
    )
    low, median, high = np.quantile(distances, [QUANTILE, 0.5, 1 - QUANTILE])
    return float(low), float(median), float(high)


def _agreement(
    synthetic: SyntheticSet, labels: np.ndarray, blocks: list[np.ndarray], segmenter: "SegmentationRun"
) -> np.ndarray:
    from synthmed.segmentation.predict import SlicePredictor

    # Not the weights of the best validation: validation patients would choose samples through them.
    predictor = SlicePredictor(segmenter.load("last"))
    values = []
    for block in blocks:
        predicted = predictor(synthetic.images(block)).argmax(-1)
        values += [_mean_dice(one, label) for one, label in zip(predicted, labels[block], strict=True)]
    return np.array(values)


def _mean_dice(predicted: np.ndarray, label: np.ndarray) -> float:
    """Return the mean Dice of the classes shown; of an empty map 1 where nothing was found, else 0."""
    shown = [index for index in np.unique(label) if 0 < index < IGNORE]
    if not shown:
        return float(not (predicted > 0).any())
    return float(np.mean([dice(predicted == index, label == index) for index in shown]))


def check_segmenter(run: "SegmentationRun", store: Store, hashes: set[str], *, flag: str = "--filter-with") -> None:
    """Do nothing where a segmenter may assess samples.

    Args:
        run: Its training.
        store: Real slices.
        hashes: Content hashes of the patients that it may have seen.
        flag: Option that named it.

    Raises:
        UserError: If it saw other patients or synthetic slices, or does not fit.
    """
    record = run.record
    mend = "train one with `synthmed segment train` on the same --data and --train-patients, without --synthetic"
    if record.synthetic is not None:
        raise UserError(f"{flag} {run.path} was trained on synthetic slices: {mend}")
    if record.options.context:
        raise UserError(f"{flag} {run.path} needs neighbouring slices, which samples lack: train it without")
    others = set(record.training_patients) - hashes
    if others:
        raise UserError(f"{flag} {run.path} saw {len(others)} patients that are not trained on here: {mend}")
    for what, own, wanted in (
        ("channels", record.channels, store.channels),
        ("classes", record.classes, store.classes),
        ("size", record.plan.size, store.size),
    ):
        if tuple(own) != tuple(wanted):
            raise UserError(f"{flag} {run.path} has other {what} than {store.path}: {mend}")


CHOICE = "chosen.csv"

_Decided = tuple[np.ndarray, ChoiceRecord, list[list[str]]]
_decided: WeakKeyDictionary[SyntheticSet, dict[Any, _Decided]] = WeakKeyDictionary()
"""What was decided about sets that are still open: every seed and arm of a comparison asks for the same again."""


def choose_slices(
    synthetic: SyntheticSet, store: Store, cases: list[CaseRecord], blending: Blending
) -> tuple[SyntheticSet, ChoiceRecord, list[list[str]]]:
    """Return the slices of a set that `blending` keeps, what a run records of the choice, and a row for each sample.

    The same question about the same set is answered once in a process.

    Args:
        synthetic: A set that fits the store.
        store: Real slices.
        cases: Training cases, the only ones that are looked at.
        blending: Its `keep_fraction` and `filter_model` say how.

    Raises:
        UserError: If the segmenter cannot be used, or nothing is left.
    """
    model = SegmentationRun.open(blending.filter_model) if blending.filter_model else None
    # Of an unfinished filter model there is no hash, and no answer either: asking for one says why.
    filtered_by = filter_model_hash(blending)
    known = _decided.setdefault(synthetic, {})
    question = (
        store.content_hash,
        tuple(case.case for case in cases),
        blending.keep_fraction,
        blending.filter_model,
        filtered_by,
    )
    if question not in known:
        known[question] = _decide(synthetic, store, cases, model, keep=blending.keep_fraction, filtered_by=filtered_by)
    indices, record, rows = known[question]
    return synthetic.subset(indices), record, rows


def filter_model_hash(blending: Blending) -> str | None:
    """Return the hash over the weights of the filter model; None without one, or before it is trained."""
    weights = SegmentationRun.open(blending.filter_model).weights("last") if blending.filter_model else None
    return sha256_file(weights) if weights and weights.is_file() else None


def _decide(
    synthetic: SyntheticSet,
    store: Store,
    cases: list[CaseRecord],
    model: SegmentationRun | None,
    *,
    keep: float,
    filtered_by: str | None,
) -> _Decided:
    table = score_samples(synthetic, store, cases, model)
    choice = choose(table, keep=keep)
    record = ChoiceRecord(
        kept=len(choice.indices),
        dropped=choice.summary(),
        hash=sha256_json([table.names[index] for index in choice.indices]),
        filter_model=filtered_by,
    )
    return choice.indices, record, _rows(table, choice)


def write_choice(folder: Path, rows: list[list[str]]) -> None:
    """Write the rows of `choose_slices` into a run folder."""
    with atomic_file(folder / CHOICE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["slice", "agreement", "distance", "dropped"], *rows])


def _rows(table: SampleTable, choice: Choice) -> list[list[str]]:
    agreement = [""] * len(table.names) if table.agreement is None else [f"{value:.4f}" for value in table.agreement]
    distance = [f"{value:.4f}" for value in table.distance]
    return [list(row) for row in zip(table.names, agreement, distance, choice.reasons, strict=True)]
