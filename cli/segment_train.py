"""`synthmed segment train`: train a U-Net on real slices, and on synthetic ones as far as they help."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthmed.errors import UserError
from synthmed.files import check_resumable

from .common import console, emit_json, json_option, lock_first_free, lock_folder, progress, say
from .segment_options import NO_JUDGE, Ratio, filter_with_option, judge_of, mirror_option

if TYPE_CHECKING:
    from synthmed.data.store import Store
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.segmentation.blend import GeneratedSlices
    from synthmed.segmentation.options import Blending, SegmentOptions
    from synthmed.segmentation.run import SegmentationRun

RUNS = Path("runs")
FOLDER = click.Path(path_type=Path)


@click.command("train")
@click.option("--data", type=FOLDER, help="Store to train on.  [default: prepared last here]")
@click.option("--synthetic", type=FOLDER, help="Set that `synthmed generate` wrote, to blend in.")
@click.option(
    "--ratio",
    type=Ratio(),
    metavar="R|auto",
    help="Synthetic slices for each real slice; inf: synthetic alone; auto: what validation patients say.  "
    "[default: auto]",
)
@click.option("--auto-steps", type=click.IntRange(1), metavar="N", help="Steps a try of --ratio auto.  [default: half]")
@click.option("--generator", type=FOLDER, metavar="RUN", help="Draw the slices while training, each once (or export).")
@click.option("--psi", type=float, help="Truncation of --generator.  [default: 1]")
@click.option("--ratio-end", type=float, metavar="R", help="Ratio at the last step, reached along a line.")
@click.option("--pretrain", type=float, metavar="SHARE", help="Share of the steps, first, on synthetic slices alone.")
@click.option("--synthetic-weight", type=float, metavar="W", help="Weight of a synthetic slice in the loss; real: 1.")
@click.option("--sampling", type=click.Choice(["uniform", "balanced"]), help="balanced: rare classes more often.")
@click.option("--filter", "keep_share", type=float, metavar="SHARE", help="Keep the best SHARE of --synthetic.")
@filter_with_option
@click.option("--out", type=FOLDER, help="Run folder.  [default: runs/NNNNN-unet]")
@click.option("--steps", type=int, help="Gradient steps, whatever the ratio.  [default: 500]")
@click.option("--batch", type=int, help="Slices a step, real and synthetic together.  [default: 32]")
@click.option("--width", type=int, help="Channels at full resolution.  [default: 16 to 32, by the store's slices]")
@click.option("--levels", type=int, help="Resolutions.  [default: by the size of the slices]")
@click.option("--decoder-convolutions", type=int, help="Convolutions a level on the way up.  [default: 2]")
@click.option("--deep-supervision/--no-deep-supervision", default=None, help="Train lower levels too.  [default: on]")
@click.option("--class-weights", type=click.Choice(["none", "frequency"]), help="Of rare classes.  [default: none]")
@click.option("--context", type=int, metavar="N", help="See N neighbouring slices on each side.  [default: 0]")
@mirror_option
@click.option("--learning-rate", type=float, help="Highest learning rate of AdamW.  [default: 0.004]")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), help="Number format.  [default: auto]")
@click.option("--train-patients", type=int, metavar="N", help="Use N training patients (nested: 5 within 10).")
@click.option("--validate-every", type=int, metavar="N", help="Steps between validations.  [default: a fifth]")
@click.option("--patience", type=int, metavar="N", help="Stop after N validations without gain.  [default: never]")
@click.option(
    "--keep", type=click.Choice(["last", "best"]), help="Weights to predict with.  [default: best with --patience]"
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Same seed, same machine: same run.  [default: 0]")
@json_option
def command(
    data: Path | None,
    synthetic: Path | None,
    generator: Path | None,
    out: Path | None,
    auto_steps: int | None,
    resume: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a U-Net on a store's training patients, watching its validation patients.

    Ctrl-C saves and stops; --resume goes on exactly where it stopped. `--pretrain 0.5 --ratio 0` trains on synthetic
    slices first and then on real ones. --filter judges label maps, distances and whether a U-Net agrees with each label
    map, by the training patients alone; it trains that U-Net first, in RUN-judge, unless --filter-with names one.

    Without --ratio the validation patients are asked, which takes about four times as long: synthetic slices may harm.

    \b
    Example:
      synthmed segment train --data store --synthetic out --out unet
      synthmed segment train --data store --generator runs/00001-cond --ratio 1 --ratio-end 0 --out unet
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed segment train")
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.segmentation.augment import with_mirror
    from synthmed.segmentation.auto_ratio import keep_choice, with_ratio
    from synthmed.segmentation.blend import check_fits
    from synthmed.segmentation.options import DEFAULT_RATIO, check_options
    from synthmed.segmentation.run import RECORD, SegmentationRun
    from synthmed.segmentation.train import train, with_judge
    from synthmed.training.run import next_run_paths

    if resume and out is None:
        raise UserError("--resume needs the run to go on with: give --out RUN")
    if out is not None:
        lock_folder(out)
    begun = SegmentationRun.open(out) if resume and out and (out / RECORD).is_file() else None
    if begun and begun.record.synthetic and synthetic is None and generator is None:
        folder = Path(begun.record.synthetic.folder)
        synthetic, generator = (folder, None) if begun.record.synthetic.slices else (None, folder)
    store = _store(data, begun)
    ratio, blends = values["ratio"], bool(synthetic or generator)
    auto = ratio == "auto" or (ratio is None and blends and _searches_by_default(store, begun))
    if auto or (ratio is None and blends):
        # The ratio of a run that has begun was found before it began; a search tries its own.
        values["ratio"] = None if begun else DEFAULT_RATIO
    judged = values["filter_with"] != NO_JUDGE
    values["blending"] = _blending(values, begun)
    values["augmentation"] = with_mirror(values.pop("mirror"), begun.record.options.augmentation if begun else None)
    options = check_options(values, begun=begun.record.options if begun else None)
    if auto and begun:
        # What blends is given again with the same command, but has no part in a run whose answer was 0.
        options = with_ratio(options, options.ratio)
    blended = _blended(synthetic, generator, options) if options.uses_synthetic else None
    path = out or lock_first_free(next_run_paths(RUNS, "unet"))
    wanted = judged and begun is None and options.blending.keep < 1 and not options.blending.judge
    if wanted and isinstance(blended, SyntheticSet):
        # Now rather than when the judge has been trained.
        check_resumable(path, resume=resume)
        check_fits(blended, store)
        with progress("segment train, judge of --filter") as report:
            options = with_judge(store, path, options, progress=report)
    if auto and begun is None:
        options = _with_best_ratio(store, path, options, blended, steps=auto_steps, resume=resume, quiet=as_json)
    with progress("segment train") as report:
        run = train(store, path, options, synthetic=blended, resume=resume, progress=report, say=say("segment train"))
    if auto:
        keep_choice(path)
    if ratio is None and blends and not auto and not as_json:
        console().print(
            f"note: ratio {options.ratio:g}, as too few validation patients are there to ask which is best",
            soft_wrap=True,
        )
    _render_training(run, as_json=as_json)


def _blending(values: dict[str, Any], begun: "SegmentationRun | None") -> "Blending":
    from synthmed.segmentation.options import check_blending

    given = {name: values.pop(name) for name in ("ratio_end", "pretrain", "synthetic_weight", "sampling", "psi")}
    given |= {"keep": values.pop("keep_share"), "judge": judge_of(values.pop("filter_with"))}
    return check_blending(given, begun=begun.record.options.blending if begun else None)


def _blended(
    synthetic: Path | None, generator: Path | None, options: "SegmentOptions"
) -> "SyntheticSet | GeneratedSlices | None":
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.generation.generator import load_generator
    from synthmed.segmentation.blend import GeneratedSlices

    if synthetic and generator:
        raise UserError("--synthetic and --generator exclude each other: leave one of them out")
    if generator:
        return GeneratedSlices(load_generator(generator), generator, psi=options.blending.psi)
    return SyntheticSet.open(synthetic) if synthetic else None


def _store(data: Path | None, begun: "SegmentationRun | None") -> "Store":
    from synthmed.data.store import Store, find_latest_store

    if data is None and begun is not None:
        data = Path(begun.record.store)
    data = data or find_latest_store(Path())
    if data is None:
        raise UserError("there is no store in this folder: make one with `synthmed prepare DATASET --out STORE`")
    return Store.open(data)


def _searches_by_default(store: "Store", begun: "SegmentationRun | None") -> bool:
    """Tell whether the ratio is searched, or was, where none is given."""
    from synthmed.segmentation.auto_ratio import FEWEST_PATIENTS, validation_patients, was_searched

    return was_searched(begun.path) if begun else validation_patients(store) >= FEWEST_PATIENTS


def _with_best_ratio(
    store: "Store",
    path: Path,
    options: "SegmentOptions",
    synthetic: "SyntheticSet | GeneratedSlices | None",
    *,
    steps: int | None,
    resume: bool,
    quiet: bool,
) -> "SegmentOptions":
    """Return the options with the ratio that validation patients speak for, and print why."""
    from synthmed.segmentation.auto_ratio import choose_ratio, search_folder, with_ratio

    if synthetic is None:
        raise UserError("--ratio auto needs synthetic slices: give --synthetic DIR or --generator RUN")
    folder = search_folder(path)
    for taken in (path, folder):
        check_resumable(taken, resume=resume)
    with progress("segment train --ratio auto") as report:
        choice = choose_ratio(store, folder, options, synthetic, steps=steps, progress=report)
    if not quiet:
        for trial in choice.trials:
            gain = f", {100 * trial.gain.value:+.1f} +/- {100 * trial.gain.error:.1f} points" if trial.gain else ""
            console().print(f"ratio {trial.ratio:g}, seed {trial.seed}: validation Dice {trial.dice:.4f}{gain}")
        console().print(choice.sentence, soft_wrap=True)
    return with_ratio(options, choice.ratio)


def _render_training(run: "SegmentationRun", *, as_json: bool) -> None:
    from synthmed.segmentation.augment import mirrored
    from synthmed.segmentation.train import unseen_cases

    record, lines = run.record, run.read_log()
    if not run.finished:
        raise UserError(f"stopped; {run.path} is saved: go on with `synthmed segment train --out {run.path} --resume`")
    validation = next((line["validation"] for line in reversed(lines) if "validation" in line), None)
    seconds = next((line["seconds"] for line in reversed(lines) if "seconds" in line), None)
    unseen = unseen_cases(run)
    flips = mirrored(record.options.augmentation)
    if as_json:
        told = {"run": str(run.path), "validation": validation, "seconds": seconds, "unseen_cases": unseen}
        emit_json(told | {"mirrored": flips})
        return
    screen = console()
    real, synthetic = record.batch_parts
    steps = max((line["step"] for line in lines), default=0)
    early = f" (of {record.options.steps}: the validation no longer gained)" if steps < record.options.steps else ""
    screen.print(
        f"{run.path}: {steps} steps{early} of {real} real and {synthetic} synthetic slices, "
        f"--mirror {flips}, {len(record.training_patients)} training cases, {seconds:.0f} s"
    )
    if validation and validation["dice"] is not None:
        classes = ", ".join(
            f"{name} {value:.3f}" if value is not None else f"{name} absent"
            for name, value in validation["classes"].items()
        )
        screen.print(f"validation Dice {validation['dice']:.3f} over {validation['cases']} cases ({classes})")
    if run.chosen != (record.options.keep or "last"):
        screen.print("note: no validation gave a Dice, so none is the best: predict uses the last weights")
    if unseen:
        screen.print(
            f"note: the synthetic slices come from generators that saw {unseen} cases which this U-Net did not; "
            "a fair comparison gives both the same"
        )
    screen.print(f"next: synthmed segment predict --model {run.path} INPUT --out predicted", soft_wrap=True)
