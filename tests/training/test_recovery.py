import math

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.training.options import TrainOptions
from synthmed.training.trainer import Diverged, Recovery, check_arrays, check_report

OPTIONS = TrainOptions(variant="base", rollbacks=2, learning_rate=0.004)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"loss_generator": math.nan, "loss_discriminator": 1.0}, "learning_rate"),
        ({"loss_generator": 1.0, "path_length": math.inf}, "path_weight"),
        ({"loss_generator": 1.0, "loss_discriminator": 1.0, "r1_penalty": math.inf}, "float32"),
        ({"loss_generator": 9e4, "logit_fake": -9e4, "logit_real": 1.0}, "r1_gamma"),
    ],
)
def test_a_diagnosis_says_what_ran_away_and_what_to_do(values, advice):
    """A user would have to read the log to learn why a night's training ended."""
    with pytest.raises(Diverged, match=advice):
        check_report(values)


def test_ordinary_numbers_pass():
    """A user's healthy training would be thrown back."""
    check_report({"loss_generator": 12.0, "loss_discriminator": 0.01, "logit_real": -80.0})
    check_arrays({"weights": np.ones(3)})


def test_weights_that_are_not_finite_are_refused():
    """A user's last good checkpoint would be pushed out by bad ones."""
    with pytest.raises(Diverged, match="bias"):
        check_arrays({"kernel": np.ones(3), "bias": np.array([0.0, np.nan])})


def test_the_count_survives_the_process_and_ends(tmp_path):
    """A user would pay for an endless loop of the same divergence."""
    for expected in (0.5, 0.25):
        recovery = Recovery.open(tmp_path, OPTIONS)
        recovery.count(tmp_path, "why", OPTIONS)
        assert Recovery.open(tmp_path, OPTIONS).scale == expected
    with pytest.raises(UserError, match="2 ways back.*0.001.*why"):
        Recovery.open(tmp_path, OPTIONS).count(tmp_path, "why", OPTIONS)


def test_another_learning_rate_starts_over(tmp_path):
    """A user who follows the advice and lowers the rate would get half of it."""
    Recovery.open(tmp_path, OPTIONS).count(tmp_path, "why", OPTIONS)
    other = OPTIONS.model_copy(update={"learning_rate": 0.001})
    assert Recovery.open(tmp_path, other).scale == 1.0
