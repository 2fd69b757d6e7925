"""From what the user asked to runs that are trained: where they lie, which one comes first, how long they take."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.files import atomic_folder, folder_lock, is_free
from synthmed.models.synthesis import make_pyramid
from synthmed.progress import Progress, Say, silent, stage
from synthmed.training.backends import has_accelerator, make_devices
from synthmed.training.batches import GeneratorBatches
from synthmed.training.checkpoint import save_checkpoint
from synthmed.training.devices import Devices, check_share
from synthmed.training.networks import make_networks
from synthmed.training.options import BUDGETS, ResolvedOptions, TrainOptions, resolve
from synthmed.training.run import CHECKPOINTS, MASK_GENERATOR, RUN_FILE, DataSummary, Run
from synthmed.training.run_logger import MISSING, has_tensorboard
from synthmed.training.trainer import Trainer, TrainProgress

DEFAULT_MINUTES = 20.0
PHANTOM_MINUTES = 5.0
# A mask has fewer channels and simpler statistics than an image: a third of the time is enough for it.
MASK_SHARE = 1 / 3
FREE_OPTIONS = (
    *BUDGETS,
    "checkpoint_seconds",
    "snapshot_kimg",
    "keep_checkpoints",
    "distance_kimg",
    "learning_rate",
    "rollbacks",
    "strategy",
    "steps_ahead",
)


@dataclass(frozen=True)
class TrainingPlan:
    """A run to train, and the mask generator that has to come first.

    Attributes:
        path: The run folder.
        options: The options of the run.
        store: The store.
        mask: Plan of the mask generator of a `cond` run that was given none.
        masks_from: Run whose mask generator a `cond` run takes over.
    """

    path: Path
    options: ResolvedOptions
    store: Store
    mask: "TrainingPlan | None" = None
    masks_from: Run | None = None


def plan_training(
    path: Path, options: TrainOptions, store: Store, *, masks_from: Path | None = None, existing_run: Run | None = None
) -> TrainingPlan:
    """Plan the training of a run.

    Args:
        path: The run folder.
        options: As the user gave them.
        store: The store to train on.
        masks_from: Run of a mask generator, or of a `cond` run with one, to use in a `cond` run.
        existing_run: The run in that folder, if it is to be resumed; its budget counts unless `options` have one.

    Raises:
        UserError: If `masks_from` does not fit.
    """
    adopted = existing_run is not None and existing_run.has_adopted_masks
    asked = _with_budget(options, store, existing_run)
    resolved = resolve(asked, size=store.size, accelerator=has_accelerator())
    _check_sources(resolved, store)
    if resolved.variant != "cond":
        if masks_from:
            raise UserError(f"--masks-from goes with --variant cond, not with {resolved.variant}")
        return TrainingPlan(path, resolved, store)
    if adopted:
        return TrainingPlan(path, resolved, store)
    if masks_from:
        return TrainingPlan(path, resolved, store, masks_from=_fitting_mask_run(masks_from, store))
    mask_options = resolved.model_copy(update={"variant": "mask", "init_from": _mask_run_of(resolved.init_from)})
    if resolved.minutes is not None:
        mask_options = mask_options.model_copy(update={"minutes": resolved.minutes * MASK_SHARE})
        resolved = resolved.model_copy(update={"minutes": resolved.minutes * (1 - MASK_SHARE)})
    return TrainingPlan(path, resolved, store, mask=TrainingPlan(path / MASK_GENERATOR, mask_options, store))


def execute(
    plan: TrainingPlan,
    *,
    resume: bool = False,
    devices: Devices | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> bool:
    """Train what a plan says and return whether all of it is done (false: the user asked to stop).

    Args:
        plan: What to train.
        resume: Go on with the run in the plan's folder.
        devices: What it runs on, where that was made already; of several workers, the chief alone writes.
        progress: Told how far it is.
        say: Called with lines that a user should read, such as which step is gone on from; by default they are notes
            of the progress.

    Raises:
        UserError: If the folder holds a run already and `resume` is not set, the run there does not fit, the batch does
            not divide among the replicas, or another worker is gone.
    """
    devices = devices or make_devices(plan.options.strategy)
    check_share(plan.options, devices.replicas)
    report = progress or silent
    say = say or (lambda line: report(0, 0, line))
    if not has_tensorboard():
        say(MISSING)
    with devices.watched(plan.path, plan.options):
        return _execute(plan, devices, resume=resume, report=report, say=say)


def _execute(plan: TrainingPlan, devices: Devices, *, resume: bool, report: Progress, say: Say) -> bool:
    devices.check_same("options", (plan.options, resume, plan.mask is not None))
    devices.check_same("slices", plan.store.content_hash)
    with ExitStack() as lock:
        # Of several workers the chief alone writes.
        devices.chief_first(lambda: lock.enter_context(folder_lock(plan.path)))
        return _execute_alone(plan, devices, resume=resume, report=report, say=say)


def _execute_alone(plan: TrainingPlan, devices: Devices, *, resume: bool, report: Progress, say: Say) -> bool:
    begins = not (plan.path / RUN_FILE).is_file()
    run = devices.chief_first(lambda: _opened(plan, resume=resume))
    if run is None:
        devices.wait_for_file(plan.path / RUN_FILE)
        run = Run(plan.path, Run.open(plan.path).content.model_copy(update={"options": plan.options}))
    if plan.mask is not None:
        first, second = (TrainProgress().of_budget(one.options)[1] for one in (plan.mask, plan))
        of_masks = stage(report, 0, first, second, "mask generator")
        if not _execute(plan.mask, devices, resume=resume, report=of_masks, say=say):
            return False
        report = stage(report, first, second, 0)
    try:
        trainer = Trainer(run, plan.store, devices=devices, progress=report, say=say)
    except UserError:
        if devices.chief and begins and plan.mask is None:
            # Nothing was trained yet: a run left behind would stand in the way of the corrected command.
            run.discard()
        raise
    if devices.chief:
        run.note_start(trainer.progress.step)
    return trainer.train()


def _opened(plan: TrainingPlan, *, resume: bool) -> Run:
    """Make the run of a plan, or open the one that is there."""
    existing = (plan.path / "run.json").is_file()
    if not existing and not is_free(plan.path) and not resume:
        raise UserError(f"{plan.path} is not empty: choose another --out, or give --resume to go on with a run there")
    if existing and not resume:
        raise UserError(f"{plan.path} holds a run already: choose another --out, or give --resume to go on with it")
    return _resumed(plan) if existing else _created(plan)


def _check_sources(options: ResolvedOptions, store: Store) -> None:
    """Refuse what a run may not learn from: unlabelled images but for `base`, and patients that the store holds out."""
    if options.unlabelled:
        if options.variant != "base":
            raise UserError(f"unlabelled images are for --variant base: {options.variant} learns from label maps")
        GeneratorBatches(options, store, Store.open(options.unlabelled))
    if options.init_from:
        source = Run.open(options.init_from)
        if source.options.variant != options.variant:
            raise UserError(
                f"{source.path} is a {source.options.variant} run: start {options.variant} from one of its kind"
            )
        _refuse_held_out(source, store)


def _refuse_held_out(source: Run, store: Store) -> None:
    if store.held_out_hashes & set(source.data.training_patients):
        raise UserError(
            f"{source.path} was trained on patients that {store.path} keeps for validation or test: train another"
        )


def _mask_run_of(path: str | None) -> str | None:
    """Return where the mask generator of the `cond` run lies that another one starts from."""
    masks = None if path is None else Run.open(path).mask_generator
    return str(masks) if masks is not None and masks.is_dir() else None


def _with_budget(options: TrainOptions, store: Store, existing_run: Run | None) -> TrainOptions:
    """Fill in the budget of the whole command: that of the run that is resumed, else the default."""
    if options.kimg is not None or options.minutes is not None:
        return options
    if existing_run is not None:
        minutes = existing_run.options.minutes
        if minutes is not None and existing_run.options.variant == "cond" and not existing_run.has_adopted_masks:
            minutes /= 1 - MASK_SHARE
        return options.model_copy(update={"kimg": existing_run.options.kimg, "minutes": minutes})
    phantom = "phantom" in store.dataset.lower()
    return options.model_copy(update={"minutes": PHANTOM_MINUTES if phantom else DEFAULT_MINUTES})


def _created(plan: TrainingPlan) -> Run:
    """Make the run folder; a run is taught by the patients of what it starts from and of unlabelled images, too."""
    others: set[str] = set()
    if plan.options.init_from:
        others |= set(Run.open(plan.options.init_from).data.training_patients)
    if plan.options.unlabelled:
        others |= set(Store.open(plan.options.unlabelled).training_hashes)
    data = DataSummary.of_store(plan.store, others=others)
    # Before run.json, which makes the folder a run: one without its masks would train others when it is resumed.
    _adopt_mask_generator(plan)
    return Run.create(plan.path, plan.options, data)


def _resumed(plan: TrainingPlan) -> Run:
    run = Run.open(plan.path)
    for name, old in run.options.model_dump().items():
        new = getattr(plan.options, name)
        if name not in FREE_OPTIONS and new != old:
            raise UserError(
                f"{plan.path} was started with {name} = {old}, not {new}: resume it with that or start another run"
            )
    if plan.masks_from is not None and (run.mask_generator / RUN_FILE).is_file():
        raise UserError(f"{run.mask_generator} is there already: resume without --masks-from, or start another run")
    _adopt_mask_generator(plan)
    run.options = plan.options
    run.save()
    return run


def _fitting_mask_run(path: Path, store: Store) -> Run:
    run = Run.open(path)
    if run.options.variant == "cond":
        run = Run.open(run.mask_generator)
    if run.options.variant != "mask":
        raise UserError(f"{path} has no mask generator: --masks-from wants a run of --variant mask, or of cond")
    if (run.data.size, run.data.classes) != (store.size, tuple(store.classes)):
        raise UserError(
            f"{path} draws masks of {run.data.size[0]}x{run.data.size[1]} with classes {', '.join(run.data.classes)}, "
            f"which is not what {store.path} holds: train a mask generator on that store"
        )
    _refuse_held_out(run, store)
    run.last_arrays()
    return run


def _adopt_mask_generator(plan: TrainingPlan) -> None:
    """Copy the run file and the weights of the plan's `masks_from`, if any, so that the `cond` run stands by itself."""
    source, folder = plan.masks_from, plan.path / MASK_GENERATOR
    if source is None:
        return
    checkpoint, arrays = source.chosen_arrays()
    average: dict[str, Any] = {name: value for name, value in arrays.items() if name.startswith("average/")}
    # Of a process that died before there was a run, maybe with another mask generator.
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_folder(folder) as temporary:
        save_checkpoint(temporary / CHECKPOINTS, average, checkpoint.state, keep=1)
        Run.create(temporary, source.options, source.data, adopted=True)


