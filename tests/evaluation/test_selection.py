"""Selection keeps what is worth most, says why the rest was dropped, and writes a set that can be read again."""

import csv
import json

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.evaluation.memorisation.audit import audit
from synthmed.evaluation.selection import MaskRanges, closest_samples, select_best, write_selection
from synthmed.generation.info import sidecar
from synthmed.generation.writers import FORMATS, Item, open_writer


@pytest.fixture(scope="module")
def judged(store):
    """Return images and label maps of strangers, two copies and two implausible maps among them, and their audit."""
    held_out = np.concatenate([store.indices("val"), store.indices("test")])
    shown = held_out[store.class_counts[held_out, 1:].sum(axis=1) > 40][:20]
    images, labels = store.images(shown), store.labels(shown)
    train = store.indices("train")
    train = train[store.class_counts[train, 1:].sum(axis=1) > 40][[2, 9]]
    images[:2], labels[:2] = store.images(train), store.labels(train)
    labels[2:4] = 0
    labels[2:4, ::2, ::2] = 1
    return images, labels, audit(store, images, labels)


def test_copies_and_implausible_maps_are_dropped_with_their_reason(store, judged):
    """A user would train on copies and nonsense, and never learn why a sample is missing."""
    _, labels, found = judged
    ranges = MaskRanges(store.labels(store.indices("train")), classes=len(store.classes))
    chosen = select_best(8, labels=labels, audit=found, outlier=lambda label: ranges.outlier(label, store.classes))
    assert {0, 1, 2, 3}.isdisjoint(chosen.chosen.tolist()) and 1 <= len(chosen.chosen) <= 8
    assert all(chosen.reasons[number].startswith("copy:") for number in (0, 1))
    assert all(chosen.reasons[number].startswith("mask:") for number in (2, 3))
    assert [number for number, reason in enumerate(chosen.reasons) if not reason] == chosen.chosen.tolist()
    assert sum(chosen.summary().values()) == 20 - len(chosen.chosen)


def test_the_best_by_adherence_are_kept(judged):
    """A user would get samples at random."""
    _, labels, found = judged
    adherence = np.linspace(0, 1, 20)
    one = np.broadcast_to(labels[4], labels.shape)
    chosen = select_best(5, labels=one, audit=found, adherence=adherence)
    left = [number for number, reason in enumerate(chosen.reasons) if not reason or reason.startswith("rank:")]
    assert chosen.chosen.tolist() == left[-5:]


def test_every_combination_of_classes_keeps_its_share(judged):
    """Agreement alone would leave nothing but easy slices."""
    _, labels, found = judged
    labels = np.zeros_like(labels)
    labels[4:12, 0, 0] = 1
    chosen = select_best(10, labels=labels, audit=found, adherence=-labels[:, 0, 0].astype(float))
    assert (labels[chosen.chosen, 0, 0] == 1).sum() >= 3


def test_what_cannot_be_selected_is_conditional(judged):
    """A user would get an empty set."""
    _, labels, found = judged
    with pytest.raises(UserError, match="at least 1"):
        select_best(0, labels=labels, audit=found)
    with pytest.raises(UserError, match="audit is of 20"):
        select_best(3, labels=labels[:5], audit=found)
    with pytest.raises(UserError, match="leaves none"):
        select_best(3, labels=labels, audit=found, outlier=lambda label: "mask: unusual")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_selected_set_is_read_back_as_it_was(tiny_info, judged, tmp_path, fmt):
    """A user could not train on what was selected, or would train on other images."""
    _, labels, found = judged
    random, info = np.random.default_rng(0), tiny_info("cond")
    (tmp_path / "set").mkdir()
    writer = open_writer(fmt, tmp_path / "set", info)
    for number in range(20):
        about = sidecar(info, seed=number, psi=1.0, template=0, unit="slice", drawn={"mask_source": "generated"})
        image = random.uniform(-1, 1, (32, 48, 2)).astype(np.float32)
        writer.add(Item(f"SYN_{number:03d}", image, np.full((32, 48), number % 3, np.uint8), info.templates[0], about))
    writer.finish()
    (tmp_path / "set" / "dataset_description.json").write_text(json.dumps({"GeneratedBy": [{"Name": "synthmed"}]}))
    whole = SyntheticSet.open(tmp_path / "set")
    chosen = select_best(6, labels=labels, audit=found)
    selected = SyntheticSet.open(write_selection(whole, chosen, tmp_path / "selected"))
    assert selected.cases == [whole.cases[number] for number in chosen.chosen]
    np.testing.assert_array_equal(selected.images(), whole.images(chosen.chosen))
    np.testing.assert_array_equal(selected.labels(), whole.labels(chosen.chosen))
    record = json.loads((tmp_path / "selected" / "selection.json").read_text())
    assert record["of"] == 20 and len(record["reasons"]) == 20 - len(chosen.chosen)
    with (tmp_path / "selected" / "selection.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file) if row["chosen"] == "yes"] == selected.cases
    if fmt == "nnunet":
        dataset = json.loads((tmp_path / "selected" / "dataset.json").read_text())
        assert dataset["numTraining"] == len(chosen.chosen)


def test_the_closest_begin_with_the_copies(store, judged):
    """A person would look for the copies among the innocent."""
    _, _, found = judged
    samples, slices = closest_samples(found, 2)
    assert set(samples.tolist()) == {0, 1}
    assert all(store.case_of(int(number)).split == "train" for number in slices)
