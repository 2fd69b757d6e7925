"""The memorisation audit of a set of samples against the store that their generator was trained on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.evaluation.memorisation.assessment import Assessment, Finding, assess_copies
from synthmed.evaluation.memorisation.registration import ImageSpace, MaskSpace
from synthmed.evaluation.memorisation.search import RealSlices, SearchSpace, SliceReader, VectorSpace, sample_slices
from synthmed.evaluation.resampling import Units, interval, paired_weights
from synthmed.evaluation.result import Estimate, Figure, Record, Section, Verdict
from synthmed.files import write_json

MOST_HELD_OUT = 1000
"""Held-out slices that are searched at most; of more, every second, third and so on."""
MOST_ATTACKED = 500
"""Slices of either group that membership is inferred for."""
ATTACK_RESAMPLES = 2000


class Audit(Record):
    """What was found, for people and for programs.

    Attributes:
        verdict: In short; what travels with the generator.
        section: Its figures.
        findings: Of each space: thresholds, nearest training slices, flags of each sample.
        seed: Of bootstraps.
    """

    verdict: Verdict
    section: Section
    findings: tuple[Finding, ...] = ()
    seed: int = 0

    def write(self, path: Path) -> None:
        """Write the audit as JSON."""
        write_json(path, self.model_dump(mode="json"))


def audit(
    store: Store,
    images: NDArray[np.float32] | None,
    labels: NDArray[np.uint8] | None,
    *,
    cases: NDArray[np.int64] | None = None,
    features: VectorSpace | None = None,
    model_hash: str = "",
    seed: int = 0,
) -> Audit:
    """Compare samples with the training slices of a store, calibrated by patients whom the generator has not seen.

    Those are the store's validation and test patients; where they are few, each training patient searched among the
    others takes part.

    Args:
        store: The store that the generator was trained on.
        images: Samples `[n, H, W, C]` in [-1, 1]; None for a generator of label maps alone.
        labels: Their label maps `[n, H, W]`; None to leave them out.
        cases: Which generated case each sample is of, `[n]`, for intervals; by default one each.
        features: A further space for images.
        model_hash: Of the generator.
        seed: Of the bootstraps.

    Raises:
        UserError: If there is no sample, no training slice, or samples have another shape than the store's slices.
    """
    given = [one for one in (images, labels) if one is not None]
    if not given or not len(given[0]):
        raise UserError("the memorisation audit was given no samples: generate some")
    if any(one.shape[1:3] != tuple(store.size) for one in given):
        raise UserError(f"samples have another size than the slices of {store.path}: audit against their own store")
    training = RealSlices(store, store.indices("train"))
    if not len(training):
        raise UserError(
            f"{store.path} has no training slices: audit against the store that the generator was trained on"
        )
    held_out = RealSlices(store, np.concatenate([store.indices("val"), store.indices("test")])).thinned(MOST_HELD_OUT)
    assessments: list[Assessment] = []
    for space, samples, name in _spaces(store, images, labels, features, cases):
        real, unseen = (getattr(one, name)() for one in (training, held_out))
        one = assess_copies(space, samples, real, unseen, seed=seed)
        if one is not None:
            assessments.append(_in_store(one, training.numbers))
    attack = _attack(store, images, labels, training, held_out, seed=seed)
    return _result(store, assessments, attack, count=len(given[0]), model_hash=model_hash, seed=seed)


def read_audit(path: Path) -> Audit | None:
    """Return the audit in a file; None where there is none that can be read."""
    try:
        return Audit.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _spaces(
    store: Store,
    images: np.ndarray | None,
    labels: np.ndarray | None,
    features: VectorSpace | None = None,
    cases: NDArray[np.int64] | None = None,
) -> list[tuple[SearchSpace, SliceReader, str]]:
    spaces: list[tuple[SearchSpace, SliceReader, str]] = []
    if images is not None:
        drawn = sample_slices(images, cases)
        spaces.append((ImageSpace(store.size), drawn, "images"))
        if features is not None:
            spaces.append((features, drawn, "images"))
    if labels is not None and store.labelled:
        spaces.append((MaskSpace(store.size, len(store.classes)), sample_slices(labels, cases), "labels"))
    return spaces


def _in_store(assessment: Assessment, numbers: NDArray[np.int64]) -> Assessment:
    """Number the nearest slices as the store does."""
    nearest = [int(numbers[index]) if index >= 0 else -1 for index in assessment.finding.nearest]
    return Assessment(assessment.finding.model_copy(update={"nearest": nearest}), assessment.figures)


def _attack(
    store: Store,
    images: np.ndarray | None,
    labels: np.ndarray | None,
    training: RealSlices,
    held_out: RealSlices,
    *,
    seed: int,
) -> Figure | None:
    """Return the figure of membership inference; None where nobody is held out or nothing can be compared."""
    spaces = _spaces(store, images, labels)
    if not len(held_out) or not spaces:
        return None
    space, samples, name = spaces[0]
    groups = [one.thinned(MOST_ATTACKED) for one in (training, held_out)]
    found = [space.nearest(getattr(one, name)(), samples) for one in groups]
    compared = [~one.empty for one in found]
    if not all(one.any() for one in compared):
        return None
    (members, others), (member_patient, other_patient) = (
        [one.distance[chosen] for one, chosen in zip(found, compared, strict=True)],
        [one.patient[chosen] for one, chosen in zip(groups, compared, strict=True)],
    )
    return Figure(
        name="membership_auc",
        label="Membership inference: AUC of the attack",
        estimate=attack_auc(members, others, member_patient=member_patient, other_patient=other_patient, seed=seed),
        real_baseline=Estimate(value=0.5),
        better="lower",
        definition="How often a training slice lies nearer to its nearest sample than a slice of a patient who was "
        "never seen: 0.5 is chance, 1 gives everybody away (Chen et al. 2020, arXiv:1909.03935). Interval over "
        "patients.",
        space=space.name,
        warning="" if min(one.patients for one in groups) >= 5 else "fewer than 5 patients in a group",
    )


def _result(
    store: Store, assessments: list[Assessment], attack: Figure | None, *, count: int, model_hash: str, seed: int
) -> Audit:
    findings = tuple(one.finding for one in assessments)
    figures = tuple(figure for one in assessments for figure in one.figures) + ((attack,) if attack else ())
    passed, sentence = _sentence(findings)
    notes = (sentence, *(finding.summary for finding in findings))
    flags = ([getattr(one, name) for one in findings] for name in ("near", "copies"))
    near, copies = (int(np.any(lists, axis=0).sum()) if lists else 0 for lists in flags)
    verdict = Verdict(
        passed=passed,
        sentence=sentence,
        samples=count,
        copies=copies,
        near=near,
        membership_auc=attack.estimate.value if attack else None,
        model_hash=model_hash,
        store_hash=store.content_hash,
    )
    title = "Memorisation: copies of training slices"
    section = Section(name="memorisation", title=title, figures=figures, notes=notes)
    return Audit(verdict=verdict, section=section, findings=findings, seed=seed)


def _sentence(findings: tuple[Finding, ...]) -> tuple[bool | None, str]:
    """Return whether an audit passed, and the sentence that says why."""
    if not findings:
        return None, "not audited: one training patient and nobody held out, so there is nothing to compare with"
    passed = all(finding.passed for finding in findings)
    # Where a space fails, the others are left out.
    reasons = "; ".join(finding.summary for finding in findings if finding.passed == passed)
    return passed, ("passed: no sign of copies; " if passed else "failed: copies are likely; ") + reasons


def attack_auc(
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    member_patient: NDArray[np.int64],
    other_patient: NDArray[np.int64],
    seed: int = 0,
) -> Estimate:
    """Return how often a training slice lies nearer to the samples than a held-out one: 0.5 is chance, 1 certainty.

    Membership inference: the attacker has a person's slices and the samples, and takes a slice for a training slice if
    a sample lies near to it (Hayes et al. 2019, PoPETs 2019, 133; Chen et al. 2020, arXiv:1909.03935, "full
    black-box"). Neither model nor training set is needed.

    Args:
        members: Distance of training slices to the nearest sample, `[n]`.
        others: The same of held-out slices, `[m]`.
        member_patient: Patient of each training slice.
        other_patient: Patient of each held-out slice.
        seed: Of the bootstrap, which resamples the patients of both groups.

    Returns:
        Area under the ROC curve with a 95 % interval; without interval where a group has one patient.
    """
    rows, columns = (Units.of_patients(patient) for patient in (member_patient, other_patient))
    wins = _wins(members, others, rows.owner, columns.owner, (rows.count, columns.count))
    value = wins.sum() / (len(members) * len(others))
    if min(rows.count, columns.count) < 2:
        return Estimate(value=float(value))
    drawn, theirs = paired_weights(rows, columns, seed=seed, resamples=ATTACK_RESAMPLES)
    shares = np.einsum("bi,ij,bj->b", drawn, wins, theirs, optimize=True) / (
        (drawn @ rows.sizes) * (theirs @ columns.sizes)
    )
    return interval(float(value), shares, lowest=0.0, highest=1.0)


def _wins(
    members: np.ndarray, others: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return how many pairs of slices each pair of patients has in which the member's is nearer; ties count half."""
    wins = np.zeros(shape)
    for column in range(shape[1]):
        theirs = others[columns == column]
        ranks = rankdata(np.concatenate([members, theirs]))[: len(members)]
        # A member's rank among both, less its rank among members: the others that lie nearer, ties half.
        nearer = ranks - rankdata(members)
        wins[:, column] = np.bincount(rows, weights=len(theirs) - nearer, minlength=shape[0])
    return wins
