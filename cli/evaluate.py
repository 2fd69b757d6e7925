"""`synthmed evaluate`: compare a synthetic set with real slices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import console, echo, emit_json, json_option, lock_folder, seed_option

if TYPE_CHECKING:
    from synthmed.data.store import Store
    from synthmed.evaluation.adherence import Segmenter
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
    from synthmed.data.store import Store
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.evaluation.evaluate import evaluate
    from synthmed.evaluation.networks import feature_space
    from synthmed.evaluation.result import EvaluationSummary
    from synthmed.evaluation.selection import write_selection
    from synthmed.files import atomic_folder, write_json
    from synthmed.generation.audited import hand_to_run
    from synthmed.reporting.evaluation import write_evaluation_report

    check_backend()
    store, drawn = Store.open(real), SyntheticSet.open(synthetic)
    with atomic_folder(out) as folder:
        space = feature_space(features, download=download, load_unet=lambda path: _unet(path, store))
        find, find_hash = (None, "") if segmenter is None else _load_segmenter(segmenter, store)
        result = evaluate(
            store,
            drawn,
            space=space,
            segmenter=find,
            segmenter_hash=find_hash,
            select=select,
            seed=seed,
            say=lambda line: echo(f"evaluate: {line}"),
        )
        report = result.evaluation.model_dump(mode="json")
        write_json(folder / "metrics.json", report)
        result.audit.write(folder / "audit.json")
        if result.selection is not None:
            write_selection(drawn, result.selection, folder / "selected")
        write_evaluation_report(folder / "report.html", result)
    hand_to_run(result.audit, drawn, store, summary=EvaluationSummary.of(result.evaluation))
    if as_json:
        emit_json(report)
    else:
        _print(result.evaluation, out)


def _unet(path: Path, store: Store) -> Any:
    """Return the U-Net of a run that saw real slices of training patients alone."""
    from synthmed.backend import need_tensorflow

    need_tensorflow("--features unet:RUN")
    from synthmed.segmentation.filter import check_segmenter
    from synthmed.segmentation.run import SegmentationRun

    run = SegmentationRun.open(path)
    check_segmenter(run, store, set(store.training_hashes), flag="--features unet:RUN")
    return run.load("last")


def _load_segmenter(path: Path, store: Store) -> tuple[Segmenter, str]:
    """Return what finds classes in slices, and the hash of its weights."""
    import numpy as np

    from synthmed.backend import need_tensorflow

    need_tensorflow("--segmenter")
    from synthmed.files import sha256_file
    from synthmed.segmentation.filter import check_segmenter
    from synthmed.segmentation.predict import SlicePredictor
    from synthmed.segmentation.run import SegmentationRun

    run = SegmentationRun.open(path)
    check_segmenter(run, store, set(store.training_hashes), flag="--segmenter")
    # Not the weights of the best validation: validation patients are the reference here.
    predictor = SlicePredictor(run.load("last"))

    def find(images):
        blocks = [
            predictor(images[first : first + 256]).argmax(-1).astype("uint8") for first in range(0, len(images), 256)
        ]
        return np.concatenate(blocks)

    return find, sha256_file(run.weights("last"))


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
