import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.training.batches import GeneratorBatches
from synthmed.training.options import TrainOptions


def feed(store, unlabelled=None, **more):
    return GeneratorBatches(TrainOptions(variant="base", batch=6, **more), store, unlabelled)


def test_networks_are_told_of_the_slice_beside_it(store):
    """A user's generator would learn positions and classes of other slices."""
    batches = feed(store, position=True, class_presence=True)
    for batch in batches.batches(0).take(4).as_numpy_iterator():
        for place in range(6):
            same = [i for i in batches.indices if np.array_equal(store.images(np.array([i]))[0], batch["image"][place])]
            expected = batches.conditioning(np.array(same[:1]))
            np.testing.assert_array_equal(batch["label"][place], expected["label"][0])
            np.testing.assert_allclose(batch["position"][place], expected["position"][0])
            shown = set(np.unique(batch["label"][place])) - {0}
            np.testing.assert_array_equal(np.flatnonzero(batch["class_presence"][place]) + 1, sorted(shown))


def test_only_what_the_run_uses_is_in_a_batch(store):
    """A user would trace the graph anew, or leak labels into a run that must not see them."""
    assert set(feed(store, position=False).batches(0).element_spec) == {"image", "label"}
    assert set(feed(store).batches(0).element_spec) == {"image", "label", "position"}


def test_half_of_a_batch_is_unlabelled_and_shows_no_labels(store):
    """A user's unlabelled images would be learnt as background."""
    batch = next(feed(store, store, class_presence=True).batches(0).as_numpy_iterator())
    np.testing.assert_array_equal(batch["labelled"], [1, 1, 1, 0, 0, 0])
    assert not batch["label"][batch["labelled"] == 0].any()
    assert (batch["class_presence"][batch["labelled"] == 0] == 0.5).all()
    assert batch["image"].shape == (6, *store.size, 2)


def test_a_resumed_feed_goes_on_with_the_next_slices(store):
    """A user would lose exact resumption."""
    for unlabelled in (None, store):
        whole = list(feed(store, unlabelled).batches(0).take(5).as_numpy_iterator())
        rest = list(feed(store, unlabelled).batches(3).take(2).as_numpy_iterator())
        for expected, got in zip(whole[3:], rest, strict=True):
            assert all(np.array_equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize("step", [0, 7])
@pytest.mark.parametrize(
    "more", [{"position": False}, {"class_presence": True}, {"unlabelled": True, "class_presence": True}]
)
def test_every_backend_is_fed_the_same(store, monkeypatch, step, more):
    """A user's run that goes on under another backend would see other slices, or be batches another thing of them."""
    given = feed(
        store, store if more.get("unlabelled") else None, **{k: v for k, v in more.items() if k != "unlabelled"}
    )
    expected = list(given.batches(step).take(9).as_numpy_iterator())
    monkeypatch.setattr("synthmed.training.batches.backend_name", lambda: "jax")
    batches = given.batches(step)
    for wanted in expected:
        batch = next(batches)
        assert batch.keys() == wanted.keys()
        for name, value in batch.items():
            assert isinstance(value, np.ndarray) and value.dtype == wanted[name].dtype
            np.testing.assert_array_equal(value, wanted[name])
    batches.close()


def test_unlabelled_images_of_another_kind_are_refused(store, tmp_path):
    """A user would train on slices of another size or modality, or on test patients."""
    from synthmed.data.phantom import write_phantom
    from synthmed.data.prepare import prepare
    from synthmed.data.readers import read_dataset

    write_phantom(tmp_path / "set", cases=3, size=32, channels=1, seed=2)
    other = prepare(read_dataset(tmp_path / "set"), tmp_path / "other", size=(32, 32), split=(1, 0, 0))
    with pytest.raises(UserError, match="prepare both alike"):
        feed(store, other)
    write_phantom(tmp_path / "same", cases=6, size=32, channels=2, seed=1)
    everybody = prepare(read_dataset(tmp_path / "same"), tmp_path / "everybody", size=(32, 32), split=(1, 0, 0))
    with pytest.raises(UserError, match="for validation or test"):
        feed(store, everybody)