# Forward passes that a step amounts to, a backward pass being two: see the phases of the engine. The generator's
# batch is drawn once and goes back once; the discriminator sees real and generated slices and goes back through the
# generated ones twice. Regularisers take about three times a plain pass and its way back.
GENERATOR_PASSES = 3.0
DISCRIMINATOR_PASSES = 7.0
SECOND_ORDER_PASSES = 9.0
# Share of the plain convolution rate that a whole step reached on two cores; the rest is element-wise work.
EFFICIENCY = 0.45
MEASURE_SECONDS = 0.5


def estimate(plan: TrainingPlan) -> dict[str, Any]:
    """Return parameters, speed, time and memory of a planned run as plain values.

    Speed follows from the multiplications of a step and a convolution measured now in the run's number format. It is
    right within a factor of two.
    """
    options, store = plan.options, plan.store
    networks = make_networks(options, size=store.size, channels=len(store.channels), classes=len(store.classes))
    flops = _step_flops(options, store.size)
    rate = _convolution_rate(options)
    seconds_a_step = flops / (rate * EFFICIENCY)
    images_a_second = options.batch / seconds_a_step
    minutes = [] if options.minutes is None else [options.minutes]
    if options.kimg is not None:
        minutes.append(options.kimg * 1000 / images_a_second / 60)
    return {
        "generator_parameters": networks.generator.count_params(),
        "discriminator_parameters": networks.discriminator.count_params(),
        "training_slices": len(store.indices("train")),
        "gflop_a_step": round(flops / 1e9, 1),
        "images_a_second": round(images_a_second, 1),
        "minutes": round(min(minutes), 1),
        "memory_gib": round(_memory_bytes(options, store.size, networks) / 2**30, 1),
    }


