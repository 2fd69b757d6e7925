"""What the commands share: sizes, progress and JSON."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.cli import common
from synthmed.errors import UserError


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_size_is_height_then_width(height, width):
    """Height and width exchanged would squash every non-square image."""
    assert common.parse_size(f"{height}x{width}") == (height, width)


def test_one_number_is_a_square():
    """Most sizes are square; typing them twice invites slips."""
    assert common.parse_size("64") == (64, 64)


@pytest.mark.parametrize("text", ["", "x", "64x", "0x64", "-8x8", "64x48x3", "a", "6.5x8"])
def test_nonsense_sizes_are_refused(text):
    """A size that is silently misread prepares the whole set wrongly."""
    with pytest.raises(UserError, match="64x48"):
        common.parse_size(text)


def test_progress_off_a_terminal_is_plain_lines(capsys):
    """A log file full of control characters cannot be read; a silent one does not tell whether work goes on."""
    with common.progress("slices") as report:
        for done in range(1, 101):
            report(done, 100, "case [7]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "slices: 100/100 (100%), case [7]\n"


def test_plain_lines_tell_the_time_left_of_what_was_done_now(capsys, monkeypatch):
    """After --resume the time left must follow from the work done since, not from what was found done."""
    clock = iter([0.0, 0.0, 10.0])
    monkeypatch.setattr(common.time, "monotonic", lambda: next(clock))
    with common.progress("steps") as report:
        report(50, 100, "")
        report(60, 100, "")
    assert capsys.readouterr().err == "steps: 60/100 (60%), 0:40 left\n"


def test_progress_on_a_terminal_prints_notes_with_brackets(monkeypatch):
    """File names may contain brackets; a bar that takes them for markup would crash in the middle of the work."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with common.progress("writing [x]") as report:
        report(1, 2, "[/bold] case")
        report(2, 2, "[/bold] case")
    assert "[/bold] case" in screen.getvalue()
    assert "2/2" in screen.getvalue()


def test_json_is_alone_on_standard_output(capsys):
    """Programs that read --json break on any other character."""
    common.emit_json({"name": "Ä", "n": 1})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"name": "Ä", "n": 1}
    assert captured.err == ""
