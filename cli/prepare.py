"""`synthmed prepare`: from a data set to a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from synthmed.errors import UserError, present

from .common import console, echo, lock_folder, parse_size, progress, seed_option
from .reading import reading_options

if TYPE_CHECKING:
    from synthmed.data.readers import Dataset, ReadOptions
    from synthmed.data.store import Store


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the store; new, or made by the same command.")
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
    "--normalise",
    multiple=True,
    metavar="[CHANNEL=]RULE",
    help="auto, percentiles, zscore (within the body) or window:LOW,HIGH (in the source's unit); may be repeated, for"
    " single channels.  [default: auto: CT by a window in HU, pictures by their full range, else percentiles]",
)
@click.option("--bias-correction", is_flag=True, help="Free MRI of slow shading by N4.")
@click.option(
    "--crop",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Cut off margins without content; auto: where at most three quarters of the voxels would be left.",
)
@click.option(
    "--slices",
    type=click.Choice(["all", "foreground", "balanced"]),
    default="all",
    show_default=True,
    help="Training slices that a training is offered: all, those with classes and their neighbours, or those with rare"
    " classes more often.",
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
    "--plan-only",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.yaml",
    help="Write the plan, to be read and edited, and stop; --plan then executes it.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.yaml",
    help="Execute a plan: one from --plan-only, or a store's plan.yaml. It says all that the other options say.",
)
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
    out: Path | None,
    axis: str | None,
    size: str | None,
    spacing: str | None,
    normalise: tuple[str, ...],
    bias_correction: bool,
    crop: Literal["auto", "yes", "no"],
    slices: Literal["all", "foreground", "balanced"],
    split: str,
    train_patients: int | None,
    plan_only: Path | None,
    plan: Path | None,
    unlabelled_for: Path | None,
    seed: int,
    reading: "ReadOptions",
) -> None:
    """Check the data set in the folder DATASET and write a store of normalised slices.

    Recognised are Medical Segmentation Decathlon and nnU-Net raw folders, volumes (NIfTI, NRRD, MetaImage) in a folder
    a case or named by case, pictures (PNG, JPEG, TIFF, BMP) with masks, and DICOM studies. Patients never straddle a
    split. Interrupted, the same command goes on; run again, it checks the store and makes anew what was damaged.

    \b
    Example:
      synthmed prepare Task04_Hippocampus --out store --size 64x64 --split 0.7,0.15,0.15
    """
    from synthmed.data.plan import PlanOptions
    from synthmed.data.prepare import prepare
    from synthmed.data.readers import read_dataset
    from synthmed.data.selection import parse_fractions

    if plan is not None:
        _refuse_beside(context, f"--plan prepares as {plan} says", "plan")
    elif unlabelled_for is not None:
        _refuse_beside(context, f"--unlabelled-for prepares as {unlabelled_for} was prepared", "unlabelled_for")
    if plan_only is not None and out is not None:
        raise UserError("--plan-only writes no store: leave out --out, and give it when --plan executes the plan")
    if plan_only is None and out is None:
        raise UserError("prepare needs a place for the store: add --out STORE")
    for written in filter(None, (out, plan_only)):
        lock_folder(written)
    if plan is not None:
        _prepare_as_planned(dataset, present(out, _REFUSED), plan)
        return
    if unlabelled_for is not None:
        _prepare_unlabelled(dataset, present(out, _REFUSED), unlabelled_for)
        return
    chosen_size = parse_size(size) if size else None
    chosen_spacing = _parse_spacing(spacing) if spacing else None
    chosen_split = Path(split) if split.endswith(".json") or Path(split).is_file() else parse_fractions(split)
    source = read_dataset(dataset, reading)
    options = PlanOptions(
        axis=axis,
        size=chosen_size,
        spacing=chosen_spacing,
        normalise=normalise,
        bias_correction=bias_correction,
        crop=crop,
        slices=slices,
    )
    common: dict[str, Any] = {
        "split": chosen_split,
        "train_patients": train_patients,
        "seed": seed,
        "options": options,
        "reading": reading,
    }
    if plan_only is not None:
        _write_plan(source, plan_only, common)
        return
    with progress("prepare") as report, _kept_when_interrupted():
        store = prepare(source, present(out, _REFUSED), **common, progress=report, say=_say)
    _show(store)


_REFUSED = "prepare refuses to go on without --out"


def _write_plan(source: "Dataset", file: Path, common: dict[str, Any]) -> None:
    from synthmed.data.prepare import plan_only

    for note in source.notes:
        _say(note)
    with progress("plan") as report:
        plan_only(source, file, **common, progress=report)
    console().print(f"{file}: read and edit it, then execute it with --out STORE --plan {file}", soft_wrap=True)


def _prepare_as_planned(dataset: Path, out: Path, plan: Path) -> None:
    from synthmed.data.prepare import prepare_as_planned

    with progress("prepare") as report, _kept_when_interrupted():
        store = prepare_as_planned(dataset, out, plan=plan, progress=report, say=_say)
    _show(store)


def _prepare_unlabelled(dataset: Path, out: Path, beside: Path) -> None:
    from synthmed.data.prepare import prepare_unlabelled
    from synthmed.data.store import Store

    labelled = Store.open(beside)
    with progress("prepare") as report, _kept_when_interrupted():
        store = prepare_unlabelled(dataset, out, beside=labelled, progress=report, say=_say)
    _show(store)


def _refuse_beside(context: click.Context, why: str, option: str) -> None:
    """Refuse all other options than this one and --out."""
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and isinstance(parameter, click.Option) and name not in (option, "out"):
            raise UserError(f"{why}: leave out {parameter.opts[0]}")


@contextmanager
def _kept_when_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        echo("what is done is kept: the same command goes on")
        raise


def _say(line: str) -> None:
    console().print(line, soft_wrap=True)


def _show(store: "Store") -> None:
    from synthmed.data.request import read_request
    from synthmed.data.summary import store_lines

    request = present(read_request(store.path), "a store records what it was asked for")
    screen = console()
    for line in store_lines(store, cases_in_dataset=len(request.cases)):
        screen.print(line, soft_wrap=True)


def _parse_spacing(text: str) -> tuple[float, float]:
    try:
        values = [float(part) for part in text.lower().split("x")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise UserError(f"--spacing {text}: write one pixel size or ROWxCOLUMN, for example 1 or 0.8x1.2")
    return values[0], values[-1]
