"""`synthmed segment compare`: train every arm, and say whether synthetic slices help."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthmed.errors import UserError

from .common import console, emit_json, json_option, lock_folder, progress
from .segment_options import filter_model_of, filter_with_option, mirror_option

if TYPE_CHECKING:
    from synthmed.data.store import Store
    from synthmed.segmentation.compare import CompareOptions
    from synthmed.segmentation.comparison import Comparison

FOLDER = click.Path(path_type=Path)
ARMS = "real,duplicated,blended,synthetic,oracle"


@click.command("compare")
@click.option("--data", type=FOLDER, help="Store to compare on.  [default: prepared last here]")
@click.option(
    "--synthetic",
    type=FOLDER,
    multiple=True,
    help="Set that `synthmed generate` wrote; once for all draws, or once for each.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder of all trainings and of the result.")
@click.option("--train-patients", type=int, metavar="N", help="Real training patients of each arm.  [default: all]")
@click.option("--arms", default=ARMS, show_default=True, help="Which arms, with commas; real always is one.")
@click.option("--ratio", type=float, default=0.5, show_default=True, help="Synthetic slices for each real slice.")
@click.option("--ratio-end", type=float, metavar="R", help="As segment train, of the blended arm.")
@click.option("--pretrain", type=float, metavar="SHARE", help="As segment train, of the blended arm.")
@click.option("--synthetic-weight", type=float, metavar="W", help="As segment train.")
@click.option("--sampling", type=click.Choice(["uniform", "balanced"]), help="As segment train, in all arms.")
@click.option("--filter", "keep_fraction", type=float, metavar="SHARE", help="As segment train.")
@filter_with_option
@click.option("--seeds", type=int, default=3, show_default=True, help="Trainings of each arm and draw.")
@click.option("--draws", type=int, default=1, show_default=True, help="Different choices of the N training patients.")
@click.option("--oracle-patients", type=int, metavar="N", help="More patients of the oracle.  [default: ratio x N]")
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True, help="Whom to score.")
@click.option("--reference", type=FOLDER, help="Data set to score against, in its geometry.  [default: the store]")
@click.option("--flips", type=click.Choice(["none", "columns", "rows", "both"]), help="As predict.  [default: none]")
@click.option("--largest-component", is_flag=True, help="As predict.")
@click.option("--tolerance", type=float, metavar="MM", help="Of the surface Dice.  [default: 1.0]")
@click.option("--steps", type=int, help="Gradient steps of every training.  [default: 500]")
@click.option("--batch", type=int, help="Slices a step.  [default: 32]")
@click.option("--width", type=int, help="As segment train; one for all arms.")
@click.option("--context", type=int, metavar="N", help="As segment train.  [default: 0]")
@click.option("--class-weights", type=click.Choice(["none", "frequency"]), help="As segment train.  [default: none]")
@mirror_option
@click.option("--learning-rate", type=float, help="As segment train.  [default: 0.004]")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), help="As segment train.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="First seed.  [default: 0]")
@click.option("--write-splits", is_flag=True, help="Write who trains in each draw, for `prepare --split`, and stop.")
@json_option
def command(
    data: Path | None,
    synthetic: tuple[Path, ...],
    out: Path,
    reference: Path | None,
    write_splits: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a U-Net on each arm, several times, and say whether synthetic slices help.

    \b
    real        the N training patients
    duplicated  the same batches as blended, with copies of real slices in the place of synthetic ones
    blended     --ratio synthetic slices for each real one
    synthetic   synthetic slices alone
    oracle      as many more real patients as the synthetic slices stand for

    All arms take the same number of steps with the same augmentation. Dice is compared over the same patients, draws
    and seeds; the table has each arm's gain over real with its 95 % bootstrap interval. The generator must have been
    trained on the same N patients. The same command again goes on where it stopped.

    \b
    Example:
      synthmed segment compare --data store --synthetic out --train-patients 5 --out comparison
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed segment compare")
    lock_folder(out)
    from synthmed.data.store import Store, find_latest_store
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.segmentation import compare
    from synthmed.segmentation.augment import with_mirror
    from synthmed.segmentation.options import check_options
    from synthmed.segmentation.schedule import check_blending

    path = data or find_latest_store(Path())
    if path is None:
        raise UserError("there is no store in this folder: make one with `synthmed prepare DATASET --out STORE`")
    shared = ("steps", "batch", "width", "context", "class_weights", "learning_rate", "precision", "seed")
    blending = {name: values.pop(name) for name in ("ratio_end", "pretrain", "synthetic_weight", "sampling")}
    named = values.pop("filter_model")
    blending |= {"keep_fraction": values.pop("keep_fraction"), "filter_model": filter_model_of(named)}
    values["own_filter_model"] = named is None
    augmentation = with_mirror(values.pop("mirror"))
    training = check_options(
        {
            "blending": check_blending(blending),
            "augmentation": augmentation,
            **{name: values.pop(name) for name in shared},
        }
    )
    values["arms"] = tuple(part.strip() for part in values["arms"].split(",") if part.strip())
    options = compare.check_compare_options(values)
    store = Store.open(path)
    if write_splits:
        written = compare.write_splits(store, out, options)
        emit_json([str(file) for file in written]) if as_json else console().print(*written, sep="\n")
        return
    sets = [SyntheticSet.open(folder) for folder in synthetic]
    with progress("segment compare") as report:
        found = compare.compare(store, out, options, training, synthetic=sets, reference=reference, progress=report)
    _draw(found, store, out, options, seed=training.seed)
    if as_json:
        emit_json(found.model_dump(mode="json"))
    else:
        _render(found, out)


def _draw(found: "Comparison", store: "Store", out: Path, options: "CompareOptions", *, seed: int) -> None:
    """Write what the first training of each arm predicts for some patients beside the reference."""
    from synthmed.reporting.predictions import prediction_figure, typical_cases, write_predictions
    from synthmed.segmentation.run import SegmentationRun
    from synthmed.segmentation.store_scores import SCORES, read_scores

    runs: dict[str, SegmentationRun] = {
        arm.name: SegmentationRun.open(out / f"{arm.name}-{seed}") for arm in found.arms
    }
    picture = out / "predictions.png"
    if picture.is_file() and all(
        picture.stat().st_mtime > (run.path / SCORES).stat().st_mtime for run in runs.values()
    ):
        return
    cases = typical_cases(store, read_scores(runs["real"]))
    if cases:
        figure = prediction_figure(store, cases, runs, flips=options.flips, largest_component=options.largest_component)
        write_predictions(figure, picture)


def _render(found: "Comparison", out: Path) -> None:
    from rich.table import Table

    from synthmed.segmentation.comparison import HEADINGS, cells

    screen = console()
    table = Table(title=f"{found.patients} patients")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for result in found.arms:
        table.add_row(*cells(result))
    screen.print(table)
    for note in found.notes:
        screen.print(note, soft_wrap=True)
    screen.print(found.verdict, soft_wrap=True)
    screen.print(f"comparison.md, comparison.json and predictions.png are in {out}", soft_wrap=True)
