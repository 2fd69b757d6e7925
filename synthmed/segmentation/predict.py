"""Segmenting whole cases with a trained U-Net: inference in batches and the files that are written."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthmed.data.geometry import turn, unplace
from synthmed.data.schema import IGNORE, Geometry, Placement, Split
from synthmed.data.selection import read_split
from synthmed.data.store import MANIFEST, Store
from synthmed.errors import UserError
from synthmed.files import atomic_folder
from synthmed.hardware import thread_count
from synthmed.progress import Progress, Say, silent, unheard
from synthmed.segmentation.blend import with_context
from synthmed.segmentation.metrics import dice
from synthmed.segmentation.postprocess import FlippedPredictor, Flips, largest_components
from synthmed.segmentation.run import SegmentationRun, Weights

if TYPE_CHECKING:
    import keras

    from synthmed.data.readers import CaseFiles

BATCH = 12
"""48 slices of 64 x 64 took a sixth longer in batches of 4 and 3 to 9 % in batches of 8; larger ones pad more."""
AT_ONCE = 3
"""Batches in work at a time: one fills the threads while another waits for an operation's last part."""


class SlicePredictor:
    """Applies a network in batches of one size, so that a slice's result does not depend on what comes with it.

    Args:
        network: Gives logits `[batch, H, W, classes]` for images `[batch, H, W, C]`. A `UNet` that was trained on
            slices with their neighbours is given these from the slices that come in one call.
        batch: Slices at a time; the last batch is padded, of which small batches lose less.
    """

    def __init__(self, network: "keras.Model", *, batch: int = BATCH):
        self.batch = batch
        self.context: int = getattr(network, "context", 0)
        import tensorflow as tf

        self._probabilities = tf.function(lambda images: tf.nn.softmax(network(images, training=False), axis=-1))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return class probabilities, float32 `[n, H, W, classes]`, of all slices of a case, `[n, H, W, C]`."""
        # Whoever gave TensorFlow one thread, as studies do, is not given more.
        with ThreadPoolExecutor(AT_ONCE if thread_count() > 1 else 1) as pool:
            return np.concatenate(list(pool.map(partial(self._batch, images), range(0, len(images), self.batch))))

    def _batch(self, images: np.ndarray, first: int) -> np.ndarray:
        numbers = np.arange(first, min(first + self.batch, len(images)))
        part = with_context(images, numbers, self.context)
        missing = self.batch - len(part)
        padded = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        import tensorflow as tf

        return self._probabilities(tf.constant(padded, tf.float32)).numpy()[: len(part)]


def validate(predictor: SlicePredictor, store: Store, split: Split) -> dict[str, Any]:
    """Return Dice on whole cases of a split, in the store's geometry.

    Returns:
        "dice": mean over the foreground classes of the mean over cases; "classes": the mean of each; "cases": how many
        cases. A class that is in neither map of a case does not count there (see `metrics`), nor do pixels whose class
        the reference does not know.
    """
    rows = []
    for case in store.cases(split):
        numbers = np.arange(case.first, case.first + case.slices)
        reference = store.labels(numbers)
        predicted = np.where(reference == IGNORE, IGNORE, predictor(store.images(numbers)).argmax(-1))
        rows.append([dice(predicted == index, reference == index) for index in range(1, len(store.classes))])
    table = np.asarray(rows, float)
    known = ~np.isnan(table)
    sums = np.where(known, table, 0.0).sum(0)
    means = [float(total / count) if count else None for total, count in zip(sums, known.sum(0), strict=True)]
    present = [mean for mean in means if mean is not None]
    return {
        "dice": float(np.mean(present)) if present else None,
        "classes": dict(zip(store.classes[1:], means, strict=True)),
        "cases": len(rows),
    }


ENDING = ".nii.gz"


@dataclass(frozen=True)
class Slices:
    """A case ready for the network.

    Attributes:
        case: Name of the case.
        images: float32 `[n, H, W, C]` in [-1, 1].
        geometry: Of the source volume.
        placement: How slices return to it.
    """

    case: str
    images: np.ndarray
    geometry: Geometry
    placement: Placement


def predict(
    runs: SegmentationRun | Sequence[SegmentationRun],
    source: Path | str,
    out: Path | str,
    *,
    split: Split = "test",
    split_file: Path | None = None,
    weights: Weights | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    batch: int | None = None,
    flips: Flips = "none",
    largest_component: bool = False,
    progress: Progress | None = None,
    say: Say = unheard,
) -> list[Path]:
    """Write a label map `CASE.nii.gz` for each case of `source`, with the shape, place and label values of its source.

    Args:
        runs: A trained U-Net, or several whose probabilities are averaged in the geometry of the source, for example
            one for axial, one for coronal and one for sagittal slices.
        source: A store, of which one split is taken; a data set folder; a folder of images; or one image file.
        out: Folder for the label maps; it must not exist or be empty, and appears when all of them are written.
        split: Which cases of a store, or of `split_file`.
        split_file: JSON file that names the cases of each split, as `prepare` takes it, to choose from a data set.
        weights: Which weights; by default those that the run was told to keep.
        precision: Number format to compute with; "auto" takes bfloat16 where the hardware has it.
        batch: Slices at a time; by default what `SlicePredictor` takes.
        flips: Mirrored slices whose probabilities are averaged with those of the slices as they are.
        largest_component: Whether of each class only its largest connected piece stays, see `largest_components`.
        progress: Told after each case.
        say: Told where channels have other names than those that the run was trained with.

    Returns:
        The files, in the order of the cases.

    Raises:
        UserError: If the source does not fit the run, a file cannot be read, or `out` exists.
    """
    report = progress or silent
    runs = [runs] if isinstance(runs, SegmentationRun) else list(runs)
    _check_together(runs)
    count, cases = _cases(runs, Path(source), split, split_file, say)
    predictors = [load_predictor(run, weights=weights, precision=precision, batch=batch, flips=flips) for run in runs]
    written = []
    report(0, count, "")
    with atomic_folder(out) as folder:
        for number, case in enumerate(cases, start=1):
            first = case[0]
            labels = averaged_labels(
                source_probabilities(predictor(slices.images), slices.placement)
                for predictor, slices in zip(predictors, case, strict=True)
            )
            if largest_component:
                labels = largest_components(labels)
            _write(labels, runs[0].record.plan.label_values, first.geometry, folder / f"{first.case}{ENDING}")
            written.append(Path(out) / f"{first.case}{ENDING}")
            report(number, count, first.case)
    return written


def load_predictor(
    run: SegmentationRun,
    *,
    weights: Weights | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    batch: int | None = None,
    flips: Flips = "none",
) -> FlippedPredictor:
    """Return what gives class probabilities `[n, H, W, K]` of a case's slices; for the arguments see `predict`.

    Raises:
        UserError: If the run was not trained on slices mirrored as `flips` asks.
    """
    from keras.distribution import list_devices

    from synthmed.hardware import resolve_precision

    refuse_untrained_flips(run, flips)
    accelerator = any(not device.startswith("cpu") for device in list_devices())
    network = run.load(weights, policy=resolve_precision(precision, accelerator=accelerator))
    return FlippedPredictor(SlicePredictor(network, batch=batch or BATCH), flips)


def refuse_untrained_flips(run: SegmentationRun, flips: Flips) -> None:
    """Do nothing where a run was trained on slices mirrored as `flips` asks; on others it has no answer.

    Raises:
        UserError: If it was not.
    """
    trained = run.record.options.augmentation
    for name, mirrored in (("rows", trained.flip_rows), ("columns", trained.flip_columns)):
        if flips in (name, "both") and not mirrored:
            raise UserError(
                f"--flips {flips}: {run.path} never saw slices mirrored along {name}: leave it out, or train with "
                f"`segment train --mirror {flips}`"
            )


def source_probabilities(probabilities: np.ndarray, placement: Placement) -> np.ndarray:
    """Return probabilities of the foreground classes `[X, Y, Z, K - 1]` in the source's axes.

    Probabilities are resampled, not labels: the boundary then lies between pixels where it was predicted to lie.

    Args:
        probabilities: Of all classes, background first, `[n, H, W, K]`.
        placement: How the slices lie in the source.
    """
    foreground = np.moveaxis(probabilities[..., 1:], 0, 2)
    turned = unplace(foreground, placement, order=1, fill=0.0)
    return turn(turned, source=placement.orientation, target=placement.source_orientation)


def averaged_labels(foregrounds: Iterable[np.ndarray]) -> np.ndarray:
    """Return class indices `[X, Y, Z]`, the likeliest by the mean of the `source_probabilities` of each network."""
    mean = np.mean(list(foregrounds), axis=0)
    background = 1.0 - mean.sum(-1, keepdims=True)
    return np.ascontiguousarray(np.concatenate([background, mean], axis=-1).argmax(-1).astype(np.uint8))


def _check_together(runs: list[SegmentationRun]) -> None:
    first = runs[0].record
    for run in runs[1:]:
        for what, own, other in (
            ("classes", first.classes, run.record.classes),
            ("channels", first.channels, run.record.channels),
            ("label values", first.plan.label_values, run.record.plan.label_values),
        ):
            if own != other:
                raise UserError(
                    f"{run.path} has other {what} than {runs[0].path}: average networks of one data set alone"
                )


def _cases(
    runs: list[SegmentationRun], source: Path, split: Split, split_file: Path | None, say: Say
) -> tuple[int, Iterator[list[Slices]]]:
    if (source / MANIFEST).is_file():
        if split_file is not None:
            raise UserError(f"{source} is a store and knows its splits: leave --split-file out")
        store = Store.open(source)
        for run in runs:
            _check_store(run, store)
        records = store.cases(split)
        if not records:
            raise UserError(f"{source} has no {split} patients: choose another --split")
        return len(records), ([slices] * len(runs) for slices in store_slices(store, split))
    files = _image_files(runs[0], source, say)
    if split_file is not None:
        parts = read_split(split_file, {one.case: one.patient for one in files})
        files = [one for one in files if parts.get(one.case) == split]
        if not files:
            raise UserError(f"{split_file} names no {split} cases of {source}: choose another --split")
    return len(files), _from_files(runs, files)


def store_slices(store: Store, split: Split) -> Iterator[Slices]:
    """Yield the cases of a split, ready for the network."""
    for record in store.cases(split):
        images = store.images(np.arange(record.first, record.first + record.slices))
        yield Slices(record.case, images, record.geometry, record.placement)


def _from_files(runs: list[SegmentationRun], files: "list[CaseFiles]") -> Iterator[list[Slices]]:
    from synthmed.data.readers import load_case
    from synthmed.data.slicing import prepare_case

    for case_files in files:
        case = load_case(case_files)
        if not np.isfinite(case.images).all():
            raise UserError(f"{case_files.images[0].path} holds NaN or infinite values: replace them")
        prepared = [prepare_case(case, run.record.plan) for run in runs]
        yield [Slices(case.case, one.images, case.geometry, one.placement) for one in prepared]


def _image_files(run: SegmentationRun, source: Path, say: Say) -> "list[CaseFiles]":
    """Return the cases without their labels: predicting must not fail for a label that it does not need."""
    from synthmed.data.formats import ending_of, source_of
    from synthmed.data.readers import CaseFiles, read_images

    if source.is_file():
        name = source.name.removesuffix(ending_of(source.name) or "").removesuffix("_0000")
        return [CaseFiles(case=name, patient=name, images=(source_of(source),))]
    if not source.is_dir():
        raise UserError(f"{source} does not exist: give a store, a data set, a folder of images or an image")
    found = read_images(source, run.record.channels)
    for note in found.notes:
        say(note)
    return found.cases


def _check_store(run: SegmentationRun, store: Store) -> None:
    for name, mine, theirs in (
        ("channels", run.record.channels, store.channels),
        ("classes", run.record.classes, store.classes),
        *(
            (field, getattr(run.record.plan, field), getattr(store.plan, field))
            for field in type(store.plan).model_fields
            # What a training was offered says nothing of how a case is prepared.
            if field != "slices"
        ),
    ):
        if mine != theirs:
            raise UserError(
                f"{store.path} was prepared with {name} {theirs}, {run.path} was trained with {mine}: "
                "give the data set itself instead of its store"
            )


def _write(labels: np.ndarray, values: tuple[int, ...], geometry: Geometry, path: Path) -> None:
    import nibabel

    from synthmed.data.slicing import as_nifti

    dtype = np.uint8 if max(values) < 256 else np.int32
    nibabel.save(as_nifti(np.asarray(values, dtype)[labels], geometry), path)
