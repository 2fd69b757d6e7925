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
