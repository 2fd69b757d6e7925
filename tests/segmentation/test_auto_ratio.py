"""The search of a ratio: its rule on made-up scores, and one real search."""

import json
from functools import partial

import numpy as np
import pytest

from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation import auto_ratio, score, store_scores
from synthmed.segmentation.auto_ratio import choose_ratio, keep_choice, search_folder
from synthmed.segmentation.options import check_options
from synthmed.segmentation.score import Score
from synthmed.segmentation.score_table import difference

TINY = check_options({"steps": 2, "batch": 4, "width": 4, "levels": 2, "precision": "float32"})


@pytest.fixture(scope="module")
def watched(phantom):
    """Return a store with three validation patients."""
    return prepare(read_dataset(phantom), phantom.parent / "watched", size=(32, 32), split=(0.5, 0.5, 0.0))


@pytest.fixture
def synthetic(watched, write_synthetic):
    """Return a set that was drawn from a generator of the training patients."""
    return SyntheticSet.open(write_synthetic(training_patients=watched.training_hashes))


@pytest.fixture
def invented(monkeypatch):
    """Return a function that sets the Dice of three patients by ratio and seed, in place of trainings."""

    def invent(dice):
        trained = []

        class Run:
            finished = True

            def __init__(self, options):
                self.options = options

        def train(store, path, options, **_):
            trained.append((options.ratio, options.seed, options.steps))
            return Run(options)

        def kept_scores(run, store, scoring):
            assert scoring == store_scores.StoreScoring("val", tolerance=None)
            return [
                Score(case=str(number), label=1, name="a", dice=value, hd95=0.0, predicted=1, reference=1)
                for number, value in enumerate(dice(run.options.ratio, run.options.seed))
            ]

        monkeypatch.setattr(auto_ratio, "train", train)
        monkeypatch.setattr(auto_ratio, "kept_scores", kept_scores)
        return trained

    return invent


@pytest.mark.parametrize(
    ("gains", "again", "answer", "words"),
    [
        ({0.25: (-0.1, 0.0, 0.01), 1.0: (0.05, -0.05, 0.01)}, None, 0.0, "not above its standard error"),
        ({0.5: (0.05, 0.06, 0.07), 1.0: (0.02, 0.02, 0.02)}, (0.04, 0.05, 0.03), 0.5, "with another seed"),
        ({0.5: (0.05, 0.06, 0.07), 1.0: (0.02, 0.02, 0.02)}, (0.04, -0.05, 0.02), 0.0, "do not augment"),
        ({}, None, 0.0, "do not augment"),
    ],
)
def test_a_ratio_wins_by_more_than_its_standard_error_twice(
    watched, synthetic, tmp_path, invented, gains, again, answer, words
):
    """A user's U-Net would get worse because one training was lucky."""

    def dice(ratio, seed):
        gain = gains.get(ratio, (0, 0, 0)) if seed == 0 or ratio == 0 else again
        return [0.5 + value for value in gain]

    trained = invented(dice)
    choice = choose_ratio(watched, tmp_path / "search", TINY, synthetic)
    assert (choice.ratio, choice.patients, choice.steps) == (answer, 3, 1)
    assert words in choice.sentence
    rounds = [(trial.round, trial.ratio, trial.seed) for trial in choice.trials]
    assert rounds[:5] == [(1, ratio, 0) for ratio in auto_ratio.RATIOS]
    assert rounds[5:] == ([(2, 0.0, 1), (2, 0.5, 1)] if again else [])
    assert {steps for _, _, steps in trained} == {1}
    assert json.loads((tmp_path / "search" / "ratio.json").read_text())["ratio"] == answer
    count = len(trained)
    assert choose_ratio(watched, tmp_path / "search", TINY, synthetic) == choice
    assert len(trained) == count
    assert choose_ratio(watched, tmp_path / "search", TINY, synthetic, steps=2).asked != choice.asked
    assert len(trained) > count


@pytest.mark.parametrize(("true", "fewest", "most"), [(-0.005, 0, 5), (0.02, 24, 40)])
def test_the_rule_keeps_off_what_harms_and_finds_what_helps(
    watched, synthetic, tmp_path, invented, monkeypatch, true, fewest, most
):
    """A user who leaves the choice to the tool would lose Dice on average, or never gain any."""
    random = np.random.default_rng(0)
    monkeypatch.setattr(auto_ratio, "difference", partial(difference, resamples=300))

    def dice(ratio, seed):
        return 0.8 + true * (ratio > 0) + random.normal(0, 0.004) + random.normal(0, 0.02, 12)

    invented(dice)
    answers = [choose_ratio(watched, tmp_path / str(number), TINY, synthetic).ratio for number in range(40)]
    assert fewest <= sum(answer > 0 for answer in answers) <= most


def test_a_search_is_made_of_short_trainings_that_are_kept(watched, synthetic, tmp_path, monkeypatch, eager):
    """A user whose machine was restarted would begin the search again; the run would not say why it has its ratio.

    Or would wait for distances that the answer does not follow from.
    """
    run = tmp_path / "unet"
    reports = []
    monkeypatch.setattr(score, "surface_distances", None)
    choice = choose_ratio(
        watched,
        search_folder(run),
        TINY,
        synthetic,
        steps=1,
        ratios=(1.0,),
        progress=lambda *report: reports.append(report),
    )
    assert {"ratio-0-seed-0", "ratio-1-seed-0"} <= {path.name for path in search_folder(run).iterdir()}
    assert choice.ratio in (0.0, 1.0)
    assert next(report for report in reports if report[0])[:2] == (1, 4)
    (search_folder(run) / "ratio.json").unlink()
    monkeypatch.setattr(store_scores, "score_store", None)
    assert choose_ratio(watched, search_folder(run), TINY, synthetic, steps=1, ratios=(1.0,)) == choice
    keep_choice(run, search_folder(run))
    assert json.loads((run / "ratio.json").read_text())["sentence"] == choice.sentence
    keep_choice(tmp_path / "other", search_folder(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_a_store_that_cannot_answer_is_refused(store, write_synthetic, tmp_path):
    """A user would get an answer from one patient."""
    with pytest.raises(UserError, match="1 validation patients"):
        choose_ratio(store, tmp_path / "search", TINY, SyntheticSet.open(write_synthetic()))
    assert not (tmp_path / "search").exists()
