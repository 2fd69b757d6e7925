"""The whole evaluation: what it says of good and bad sets, and what it refuses."""

import json

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.evaluation.evaluate import evaluate
from synthmed.evaluation.result import EvaluationSummary


@pytest.fixture(scope="module")
def honest(store, write_set, held_out):
    """What is said of a set that held-out patients make up."""
    drawn = write_set("honest", store.images(held_out), store.labels(held_out), psi=0.7)
    return evaluate(store, drawn, seed=3).evaluation


@pytest.fixture(scope="module")
def copies(store, write_set, held_out):
    """What is said of noisy copies under label maps of other slices, where a segmenter finds what is really there."""
    train = store.indices("train")
    noisy = store.images(train) + np.random.default_rng(0).normal(0, 0.02, (len(train), 32, 32, 2)).astype("f4")
    labels = store.labels(train)
    images = [*noisy, *store.images(held_out)]
    by_image = {one.tobytes(): label for one, label in zip(images, [*labels, *store.labels(held_out)], strict=True)}

    def segmenter(images):
        return np.stack([by_image[image.tobytes()] for image in images])

    drawn = write_set("copies", noisy, labels[::-1])
    return evaluate(store, drawn, segmenter=segmenter, segmenter_hash="beef").evaluation


def test_real_slices_of_other_patients_pass_and_copies_are_found(honest, copies):
    """A user would publish training images as synthetic ones, or be warned of nothing."""
    assert honest.audit.passed
    figures = dict(honest.figures())
    assert all(one.standing != "worse than real" for name, one in figures.items() if name.startswith("masks"))
    assert copies.audit.passed is False


def test_it_says_what_was_compared(honest, store, held_out):
    """A figure whose data, space and seed are not known cannot be checked by anybody."""
    about = honest.about
    assert about.store_hash == store.content_hash and about.models == ("cafe",) and about.seed == 3
    assert about.held_out.slices == len(held_out) and about.held_out.units == 4
    assert about.space and about.space_identity and about.psi == (0.7,)
    json.dumps(honest.model_dump(mode="json"), allow_nan=False)
    patients = {case.patient for case in store.cases()}
    assert not any(patient in honest.model_dump_json() for patient in patients)


def test_the_summary_has_the_same_figures(honest):
    """A card would tell other figures than the report."""
    summary = EvaluationSummary.of(honest)
    assert summary.model_hash == "cafe" and summary.samples == honest.about.synthetic.slices and summary.psi == (0.7,)
    summarised = {one.label.split(" (")[0]: one for one in summary.figures}
    figures = dict(honest.figures())
    for key in ("fidelity.frechet_distance", "diversity.recall"):
        figure = figures[key]
        assert summarised[figure.label].estimate == figure.estimate
        assert summarised[figure.label].real_baseline == figure.real_baseline


def test_sets_of_label_maps_are_compared_by_them_alone(store, write_set, held_out):
    """Generators of label maps could not be evaluated at all."""
    drawn = write_set("masks", None, store.labels(held_out))
    found, again = (evaluate(store, drawn).evaluation for _ in range(2))
    assert found == again
    assert found.about.variant == "masks" and found.about.space == ""
    assert {section.name for section in found.sections} <= {"masks_size", "masks_shape", "masks_place", "memorisation"}


def test_adherence_is_what_the_segmenter_finds(copies):
    """Images that do not show their label maps would be taken for labelled data."""
    figures = dict(copies.figures())
    assert figures["adherence.dice_1"].real_baseline.value == 1
    assert figures["adherence.dice_1"].estimate.value < 0.9
    assert figures["adherence.dice_1"].standing == "worse than real"
    assert copies.about.segmenter == "beef"


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
        ({"plane": True}, "shape"),
        ({"nan": True}, "not finite"),
        ({"seen": True}, "holds out"),
    ],
)
def test_sets_that_do_not_fit_are_refused_in_one_line(store, write_set, changes, words):
    """A user would read figures that mean nothing."""
    train = store.indices("train")[: 5 if "few" in changes else 12]
    images, labels = store.images(train), store.labels(train)
    if "small" in changes:
        images, labels = images[:, :16, :16], labels[:, :16, :16]
    if "plane" in changes:
        images = images[..., :1]
    if "nan" in changes:
        images[3, 4, 5, 0] = np.nan
    given = {"training_patients": store.hashes("test")} if "seen" in changes else {}
    given |= {key: value for key, value in changes.items() if key in ("classes", "channels")}
    with pytest.raises(UserError, match=words) as caught:
        evaluate(store, write_set("set", images, labels, **given))
    assert "\n" not in str(caught.value)
