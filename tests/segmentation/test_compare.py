"""Arms, their comparison, and the words it ends with."""

import json

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation import compare as comparing
from synthmed.segmentation import filter as filtering
from synthmed.segmentation import store_scores
from synthmed.segmentation.auto_ratio import with_ratio
from synthmed.segmentation.blend import fitting_slices
from synthmed.segmentation.compare import CompareOptions, check_compare_options, compare, write_splits
from synthmed.segmentation.comparison import ARMS, CopiedSlices, arm_options, conclude, drawn_store, plan_arms, verdict
from synthmed.segmentation.options import check_options
from synthmed.segmentation.run import ChoiceRecord, SegmentationRun
from synthmed.segmentation.schedule import Blending
from synthmed.segmentation.score import Score
from synthmed.segmentation.score_table import Interval
from synthmed.segmentation.train import training_cases

TINY = check_options({"steps": 1, "batch": 4, "width": 4, "levels": 2, "precision": "float32"})


def test_every_arm_has_the_batches_that_it_is_named_after(store):
    """A user would compare trainings of unequal length, or an oracle of the wrong size."""
    arms, notes = plan_arms(ARMS, store, patients=2, ratio=1.0)
    assert {arm.name: (arm.patients, arm.ratio) for arm in arms} == {
        "real": (2, 0),
        "duplicated": (2, 1),
        "blended": (2, 1),
        "synthetic": (2, float("inf")),
        "oracle": (4, 0),
    }
    assert "equal steps" in notes[0]
    arms, notes = plan_arms(("blended", "oracle"), store, patients=3, ratio=1.0)
    assert [arm.name for arm in arms] == ["real", "blended", "oracle"]
    assert arms[-1].patients == 4 and "1 more patients" in notes[-1]
    arms, notes = plan_arms(("oracle",), store, patients=None, ratio=1.0)
    assert [arm.name for arm in arms] == ["real"] and "no oracle" in notes[-1]
    assert plan_arms(("oracle",), store, patients=1, ratio=1.0, more=2)[0][-1].patients == 3
    with pytest.raises(UserError, match="--ratio"):
        plan_arms(ARMS, store, patients=2, ratio=0)


def test_copies_are_of_the_given_patients_each_equally_often(store):
    """A user's control would see other patients, or copies of one slice."""
    cases = training_cases(store, 2)
    numbers = np.unique(store.training_indices(cases))
    copies = CopiedSlices(store, cases, count=2 * len(numbers) + 1, seed=0)
    images = copies.images()
    assert len(copies) == len(images) == 2 * len(numbers) + 1
    counts = [int((images == store.images(np.array([number]))).all((1, 2, 3)).sum()) for number in numbers]
    assert sum(counts) == len(copies) and set(counts) <= {2, 3}
    np.testing.assert_array_equal(copies.images(np.array([3])), images[3:4])
    assert copies.training_hashes == {case.hash for case in cases}
    assert fitting_slices(copies, store).labels(np.array([0])).shape == (1, *store.size)


def test_draws_are_other_patients_and_the_first_is_the_stores_own(store, tmp_path):
    """A user's generator would be trained on other patients than the U-Net beside it."""
    draws = [{case.case for case in training_cases(drawn_store(store, draw), 2)} for draw in range(6)]
    assert draws[0] == {case.case for case in training_cases(store, 2)}
    assert len({frozenset(draw) for draw in draws}) > 1
    written = write_splits(store, tmp_path, CompareOptions(train_patients=2, draws=2))
    parts = [json.loads(path.read_text()) for path in written]
    assert [set(part["train"]) for part in parts] == draws[:2]
    assert parts[1]["test"] == [case.case for case in store.cases("test")]


def test_draws_of_the_same_patients_are_refused(store, tmp_path):
    """A user would read an interval over draws where one choice of patients was trained on again and again."""
    coinciding = CompareOptions(arms=("oracle",), draws=2)
    with pytest.raises(UserError, match="draws 0 and 1 are the same 4 of the 4 .*give --draws 1 or fewer"):
        compare(store, tmp_path / "out", coinciding, TINY)
    with pytest.raises(UserError, match="--draws 2"):
        write_splits(store, tmp_path / "out", coinciding)
    with pytest.raises(UserError, match="the same 3 of the 4 .*different choices: 4"):
        compare(store, tmp_path / "out", CompareOptions(arms=("oracle",), draws=5, train_patients=3), TINY)
    assert not (tmp_path / "out").exists()


