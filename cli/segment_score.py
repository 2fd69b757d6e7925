"""`synthmed segment score`: how well predicted label maps match reference ones."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthmed.errors import UserError

from .common import console, emit_json, json_option, progress

if TYPE_CHECKING:
    from synthmed.segmentation.score import Mean, Scores

FOLDER = click.Path(path_type=Path)


@click.command("score")
@click.argument("predicted", type=FOLDER)
@click.argument("reference", type=FOLDER)
@click.option("--out", type=FOLDER, metavar="FILE", help="Also write the scores of all cases: .csv or .json.")
@click.option("--tolerance", type=float, default=1.0, show_default=True, metavar="MM", help="Of the surface Dice.")
@click.option(
    "--patients",
    type=FOLDER,
    metavar="STORE|FILE",
    help="Whose case is whose: a store, or JSON of case and patient.  [default: what the data set REFERENCE says]",
)
@json_option
def command(
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
    from synthmed.segmentation.score import find_patients, score_folders, write_scores

    if out and out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {out}: choose a name that ends in .csv or .json")
    with progress("segment score") as report:
        owners = find_patients(patients, reference) if patients else None
        scores = score_folders(predicted, reference, tolerance=tolerance, patients=owners, progress=report)
    if out:
        write_scores(scores, out)
    if as_json:
        emit_json(scores.model_dump())
    else:
        _render_scores(scores)


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
