"""`synthmed inspect`: a data set's fingerprint and what is wrong with it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthmed.errors import UserError

from .common import console, emit_json, json_option, progress
from .reading import reading_options

if TYPE_CHECKING:
    from synthmed.data.inspect import Fingerprint
    from synthmed.data.readers import ReadOptions


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@json_option
@reading_options
def command(dataset: Path, as_json: bool, reading: "ReadOptions") -> None:
    """Read every file of the data set in the folder DATASET; say what it is like and how to mend what is wrong.

    Exit code 0 means that it can be prepared, 2 that something is wrong.

    \b
    Example:
      synthmed inspect Task04_Hippocampus --json
    """
    from synthmed.data.inspect import fingerprint
    from synthmed.data.readers import read_dataset
    from synthmed.data.summary import fingerprint_rows

    source = read_dataset(dataset, reading)
    with progress("inspect") as report:
        found = fingerprint(source, progress=report)
    if as_json:
        notes = {"notes": list(source.notes)}
        emit_json({**found.model_dump(mode="json"), **notes, "summary": dict(fingerprint_rows(found))})
    else:
        _show(found, source.notes)
    if found.problems:
        raise UserError(
            f"{dataset}: problems found: {len(found.problems)}; mend them as told above, then inspect again"
        )


def _show(found: "Fingerprint", notes: tuple[str, ...]) -> None:
    from rich.table import Table

    from synthmed.data.summary import fingerprint_rows

    screen = console()
    table = Table(title=found.dataset, show_header=False)
    for name, value in fingerprint_rows(found):
        table.add_row(name, value)
    screen.print(table)
    for note in notes:
        screen.print(note, soft_wrap=True)
    if found.problems:
        problems = Table(title="Problems")
        for column in ("File", "What is wrong", "How to mend it"):
            problems.add_column(column, overflow="fold")
        for problem in found.problems:
            problems.add_row(problem.file, problem.what, problem.mend)
        screen.print(problems)
    else:
        screen.print("No problem found.")
