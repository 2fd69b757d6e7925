"""`synthmed segment train`: train a U-Net on real slices, and on synthetic ones as far as they help."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthmed.errors import UserError

from .common import console, emit_json, json_option, lock_folder, progress, say
from .segment_options import Ratio, filter_with_option, mirror_option

if TYPE_CHECKING:
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
@click.option("--filter", "keep_fraction", type=float, metavar="SHARE", help="Keep the best SHARE of --synthetic.")
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
def command(data: Path | None, out: Path | None, resume: bool, as_json: bool, **values: Any) -> None:
    """Train a U-Net on a store's training patients, watching its validation patients.

    Ctrl-C saves and stops; --resume goes on exactly where it stopped. `--pretrain 0.5 --ratio 0` trains on synthetic
    slices first and then on real ones. --filter compares label maps, distances and what a U-Net finds with the
    training patients alone; it trains that U-Net first, in RUN-filter-model, unless --filter-with names one.

    Without --ratio the validation patients are asked, which takes about four times as long: synthetic slices may harm.

    \b
    Example:
      synthmed segment train --data store --synthetic out --out unet
      synthmed segment train --data store --generator runs/00001-cond --ratio 1 --ratio-end 0 --out unet
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed segment train")
    if out is not None:
        lock_folder(out)
    from synthmed.segmentation.train_unet import train_unet

    # What is said of a search is a result; all else is a note.
    tell = say("segment train") if as_json else (lambda line: console().print(line, soft_wrap=True))
    with progress("segment train") as report:
        run = train_unet(data, out=out, resume=resume, progress=report, say=tell, **values)
    _render_training(run, as_json=as_json)


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
