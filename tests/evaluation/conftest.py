"""Synthetic sets written as `synthmed generate` does."""

import json

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet


@pytest.fixture(scope="session")
def write_set(tmp_path_factory, store):
    """Return a function that writes slices of the store's kind and opens them as a set."""

    def write(name, images, labels, **changes):
        folder = tmp_path_factory.mktemp(name)
        for number, label in enumerate(labels):
            arrays = {"label": label} if images is None else {"image": images[number], "label": label}
            np.savez(folder / f"SYN_{number:03d}.npz", **arrays)
            sidecar = {
                "synthetic": True,
                "format": "npz",
                "template": {},
                "model_hash": "cafe",
                "channels": [] if images is None else list(store.channels),
                "classes": list(store.classes),
                "training_patients": store.training_hashes,
            }
            (folder / f"SYN_{number:03d}.json").write_text(json.dumps(sidecar | changes))
        return SyntheticSet.open(folder)

    return write


@pytest.fixture(scope="session")
def held_out(store):
    """Numbers of the slices of validation and test patients."""
    return np.concatenate([store.indices("val"), store.indices("test")])
