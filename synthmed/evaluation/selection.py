"""The samples of a set that are worth most: no copies, no outliers, plausible label maps, images that follow them."""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthmed.data.schema import IGNORE
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.evaluation.memorisation.audit import Audit
from synthmed.evaluation.result import Selected
from synthmed.files import atomic_folder, read_json, write_json

QUANTILE = 0.01
MARGIN = 0.1
"""Ranges reach from a low to a high quantile of the training slices, and this share of their width further: the few
patients of a small set do not show all that there is."""
_FEATURES = ("area", "row", "column", "parts")
MaskOutlier = Callable[[NDArray[np.uint8]], str]
"""From a label map `[H, W]` to what makes it an outlier; "" where nothing does."""
_FOLDS = 5
MOST_PAIRS = 8


class MaskRanges:
    """Ranges of area, parts and place of each class, fitted on label maps.

    Args:
        labels: uint8 `[n, H, W]` of training slices.
        classes: Number of classes, background included.
    """

    def __init__(self, labels: np.ndarray, *, classes: int):
        self._classes = classes
        self._together: set[tuple[int, ...]] = set()
        found: dict[int, list[list[float]]] = {}
        for label in labels:
            features = _class_features(label, classes)
            self._together.add(tuple(features))
            for index, values in features.items():
                found.setdefault(index, []).append(values)
        self._ranges = {index: _feature_ranges(np.array(rows)) for index, rows in found.items()}

    def outlier(self, label: np.ndarray, names: Sequence[str]) -> str:
        """Return the first thing about a label map that no usual training slice has; "" where there is none.

        Args:
            label: uint8 `[H, W]`.
            names: Of the classes, background first.
        """
        features = _class_features(label, self._classes)
        if tuple(features) not in self._together:
            present = " and ".join(names[index] for index in features) or "no class"
            return f"mask: no training slice shows {present} and nothing else"
        for index, values in features.items():
            low, high = self._ranges[index]
            for name, value, least, most in zip(_FEATURES, values, low, high, strict=True):
                if not least <= value <= most:
                    return f"mask: {name} of {names[index]} is {value:.4g}, training slices {least:.4g} to {most:.4g}"
        return ""


def _class_features(label: np.ndarray, classes: int) -> dict[int, list[float]]:
    """Return for each foreground class that is present its area in pixels, centre (row, column) and number of parts."""
    present = [int(index) for index in np.unique(label) if 0 < index < classes and index != IGNORE]
    features = {}
    for index in present:
        mask = label == index
        rows, columns = np.nonzero(mask)
        # Pixels that touch at a corner are one part: thin structures run diagonally.
        _, parts = ndimage.label(mask, structure=np.ones((3, 3)))
        features[index] = [float(len(rows)), float(rows.mean()), float(columns.mean()), float(parts)]
    return features


