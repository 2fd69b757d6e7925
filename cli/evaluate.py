"""`synthmed evaluate`: compare a synthetic set with real slices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import console, echo, emit_json, json_option, lock_folder, seed_option

if TYPE_CHECKING:
    from synthmed.evaluation.result import Evaluation


@click.command()
@click.option("--real", type=click.Path(path_type=Path), required=True, help="Store of real slices.")
@click.option("--synthetic", type=click.Path(path_type=Path), required=True, help="Folder that generate wrote.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for report.html and metrics.json.")
@click.option(
    "--features",
    default="offline",
    show_default=True,
    help="Feature space: offline, inception, inception:FILE, keras:FILE or unet:RUN.",
)
@click.option("--download", is_flag=True, help="Allow fetching the weights of inception.")
@click.option(
    "--segmenter",
    type=click.Path(path_type=Path),
    help="Run of `segment train` on real slices alone: do images follow their label maps?",
)
@click.option("--select", type=click.IntRange(min=1), help="Write so many of the best samples to OUT/selected.")
@seed_option
@json_option
def command(
    real: Path,
    synthetic: Path,
    out: Path,
    features: str,
    download: bool,
    segmenter: Path | None,
    select: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Compare a synthetic set with the real slices of a store.

    Writes report.html, a page that loads nothing, and metrics.json with the same numbers. Every figure stands beside
    its real baseline: the same figure for real slices of training patients. All are compared with slices of the
    validation and test patients. audit.json says of each sample whether it looks like a copy of a training slice.

    \b
    Example:
      synthmed evaluate --real store --synthetic generated --out evaluation
    """
    lock_folder(out)
    from synthmed.backend import check_backend

    check_backend()
    from synthmed.reporting.evaluation import evaluate_set

    found = evaluate_set(
        real,
        synthetic,
        out,
        features=features,
        download=download,
        segmenter=segmenter,
        select=select,
        seed=seed,
        say=lambda line: echo(f"evaluate: {line}"),
    )
    if as_json:
        emit_json(found.model_dump(mode="json"))
    else:
        _print(found, out)


def _print(evaluation: Evaluation, out: Path) -> None:
    from rich.table import Table

    from synthmed.reporting.page import short

    screen = console()
    table = Table("figure", "synthetic", "real baseline", "reads")
    for section in evaluation.sections:
        if section.figures:
            table.add_section()
            table.add_row(section.title)
        for figure in section.figures:
            real = "none" if figure.real_baseline is None else short(figure.real_baseline.value)
            own = f"{short(figure.estimate.value)} {figure.unit}"
            table.add_row(f"  {figure.label}", own, real, figure.standing)
    screen.print(table)
    for line in (*evaluation.summary, *evaluation.warnings):
        screen.print(line)
    screen.print(f"audit for copies: {evaluation.audit.sentence}")
    screen.print(f"report.html and metrics.json are in {out}")
