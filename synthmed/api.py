"""What the Python API composes of several rooms; `synthmed/__init__.py` lists all of its names."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synthmed.data.inspect import Fingerprint, fingerprint
from synthmed.data.plan import PlanOptions
from synthmed.data.prepare import prepare as prepare_dataset
from synthmed.data.readers import ReadOptions, read_dataset
from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.progress import Progress, Say, silent, unheard

if TYPE_CHECKING:
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.evaluation.result import Evaluation
    from synthmed.segmentation.comparison import Comparison
    from synthmed.training.run import Run


def open_store(path: Path | str) -> Store:
    """Open a store that `prepare` wrote.

    Raises:
        UserError: If it is none, or damaged.

    Example:
        >>> sm.open_store("store").size
        (32, 32)
    """
    return Store.open(path)


def inspect(
    dataset: Path | str,
    *,
    patient_pattern: str | None = None,
    channels: Mapping[str, str] | None = None,
    label: str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Fingerprint:
    """Read every file of a data set and say what it is like and what is wrong.

    Args:
        dataset: Its folder, in any layout that synthmed reads.
        patient_pattern: Regular expression whose one group is the patient in a case's name.
        channels: Pattern of the files of each channel, by its name.
        label: Pattern of the label maps' files.
        name: Name of the data set.
        progress: Called after each case.

    Raises:
        UserError: If the folder is in no layout that synthmed reads.

    Example:
        >>> len(sm.inspect("phantom").problems)
        0
    """
    reading = _reading(patient_pattern, channels, label, name)
    return fingerprint(read_dataset(Path(dataset), reading), progress=progress or silent)


def prepare(
    dataset: Path | str,
    out: Path | str,
    *,
    axis: Literal["sagittal", "coronal", "axial"] | None = None,
    size: tuple[int, int] | None = None,
    spacing: tuple[float, float] | None = None,
    normalise: str | Sequence[str] = (),
    bias_correction: bool = False,
    crop: Literal["auto", "yes", "no"] = "auto",
    slices: Literal["all", "foreground", "balanced"] = "all",
    split: tuple[float, float, float] | Path | str = (0.7, 0.15, 0.15),
    train_patients: int | None = None,
    patient_pattern: str | None = None,
    channels: Mapping[str, str] | None = None,
    label: str | None = None,
    name: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Store:
    """Write a store of normalised slices of a data set; the options are those of `synthmed prepare`.

    Args:
        dataset: Its folder, in any layout that synthmed reads.
        out: Folder of the store; new, or made by the same call.
        axis: Way of slicing; across the longest voxels by default.
        size: Rows and columns of a slice; what holds the largest case by default.
        spacing: Pixel size (row, column) in mm.
        normalise: A rule for all channels, or `CHANNEL=RULE` each.
        bias_correction: Whether MRI is freed of slow shading.
        crop: Whether margins without content are cut off.
        slices: Training slices that a training is offered.
        split: Fractions of patients for training, validation and test, or a JSON file of case names.
        train_patients: How many training patients stay (nested).
        patient_pattern: As of `inspect`, and so are `channels`, `label` and `name`.
        channels: Pattern of the files of each channel, by its name.
        label: Pattern of the label maps' files.
        name: Name of the data set.
        seed: Same seed, same split.
        progress: Called after each case.
        say: Called with lines that a user should read.

    Raises:
        UserError: If anything is wrong with the data set or an option, or `out` holds something else.

    Example:
        >>> store = sm.prepare("phantom", "prepared", size=(32, 32), split=(0.5, 0.25, 0.25))
        >>> len(store.cases("train")), len(store.cases("val"))
        (4, 2)
    """
    rules = (normalise,) if isinstance(normalise, str) else tuple(normalise)
    options = PlanOptions(
        axis=axis,
        size=size,
        spacing=spacing,
        normalise=rules,
        bias_correction=bias_correction,
        crop=crop,
        slices=slices,
    )
    return prepare_dataset(
        Path(dataset),
        out,
        split=Path(split) if isinstance(split, str) else split,
        train_patients=train_patients,
        seed=seed,
        options=options,
        reading=_reading(patient_pattern, channels, label, name),
        progress=progress,
        say=say or unheard,
    )


def train_generator(
    store: Store | Path | str,
    *,
    variant: Literal["base", "mask", "cond"] = "cond",
    out: Path | str | None = None,
    kimg: float | None = None,
    minutes: float | None = None,
    masks_from: Path | str | None = None,
    config: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
    **options: Any,
) -> "Run":
    """Train a generator of slices; the options are those of `synthmed train`.

    Args:
        store: What it learns from.
        variant: "base" draws image and mask together, "mask" masks alone, "cond" images of given masks; a cond
            generator without `masks_from` trains a mask generator first, in the same run.
        out: Run folder; runs/NNNNN-VARIANT by default.
        kimg: Stop after so many thousand real images, for each generator trained.
        minutes: Stop after so many minutes in all; 20 by default, 5 on the phantom.
        masks_from: Run whose mask generator a cond run takes.
        config: YAML file of options.
        resume: Go on with the run in `out`.
        progress: Called after each step.
        say: Called with lines that a user should read.
        **options: `batch`, `seed`, `learning_rate` and all others of `TrainOptions`.

    Returns:
        The run, trained to its budget.

    Raises:
        UserError: If an option is wrong, the store does not fit, `out` holds something else, or training was stopped.

    Example:
        >>> run = sm.train_generator("store", variant="base", kimg=0.016, batch=8, out="base")
        >>> run.options.variant
        'base'
    """
    from synthmed.backend import check_backend

    check_backend()
    from synthmed.files import first_free_folder
    from synthmed.training.options import read_options
    from synthmed.training.plan import execute, plan_training
    from synthmed.training.run import RUN_FILE, Run, next_run_paths

    if resume and out is None:
        raise UserError("resume needs the run to go on with: give out")
    opened = store if isinstance(store, Store) else Store.open(store)
    given = {"variant": variant, "kimg": kimg, "minutes": minutes, **options}
    with ExitStack() as stack:
        free = next_run_paths(Path("runs"), variant)
        path = Path(out) if out is not None else stack.enter_context(first_free_folder(free))
        existing = Run.open(path) if resume and (path / RUN_FILE).is_file() else None
        asked = read_options(
            given,
            existing_run=existing.options if existing else None,
            config=Path(config) if config is not None else None,
        )
        masks = Path(masks_from) if masks_from is not None else None
        plan = plan_training(path, asked, opened, masks_from=masks, existing_run=existing)
        if not execute(plan, resume=resume, progress=progress, say=say or unheard):
            raise UserError(f"stopped; {path} is saved: go on with resume=True")
    return Run.open(path)


def evaluate(
    store: Store | Path | str, synthetic: "SyntheticSet | Path | str", out: Path | str, **options: Any
) -> "Evaluation":
    """Compare a synthetic set with a store's real slices; see `synthmed.reporting.evaluation.evaluate_set`.

    Args:
        store: Real slices.
        synthetic: A set that `generate` wrote.
        out: Folder to make, for `report.html`, `metrics.json` and `audit.json`.
        **options: `features`, `download`, `segmenter`, `select`, `seed`, `say`.

    Raises:
        UserError: If the set does not fit the store, a network saw other patients, or `out` exists.

    Example:
        >>> sm.evaluate("store", "drawn", "report").about.synthetic.slices
        12
    """
    from synthmed.backend import check_backend

    check_backend()
    from synthmed.reporting.evaluation import evaluate_set

    return evaluate_set(store, synthetic, out, **options)


def compare(
    store: Store | Path | str,
    out: Path | str,
    *,
    synthetic: "SyntheticSet | Path | str | Sequence[SyntheticSet | Path | str]" = (),
    reference: Path | str | None = None,
    steps: int | None = None,
    batch: int | None = None,
    width: int | None = None,
    seed: int | None = None,
    mirror: Literal["auto", "none", "columns", "rows", "both"] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> "Comparison":
    """Train a U-Net on each arm, several times, and compare their Dice with intervals over patients.

    Args:
        store: Real slices, with patients in the split that is scored.
        out: Folder of all trainings and of the result; what is in it is not trained again.
        synthetic: One set for all draws, or one for each.
        reference: Data set to score against, in its geometry; the store by default.
        steps: Gradient steps of every training; 500 by default.
        batch: Slices a step.
        width: Channels of the U-Net at full resolution.
        seed: First seed.
        mirror: "auto", "none", "columns", "rows" or "both".
        progress: Called after each step.
        **options: Of `CompareOptions`: `arms`, `ratio`, `seeds`, `draws`, `train_patients`, `split`...

    Raises:
        UserError: If the store or a set does not fit, or the process was asked to stop.

    Example:
        >>> few = {"train_patients": 2, "oracle_patients": 1, "seeds": 1, "split": "val"}
        >>> found = sm.compare("store", "compared", arms=("oracle",), steps=2, width=4, **few)
        >>> [arm.name for arm in found.arms]
        ['real', 'oracle']
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed.compare")
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.segmentation.augment import with_mirror
    from synthmed.segmentation.compare import check_compare_options
    from synthmed.segmentation.compare import compare as compare_arms
    from synthmed.segmentation.options import check_options

    given = [synthetic] if isinstance(synthetic, SyntheticSet | Path | str) else list(synthetic)
    sets = [one if isinstance(one, SyntheticSet) else SyntheticSet.open(one) for one in given]
    shared = {"steps": steps, "batch": batch, "width": width, "seed": seed, "augmentation": with_mirror(mirror)}
    return compare_arms(
        store if isinstance(store, Store) else Store.open(store),
        out,
        check_compare_options(options),
        check_options(shared),
        synthetic=sets,
        reference=Path(reference) if reference is not None else None,
        progress=progress,
    )


def _reading(
    patient_pattern: str | None, channels: Mapping[str, str] | None, label: str | None, name: str | None
) -> ReadOptions:
    return ReadOptions(
        patient_pattern=patient_pattern, channels=tuple((channels or {}).items()), label=label, name=name
    )
