"""`synthmed prepare`: from a data set to a store."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthmed.errors import UserError

from .common import console, parse_size, progress, seed_option
from .reading import NAMES, reading_options

if TYPE_CHECKING:
    from synthmed.data.readers import ReadOptions


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the store; must be new.")
@click.option(
    "--axis",
    type=click.Choice(["sagittal", "coronal", "axial"]),
    help="Way of slicing.  [default: across the longest voxels, else axial]",
)
@click.option(
    "--size",
    metavar="HxW",
    help="Rows and columns of a slice.  [default: what holds the largest case, multiples of 16 up to 256]",
)
@click.option(
    "--spacing",
    metavar="ROWxCOLUMN",
    help="Pixel size, in mm; what then does not fit the slice is cropped.  [default: the median, coarser where cases"
    " would not fit]",
)
@click.option(
    "--split",
    default="0.7,0.15,0.15",
    show_default=True,
    metavar="FRACTIONS|FILE.json",
    help='Patients for training, validation, test; or a file of case names {"train": [], "val": [], "test": []}.',
)
@click.option("--train-patients", type=click.IntRange(min=1), metavar="N", help="Keep N training patients (nested).")
@click.option(
    "--unlabelled-for",
    type=click.Path(path_type=Path),
    metavar="STORE",
    help="Take the images alone, as STORE was prepared, to train `base` on them beside it; all other options are its.",
)
@reading_options
@seed_option
@click.pass_context
def command(
    context: click.Context,
    dataset: Path,
    out: Path,
    axis: str | None,
    size: str | None,
    spacing: str | None,
    split: str,
    train_patients: int | None,
    unlabelled_for: Path | None,
    seed: int,
    reading: "ReadOptions",
) -> None:
    """Check the data set in the folder DATASET and write a store of normalised slices.

    Recognised are Medical Segmentation Decathlon and nnU-Net raw folders, volumes (NIfTI, NRRD, MetaImage) in a folder
    a case or named by case, and pictures (PNG, JPEG, TIFF, BMP) with masks. Patients never straddle a split.

    \b
    Example:
      synthmed prepare Task04_Hippocampus --out store --size 64x64 --split 0.7,0.15,0.15
    """
    from synthmed.data.prepare import prepare
    from synthmed.data.readers import read_dataset
    from synthmed.data.split import parse_fractions
    from synthmed.data.summary import store_lines

    if unlabelled_for is not None:
        _prepare_unlabelled(context, dataset, out, unlabelled_for)
        return
    chosen_size = parse_size(size) if size else None
    chosen_spacing = _parse_spacing(spacing) if spacing else None
    chosen_split = Path(split) if split.endswith(".json") or Path(split).is_file() else parse_fractions(split)
    source = read_dataset(dataset, reading)
    for note in source.notes:
        click.echo(note, err=True)
    with progress("prepare") as report:
        store = prepare(
            source,
            out,
            axis=axis,
            size=chosen_size,
            spacing=chosen_spacing,
            split=chosen_split,
            train_patients=train_patients,
            seed=seed,
            progress=report,
        )
    screen = console()
    for line in store_lines(store, cases_in_dataset=len(source.cases)):
        screen.print(line, soft_wrap=True)


def _prepare_unlabelled(context: click.Context, dataset: Path, out: Path, beside: Path) -> None:
    from synthmed.data.prepare import prepare_unlabelled
    from synthmed.data.readers import read_unlabelled
    from synthmed.data.store import Store
    from synthmed.data.summary import store_lines

    for name in ("axis", "size", "spacing", "split", "train_patients", "seed", *NAMES):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise UserError(f"--unlabelled-for prepares as {beside} was prepared: leave out {option}")
    labelled = Store.open(beside)
    with progress("prepare") as report:
        store = prepare_unlabelled(dataset, out, beside=labelled, progress=report)
    screen = console()
    for line in store_lines(store, cases_in_dataset=len(read_unlabelled(dataset, labelled.manifest).cases)):
        screen.print(line, soft_wrap=True)


def _parse_spacing(text: str) -> tuple[float, float]:
    try:
        values = [float(part) for part in text.lower().split("x")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise UserError(f"--spacing {text}: write one pixel size or ROWxCOLUMN, for example 1 or 0.8x1.2")
    return values[0], values[-1]
