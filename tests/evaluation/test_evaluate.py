import json

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.evaluation.evaluate import evaluate, memorisation
from synthmed.evaluation.pairs import nearest_pairs_picture


def write_set(folder, store, images, labels, **changes):
    folder.mkdir()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        np.savez(folder / f"SYN_{number:03d}.npz", image=image, label=label)
        sidecar = {
            "synthetic": True,
            "format": "npz",
            "template": {},
            "channels": list(store.channels),
            "classes": list(store.classes),
            "training_patients": store.training_hashes,
        }
        (folder / f"SYN_{number:03d}.json").write_text(json.dumps(sidecar | changes))
    return SyntheticSet.open(folder)


def test_real_slices_of_other_patients_pass_and_copies_are_found(store, tmp_path):
    """A user would publish training images as synthetic ones, or be warned of nothing."""
    held_out = np.concatenate([store.indices("val"), store.indices("test")])
    honest = write_set(tmp_path / "honest", store, store.images(held_out), store.labels(held_out))
    report = evaluate(store, honest)
    assert report["memorisation"]["passed"]
    assert report["fidelity"]["sliced_wasserstein"] == pytest.approx(0.0, abs=1e-6)
    assert report["masks"][store.classes[1]]["synthetic"] == report["masks"][store.classes[1]]["held_out"]
    train = store.indices("train")
    noisy = store.images(train) + np.random.default_rng(0).normal(0, 0.02, (len(train), 32, 32, 2))
    copies = write_set(tmp_path / "copies", store, noisy.astype(np.float32), store.labels(train))
    found = evaluate(store, copies)["memorisation"]
    assert not found["passed"]
    assert found["share_nearer"] > 0.9
    nearest_pairs_picture(store, copies, tmp_path / "nearest.png")
    assert (tmp_path / "nearest.png").read_bytes().startswith(b"\x89PNG")


def test_threshold_comes_from_held_out_slices():
    """A user would be told "copies" of every smooth data set: the floor is what real patients score."""
    random = np.random.default_rng(0)
    drawn, training, held_out = (random.standard_normal((400, 8)) for _ in range(3))
    assert memorisation(drawn, training, held_out)["share_nearer"] == pytest.approx(0.01, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"classes": ["background", "x"]}, "classes"), ({"channels": ["a"]}, "channels"), ({}, "10"), (None, "held out")],
)
def test_sets_that_do_not_fit_are_refused_in_one_line(store, tmp_path, changes, words):
    """A user would read figures that mean nothing."""
    train = store.indices("train")[: 5 if changes == {} else 12]
    changes = {"training_patients": store.hashes("test")} if changes is None else changes
    drawn = write_set(tmp_path / "set", store, store.images(train), store.labels(train), **changes)
    with pytest.raises(UserError, match=words) as caught:
        evaluate(store, drawn)
    assert "\n" not in str(caught.value)
