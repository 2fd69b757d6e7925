"""The whole evaluation: what it says of good and bad sets, and what it refuses."""

import json

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.evaluation.evaluate import evaluate
from synthmed.evaluation.summary import standing


def test_real_slices_of_other_patients_pass_and_copies_are_found(store, write_set, held_out):
    """A user would publish training images as synthetic ones, or be warned of nothing."""
    honest = evaluate(store, write_set("honest", store.images(held_out), store.labels(held_out))).evaluation
    assert honest.audit.passed
    figures = dict(honest.figures())
    assert all(standing(one) != "worse than real" for name, one in figures.items() if name.startswith("masks"))
    train = store.indices("train")
    noisy = store.images(train) + np.random.default_rng(0).normal(0, 0.02, (len(train), 32, 32, 2))
    copies = evaluate(store, write_set("copies", noisy.astype(np.float32), store.labels(train))).evaluation
    assert copies.audit.passed is False


def test_it_says_what_was_compared(store, write_set, held_out):
    """A figure whose data, space and seed are not known cannot be checked by anybody."""
    drawn = write_set("set", store.images(held_out), store.labels(held_out))
    first = evaluate(store, drawn, seed=3).evaluation
    about = first.about
    assert about.store_hash == store.content_hash and about.models == ("cafe",) and about.seed == 3
    assert about.held_out.slices == len(held_out) and about.held_out.units == 4
    assert about.space and about.space_identity
    json.dumps(first.model_dump(mode="json"), allow_nan=False)
    patients = {case.patient for case in store.cases()}
    assert not any(patient in first.model_dump_json() for patient in patients)


def test_sets_of_label_maps_are_judged_by_them_alone(store, write_set, held_out):
    """Generators of label maps could not be evaluated at all."""
    drawn = write_set("masks", None, store.labels(held_out))
    found, again = (evaluate(store, drawn).evaluation for _ in range(2))
    assert found == again
    assert found.about.variant == "masks" and found.about.space == ""
    assert {section.name for section in found.sections} <= {"masks_size", "masks_shape", "masks_place", "memorisation"}


def test_adherence_is_what_the_segmenter_finds(store, write_set, held_out):
    """Images that do not show their label maps would be taken for labelled data."""
    labels = store.labels(held_out)
    drawn = write_set("set", store.images(held_out), labels[::-1])
    by_image = {image.tobytes(): label for image, label in zip(store.images(held_out), labels, strict=True)}

    def segmenter(images):
        return np.stack([by_image[image.tobytes()] for image in images])

    found = evaluate(store, drawn, segmenter=segmenter, segmenter_hash="beef")
    figures = dict(found.evaluation.figures())
    assert figures["adherence.dice_1"].floor.value == 1
    assert figures["adherence.dice_1"].estimate.value < 0.9
    assert standing(figures["adherence.dice_1"]) == "worse than real"
    assert found.evaluation.about.segmenter == "beef"


def test_constant_images_and_an_empty_class_are_warned_of(store, write_set, held_out):
    """A collapsed generator would crash the evaluation instead of being named."""
    labels = store.labels(held_out)
    labels[labels == 1] = 0
    images = np.zeros((len(labels), *store.size, len(store.channels)), np.float32)
    found = evaluate(store, write_set("collapsed", images, labels)).evaluation
    assert any("constant" in line for line in found.warnings)
    assert any(store.classes[1] in line for line in found.warnings)
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["background", "x"]}, "classes"),
        ({"channels": ["a"]}, "channels"),
        ({"few": True}, "at least 10"),
        ({"small": True}, "16x16"),
        ({"seen": True}, "held out"),
    ],
)
def test_sets_that_do_not_fit_are_refused_in_one_line(store, write_set, changes, words):
    """A user would read figures that mean nothing."""
    train = store.indices("train")[: 5 if "few" in changes else 12]
    images, labels = store.images(train), store.labels(train)
    if "small" in changes:
        images, labels = images[:, :16, :16], labels[:, :16, :16]
    told = {"training_patients": store.hashes("test")} if "seen" in changes else {}
    told |= {key: value for key, value in changes.items() if key in ("classes", "channels")}
    with pytest.raises(UserError, match=words) as caught:
        evaluate(store, write_set("set", images, labels, **told))
    assert "\n" not in str(caught.value)
