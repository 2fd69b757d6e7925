"""Tests of synthmed.data.selection and of what a store offers to a training."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from synthmed.data.attributes import attribute_table
from synthmed.data.plan import PlanOptions
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.schema import IGNORE
from synthmed.data.selection import select
from synthmed.errors import UserError

COUNTS = stnp.arrays(
    np.int64, st.tuples(st.integers(1, 40), st.integers(2, 5)), elements=st.sampled_from([0, 0, 0, 1, 90])
)


@settings(deadline=None)
@given(counts=COUNTS, seed=st.integers(0, 2**32))
def test_balanced_slices_follow_the_published_rule(counts, seed):
    """Rare lesions would come up as rarely as before, or a few slices drown all others."""
    shown = counts[:, 1:] > 0
    if not shown.any():
        with pytest.raises(UserError, match="no training slice shows any class"):
            select(counts, "balanced", seed=seed)
        return
    # Gupta et al. 2019, section 4.2, written out for one slice at a time.
    expected = []
    for row in shown:
        factors = [max(1.0, (0.5 / shown[:, index].mean()) ** 0.5) for index in range(len(row)) if row[index]]
        expected.append(max([1.0, *factors]))
    chosen = select(counts, "balanced", seed=seed)
    repeats = np.bincount(chosen, minlength=len(counts))
    assert chosen.dtype == np.int64 and np.all(np.diff(chosen) >= 0)
    assert np.all(repeats >= np.floor(expected)) and np.all(repeats <= np.ceil(expected))
    np.testing.assert_array_equal(chosen, select(counts, "balanced", seed=seed))


def test_fractions_are_rounded_fairly():
    """A class that is to come up half as often again would come up once or twice as often."""
    counts = np.tile([[90, 0], [90, 1], [90, 0], [90, 0], [90, 0]], (4000, 1))
    repeats = np.bincount(select(counts, "balanced", seed=3))
    assert repeats[1::5].mean() == pytest.approx((0.5 / 0.2) ** 0.5, abs=0.03)
    assert np.all(np.delete(repeats.reshape(-1, 5), 1, axis=1) == 1)


def test_foreground_slices_keep_their_neighbours_within_the_case():
    """A network would go on with an organ beyond its end, not having seen where it ends."""
    foreground = np.array([0, 0, 1, 0, 0, 0, 0, 1, 0, 0])
    counts = np.stack([np.full(10, 5), foreground], axis=1)
    case = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(select(counts, "foreground", case=case), [1, 2, 3, 6, 7])
    np.testing.assert_array_equal(select(counts, "foreground"), [2, 7])
    np.testing.assert_array_equal(select(counts, "all"), np.arange(10))


@pytest.mark.parametrize("how", ["all", "foreground", "balanced"])
def test_a_store_offers_the_slices_of_its_plan(nnunet_set, tmp_path, how):
    """`--slices` would be accepted and do nothing."""
    source = nnunet_set(cases=4, shape=(32, 32, 12))
    store = prepare(source, tmp_path / "store", split=(0.5, 0.25, 0.25), options=PlanOptions(slices=how))
    train = store.indices("train")
    offered = store.training_indices()
    foreground = store.class_counts[train][:, 1:].any(axis=1)
    # Of twelve slices three show organ and three lesion, from the fourth to the ninth.
    if how == "all":
        np.testing.assert_array_equal(offered, train)
    elif how == "foreground":
        assert len(offered) == 2 * 8 and set(train[foreground]) < set(offered)
    else:
        repeats = np.bincount(offered, minlength=len(store))
        assert np.all(repeats[train[~foreground]] == 1) and repeats[train[foreground]].mean() > 1
    one = store.cases("train")[:1]
    assert {store.case_of(int(number)).case for number in store.training_indices(one)} == {one[0].case}
    np.testing.assert_array_equal(offered, store.training_indices(fully_labelled=True))


def _ignoring(source, rows: slice, ignore: int, change):
    for path in sorted((source / "labelsTr").glob("*.nii.gz")):

        def edit(voxels, affine):
            voxels[:, :, rows] = np.where(np.indices(voxels.shape)[0][:, :, rows] < 9, ignore, voxels[:, :, rows])
            return voxels, affine

        change(path, edit)
    return replace(read_dataset(source), ignore_value=ignore)


def test_pixels_of_unknown_class_stay_unknown_and_teach_no_generator(nnunet_set, change, tmp_path):
    """What nobody has labelled would be taught as background, to generators and U-Nets alike."""
    dataset = _ignoring(nnunet_set(cases=3, shape=(31, 29, 8)), slice(0, 3), 9, change)
    # Resampled: nearest neighbour alone keeps 255 from becoming a class between.
    store = prepare(dataset, tmp_path / "store", spacing=(0.7, 0.6), size=(48, 64), split=(1, 0, 0))
    labels = store.labels(np.arange(len(store)))
    assert set(np.unique(labels)) == {0, 1, 2, IGNORE}
    np.testing.assert_array_equal(store.slice_ignored, (labels == IGNORE).any(axis=(1, 2)))
    np.testing.assert_array_equal(store.class_counts.sum(axis=1), (labels != IGNORE).sum(axis=(1, 2)))
    np.testing.assert_array_equal(store.training_indices(), store.indices("train"))
    offered = store.training_indices(fully_labelled=True)
    assert len(offered) == 3 * 5 and not store.slice_ignored[offered].any()
    assert sum(attribute_table(store).counts) == len(offered)
    for record in store.cases():
        source = np.asarray(nib.load(dataset.path / "labelsTr" / f"{record.case}.nii.gz").dataobj)
        numbers = np.arange(record.first, record.first + record.slices)
        assert np.mean(store.labels(numbers) == IGNORE) == pytest.approx(
            np.mean(source == 9) * (31 * 29) / (0.42 * 48 * 64), rel=0.1
        )


def test_a_set_without_a_whole_slice_is_conditional(nnunet_set, change, tmp_path):
    """A generator would be trained on nothing, or stop with a traceback."""
    dataset = _ignoring(nnunet_set(cases=3, shape=(31, 29, 8)), slice(0, 8), 9, change)
    store = prepare(dataset, tmp_path / "store")
    with pytest.raises(UserError, match="label some fully"):
        store.training_indices(fully_labelled=True)
