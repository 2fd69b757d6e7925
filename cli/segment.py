"""`synthmed segment`: train, apply and score a segmentation U-Net."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthmed.errors import UserError

from .common import console, emit_json, json_option, progress

if TYPE_CHECKING:
    from synthmed.data.store import Store
    from synthmed.segmentation.run import SegmentationRun
    from synthmed.segmentation.score import Mean, Scores

RUNS = Path("runs")
FOLDER = click.Path(path_type=Path)
flips_option = click.option(
    "--flips",
    type=click.Choice(["none", "columns", "rows", "both"]),
    default="none",
    show_default=True,
    help="Average with the prediction of slices mirrored along these; for networks that were trained so.",
)
tolerance_option = click.option(
    "--tolerance", type=float, default=1.0, show_default=True, metavar="MM", help="Of the surface Dice."
)


@click.group()
def command() -> None:
    """Train a U-Net on real and synthetic slices, apply it to whole cases, and score the result.

    \b
    Example:
      synthmed segment train --data store --synthetic out --ratio 0.5 --out unet
      synthmed segment predict --model unet store --out predicted
      synthmed segment score predicted Task04_Hippocampus
    """


@command.command("train")
@click.option("--data", type=FOLDER, help="Store to train on.  [default: prepared last here]")
@click.option("--synthetic", type=FOLDER, help="Set that `synthmed generate` wrote, to blend in.")
@click.option("--ratio", type=float, help="Synthetic slices for each real slice; inf: synthetic alone.  [default: 0.5]")
@click.option("--out", type=FOLDER, help="Run folder.  [default: runs/NNNNN-unet]")
@click.option("--steps", type=int, help="Gradient steps, whatever the ratio.  [default: 500]")
@click.option("--batch", type=int, help="Slices a step, real and synthetic together.  [default: 32]")
@click.option("--width", type=int, help="Channels at full resolution.  [default: 24]")
@click.option("--learning-rate", type=float, help="Highest learning rate of AdamW.  [default: 0.002]")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), help="Number format.  [default: auto]")
@click.option("--train-patients", type=int, metavar="N", help="Use N training patients (nested: 5 within 10).")
@click.option("--keep", type=click.Choice(["last", "best"]), help="Weights to predict with.  [default: last]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Same seed, same machine: same run.  [default: 0]")
@json_option
def train_command(
    data: Path | None, synthetic: Path | None, out: Path | None, resume: bool, as_json: bool, **values: Any
) -> None:
    """Train a U-Net on a store's training patients, watching its validation patients.

    Ctrl-C saves and stops; --resume goes on exactly where it stopped.

    \b
    Example:
      synthmed segment train --data store --synthetic out --ratio 0.5 --out unet
    """
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.segmentation.options import DEFAULT_RATIO, check_options
    from synthmed.segmentation.run import RECORD, SegmentationRun
    from synthmed.segmentation.train import train
    from synthmed.training.run import next_run_path

    if resume and out is None:
        raise UserError("--resume needs the run to go on with: give --out RUN")
    begun = SegmentationRun.open(out) if resume and out and (out / RECORD).is_file() else None
    if begun and begun.record.synthetic and synthetic is None:
        synthetic = Path(begun.record.synthetic.folder)
    if synthetic and begun is None and values["ratio"] is None:
        values["ratio"] = DEFAULT_RATIO
    options = check_options(values, begun=begun.record.options if begun else None)
    store = _store(data, begun)
    blended = SyntheticSet.open(synthetic) if synthetic and options.ratio > 0 else None
    path = out or next_run_path(RUNS, "unet")
    with progress("segment train") as report:
        run = train(store, path, options, synthetic=blended, resume=resume, progress=report)
    _render_training(run, as_json=as_json)


@command.command("predict")
@click.argument("source", metavar="INPUT", type=FOLDER)
@click.option("--model", type=FOLDER, required=True, help="Run folder of `segment train`.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the label maps; must be new.")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="Cases of a store."
)
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
def predict_command(source: Path, model: Path, out: Path, as_json: bool, **how: Any) -> None:
    """Write a label map for each case of INPUT, in the geometry and label values of the source.

    INPUT is a store (its --split), a data set folder, a folder of images, or one image.

    \b
    Example:
      synthmed segment predict --model unet store --out predicted
    """
    from synthmed.segmentation.predict import predict
    from synthmed.segmentation.run import SegmentationRun

    run = SegmentationRun.open(model)
    with progress("segment predict") as report:
        written = predict(run, source, out, progress=report, **how)
    if as_json:
        emit_json([str(path) for path in written])
    else:
        console().print(f"{len(written)} label maps in {out}")


@command.command("score")
@click.argument("predicted", type=FOLDER)
@click.argument("reference", type=FOLDER)
@click.option("--out", type=FOLDER, metavar="FILE", help="Also write the scores of all cases: .csv or .json.")
@tolerance_option
@click.option(
    "--patients",
    type=FOLDER,
    metavar="STORE|FILE",
    help="Whose case is whose: a store, or JSON of case and patient.  [default: what the data set REFERENCE says]",
)
@json_option
def score_command(
    predicted: Path, reference: Path, out: Path | None, tolerance: float, patients: Path | None, as_json: bool
) -> None:
    """Score label maps against REFERENCE maps of the same names.

    For each class: Dice, HD95, the share of the surface that lies within --tolerance of the other surface (surface
    Dice), and how far the volume is off, in ml and as a share. Means are over patients: one with several cases counts
    once.

    Both are folders or files; REFERENCE may be a data set, whose labelsTr and class names are used. A class that is in
    neither map of a case is left out of the mean and counted as absent; one that is in one map only scores Dice 0 and
    the diagonal of the image, and is counted as missed.

    \b
    Example:
      synthmed segment score predicted Task04_Hippocampus --out scores.csv
    """
    from synthmed.segmentation.patients import find_patients
    from synthmed.segmentation.score import score_folders, write_scores

    if out and out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {out}: choose a name that ends in .csv or .json")
    with progress("segment score") as report:
        owners = find_patients(patients, reference)
        scores = score_folders(predicted, reference, tolerance=tolerance, patients=owners, progress=report)
    if out:
        write_scores(scores, out)
    if as_json:
        emit_json(scores.model_dump())
    else:
        _render_scores(scores)


def _store(data: Path | None, begun: "SegmentationRun | None") -> "Store":
    from synthmed.data.store import Store, find_latest_store

    if data is None and begun is not None:
        data = Path(begun.record.store)
    data = data or find_latest_store(Path())
    if data is None:
        raise UserError("there is no store in this folder: make one with `synthmed prepare DATASET --out STORE`")
    return Store.open(data)


def _render_training(run: "SegmentationRun", *, as_json: bool) -> None:
    from synthmed.segmentation.train import unseen_patients

    record, lines = run.record, run.read_log()
    if not run.finished:
        raise UserError(f"stopped; {run.path} is saved: go on with `synthmed segment train --out {run.path} --resume`")
    validation = next((line["validation"] for line in reversed(lines) if "validation" in line), None)
    seconds = next((line["seconds"] for line in reversed(lines) if "seconds" in line), None)
    unseen = unseen_patients(run)
    if as_json:
        emit_json({"run": str(run.path), "validation": validation, "seconds": seconds, "unseen_patients": unseen})
        return
    screen = console()
    real, synthetic = record.batch_parts
    screen.print(
        f"{run.path}: {record.options.steps} steps of {real} real and {synthetic} synthetic slices, "
        f"{len(record.training_patients)} training cases, {seconds:.0f} s"
    )
    if validation and validation["dice"] is not None:
        classes = ", ".join(
            f"{name} {value:.3f}" if value is not None else f"{name} absent"
            for name, value in validation["classes"].items()
        )
        screen.print(f"validation Dice {validation['dice']:.3f} over {validation['cases']} cases ({classes})")
    if unseen:
        screen.print(
            f"note: the synthetic slices come from generators that saw {unseen} patients which this U-Net did not; "
            "a fair comparison gives both the same patients"
        )
    screen.print(f"next: synthmed segment predict --model {run.path} INPUT --out predicted", soft_wrap=True)


def _render_scores(scores: "Scores") -> None:
    from rich.table import Table

    overall = scores.overall
    table = Table(title=f"{overall.cases} cases" + (f" of {overall.patients} patients" if overall.patients else ""))
    surface = f"surface Dice at {scores.tolerance:g} mm"
    for heading in ("class", "Dice", "HD95 (mm)", surface, "volume off by", "cases", "absent", "missed"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for mean in scores.classes:
        table.add_row(*_cells(mean))
    table.add_section()
    table.add_row(*_cells(overall))
    console().print(table)


def _cells(mean: "Mean") -> list[str]:
    volume = [
        text.format(value)
        for text, value in (("{:.2f} ml", mean.volume_ml), ("{:.1%}", mean.volume_relative))
        if value is not None
    ]
    return [
        mean.name,
        "-" if mean.dice is None else f"{mean.dice:.4f}",
        "-" if mean.hd95 is None else f"{mean.hd95:.2f}",
        "-" if mean.surface_dice is None else f"{mean.surface_dice:.4f}",
        ", ".join(volume) or "-",
        *map(str, (mean.cases, mean.absent, mean.missed)),
    ]
