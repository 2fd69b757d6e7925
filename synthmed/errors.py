"""The exceptions of synthmed: one for what a user can fix, one for a leak among patients, one for faults of our own."""

from typing import TypeVar

_Value = TypeVar("_Value")


class UserError(Exception):
    """Bad input, in one line: what is wrong, which file, how to fix it.

    The command line prints it without a traceback and exits with code 2; a caller of the library catches it
    like any other exception.
    """


class LeakError(UserError):
    """Patients of one part of a split met those of another: no figure that follows would mean anything."""


class InvariantError(RuntimeError):
    """A fault of synthmed itself: something that its own code guarantees does not hold."""


def present(value: _Value | None, why: str) -> _Value:
    """Return a value that cannot be None here.

    Args:
        value: The value.
        why: What guarantees that it is there.

    Raises:
        InvariantError: If it is None all the same.
    """
    if value is None:
        raise InvariantError(f"a value is missing although {why}")
    return value


def check_leak(safe: bool, problem: str) -> None:
    """Raise unless patients stay on their side of a split; never left out, as an `assert` would be under `python -O`.

    Raises:
        LeakError: With `problem`, if `safe` is false.
    """
    if not safe:
        raise LeakError(problem)
