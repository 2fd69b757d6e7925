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
    its floor: the same figure for real slices of training patients. The reference are slices of the validation and
    test patients. audit.json says of each sample whether it looks like a copy of a training slice.

    \b
    Example:
      synthmed evaluate --real store --synthetic generated --out evaluation
    """
    lock_folder(out)
    from synthmed.backend import check_backend
    from synthmed.data.store import Store
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.evaluation.brief import Brief
    from synthmed.evaluation.evaluate import evaluate
    from synthmed.evaluation.features import feature_space
    from synthmed.evaluation.selection import write_selection
    from synthmed.files import atomic_folder, write_json
    from synthmed.generation.audited import hand_to_run
    from synthmed.reporting.evaluation import write_evaluation_report

    check_backend()
    store, drawn = Store.open(real), SyntheticSet.open(synthetic)
    with atomic_folder(out) as folder:
        space = feature_space(features, download=download, load_unet=lambda path: _unet(path, store))
        judge, judge_hash = (None, "") if segmenter is None else _judge(segmenter, store)
        judgement = evaluate(
            store,
            drawn,
            space=space,
            segmenter=judge,
            segmenter_hash=judge_hash,
            select=select,
            seed=seed,
            say=lambda line: echo(f"evaluate: {line}"),
        )
        report = judgement.evaluation.model_dump(mode="json")
        write_json(folder / "metrics.json", report)
        judgement.audit.write(folder / "audit.json")
        if judgement.selection is not None:
            write_selection(drawn, judgement.selection, folder / "selected")
        write_evaluation_report(folder / "report.html", judgement)
    hand_to_run(judgement.audit, drawn, store, brief=Brief.of(judgement.evaluation))
    if as_json:
        emit_json(report)
    else:
        _print(judgement.evaluation, out)


def _unet(path: Path, store: Store) -> Any:
    """Return the U-Net of a run that saw real slices of training patients alone."""
    from synthmed.backend import need_tensorflow

    need_tensorflow("--features unet:RUN")
    from synthmed.segmentation.filter import check_segmenter
    from synthmed.segmentation.run import SegmentationRun

    run = SegmentationRun.open(path)
    check_segmenter(run, store, set(store.training_hashes), flag="--features unet:RUN")
    return run.load("last")


def _judge(path: Path, store: Store) -> tuple[Segmenter, str]:
    """Return what finds classes in slices, and the hash of its weights."""
    import numpy as np

    from synthmed.backend import need_tensorflow

    need_tensorflow("--segmenter")
    from synthmed.files import sha256_file
    from synthmed.segmentation.filter import check_segmenter
    from synthmed.segmentation.inference import SlicePredictor
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

    from synthmed.evaluation.summary import standing
    from synthmed.reporting.page import short

    screen = console()
    table = Table("figure", "synthetic", "floor (real)", "reads")
    for section in evaluation.sections:
        if section.figures:
            table.add_section()
            table.add_row(section.title)
        for figure in section.figures:
            floor = "none" if figure.floor is None else short(figure.floor.value)
            table.add_row(f"  {figure.label}", f"{short(figure.estimate.value)} {figure.unit}", floor, standing(figure))
    screen.print(table)
    for line in (*evaluation.summary, *evaluation.warnings):
        screen.print(line)
    screen.print(f"audit for copies: {evaluation.audit.sentence}")
    screen.print(f"report.html and metrics.json are in {out}")
