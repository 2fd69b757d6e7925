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

    Exit code 0 means that it can be prepared, perhaps with warnings; 2 that a problem has to be mended first.

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
        # Counts of every HU are for plans, and longer than all the rest.
        content = found.model_dump(mode="json", exclude={"cases": {"__all__": {"hounsfield"}}})
        emit_json({**content, "summary": dict(fingerprint_rows(found))})
    else:
        _show(found)
    if found.problems:
        raise UserError(
            f"{dataset}: problems found: {len(found.problems)}; mend them as told above, then inspect again"
        )


def _show(found: "Fingerprint") -> None:
    from rich.table import Table

    from synthmed.data.summary import fingerprint_rows

    screen = console()
    table = Table(title=found.dataset, show_header=False)
    for name, value in fingerprint_rows(found):
        table.add_row(name, value)
    screen.print(table)
    for title, entries in (("Problems", found.problems), ("Warnings", found.warnings)):
        if not entries:
            continue
        listed = Table(title=title)
        for column in ("File", "What is wrong", "How to mend it"):
            listed.add_column(column, overflow="fold")
        for entry in entries:
            listed.add_row(entry.file, entry.what, entry.mend)
        screen.print(listed)
    for note in found.notes:
        screen.print(f"note: {note}", soft_wrap=True)
    if not found.problems:
        warned = f"; warnings: {len(found.warnings)}" if found.warnings else ""
        screen.print(f"No problem found{warned}.")