def test_all_arms_end_in_one_table_and_are_not_trained_twice(store, write_synthetic, tmp_path, eager, monkeypatch):
    """A user would wait a second time for every arm, or get figures of another one."""
    synthetic = [SyntheticSet.open(write_synthetic())]
    options = CompareOptions(train_patients=2, ratio=1.0, seeds=1)
    reports = []
    found = compare(
        store, tmp_path / "out", options, TINY, synthetic=synthetic, progress=lambda *report: reports.append(report)
    )
    assert [arm.name for arm in found.arms] == list(ARMS)
    assert all(arm.trainings == 1 and 0 <= arm.dice <= 1 for arm in found.arms)
    assert found.arms[0].gain is None and found.arms[2].gain.low <= found.arms[2].gain.value
    assert reports[-1][:2] == (5, 5)
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {f"{arm}-0" for arm in ARMS}
    records = {name: SegmentationRun.open(tmp_path / "out" / name).record for name in folders}
    assert records["blended-0"].batch_parts == records["duplicated-0"].batch_parts == (2, 2)
    assert records["duplicated-0"].synthetic.slices == records["blended-0"].synthetic.slices
    assert records["synthetic-0"].batch_parts == (0, 4) and records["real-0"].batch_parts == (4, 0)
    assert len(records["oracle-0"].training_patients) == 4
    assert any("WARNING, draw 0" in note and "2 cases" in note for note in found.notes)
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert found.verdict in page and page.count("\n| ") == 6

    monkeypatch.setattr(store_scores, "score_store", None)
    before = (tmp_path / "out" / "real-0" / "last.keras").stat().st_mtime_ns
    assert compare(store, tmp_path / "out", options, TINY, synthetic=synthetic) == found
    # What is shown to others names neither the folder of the store nor that of the synthetic set.
    written = "".join((tmp_path / "out" / f"comparison.{ending}").read_text() for ending in ("json", "md"))
    assert str(store.path) not in written and str(tmp_path) not in written
    assert (tmp_path / "out" / "real-0" / "last.keras").stat().st_mtime_ns == before


def test_copies_are_as_many_as_slices_are_kept(store, write_synthetic, tmp_path, monkeypatch):
    """A user's control would show more, or fewer, different slices than the arm that it stands beside."""
    used = {}

    def train(view, path, options, *, synthetic, **_):
        used[path.name] = len(synthetic) if synthetic else 0
        return Run(path)

    def decide(synthetic, *_, **__):
        # Implausible samples go beyond the share.
        return np.array([3]), ChoiceRecord(kept=1, dropped={}, hash="x"), []

    monkeypatch.setattr(comparing, "train", train)
    monkeypatch.setattr(comparing, "kept_scores", lambda *_, **__: rows([0.5, 0.6]))
    monkeypatch.setattr(filtering, "_decide", decide)
    options = CompareOptions(arms=("duplicated",), train_patients=2, seeds=1, own_filter_model=False)
    training = TINY.model_copy(update={"blending": Blending(keep_fraction=0.8)})
    compare(store, tmp_path / "out", options, training, synthetic=[SyntheticSet.open(write_synthetic())])
    assert used == {"real-0": 0, "duplicated-0": 1}


class Run:
    """A training that took no time."""

    finished = True

    def __init__(self, path):
        path.mkdir(parents=True)
        self.path = path


def test_each_draw_has_its_patients_its_set_and_its_seeds(store, write_synthetic, tmp_path, monkeypatch):
    """A user's second draw would be blended with slices of the first one's generator."""
    asked = []

    def train(view, path, options, *, synthetic, **_):
        patients = {case.case for case in training_cases(view, options.train_patients)}
        asked.append((path.name, patients, synthetic.folder.name if synthetic else None))
        return Run(path)

    monkeypatch.setattr(comparing, "train", train)
    monkeypatch.setattr(comparing, "kept_scores", lambda *_, **__: rows([0.5, 0.6]))
    own = [{case.hash for case in training_cases(drawn_store(store, draw), 2)} for draw in range(2)]
    sets = [SyntheticSet.open(write_synthetic(f"s{draw}", training_patients=sorted(own[draw]))) for draw in range(2)]
    options = CompareOptions(arms=("blended",), train_patients=2, seeds=2, draws=2)
    found = compare(store, tmp_path / "out", options, TINY, synthetic=sets)
    draws = [{case.case for case in training_cases(drawn_store(store, draw), 2)} for draw in range(2)]
    assert asked == [
        (f"{arm}-{seed}{name}", draws[draw], f"s{draw}" if arm == "blended" else None)
        for draw, name in enumerate(("", "-draw-1"))
        for seed in (0, 1)
        for arm in ("real", "blended")
    ]
    assert not any("WARNING" in note for note in found.notes)
    assert any("too few" in note for note in found.notes)


