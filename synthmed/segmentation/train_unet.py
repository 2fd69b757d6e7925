"""One U-Net training as it is asked for: what is resumed, which filter model and which ratio, then the training."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from synthmed.data.store import Store, find_latest_store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.files import check_resumable, first_free_folder, folder_lock
from synthmed.generation.generator import load_generator
from synthmed.progress import Progress, Say, silent, stage, unheard
from synthmed.segmentation.augment import with_mirror
from synthmed.segmentation.auto_ratio import (
    FEWEST_PATIENTS,
    SEARCH_TRAININGS,
    RatioChoice,
    choose_ratio,
    keep_choice,
    search_folder,
    validation_patients,
    was_searched,
    with_ratio,
)
from synthmed.segmentation.blend import GeneratedSlices, check_fits
from synthmed.segmentation.options import DEFAULT_RATIO, SegmentOptions, check_options
from synthmed.segmentation.run import RECORD, SegmentationRun
from synthmed.segmentation.schedule import Blending, check_blending
from synthmed.segmentation.train import train
from synthmed.training.run import next_run_paths

RUNS = Path("runs")
BLENDING = ("ratio_end", "pretrain", "synthetic_weight", "sampling", "psi", "keep_fraction")
"""Names of the options that are about blending."""
Source = SyntheticSet | GeneratedSlices


def train_unet(
    store: Store | Path | str | None = None,
    *,
    synthetic: SyntheticSet | Path | str | None = None,
    generator: Path | str | None = None,
    ratio: float | Literal["auto"] | None = None,
    auto_steps: int | None = None,
    filter_model: Path | str | Literal["none"] | None = None,
    mirror: str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    search: Path | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
    **options: Any,
) -> SegmentationRun:
    """Train a U-Net on real slices, and on synthetic ones as far as they help.

    Args:
        store: Real slices; None takes the run's that is resumed, else the store prepared last in this folder.
        synthetic: A set that `generate` wrote, to blend in.
        generator: Instead of a set: a run or export that draws while training, each slice once.
        ratio: Synthetic slices for each real one; "auto" asks the validation patients (about 3.5 times the time). None
            is "auto" where there are enough of them, else 0.5.
        auto_steps: Gradient steps of each try of "auto"; half of `steps` by default.
        filter_model: U-Net that helps to choose the best `keep_fraction` of the samples; None trains one on real slices
            alone, "none" does without.
        mirror: "auto", "none", "columns", "rows" or "both".
        out: Run folder; runs/NNNNN-unet by default.
        resume: Go on with the run in `out`; options that are not given are the run's.
        search: Folder of the tries of "auto"; beside `out` by default.
        progress: Called after each step, of all stages together.
        say: Called with lines that a user should read.
        **options: Of `SegmentOptions` and `Blending`: `steps`, `batch`, `seed`, `train_patients`, `keep_fraction`...

    Returns:
        The run; `finished` is false where the process was asked to stop.

    Raises:
        UserError: If an option is wrong, the slices do not fit, or patients would leak.
        SearchStopped: If the process was asked to stop in the search of the ratio.

    Example:
        >>> unet = sm.train_unet("store", steps=2, batch=4, width=4, out="unet")
        >>> unet.finished
        True
    """
    if resume and out is None:
        raise UserError("--resume needs the run to go on with: give --out RUN")
    with ExitStack() as stack:
        path = Path(out) if out is not None else stack.enter_context(first_free_folder(next_run_paths(RUNS, "unet")))
        if out is not None:
            stack.enter_context(folder_lock(path))
        existing = SegmentationRun.open(path) if resume and (path / RECORD).is_file() else None
        real = _store(store, existing)
        given = {**options, "mirror": mirror, "filter_model": filter_model, "ratio": ratio}
        plan = _Plan(real, path, existing, given, synthetic=synthetic, generator=generator, search=search)
        return plan.execute(resume=resume, auto_steps=auto_steps, progress=progress or silent, say=say or unheard)


class _Plan:
    """What a training is to be, decided once, and its stages."""

    def __init__(
        self,
        store: Store,
        path: Path,
        existing: SegmentationRun | None,
        given: dict[str, Any],
        *,
        synthetic: SyntheticSet | Path | str | None,
        generator: Path | str | None,
        search: Path | None,
    ):
        if synthetic and generator:
            raise UserError("--synthetic and --generator exclude each other: leave one of them out")
        known = existing.record.synthetic if existing else None
        if known is not None and synthetic is None and generator is None:
            synthetic, generator = (known.folder, None) if known.slices else (None, known.folder)
        self.store, self.path, self.existing = store, path, existing
        self.search = search or search_folder(path)
        blends = synthetic is not None or generator is not None
        ratio = given.pop("ratio")
        self.auto = ratio == "auto" or (ratio is None and blends and self._searches_by_default())
        self.defaulted = ratio is None and blends and not self.auto
        if self.auto or self.defaulted:
            # The ratio of a run that exists was found before it; a search tries its own.
            ratio = None if existing else DEFAULT_RATIO
        wanted = given.pop("filter_model")
        self.options = self._options({**given, "ratio": ratio}, "" if wanted in (None, "none") else str(wanted))
        if self.auto and existing:
            # What blends is given again with the same call, but has no part in a run whose answer was 0.
            self.options = with_ratio(self.options, self.options.ratio)
        self.source = self._source(synthetic, generator) if self.options.uses_synthetic else None
        chooses = self.options.blending.keep_fraction < 1 and not self.options.blending.filter_model
        self.trains_filter_model = (
            wanted is None and existing is None and chooses and isinstance(self.source, SyntheticSet)
        )

    def execute(self, *, resume: bool, auto_steps: int | None, progress: Progress, say: Say) -> SegmentationRun:
        """Train the filter model and search the ratio where these are due, then train."""
        steps, searches = self.options.steps, self.auto and self.existing is None
        before = steps * self.trains_filter_model
        search = round(steps * SEARCH_TRAININGS) * searches
        if self.trains_filter_model and isinstance(self.source, SyntheticSet):
            # Now rather than when the filter model is trained.
            check_resumable(self.path, resume=resume)
            check_fits(self.source, self.store)
            report = stage(progress, 0, steps, search + steps, "filter model")
            self.options = with_filter_model(self.store, self.path, self.options, progress=report)
        if searches:
            choice = self._choose(resume, auto_steps, stage(progress, before, search, steps, "ratio"))
            for line in choice.lines():
                say(line)
            self.options = with_ratio(self.options, choice.ratio)
        report = stage(progress, before + search, steps, 0) if before + search else progress
        run = train(self.store, self.path, self.options, synthetic=self.source, resume=resume, progress=report, say=say)
        if self.auto:
            keep_choice(self.path, self.search)
        if self.defaulted:
            say(f"note: ratio {self.options.ratio:g}, as too few validation patients are there to ask which is best")
        return run

    def _options(self, given: dict[str, Any], filter_model: str) -> SegmentOptions:
        existing = self.existing.record.options if self.existing else None
        blending = given.pop("blending", None)
        if not isinstance(blending, Blending):
            values = {name: given.pop(name, None) for name in BLENDING} | {"filter_model": filter_model or None}
            blending = check_blending(values, begun=existing.blending if existing else None)
        mirror = given.pop("mirror")
        if mirror is not None:
            given["augmentation"] = with_mirror(mirror, existing.augmentation if existing else None)
        return check_options({**given, "blending": blending}, begun=existing)

    def _searches_by_default(self) -> bool:
        """Whether the ratio is searched, or was, where none is given."""
        if self.existing:
            return was_searched(self.path, self.search)
        return validation_patients(self.store) >= FEWEST_PATIENTS

    def _source(self, synthetic: SyntheticSet | Path | str | None, generator: Path | str | None) -> Source | None:
        if generator is not None:
            return GeneratedSlices(load_generator(generator), Path(generator), psi=self.options.blending.psi)
        return SyntheticSet.open(Path(synthetic)) if isinstance(synthetic, str | Path) else synthetic

    def _choose(self, resume: bool, steps: int | None, progress: Progress) -> RatioChoice:
        if self.source is None:
            raise UserError("--ratio auto needs synthetic slices: give --synthetic DIR or --generator RUN")
        for taken in (self.path, self.search):
            check_resumable(taken, resume=resume)
        return choose_ratio(self.store, self.search, self.options, self.source, steps=steps, progress=progress)


def _store(store: Store | Path | str | None, existing: SegmentationRun | None) -> Store:
    if isinstance(store, Store):
        return store
    path = store or (existing.record.store if existing else find_latest_store(Path()))
    if path is None:
        raise UserError("there is no store in this folder: make one with `synthmed prepare DATASET --out STORE`")
    return Store.open(Path(path))


def filter_model_folder(run: Path) -> Path:
    """Return where the filter model of a run lies: beside its folder, which holds one training alone."""
    return run.with_name(f"{run.name}-filter-model")


def with_filter_model(
    store: Store, run: Path, options: SegmentOptions, *, progress: Progress | None = None
) -> SegmentOptions:
    """Return the options with a filter model: the same training on the same patients' real slices alone.

    Args:
        store: Real slices.
        run: Folder of the training that it is for. A filter model that is there already is not trained again.
        options: Of that training.
        progress: Called after each step.

    Raises:
        UserError: If the process was asked to stop.
    """
    alone = options.model_copy(
        # Samples have no neighbouring slices, and whoever chooses samples must not be chosen by validation patients.
        update={
            "ratio": 0.0,
            "blending": options.blending.without_synthetic(),
            "context": 0,
            "patience": None,
            "keep": "last",
        }
    )
    model = train(store, filter_model_folder(run), alone, resume=True, progress=progress)
    if not model.finished:
        raise UserError(f"stopped while the filter model was trained; {model.path} is saved: give the same again")
    return filtered_by(options, model)


def filtered_by(options: SegmentOptions, model: SegmentationRun) -> SegmentOptions:
    """Return the options with a trained U-Net as the filter model."""
    blending = options.blending.model_copy(update={"filter_model": str(model.path)})
    return options.model_copy(update={"blending": blending})
