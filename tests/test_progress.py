"""How far work is that has several stages."""

from hypothesis import given
from hypothesis import strategies as st

from synthmed.progress import stage

UNITS = st.integers(1, 10_000)


@given(before=st.integers(0, 10_000), own=UNITS, after=UNITS, total=UNITS)
def test_stages_are_one_whole(before, own, after, total):
    """A bar would go back to its beginning, and the time left would be told of one stage alone."""
    told = []
    first = stage(lambda *words: told.append(words), before, own, after)
    second = stage(lambda *words: told.append(words), before + own, after, 0)
    first(0, total, "a")
    first(total, total, "a")
    second(0, total, "b")
    second(total, total, "b")
    assert told[0] == (before, before + own + after, "a")
    assert told[1][:2] == told[2][:2] == (before + own, before + own + after)
    assert told[3] == (before + own + after, before + own + after, "b")


def test_a_stage_that_knows_no_total_yet_stands_at_its_beginning():
    """A division by zero would end a training, or the bar would go back."""
    told = []
    named = stage(lambda *words: told.append(words), 5, 5, 5, "masks")
    named(0, 0, "a note")
    named(1, 1, "")
    assert told == [(5, 15, "masks, a note"), (10, 15, "masks")]
