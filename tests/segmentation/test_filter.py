"""Selection of synthetic slices: what is dropped and why, and that training patients alone decide."""

import csv
import os

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import LeakError, UserError
from synthmed.evaluation.selection import MaskRanges
from synthmed.segmentation import filter as choosing
from synthmed.segmentation.filter import SampleTable, TrainingSlices, choose, choose_slices, score_samples
from synthmed.segmentation.options import check_options
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.schedule import Blending
from synthmed.segmentation.train import train

NAMES = ("background", "organ", "lesion")
TINY = {"steps": 1, "batch": 4, "width": 2, "levels": 2, "precision": "float32"}


def table(**changes):
    """Return what was found out about four samples that nothing speaks against."""
    facts = {
        "names": ["a/0", "b/0", "c/0", "d/0"],
        "shown": np.array([[1, 0], [1, 0], [1, 0], [1, 0]], bool),
        "agreement": np.array([0.9, 0.6, 0.8, 0.7]),
        "oddity": ["", "", "", ""],
        "distance": np.array([0.2, 0.2, 0.2, 0.2]),
        "usual": (0.1, 0.2, 0.4),
    }
    return SampleTable(**(facts | changes))


def test_the_share_is_kept_that_the_segmenter_agrees_with_most():
    """A user would blend the samples that the label maps fit worst."""
    choice = choose(table(), keep=0.5)
    assert choice.indices.tolist() == [0, 2]
    assert choice.reasons[1].startswith("rank: agreement")
    assert choose(table(), keep=1.0).indices.tolist() == [0, 1, 2, 3]


def test_without_a_segmenter_the_usual_distance_decides():
    """A user without a real-trained U-Net would get an arbitrary half."""
    choice = choose(table(agreement=None, distance=np.array([0.39, 0.21, 0.11, 0.19])), keep=0.5)
    assert choice.indices.tolist() == [1, 3]


def test_odd_masks_copies_and_outliers_go_before_any_ranking():
    """A user would blend copies of patients, or noise, because a segmenter agrees with them."""
    distance = np.array([0.05, 0.5, 0.2, 0.2])
    choice = choose(table(distance=distance, oddity=["", "", "mask: area", ""]), keep=1.0)
    assert choice.indices.tolist() == [3]
    assert choice.summary() == {"copy": 1, "outlier": 1, "mask": 1}
    with pytest.raises(UserError, match="--filter leaves none of the 4 .*mask 4"):
        choose(table(oddity=["mask: area"] * 4), keep=0.5)


def test_rare_combinations_of_classes_keep_their_share():
    """A user's filter would throw out the slices with lesions, which are hard to agree on."""
    shown = np.array([[1, 0], [1, 1], [1, 0], [1, 1]], bool)
    choice = choose(table(shown=shown, agreement=np.array([0.9, 0.1, 0.8, 0.2])), keep=0.5)
    assert choice.indices.tolist() == [0, 3]


def test_masks_unlike_the_training_slices_are_named():
    """A user would blend label maps with two hearts, or none where there must be one."""
    labels = np.zeros((40, 24, 24), np.uint8)
    for number, label in enumerate(labels):
        size = 6 + number % 4
        label[4 + number % 3 : 4 + number % 3 + size, 8 : 8 + size] = 1
        if number % 2:
            label[6:8, 9:11] = 2
    ranges = MaskRanges(labels, classes=3)
    assert [ranges.outlier(label, NAMES) for label in labels] == [""] * len(labels)
    empty = np.zeros((24, 24), np.uint8)
    assert "no training slice shows no class" in ranges.outlier(empty, NAMES)
    far, small, twice = empty.copy(), empty.copy(), labels[0].copy()
    far[14:21, 8:15] = 1
    small[6:8, 10:12] = 1
    twice[20, 20] = 1
    for label, word in ((far, "row of organ"), (small, "area of organ"), (twice, "parts of organ")):
        assert word in ranges.outlier(label, NAMES)


