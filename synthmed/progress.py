"""How long work tells its caller how far it is, without knowing who listens."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, note)`; `done` and `total` count the same units, `note` is a few words."""


Say = Callable[[str], None]
"""Called with one line that a user should read."""


def silent(done: int, total: int, note: str) -> None:
    """Ignore all progress: the default where nobody listens."""


def unheard(line: str) -> None:
    """Ignore a line: the default where nobody listens."""


def stage(progress: Progress, before: int, own: int, after: int, name: str = "") -> Progress:
    """Return what tells `progress` of one stage of work, as a part of all of it.

    Args:
        progress: Hears of the whole, `before + own + after`.
        before: Units of work of the stages before.
        own: Units that the stage counts for, whatever it counts itself; none as long as it knows no total.
        after: Units of the stages that follow.
        name: Of the stage, before each of its notes.
    """

    def report(done: int, total: int, note: str) -> None:
        here = round(own * min(done, total) / total) if total else 0
        progress(before + here, before + own + after, ", ".join(filter(None, (name, note))))

    return report
