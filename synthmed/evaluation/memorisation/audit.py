"""The memorisation audit of a set of samples against the store that their generator was trained on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.evaluation.figures import Estimate, Figure, Section
from synthmed.evaluation.memorisation.features import FeatureSpace
from synthmed.evaluation.memorisation.images import ImageSpace
from synthmed.evaluation.memorisation.judge import Finding, Judged, judge
from synthmed.evaluation.memorisation.masks import MaskSpace
from synthmed.evaluation.memorisation.membership import attack_auc
from synthmed.evaluation.memorisation.slices import RealSlices, sample_slices
from synthmed.evaluation.memorisation.spaces import Slices, Space
from synthmed.evaluation.memorisation.verdict import Verdict
from synthmed.files import write_json

MOST_HELD_OUT = 1000
"""Held-out slices that are searched at most; of more, every second, third and so on."""
MOST_ATTACKED = 500
"""Slices of either group that membership is inferred for."""


class Audit(BaseModel):
    """What was found, for people and for programs.

    Attributes:
        verdict: In short; what travels with the generator.
        section: Its figures.
        findings: Of each space: thresholds, nearest training slices, flags of each sample.
        seed: Of bootstraps.
    """

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    section: Section
    findings: tuple[Finding, ...] = ()
    seed: int = 0

    def write(self, path: Path) -> None:
        """Write the audit as JSON."""
        write_json(path, self.model_dump(mode="json"))

    def flagged(self, *, copies_only: bool = False) -> NDArray[np.bool_]:
        """Return which samples are near, or copies, in any space, bool `[n]`."""
        lists = [one.copies if copies_only else one.near for one in self.findings]
        return np.any(lists, axis=0) if lists else np.zeros(self.verdict.samples, bool)


def audit(
    store: Store,
    images: NDArray[np.float32] | None,
    labels: NDArray[np.uint8] | None,
    *,
    cases: NDArray[np.int64] | None = None,
    features: FeatureSpace | None = None,
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
    judged: list[Judged] = []
    for space, samples, name in _spaces(store, images, labels, features, cases):
        real, unseen = (getattr(one, name)() for one in (training, held_out))
        one = judge(space, samples, real, unseen, seed=seed)
        if one is not None:
            judged.append(_in_store(one, training.numbers))
    attack = _attack(store, images, labels, training, held_out, seed=seed)
    return _result(store, judged, attack, count=len(given[0]), model_hash=model_hash, seed=seed)


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
    features: FeatureSpace | None = None,
    cases: NDArray[np.int64] | None = None,
) -> list[tuple[Space, Slices, str]]:
    spaces: list[tuple[Space, Slices, str]] = []
    if images is not None:
        drawn = sample_slices(images, cases)
        spaces.append((ImageSpace(store.size), drawn, "images"))
        if features is not None:
            spaces.append((features, drawn, "images"))
    if labels is not None and store.labelled:
        spaces.append((MaskSpace(store.size, len(store.classes)), sample_slices(labels, cases), "labels"))
    return spaces


def _in_store(judged: Judged, numbers: NDArray[np.int64]) -> Judged:
    """Number the nearest slices as the store does."""
    nearest = [int(numbers[index]) if index >= 0 else -1 for index in judged.finding.nearest]
    return Judged(judged.finding.model_copy(update={"nearest": nearest}), judged.figures)


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
    shown = [~one.empty for one in found]
    if not all(one.any() for one in shown):
        return None
    (members, others), (member_patient, other_patient) = (
        [one.distance[chosen] for one, chosen in zip(found, shown, strict=True)],
        [one.patient[chosen] for one, chosen in zip(groups, shown, strict=True)],
    )
    return Figure(
        name="membership_auc",
        label="Membership inference: AUC of the attack",
        estimate=attack_auc(members, others, member_patient=member_patient, other_patient=other_patient, seed=seed),
        floor=Estimate(value=0.5),
        better="lower",
        definition="How often a training slice lies nearer to its nearest sample than a slice of a patient who was "
        "never seen: 0.5 is chance, 1 gives everybody away (Chen et al. 2020, arXiv:1909.03935). Interval over "
        "patients.",
        space=space.name,
        warning="" if min(one.patients for one in groups) >= 5 else "fewer than 5 patients in a group",
    )


def _result(
    store: Store, judged: list[Judged], attack: Figure | None, *, count: int, model_hash: str, seed: int
) -> Audit:
    findings = tuple(one.finding for one in judged)
    figures = tuple(figure for one in judged for figure in one.figures) + ((attack,) if attack else ())
    result = Audit(
        verdict=Verdict(samples=count, model_hash=model_hash, store_hash=store.content_hash),
        section=Section(name="memorisation", title="Memorisation: copies of training slices", figures=figures),
        findings=findings,
        seed=seed,
    )
    notes: tuple[str, ...]
    if not findings:
        sentence = (
            "not audited: one training patient and nobody held out, so there is nothing to compare distances with"
        )
        passed, notes = None, (sentence,)
    else:
        passed = all(finding.passed for finding in findings)
        notes = tuple(finding.words for finding in findings)
        # What failed is said first and alone.
        chosen = [finding.words for finding in findings if finding.passed == passed]
        sentence = ("passed: no sign of copies; " if passed else "failed: copies are likely; ") + "; ".join(chosen)
    verdict = result.verdict.model_copy(
        update={
            "passed": passed,
            "sentence": sentence,
            "copies": int(result.flagged(copies_only=True).sum()),
            "near": int(result.flagged().sum()),
            "membership_auc": attack.estimate.value if attack else None,
        }
    )
    section = result.section.model_copy(update={"notes": (sentence, *notes) if findings else notes})
    return result.model_copy(update={"verdict": verdict, "section": section})
