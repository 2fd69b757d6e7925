import numpy as np
import pytest

from synthmed.evaluation.adherence import adherence_section, agreement

CLASSES = ("background", "a", "b")


def test_dice_is_that_of_each_class_in_each_slice():
    """Images that do not follow their label maps would pass as labelled data."""
    asked = np.array([[[1, 1, 2, 0]], [[0, 0, 0, 0]], [[1, 0, 255, 255]]], np.uint8)
    found = np.array([[[1, 0, 2, 2]], [[0, 0, 2, 0]], [[1, 0, 1, 2]]], np.uint8)
    table = agreement(asked, found, classes=3, groups=np.arange(3))
    np.testing.assert_allclose(table.dice, [[2 / 3, 2 / 3], [np.nan, 0], [1, np.nan]])
    np.testing.assert_allclose(table.mean, [2 / 3, 0, 1])
    nothing = agreement(asked[1:2], asked[1:2], classes=3, groups=np.arange(1))
    assert nothing.mean == [1]


def test_the_real_baseline_is_what_real_slices_get():
    """A figure without it would blame the images for what the segmenter cannot do."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (30, 4, 4), dtype=np.uint8)
    wrong = np.where(random.uniform(size=labels.shape) < 0.2, 1 - labels, labels)
    drawn = agreement(labels, labels, classes=3, groups=np.arange(30))
    real = agreement(labels, wrong, classes=3, groups=np.arange(30) // 5)
    section = adherence_section(drawn, real, classes=CLASSES)
    (figure,) = section.figures
    assert figure.estimate.value == figure.estimate.low == figure.estimate.high == 1
    assert figure.real_baseline.low < figure.real_baseline.value < figure.real_baseline.high < 1
    assert figure.real_baseline.value == pytest.approx(np.nanmean(real.dice[:, 0]))
    assert any(note.startswith("b ") for note in section.notes)


def test_without_a_segmenter_the_section_says_how_to_get_one():
    """A reader would not know that something is missing, nor how to measure it."""
    section = adherence_section(None, None, classes=CLASSES)
    assert not section.figures
    assert "--segmenter" in section.notes[0]
