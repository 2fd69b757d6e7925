"""`synthmed segment`: train, apply and score a segmentation U-Net."""

from pathlib import Path
from typing import Any

import click

from .common import console, echo, emit_json, json_option, lock_folder, progress
from .segment_compare import command as compare_command
from .segment_options import flips_option
from .segment_score import command as score_command
from .segment_train import command as train_command

FOLDER = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Train a U-Net on real and synthetic slices, apply it to whole cases, and score the result.

    \b
    Example:
      synthmed segment train --data store --synthetic out --out unet
      synthmed segment predict --model unet store --out predicted
      synthmed segment score predicted Task04_Hippocampus
    """


@command.command("predict")
@click.argument("source", metavar="INPUT", type=FOLDER)
@click.option(
    "--model",
    "models",
    type=FOLDER,
    required=True,
    multiple=True,
    help="Run folder of `segment train`; several: the mean of their probabilities.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder for the label maps; must be new.")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="Cases of a store."
)
@click.option("--split-file", type=FOLDER, metavar="FILE", help="Choose the --split of a data set, as prepare --split.")
@click.option("--weights", type=click.Choice(["last", "best"]), help="Which weights.  [default: what train kept]")
@flips_option
@click.option("--largest-component", is_flag=True, help="Keep of each class its largest connected piece alone (3D).")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Numbers.",
)
@json_option
def predict_command(source: Path, models: tuple[Path, ...], out: Path, as_json: bool, **how: Any) -> None:
    """Write a label map for each case of INPUT, in the geometry and label values of the source.

    INPUT is a store (its --split), a data set folder, a folder of images, or one image.

    \b
    Example:
      synthmed segment predict --model unet store --out predicted
      synthmed segment predict --model axial --model coronal --model sagittal images --out predicted
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed segment predict")
    lock_folder(out)
    from synthmed.segmentation.predict import predict
    from synthmed.segmentation.run import SegmentationRun

    runs = [SegmentationRun.open(model) for model in models]
    with progress("segment predict") as report:
        written = predict(runs, source, out, progress=report, say=echo, **how)
    if as_json:
        emit_json([str(path) for path in written])
    else:
        console().print(f"{len(written)} label maps in {out}")


command.add_command(train_command)
command.add_command(score_command)
command.add_command(compare_command)
