"""Blending: the proportion in each batch, the order, and the sets that are refused."""

import json

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation import blend
from synthmed.segmentation.augment import Augmentation
from synthmed.segmentation.blend import blended_batches, fitting_slices, offered
from synthmed.segmentation.schedule import Blending

STILL = Augmentation(rotation=0, scale=0, stretch=0, translation=0, intensity=0, sharpness=0, elastic=0)


@pytest.mark.parametrize("in_memory", [True, False])
def test_each_batch_holds_the_slices_that_its_ratio_says(store, write_synthetic, monkeypatch, in_memory):
    """A user's synthetic slices would never arrive, or crowd out the real ones."""
    monkeypatch.setattr(blend, "MEMORY_LIMIT", 2**30 if in_memory else 0)
    synthetic = fitting_slices(SyntheticSet.open(write_synthetic()), store)
    numbers = store.indices("train")
    real = {image.tobytes() for image in store.images(numbers)}
    drawn = {image.tobytes() for image in synthetic.images(np.arange(len(synthetic)))}

    def origins(start):
        stream = blended_batches(store, numbers, synthetic, batch=6, ratio=0.5, seed=0, augmentation=STILL, start=start)
        found = []
        for batch in stream.take(3).as_numpy_iterator():
            # Undo the rounding of the interpolation, which reproduces each value to a few ulps.
            found.append([_nearest(image, real | drawn) for image in batch["image"]])
        return found

    batches = origins(0)
    for batch in batches:
        assert [image in real for image in batch] == [True] * 4 + [False] * 2
        assert all(image in drawn for image in batch[4:])
    assert origins(1)[:2] == batches[1:]


def _nearest(image, candidates):
    arrays = {key: np.frombuffer(key, np.float32).reshape(image.shape) for key in candidates}
    key = min(arrays, key=lambda key: np.abs(arrays[key] - image).max())
    assert np.abs(arrays[key] - image).max() < 1e-5
    return key


def test_sets_that_do_not_fit_are_refused_with_the_reason(store, write_synthetic):
    """A user would train on slices that mean something else, and on a leak into the test patients."""
    refused = {
        "channels": {"channels": ["CT"]},
        "classes": {"classes": ["background", "other"]},
        "16x16": {"size": (16, 16)},
        "test cases": {"training_patients": store.hashes("test")},
        "validation cases": {"training_patients": store.training_hashes + store.hashes("val")},
    }
    for number, (reason, changes) in enumerate(refused.items()):
        folder = write_synthetic(f"set{number}", **changes)
        with pytest.raises(UserError, match=reason):
            fitting_slices(SyntheticSet.open(folder), store)


def test_a_ratio_without_a_set_is_refused(store):
    """A user who forgets --synthetic would get a real-only training under a blended name."""
    with pytest.raises(UserError, match="--synthetic"):
        blended_batches(store, store.indices("train"), None, batch=4, ratio=1, seed=0, augmentation=STILL)


def test_sets_of_two_generators_in_one_folder_are_refused(write_synthetic):
    """A user would train on some slices whose channels mean something else."""
    folder = write_synthetic()
    sidecar = folder / "case_3.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"channels": ["CT", "PET"]}))
    with pytest.raises(UserError, match="differ in their channels"):
        SyntheticSet.open(folder)


def test_balanced_sampling_offers_slices_of_rare_classes_more_often():
    """A user's few slices with a lesion would still be seen as rarely as they are."""
    counts = np.zeros((100, 3), np.int64)
    counts[:, 0] = 10
    counts[:50, 1] = 5
    counts[:2, 2] = 1
    everything = np.arange(100)
    assert offered(counts, everything, Blending(), seed=0) is everything
    often = np.bincount(offered(counts, everything, Blending(sampling="balanced"), seed=0), minlength=100)
    # The square root of 0.5 / 0.02 is 5.
    assert often.tolist() == [5, 5] + [1] * 98
    few = offered(counts, np.array([0, 60, 60, 61]), Blending(sampling="balanced"), seed=0)
    assert set(few.tolist()) == {0, 60, 61}


def test_classes_of_a_set_too_large_for_memory_are_counted_alike(store, write_synthetic, monkeypatch):
    """A user with a large set would be offered other slices than one with a small set."""
    synthetic = SyntheticSet.open(write_synthetic())
    inside = fitting_slices(synthetic, store)
    monkeypatch.setattr(blend, "MEMORY_LIMIT", 0)
    outside = fitting_slices(synthetic, store)
    assert (inside.in_memory, outside.in_memory) == (True, False)
    np.testing.assert_array_equal(inside.class_counts, outside.class_counts)
    wanted = [np.bincount(label.ravel(), minlength=len(store.classes)) for label in synthetic.labels()]
    np.testing.assert_array_equal(inside.class_counts, wanted)


def test_a_label_map_with_an_unknown_class_is_refused(store, write_synthetic):
    """A user's training would stop at some step with an error from inside TensorFlow."""
    folder = write_synthetic()
    with np.load(folder / "case_2.npz") as arrays:
        np.savez(folder / "case_2.npz", image=arrays["image"], label=np.full(store.size, 9, np.uint8))
    with pytest.raises(UserError, match="case_2 .* class 9"):
        fitting_slices(SyntheticSet.open(folder), store)


def test_the_blended_stream_has_no_tuner(store):
    """A training would wait for up to a minute when it is done."""
    stream = blended_batches(
        store, store.indices("train"), None, batch=2, ratio=0.0, seed=0, augmentation=STILL, blending=Blending()
    )
    assert stream.options().autotune.enabled is False