def test_scores_against_the_data_set_are_those_of_the_store_where_both_share_a_grid(store, phantom, tmp_path, eager):
    """A user would get other scores in the source's geometry than in the store's."""
    ways = [
        compare(
            store, tmp_path / "out", CompareOptions(arms=("real",), seeds=1, tolerance=mm), TINY, reference=reference
        )
        for mm, reference in ((1.0, None), (1.0, phantom), (50.0, None))
    ]
    assert ways[0].arms[0].dice == pytest.approx(ways[1].arms[0].dice, abs=1e-6)
    assert ways[0].arms[0].hd95 == pytest.approx(ways[1].arms[0].hd95, abs=1e-4)
    assert ways[2].arms[0].surface_dice >= ways[0].arms[0].surface_dice


def test_what_cannot_be_compared_is_refused(store, write_synthetic, tmp_path):
    """A user would wait for trainings whose result says nothing."""
    with pytest.raises(UserError, match="--synthetic"):
        compare(store, tmp_path, CompareOptions(), TINY)
    leaky = SyntheticSet.open(write_synthetic(training_patients=store.hashes("test")))
    with pytest.raises(UserError, match="of the test cases"):
        compare(store, tmp_path / "out", CompareOptions(arms=("blended",), ratio=0.5), TINY, synthetic=[leaky])
    with pytest.raises(UserError, match="once for each draw"):
        compare(store, tmp_path, CompareOptions(draws=3), TINY, synthetic=[leaky, leaky])
    for name, value in (("seeds", 0), ("arms", ("real", "best")), ("ratio", -1)):
        with pytest.raises(UserError, match=f"--{name}"):
            check_compare_options({name: value})


def rows(dice):
    """Return the scores of one training on as many patients."""
    return [
        Score(case=f"c{number}", label=1, name="a", dice=value, hd95=1.0, predicted=1, reference=1)
        for number, value in enumerate(dice)
    ]


def test_share_of_the_oracle_and_the_sentence(store):
    """A user would be told to augment where nothing was gained, or not to where much was."""
    arms, _ = plan_arms(("duplicated", "blended", "oracle"), store, patients=2, ratio=1.0)
    base = np.linspace(0.5, 0.7, 12)
    gains = {"real": 0.0, "duplicated": 0.01, "blended": 0.05, "oracle": 0.1}
    found = conclude(arms, {name: [rows(base + gain)] for name, gain in gains.items()}, draws=[0])
    share = {arm.name: arm.share_of_oracle for arm in found.arms}
    assert share == {
        "real": None,
        "duplicated": pytest.approx(0.1),
        "blended": pytest.approx(0.5),
        "oracle": pytest.approx(1),
    }
    assert found.over_duplicated.value == pytest.approx(0.04)
    assert "+5.0" in found.verdict and found.verdict.endswith("help here")
    assert any("patients alone" in note for note in found.notes)


@pytest.mark.parametrize(
    ("low", "high", "over", "words"),
    [
        (-0.2, 1.1, None, "no evidence that synthetic slices help here; do not augment"),
        (0.0, 0.0, None, "do not augment"),
        (-2, -1, None, "harm here; do not augment"),
        (1, 2, (-1, 1), "not more than copies"),
        (1, 2, (0.5, 1), "slices help here"),
        (float("nan"), float("nan"), None, "no evidence"),
    ],
)
def test_the_sentence_follows_the_interval(low, high, over, words):
    """A user reads this sentence and nothing else."""

    def interval(low, high):
        return Interval(value=(low + high) / 200, low=low / 100, high=high / 100, error=0.1)

    assert words in verdict(interval(low, high), interval(*over) if over else None)


def test_what_is_for_blending_reaches_no_arm_without_synthetic_slices(store):
    """A user's control would be pre-trained on synthetic slices, or its copies be filtered."""
    blending = Blending(
        ratio_end=0.0, pretrain=0.5, keep_fraction=0.5, filter_model="unet", sampling="balanced", synthetic_weight=0.3
    )
    training = TINY.model_copy(update={"blending": blending})
    arms, _ = plan_arms(ARMS, store, patients=2, ratio=1.0)
    found = {arm.name: arm_options(arm, training, seed=4) for arm in arms}
    assert {options.blending.sampling for options in found.values()} == {"balanced"}
    assert {options.seed for options in found.values()} == {4}
    for name in ("real", "oracle"):
        assert not found[name].uses_synthetic and found[name].blending == Blending(sampling="balanced")
    assert found["blended"].blending == blending
    assert found["duplicated"].blending == blending.model_copy(update={"keep_fraction": 1.0, "filter_model": ""})
    assert (found["synthetic"].blending.pretrain, found["synthetic"].blending.ratio_end) == (0.0, None)
    assert not with_ratio(training, 0.0).uses_synthetic and with_ratio(training, 2.0).blending == blending
