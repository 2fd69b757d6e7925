"""What the commands share: output, progress, and options that mean the same everywhere.

rich is imported inside the functions, so that `synthmed --help` does not wait for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthmed.display import one_line, printable
from synthmed.errors import UserError
from synthmed.progress import Progress, Say

if TYPE_CHECKING:
    from rich.console import Console

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

seed_option: Decorator = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same result."
)
json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")

_SECONDS_BETWEEN_LINES = 5.0


def console(*, stderr: bool = False) -> Console:
    """Return a rich console that prints text as it stands: names may contain brackets, and worse (`one_line`)."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            # Whatever is printed as a string passes here, cells and titles of tables, too.
            return super().render_str(one_line(text), **how)

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # Into a file or a pipe a table keeps its lines whole; 80 columns would break them.
    return Plain(stderr=stderr, markup=False, highlight=False, width=None if terminal else 160)


def lock_folder(path: Path) -> None:
    """Lock a folder that the running command writes until it ends: before anything that takes long.

    Raises:
        UserError: If another process writes it.
    """
    from synthmed.files import folder_lock

    click.get_current_context().with_resource(folder_lock(path))


def lock_first_free(candidates: Iterable[Path]) -> Path:
    """Return the first of some folders that is free, locked as by `lock_folder`: two commands at once take two."""
    from synthmed.files import first_free_folder

    path: Path = click.get_current_context().with_resource(first_free_folder(candidates))
    return path


def emit_json(value: Any) -> None:
    """Print `value` as JSON on standard output, alone there so that another program can read it."""
    click.echo(printable(json.dumps(value, indent=1, ensure_ascii=False, default=str)))


def echo(line: str) -> None:
    """Print one line on standard error."""
    click.echo(one_line(line), err=True)


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of `HxW`, or of a single number for a square.

    Raises:
        UserError: If the text is neither.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"{text!r} is no size: write HEIGHTxWIDTH in pixels, for example 64x48")
    return int(parts[0]), int(parts[-1])


@contextmanager
def progress(description: str) -> Iterator[Progress]:
    """Yield a `Progress` that draws a bar with the time left on a terminal and prints plain lines elsewhere.

    Both go to standard error: standard output belongs to the result.
    """
    if sys.stderr.isatty():
        with _bar(description) as report:
            yield report
    else:
        yield _plain_lines(description)


def say(description: str) -> Say:
    """Return what prints a line that a user should read: on standard error, above the bar of `progress`."""
    return lambda line: click.echo(f"{description}: {line}", err=True)


@contextmanager
def _bar(description: str) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Bar(*columns, console=console(stderr=True)) as bar:
        task = bar.add_task(one_line(description), total=None, note="")

        def report(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total or None, note=one_line(note))

        yield report


def _plain_lines(description: str) -> Progress:
    start = last = time.monotonic()
    first_done: int | None = None

    def report(done: int, total: int, note: str) -> None:
        nonlocal last, first_done
        now = time.monotonic()
        if first_done is None:
            # Resumed work found its first part done; the time left follows from what is done since.
            first_done = done
        if done < total and now - last < _SECONDS_BETWEEN_LINES:
            return
        last = now
        left = ""
        if first_done < done < total:
            left = f", {_duration((now - start) * (total - done) / (done - first_done))} left"
        # Without a total nothing can be counted yet.
        parts = [f"{done}/{total} ({done / total:.0%}){left}"] if total else []
        echo(f"{description}: {', '.join(filter(None, (*parts, note)))}")

    return report


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
