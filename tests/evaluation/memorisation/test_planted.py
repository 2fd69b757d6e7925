"""The audit finds copies of training slices and stays silent on people who were never seen."""

import numpy as np
import pytest

from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.evaluation.memorisation.audit import audit

KINDS = ("exact", "shifted", "noisy", "intensities", "size", "all")
PLANTED = 0.01


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Return a store of 30 phantom cases, and images and label maps of 48 others."""
    from synthmed.data.phantom import write_phantom

    folder = tmp_path_factory.mktemp("planted")
    write_phantom(folder / "set", cases=30, size=32, channels=2, seed=5)
    store = prepare(read_dataset(folder / "set"), folder / "store", size=(32, 32), split=(0.6, 0.2, 0.2), seed=1)
    write_phantom(folder / "strangers", cases=48, size=32, channels=2, seed=6)
    others = prepare(
        read_dataset(folder / "strangers"), folder / "others", size=(32, 32), split=(1.0, 0.0, 0.0), seed=1
    )
    numbers = np.arange(len(others))
    return store, others.images(numbers), others.labels(numbers)


@pytest.fixture(scope="module")
def hippocampus(test_data, tmp_path_factory):
    """Return a store of people, and the numbers of slices of strangers, as whom its test patients serve."""
    folder = tmp_path_factory.mktemp("hippocampus")
    whole = prepare(read_dataset(test_data / "hippocampus"), folder / "store", split=(0.4, 0.2, 0.4), seed=1)
    return whole, whole.indices("test")


class Without:
    """A store whose test patients nobody knows of."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def indices(self, split):
        return np.empty(0, np.int64) if split == "test" else self._store.indices(split)


def planted(planting, images, labels, store, kind):
    """Return a set in which 1 % are copies, and which they are."""
    random = np.random.default_rng(3)
    train = store.indices("train")
    # Slices that show little could be anybody's.
    shown = train[store.class_counts[train, 1:].sum(axis=1) >= 60]
    count = max(8, round(PLANTED * len(images)))
    sources = random.choice(shown, count, replace=False)
    places = random.choice(len(images), count, replace=False)
    images, labels = images.copy(), labels.copy()
    images[places] = planting.disguised(store.images(sources), kind)
    labels[places] = planting.moved(store.labels(sources))
    return images, labels, places, sources


def check_found(planting, store, images, labels, kind):
    images, labels, places, sources = planted(planting, images, labels, store, kind)
    found = audit(store, images, labels)
    assert found.verdict.passed is False and "failed" in found.verdict.sentence
    near = np.array(found.findings[0].near)
    assert near[places].mean() >= 0.95
    assert np.delete(near, places).mean() <= 0.05
    right = [
        store.case_of(found.findings[0].nearest[place]).patient == store.case_of(int(source)).patient
        for place, source in zip(places, sources, strict=True)
    ]
    assert np.mean(right) >= 0.95
    masks = np.array(found.findings[1].near)
    assert masks[places].mean() >= 0.95 and np.delete(masks, places).mean() <= 0.05


def check_silent(store, images, labels):
    found = audit(store, images, labels)
    assert found.verdict.passed is True and found.verdict.copies == 0
    assert found.verdict.near / len(images) <= 0.05
    figures = {figure.name: figure for figure in found.section.figures}
    attack = figures["membership_auc"].estimate
    # Nobody in these samples was trained on; which side of 0.5 it falls on is up to the few patients.
    assert 0.2 < attack.value < 0.65


@pytest.mark.parametrize("kind", KINDS)
def test_copies_among_strangers_are_found(planting, phantom, kind):
    """A user would hand out training images: one sample in a hundred is one, moved, noisy, brighter or larger."""
    store, images, labels = phantom
    check_found(planting, store, images[::2], labels[::2], kind)


def test_strangers_are_no_copies(phantom):
    """A user would be kept from sharing a generator that copied nobody."""
    check_silent(*phantom)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_real_people_are_found(planting, hippocampus, kind):
    """The phantom might be easier than people are."""
    whole, strangers = hippocampus
    check_found(planting, Without(whole), whole.images(strangers), whole.labels(strangers), kind)


@pytest.mark.slow
def test_real_strangers_are_no_copies(hippocampus):
    """People are more alike than phantoms; a false alarm would stop honest work."""
    whole, strangers = hippocampus
    check_silent(Without(whole), whole.images(strangers), whole.labels(strangers))