def test_copies_and_noise_are_told_from_held_out_patients(store, write_synthetic):
    """A user would blend memorised slices and believe that they are new ones."""
    folder = write_synthetic(count=3)
    cases = store.cases("train")
    numbers = np.unique(store.training_indices(cases))
    middle = int(numbers[len(numbers) // 2])
    image, label = store.images(np.array([middle]))[0], store.labels(np.array([middle]))[0]
    np.savez(folder / "case_0.npz", image=image, label=label)
    scores = score_samples(SyntheticSet.open(folder), store, cases)
    assert scores.distance[0] < 1e-6
    assert scores.usual[0] < scores.usual[1] < scores.usual[2]
    assert scores.oddity[0] == ""
    assert all(scores.oddity[1:])
    assert (scores.distance[1:] > scores.usual[1]).all()
    # One patient has nobody to be compared with: no sample is called a copy.
    assert score_samples(SyntheticSet.open(folder), store, cases[:1]).usual[0] == 0.0


def test_nothing_but_the_training_cases_is_looked_at(store, write_synthetic, monkeypatch):
    """A user's validation and test scores would be too good: they would have chosen the samples."""
    cases = store.cases("train")[:2]
    allowed = set(store.training_indices(cases).tolist())
    looked: set[int] = set()
    for name in ("images", "labels"):
        real = getattr(type(store), name)

        def spy(self, indices, real=real):
            looked.update(np.asarray(indices).tolist())
            return real(self, indices)

        monkeypatch.setattr(type(store), name, spy)
    score_samples(SyntheticSet.open(write_synthetic()), store, cases)
    assert looked == allowed
    with pytest.raises(LeakError, match="training cases alone"):
        TrainingSlices(store, cases).images(store.indices("test"))
    with pytest.raises(LeakError, match="training cases alone"):
        TrainingSlices(store, store.cases("val"))


@pytest.fixture
def judge(store, tmp_path, eager):
    """Return a barely trained U-Net of two real patients."""
    return train(store, tmp_path / "judge", check_options({**TINY, "train_patients": 2}))


def test_a_training_on_chosen_slices_records_them(store, tmp_path, write_synthetic, judge):
    """A user could not tell later which synthetic slices a network had seen."""
    folder = write_synthetic(count=6)
    numbers = store.indices("train")[4:10]
    # Real label maps with images as far from the training slices as those of other patients are.
    brighter = np.clip(store.images(numbers) + 0.2, -1, 1)
    for place, (image, label) in enumerate(zip(brighter, store.labels(numbers), strict=True)):
        np.savez(folder / f"case_{place}.npz", image=image, label=label)
    options = check_options(
        {
            **TINY,
            "ratio": 1.0,
            "blending": Blending(keep_fraction=0.5, filter_model=str(judge.path), sampling="balanced"),
        }
    )
    run = train(store, tmp_path / "run", options, synthetic=SyntheticSet.open(folder))
    choice = SegmentationRun.open(run.path).record.synthetic.choice
    assert 1 <= choice.kept <= 3
    assert choice.kept + sum(choice.dropped.values()) == 6
    assert choice.filter_model
    with open(run.path / "chosen.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["slice"] for row in rows] == [f"case_{number}/0" for number in range(6)]
    assert sum(not row["dropped"] for row in rows) == choice.kept
    assert all(0 <= float(row["agreement"]) <= 1 for row in rows)
    assert train(store, tmp_path / "run", options, synthetic=SyntheticSet.open(folder), resume=True).finished
    again = options.model_copy(
        update={"blending": options.blending.model_copy(update={"judge": os.path.relpath(judge.path)})}
    )
    assert train(store, tmp_path / "run", again, synthetic=SyntheticSet.open(folder), resume=True).finished
    # The judge must not know more patients than the training, nor synthetic slices.
    with pytest.raises(UserError, match="--filter-with .* saw 1 patients"):
        fewer = options.model_copy(update={"train_patients": 1})
        train(store, tmp_path / "other", fewer, synthetic=SyntheticSet.open(folder))
    with pytest.raises(UserError, match="trained on synthetic slices"):
        score_samples(SyntheticSet.open(folder), store, store.cases("train"), run)


def test_the_same_question_about_a_set_is_answered_once(store, write_synthetic, monkeypatch):
    """A user's comparison would judge all samples again for each seed and arm."""
    asked = []

    def score(synthetic, store, cases, judge):
        asked.append(len(cases))
        return table(names=synthetic.cases)

    monkeypatch.setattr(choosing, "score_samples", score)
    synthetic = SyntheticSet.open(write_synthetic(count=4))
    cases = store.cases("train")
    answers = [choose_slices(synthetic, store, cases, Blending(keep_fraction=0.5)) for _ in range(2)]
    assert asked == [4] and answers[0][1:] == answers[1][1:]
    assert answers[0][0].cases == answers[1][0].cases == ["case_0", "case_2"]
    assert len(choose_slices(synthetic, store, cases, Blending(keep_fraction=0.25))[0]) == 1
    choose_slices(synthetic, store, cases[:2], Blending(keep_fraction=0.5))
    choose_slices(SyntheticSet.open(synthetic.folder), store, cases, Blending(keep_fraction=0.5))
    assert asked == [4, 4, 2, 4]


def test_a_filter_without_synthetic_slices_is_refused(store, tmp_path):
    """A user would believe that a filter was at work."""
    with pytest.raises(UserError, match="--ratio 0 uses none"):
        train(store, tmp_path / "run", check_options({**TINY, "blending": Blending(keep_fraction=0.5)}))
