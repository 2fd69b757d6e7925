"""The mix of each batch: schedules, what they were at any step, and refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.data.blend import batch_parts
from synthmed.errors import UserError
from synthmed.segmentation.options import check_options
from synthmed.segmentation.schedule import Blending, Schedule, check_blending


@given(batch=st.integers(2, 200), ratio=st.floats(0, 50))
def test_parts_fill_the_batch_in_the_nearest_whole_proportion(batch, ratio):
    """A user would compare ratios that were not the ones trained with."""
    real, synthetic = batch_parts(batch, ratio)
    assert real + synthetic == batch
    assert (synthetic == 0) == (ratio == 0)
    assert real >= 1
    if 1 < synthetic < batch - 1:
        assert abs(synthetic - batch * ratio / (1 + ratio)) <= 0.5 + 1e-9


def test_parts_at_the_ends():
    """A user could not ask for synthetic slices alone, or would get none with a tiny batch."""
    assert batch_parts(8, math.inf) == (0, 8)
    assert batch_parts(1, 0) == (1, 0)
    assert batch_parts(32, 1) == (16, 16)
    with pytest.raises(UserError, match="--batch 1"):
        batch_parts(1, 0.5)


@given(
    batch=st.integers(2, 40),
    ratio=st.sampled_from([0, 0.5, 1.0, 3.0, math.inf]),
    end=st.sampled_from([None, 0.0, 1.0, math.inf]),
    pretrain=st.sampled_from([0.0, 0.3, 1.0]),
    steps=st.integers(1, 30),
)
def test_a_resumed_training_knows_how_many_slices_went_before(batch, ratio, end, pretrain, steps):
    """A user's resumed training would see slices again or leave some out."""
    schedule = Schedule(batch=batch, ratio=ratio, steps=steps, blending=Blending(ratio_end=end, pretrain=pretrain))
    seen = np.zeros(2, int)
    for step in range(steps + 5):
        assert schedule.before(step) == tuple(seen)
        assert sum(schedule.parts(step)) == batch
        seen += schedule.parts(step)


def test_schedules_go_where_they_are_told():
    """A user's fine-tuning on real slices would still have synthetic ones, or the line would go the wrong way."""
    first = Schedule(batch=8, ratio=0, steps=10, blending=Blending(pretrain=0.4))
    assert [first.parts(step) for step in range(10)] == [(0, 8)] * 4 + [(8, 0)] * 6
    line = [Schedule(batch=10, ratio=1, steps=6, blending=Blending(ratio_end=0)).parts(step)[1] for step in range(7)]
    assert line == [5, 4, 3, 2, 1, 0, 0]
    rising = Schedule(batch=10, ratio=0, steps=5, blending=Blending(ratio_end=math.inf))
    assert [rising.parts(step)[1] for step in range(5)] == [0, 2, 5, 8, 10]
    assert (rising.uses_real, rising.uses_synthetic) == (True, True)
    assert not Schedule(batch=4, ratio=math.inf, steps=3, blending=Blending()).uses_real


def test_whether_synthetic_slices_are_needed():
    """A user's set would not be opened for a schedule that begins with real slices."""
    assert not check_options({}).uses_synthetic
    assert check_options({"ratio": 0.5}).uses_synthetic
    for changes in ({"pretrain": 0.5}, {"ratio_end": 1.0}):
        assert check_options({"blending": check_blending(changes)}).uses_synthetic


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"pretrain": 2}, "--pretrain 2"),
        ({"ratio_end": -1}, "--ratio-end -1"),
        ({"synthetic_weight": 0}, "--synthetic-weight 0"),
        ({"keep_fraction": 0}, "--filter 0"),
        ({"psi": 3}, "--psi 3"),
        ({"filter_model": "run"}, "--filter-with"),
    ],
)
def test_options_out_of_range_are_refused_by_their_flag(values, flag):
    """A user would see an error from deep inside the training."""
    with pytest.raises(UserError, match=flag):
        check_blending(values)


def test_a_resumed_training_keeps_what_is_not_given_again():
    """A user would have to type every option a second time."""
    begun = Blending(pretrain=0.5, keep_fraction=0.7)
    assert check_blending({"pretrain": None, "keep_fraction": None}, begun=begun) == begun