def _feature_ranges(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(rows, [QUANTILE, 1 - QUANTILE], axis=0)
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    low[_FEATURES.index("parts")] = 1
    return low, high


@dataclass(frozen=True)
class Selection:
    """Which samples are chosen.

    Attributes:
        chosen: Their numbers, ascending, int64.
        reasons: Why each sample was dropped; "" for a chosen one.
        score: What the rest were ranked by, `[n]`, higher is better.
        ranked_by: Its name.
    """

    chosen: NDArray[np.int64]
    reasons: list[str]
    score: NDArray[np.float64]
    ranked_by: str

    def summary(self) -> dict[str, int]:
        """Return how many samples were dropped for each kind of reason."""
        return dict(Counter(reason.split(":")[0] for reason in self.reasons if reason))

    def record(self, asked: int) -> Selected:
        """Return what a report says of it, given how many samples were asked for."""
        return Selected(asked=asked, kept=len(self.chosen), dropped=self.summary(), ranked_by=self.ranked_by)


def select_best(
    k: int,
    *,
    labels: NDArray[np.uint8],
    audit: Audit,
    outlier: MaskOutlier | None = None,
    adherence: Sequence[float] | NDArray[np.float64] | None = None,
) -> Selection:
    """Choose the K best samples.

    Copies and what is nearer to a training slice than unseen patients are go first, then implausible label maps, then
    outliers. The rest are ranked by adherence or, without it, by how usual their distance to the training slices is.
    Each combination of classes has its share of the set, since adherence alone would prefer the easy ones.

    Args:
        k: How many; fewer are chosen where fewer are left.
        labels: Label maps `[n, H, W]`.
        audit: Of the same samples in the same order.
        outlier: What makes a label map implausible, such as `MaskRanges.outlier`.
        adherence: Of each sample, such as the Dice of its label map with what a segmenter finds, higher is better.

    Raises:
        UserError: If k is below 1, the audit is of another number of samples, or none is left.
    """
    if k < 1:
        raise UserError(f"--select must be at least 1, got {k}")
    if audit.verdict.samples != len(labels):
        raise UserError(f"the audit is of {audit.verdict.samples} samples, the set has {len(labels)}: audit it again")
    reasons = _closeness(audit, len(labels))
    for number, label in enumerate(labels):
        if outlier is not None and not reasons[number]:
            reasons[number] = outlier(label)
    for number, reason in enumerate(_distance_outliers(audit, len(labels))):
        reasons[number] = reasons[number] or reason
    score = _usualness(audit, len(labels)) if adherence is None else np.asarray(adherence, np.float64)
    ranked_by = "distance" if adherence is None else "adherence"
    left = np.array([not reason for reason in reasons])
    chosen = _best(k, labels, score, left)
    for number in np.setdiff1d(np.flatnonzero(left), chosen):
        reasons[number] = f"rank: {ranked_by} {score[number]:.4g} is not among the best {k}"
    selection = Selection(chosen, reasons, score, ranked_by)
    if not len(chosen):
        found = ", ".join(f"{kind} {count}" for kind, count in selection.summary().items())
        raise UserError(f"--select leaves none of the {len(labels)} samples ({found}): train their generator longer")
    return selection


def write_selection(synthetic: SyntheticSet, selection: Selection, out: Path) -> Path:
    """Write the chosen cases as a set of the same format, with `selection.json` and `selection.csv`.

    Args:
        synthetic: The whole set, of slices.
        selection: Of its samples.
        out: Folder to make.

    Returns:
        `out`.

    Raises:
        UserError: If the set holds volumes, whose slices cannot be taken apart, or `out` exists.
    """
    if any(sidecar.get("unit") == "volume" for sidecar in synthetic.sidecars):
        raise UserError(f"{synthetic.folder} holds volumes: --select takes single slices (generate --unit slice)")
    chosen = [synthetic.cases[index] for index in selection.chosen]
    with atomic_folder(out) as folder:
        for case in chosen:
            _copy_case(synthetic.folder, case, folder)
        _describe(synthetic.folder, chosen, folder)
        record = {
            "of": len(synthetic),
            "chosen": chosen,
            "ranked_by": selection.ranked_by,
            "dropped": selection.summary(),
            "reasons": {case: why for case, why in zip(synthetic.cases, selection.reasons, strict=True) if why},
        }
        write_json(folder / "selection.json", record)
        with (folder / "selection.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "chosen", selection.ranked_by, "reason"])
            rows = zip(synthetic.cases, selection.score, selection.reasons, strict=True)
            writer.writerows([case, "no" if why else "yes", f"{score:.6g}", why] for case, score, why in rows)
    return out


def _closeness(audit: Audit, count: int) -> list[str]:
    reasons = [""] * count
    for finding in audit.findings:
        for number, (near, copy) in enumerate(zip(finding.near, finding.copies, strict=True)):
            if (near or copy) and not reasons[number]:
                what = "stands out as a copy of" if copy else "is nearer than unseen patients' slices to"
                reasons[number] = f"copy: {what} a training slice ({finding.label.lower()})"
    return reasons


def _distance_outliers(audit: Audit, count: int) -> list[str]:
    reasons = [""] * count
    for finding in audit.findings[:1]:
        for number, distance in enumerate(finding.distance):
            if distance > finding.far_distance:
                reasons[number] = (
                    f"outlier: nearest training slice at {distance:.4g}, unseen patients' to {finding.far_distance:.4g}"
                )
    return reasons


def _usualness(audit: Audit, count: int) -> NDArray[np.float64]:
    """Return 0 for the distance that unseen patients have in the middle, less for a smaller or larger one."""
    if not audit.findings:
        return np.zeros(count)
    finding = audit.findings[0]
    distance = np.array(finding.distance)
    usual = -np.abs(np.log((np.maximum(distance, 0) + 1e-6) / (finding.usual_distance + 1e-6)))
    # What shows nothing has no distance; it is as good as the middle of the others.
    return np.where(distance >= 0, usual, np.median(usual[distance >= 0]) if (distance >= 0).any() else 0.0)


def _best(k: int, labels: NDArray[np.uint8], score: NDArray[np.float64], left: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the best of each combination of classes, as many as its share of the whole set asks for, ascending."""
    presence = [tuple(np.unique(label)) for label in labels]
    groups = {one: np.array([here == one for here in presence]) for one in dict.fromkeys(presence)}
    chosen: list[int] = []
    for group in groups.values():
        members = np.flatnonzero(group & left)
        ranked = members[np.argsort(-score[members], kind="stable")]
        chosen += ranked[: int(k * group.mean())].tolist()
    # Rounding down, and groups with too few left, leave places: they go to the best of all others.
    others = np.setdiff1d(np.flatnonzero(left), chosen)
    others = others[np.argsort(-score[others], kind="stable")]
    return np.sort(np.array([*chosen, *others[: k - len(chosen)]], np.int64))


def _copy_case(source: Path, case: str, target: Path) -> None:
    """Copy all files of a case, in whichever of the set's formats."""
    names = (f"{case}.npz", f"{case}.json", f"*/{case}.json", f"*/{case}.png", f"*/{case}.nii.gz", f"*/{case}_????.*")
    for path in sorted({path for name in names for path in source.glob(name)}):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)


def _describe(source: Path, chosen: list[str], target: Path) -> None:
    """Write what describes the set, with the numbers of the chosen cases."""
    if (source / "dataset.json").is_file():
        write_json(target / "dataset.json", {**read_json(source / "dataset.json"), "numTraining": len(chosen)})
        write_json(target / "splits_final.json", [{"train": chosen, "val": []}] * _FOLDS)
    description = source / "dataset_description.json"
    if description.is_file():
        content = read_json(description)
        for entry in content.get("GeneratedBy", [])[:1]:
            entry["Selection"] = f"{len(chosen)} cases chosen; see selection.json"
        write_json(target / "dataset_description.json", content)


def closest_samples(audit: Audit, most: int = MOST_PAIRS) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples that are the most like copies, and the store's slice nearest to each, the worst first.

    Args:
        audit: What was found; images count where there are any, else label maps.
        most: How many.

    Returns:
        Numbers of samples and of slices, int64 `[k]`; k is below `most` where few samples could be compared.
    """
    if not audit.findings:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    finding = audit.findings[0]
    nearest, distance, ratio = (np.array(one) for one in (finding.nearest, finding.distance, finding.ratio))
    # Where there is no ratio for any sample, the distance alone tells.
    order = np.lexsort((distance, np.where(ratio < 0, np.inf, ratio)))
    chosen = order[nearest[order] >= 0][:most]
    return chosen, nearest[chosen].astype(np.int64)