def _forward_flops(options: ResolvedOptions, size: tuple[int, int]) -> float:
    """Floating-point operations of one slice through the discriminator's convolutions, about those of the generator."""
    pyramid = make_pyramid(size, channel_base=options.channel_base, channel_max=options.channel_max)
    total = 0.0
    for level in range(len(pyramid.sizes)):
        pixels = pyramid.sizes[level][0] * pyramid.sizes[level][1]
        channels, below = pyramid.channels[level], pyramid.channels[max(level - 1, 0)]
        total += 2 * 9 * pixels * channels * channels + 2 * 9 * pixels / 4 * channels * below
    return total


def _step_flops(options: ResolvedOptions, size: tuple[int, int]) -> float:
    forward = _forward_flops(options, size) * options.batch
    path = SECOND_ORDER_PASSES / options.path_every / options.path_batch_shrink if options.path_weight else 0.0
    r1 = SECOND_ORDER_PASSES / options.r1_every if options.r1_gamma else 0.0
    return forward * (GENERATOR_PASSES + DISCRIMINATOR_PASSES + path + r1)


def _convolution_rate(options: ResolvedOptions) -> float:
    """Measure floating-point operations a second of a typical convolution in the run's number format."""
    import numpy as np
    from keras import ops

    size, channels = 32, 64
    dtype = "bfloat16" if options.precision == "bfloat16" else "float32"
    inputs = ops.cast(np.ones((8, size, size, channels)), dtype)
    kernel = ops.cast(np.ones((3, 3, channels, channels)), dtype)
    flops = 2 * 9 * channels * channels * size * size * 8
    np.asarray(ops.cast(ops.conv(inputs, kernel, padding="same")[0, 0, 0], "float32"))
    best, end = float("inf"), time.perf_counter() + MEASURE_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.asarray(ops.cast(ops.conv(inputs, kernel, padding="same")[0, 0, 0], "float32"))
        best = min(best, time.perf_counter() - start)
    return flops / best


def _memory_bytes(options: ResolvedOptions, size: tuple[int, int], networks: Any) -> float:
    pyramid = make_pyramid(size, channel_base=options.channel_base, channel_max=options.channel_max)
    bytes_a_value = 2 if options.precision == "bfloat16" else 4
    features = sum(h * w * c for (h, w), c in zip(pyramid.sizes, pyramid.channels, strict=True))
    # A dozen tensors a level live until the way back; weights come with their average and Adam's two moments.
    activations = 12 * 3 * features * options.batch * bytes_a_value
    weights = 4 * (4 * networks.generator.count_params() + 3 * networks.discriminator.count_params())
    runtime = 0.8 * 2**30
    return activations + weights + runtime
