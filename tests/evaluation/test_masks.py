"""Figures of label maps, against references written out here and against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from synthmed.evaluation.masks import (
    MEASURES,
    MaskGroup,
    compare_masks,
    measure_shapes,
    shared_borders,
    weighted_wasserstein,
)

NAMES = [one.name for one in MEASURES]
CLASSES = ("background", "core", "rim")


def measured(mask, spacing=(1.0, 1.0)):
    """Return the measures of one mask by name."""
    values = measure_shapes(np.asarray(mask, np.uint8)[None], classes=2, spacing=spacing)[0, 0]
    return dict(zip(NAMES, values, strict=True))


def disc(radius, centre=(16.0, 16.0), spacing=(1.0, 1.0), size=(32, 32)):
    """Return a disc in physical space."""
    rows, columns = np.indices(size)
    return ((rows - centre[0]) * spacing[0]) ** 2 + ((columns - centre[1]) * spacing[1]) ** 2 <= radius**2


def group(labels, units=None):
    """Return label maps, each a case of its own unless told."""
    labels = np.asarray(labels, np.uint8)
    return MaskGroup(labels, np.arange(len(labels)) if units is None else np.asarray(units))


def phantoms(count, *, seed, move=0.0, radius=5.0):
    """Return discs of class 1 in rings of class 2 at places that vary."""
    random = np.random.default_rng(seed)
    found = np.zeros((count, 32, 32), np.uint8)
    for label in found:
        centre, size = random.normal(16 + move, 1.0, 2), random.normal(radius, 0.5)
        label[disc(size + 3, centre)] = 2
        label[disc(size, centre)] = 1
    return found


def figures(comparison):
    """Return all figures by name."""
    return {figure.name: figure for section in comparison.sections for figure in section.figures}


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any))
def test_parts_less_holes_is_the_euler_number(mask):
    """Torn or perforated label maps would be counted wrongly. Euler number by bit quads, Gray 1971."""
    found = measured(mask)
    padded = np.pad(mask, 1).astype(int)
    quads = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])
    total = quads.sum(axis=0)
    diagonal = (total == 2) & (quads[0] == quads[3])
    euler = ((total == 1).sum() - (total == 3).sum() - 2 * diagonal.sum()) / 4
    assert found["parts"] - found["holes"] == euler
    assert found["area"] == pytest.approx(mask.mean())
    assert 0 < found["solidity"] <= 1 + 1e-9


def test_known_shapes():
    """A reader would be told of ragged or stretched anatomy where there is none."""
    square, line, ring = (np.zeros((32, 32), bool) for _ in range(3))
    square[4:12, 6:14] = line[5, 3:30] = True
    ring |= disc(10) & ~disc(5)
    assert measured(square)["solidity"] == pytest.approx(1)
    assert measured(square)["eccentricity"] == pytest.approx(0)
    assert measured(line)["eccentricity"] == pytest.approx(1)
    assert measured(ring)["holes"] == 1
    assert measured(disc(10))["roundness"] == pytest.approx(1, abs=0.06)
    assert measured(line)["roundness"] < 0.7
    rows, columns = np.indices((64, 64))
    ellipse = ((rows - 32) / 28) ** 2 + ((columns - 32) / 14) ** 2 <= 1
    assert measured(ellipse)["eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), abs=0.01)


def test_shapes_are_those_of_the_anatomy_and_not_of_its_pixels():
    """With oblong pixels every round structure would count as stretched."""
    spacing = (2.0, 0.5)
    mask = disc(12, centre=(8, 32), spacing=spacing, size=(16, 64))
    assert measured(mask, spacing)["eccentricity"] < 0.3 < measured(mask)["eccentricity"]


def test_a_slice_is_measured_alike_alone_and_among_others():
    """Slices are measured in one tall picture: a neighbour above must not be taken for a part."""
    labels = np.random.default_rng(0).integers(0, 3, (6, 7, 5), dtype=np.uint8)
    labels[2] = 0
    labels[3, 0] = 255
    together = measure_shapes(labels, classes=3, spacing=(1.0, 1.0))
    alone = [measure_shapes(label[None], classes=3, spacing=(1.0, 1.0))[0] for label in labels]
    np.testing.assert_allclose(together, alone)
    assert np.isnan(together[2]).all()


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (2, 5, 4), elements=st.sampled_from([0, 1, 2, 255])))
def test_neighbours_equal_a_count_by_hand(labels):
    """Anatomy that touches what it never touches would go unnoticed."""
    found = shared_borders(labels, classes=3).toarray().reshape(2, 3, 3)
    expected = np.zeros((2, 3, 3))
    for number, label in enumerate(np.where(labels == 255, 0, labels)):
        for row in range(5):
            for column in range(4):
                for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    if 0 <= row + down < 5 and 0 <= column + right < 4:
                        one, other = label[row, column], label[row + down, column + right]
                        expected[number, one, other] += one != other
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_weighted_wasserstein_equals_scipy(first, second, seed):
    """Every figure of label maps would be wrong, or its interval."""
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 5, first).astype(float), random.normal(size=second)
    own, others = random.uniform(0.1, 2, (3, first)), random.uniform(0.1, 2, (3, second))
    expected = [wasserstein_distance(one, other, a, b) for a, b in zip(own, others, strict=True)]
    np.testing.assert_allclose(weighted_wasserstein(one, other, own, others), expected, atol=1e-12)


def test_the_same_kind_of_maps_is_like_real_and_another_is_not():
    """A generator of misplaced, too small anatomy would pass, or a good one would not."""
    training, held_out = (group(phantoms(60, seed=seed), np.arange(60) // 6) for seed in (0, 1))
    good = figures(compare_masks(group(phantoms(60, seed=2)), training, held_out, classes=CLASSES))
    bad = figures(compare_masks(group(phantoms(60, seed=3, move=4, radius=3)), training, held_out, classes=CLASSES))
    for name in ("area_1_core", "position_1_core", "position_2_rim"):
        assert good[name].estimate.low <= good[name].real_baseline.high
        assert bad[name].estimate.low > bad[name].real_baseline.high
    for figure in good.values():
        assert figure.estimate.low <= figure.estimate.value <= figure.estimate.high
    assert good["adjacency_1_core"].estimate.value == pytest.approx(0, abs=0.01)
    units = {good[name].unit for name in ("area_1_core", "parts_1_core", "holes_1_core", "position_1_core")}
    assert units == {"real IQR", "parts", "holes", ""}


def test_held_out_slices_against_themselves_are_at_distance_zero():
    """A figure with an offset would call the best possible set worse than it is."""
    held_out = group(phantoms(20, seed=0))
    for figure in figures(compare_masks(held_out, held_out, held_out, classes=CLASSES)).values():
        assert figure.estimate.value == pytest.approx(0, abs=1e-12)


def test_an_empty_class_is_conditional_and_counted():
    """A generator that lost a class would crash the evaluation, or nobody would read of it."""
    real = group(phantoms(20, seed=0))
    lost = phantoms(20, seed=1)
    lost[lost == 2] = 0
    found = compare_masks(group(lost), real, real, classes=CLASSES)
    assert found.missing == ("rim",)
    assert figures(found)["frequency_2_rim"].estimate.value == 1
    assert "area_2_rim" not in figures(found)
    assert any("rim" in note and "no synthetic slice" in note for one in found.sections for note in one.notes)
    assert found.means["rim"]["synthetic"]["area"] is None
    assert found.maps["synthetic"][1].max() == 0


def test_names_of_classes_become_keys_that_differ():
    """Two classes under one key would overwrite each other in metrics.json."""
    labels = group(np.random.default_rng(0).integers(0, 4, (12, 6, 6)))
    found = compare_masks(labels, labels, labels, classes=("background", "Liver left", "liver-left", "肝"))
    names = [figure.name for section in found.sections for figure in section.figures]
    assert len(names) == len(set(names))
    assert all(name.isascii() for name in names)
