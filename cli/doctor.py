"""`synthmed doctor`: what this machine and this environment offer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from synthmed.backend import BACKENDS

from .common import console, emit_json, json_option

if TYPE_CHECKING:
    from synthmed.system import Report


@click.command(
    epilog="""\b
Example:
  synthmed doctor
  synthmed doctor --json > machine.json"""
)
@json_option
def command(as_json: bool) -> None:
    """Show versions, devices, the number formats that the processor has, and what is missing."""
    from synthmed.system import examine

    report = examine()
    if as_json:
        emit_json(report.model_dump())
    else:
        _render(report)


def _render(report: Report) -> None:
    from rich.table import Table

    from synthmed.extras import EXTRAS

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "synthmed": f"{report.synthmed}, Python {report.python}",
        "machine": f"{report.platform}; {report.processor}",
        "packages": ", ".join(f"{name} {version or _absent(name)}" for name, version in report.packages.items()),
        "devices": f"{', '.join(report.devices) or 'none'} (Keras backend: {report.backend})",
        "number formats": ", ".join(
            f"{name}: {'+'.join(flags) or 'slow'}" for name, flags in report.number_formats.items()
        ),
        "threads": str(report.threads),
        "memory": f"{_gib(report.memory)}, {_gib(report.memory_available)} free",
        "disk here": f"{_gib(report.disk_free)} free",
        "generators": ", ".join(report.generators) or "none ship with this installation",
    }
    for extra in EXTRAS:
        gone = report.extras_missing.get(extra)
        rows[f"extra {extra}"] = f"missing {', '.join(gone)}: pip install 'synthmed[{extra}]'" if gone else "complete"
    for name, value in rows.items():
        table.add_row(name, value)
    screen = console()
    screen.print(table)
    for note in report.notes:
        screen.print(note)
    for problem in report.problems:
        screen.print(f"! {problem}", style="yellow")
    if not report.problems:
        screen.print("nothing is missing", style="green")


def _absent(package: str) -> str:
    # One of the two is enough.
    return "not installed" if package in BACKENDS else "MISSING"


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
