import json

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.evaluation.evaluate import evaluate


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


def test_held_out_slices_are_at_no_distance_from_themselves(store, tmp_path):
    """A user would be told of a difference where there is none."""
    held_out = np.concatenate([store.indices("val"), store.indices("test")])
    honest = write_set(tmp_path / "honest", store, store.images(held_out), store.labels(held_out))
    report = evaluate(store, honest)
    assert report["fidelity"]["sliced_wasserstein"] == pytest.approx(0.0, abs=1e-6)
    assert report["masks"][store.classes[1]]["synthetic"] == report["masks"][store.classes[1]]["held_out"]


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
