"""`synthmed study`: the paper's experiment, or anyone's."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthmed.errors import UserError

from .common import console, emit_json, json_option, lock_folder, progress

if TYPE_CHECKING:
    from synthmed.study.config import Configuration
    from synthmed.study.grid import Grid

FOLDER = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Compare models over data sets, numbers of patients, amounts of synthetic slices and seeds.

    \b
    Example:
      synthmed study run quick --out quick
    """


@command.command("run")
@click.argument("configuration", metavar="CONFIG.yaml|PRESET")
@click.option("--out", type=FOLDER, required=True, help="Folder of the study.")
@click.option("--data", "paths", multiple=True, metavar="NAME=FOLDER", help="Where a data set lies, by its name.")
@click.option("--scheduler", metavar="ADDRESS", help="Use a running Dask scheduler.  [default: workers here]")
@click.option("--workers", type=click.IntRange(min=1), help="Tasks at a time here.  [default: as many as fit]")
@click.option("--dry-run", is_flag=True, help="Print the grid, its size, and an estimate of time and disk.")
@json_option
def run_command(
    configuration: str,
    out: Path,
    paths: tuple[str, ...],
    scheduler: str | None,
    workers: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run what is not finished of a study; the same command goes on, and a changed configuration runs what changed.

    CONFIG.yaml says which data sets, numbers of patients, models and seeds; presets are quick, hippocampus,
    gain-hippocampus, gain-lgg and paper. Each trial is trained with a fixed number of threads, and is listed with its
    cause if it fails.

    \b
    Example:
      synthmed study run quick --out quick
      synthmed study run hippocampus --out study --data hippocampus=Task04_Hippocampus --dry-run
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed study run")
    from synthmed.study.config import read_configuration
    from synthmed.study.runner import run_study

    chosen = read_configuration(configuration, paths=dict(_path(text) for text in paths))
    screen = console(stderr=True)
    if dry_run:
        _dry_run(chosen, out, workers, as_json=as_json)
        return
    with progress("study") as report:
        summary = run_study(
            chosen,
            out,
            scheduler=scheduler,
            workers=workers,
            progress=report,
            say=lambda line: screen.print(line, soft_wrap=True),
        )
    if as_json:
        emit_json({"trials": summary.trials, "finished": summary.finished, "failed": summary.failed})
    if summary.failed:
        first = next(iter(summary.failed.values()))
        raise UserError(
            f"{summary.words} (the first: {first}; all: {out}/trials/*/failed.json): the same command tries them again"
        )
    if not as_json:
        console().print(f"{summary.words}; next: synthmed study report {out}", soft_wrap=True)


@command.command("report")
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FOLDER, help="Folder of the report.  [default: report in the study's]")
@click.option("--mixed", is_flag=True, help="Also fit a mixed-effects model over data sets (needs statsmodels).")
@json_option
def report_command(folder: Path, out: Path | None, mixed: bool, as_json: bool) -> None:
    """Write what a study found, finished or not: report.html, statistics.json and every number as CSV.

    \b
    Example:
      synthmed study report study
    """
    from synthmed.files import read_json
    from synthmed.reporting.study import NUMBERS, write_study_report

    lock_folder(out or folder / "report")
    page = write_study_report(folder, out, mixed=mixed)
    if as_json:
        emit_json(read_json(page.parent / NUMBERS))
    else:
        console().print(f"written: {page}, with its numbers beside it", soft_wrap=True)


@command.command("prune")
@click.argument("folder", type=FOLDER)
@click.option("--all", "everything", is_flag=True, help="Also generators and weights that are not needed any more.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def prune_command(folder: Path, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Free what a study does not need any more: stores and slices of which no trial is to be made.

    Scores stay. What a later, larger configuration needs again is made again.

    \b
    Example:
      synthmed study prune study --dry-run
    """
    from synthmed.study.work import prune

    pruned = prune(folder, everything=everything, dry_run=dry_run)
    if as_json:
        emit_json({"folders": [str(path) for path in pruned.folders], "bytes": pruned.size, "needed": pruned.needed})
        return
    would = "would free" if dry_run else "freed"
    kept = f"; {pruned.needed} tasks are still needed" if pruned.needed else ""
    console().print(f"{would} {pruned.size / 2**20:.1f} MiB in {len(pruned.folders)} folders{kept}", soft_wrap=True)


def _path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UserError(f"--data {text}: write it as NAME=FOLDER")
    return name, Path(path)


def _dry_run(configuration: "Configuration", out: Path, workers: int | None, *, as_json: bool) -> None:
    """Print what would be run, what is there already, and what the rest takes; nothing is written."""
    import os
    from tempfile import TemporaryDirectory

    from synthmed.study.estimate import estimate_study
    from synthmed.study.folder import StudyFolder
    from synthmed.study.grid import make_grid
    from synthmed.study.process import environment
    from synthmed.study.runner import default_workers
    from synthmed.study.sources import open_sources

    # Before TensorFlow starts: the estimate measures with as many threads as a training has.
    os.environ.update(environment(configuration.threads))
    folder = StudyFolder(out)
    begun = folder.check() is not None
    with TemporaryDirectory() as scratch:
        sources = open_sources(configuration, folder if begun else StudyFolder(Path(scratch)))
        grid = make_grid(configuration, sources)
        tasks = grid.needed(grid.trials, lambda task: folder.finished(task.kind, task.digest))
        found = estimate_study(configuration, sources, grid, tasks)
    count = min(workers or default_workers(configuration.threads), max(len(tasks), 1))
    hours = sum(found.hours.values()) / count
    if as_json:
        told = {"trials": len(grid.trials), "missing": found.tasks, "hours": found.hours, "gib": found.gib}
        emit_json({**told, "workers": count, "hours_in_all": round(hours, 2), "grid": list(grid.trials.values())})
        return
    _print_grid(configuration, grid)
    screen = console()
    missing = ", ".join(f"{number} {kind}" for kind, number in found.tasks.items()) or "nothing"
    screen.print(f"{len(grid.trials)} trials; to do: {missing}", soft_wrap=True)
    screen.print(
        f"about {hours:.1f} hours with {count} workers of {configuration.threads} threads (right within a factor of "
        f"two or three), {found.gib:.1f} GiB of disk in {out}",
        soft_wrap=True,
    )


def _print_grid(configuration: "Configuration", grid: "Grid") -> None:
    from rich.table import Table

    from synthmed.study.grid import combinations, models

    screen = console()
    table = Table(title=f"study {configuration.name}")
    for heading in ("data set", "real patients", "draws"):
        table.add_column(heading)
    for name, patients in combinations(grid):
        table.add_row(name, str(patients), str(configuration.draws))
    screen.print(table)
    table = Table(title=f"models, each with seeds {', '.join(map(str, configuration.seeds))}")
    for heading in ("model", "added patients", "augmentation"):
        table.add_column(heading)
    for name, added, augmentation in models(grid):
        table.add_row(name, f"{added:g}" if added else "none", "yes" if augmentation else "no")
    screen.print(table)
