"""A small phantom, its store, and a synthetic set beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from synthmed.data.phantom import write_phantom
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.store import Store


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """Return a data set of 6 cases of 32 x 32 pixels with two channels."""
    return write_phantom(tmp_path_factory.mktemp("segmentation") / "phantom", cases=6, size=32, channels=2, seed=1)


@pytest.fixture(scope="session")
def store(phantom) -> Store:
    """Return the store of the phantom: 4 training patients, 1 for validation, 1 for test."""
    return prepare(read_dataset(phantom), phantom.parent / "store", size=(32, 32), split=(0.66, 0.17, 0.17))


@pytest.fixture
def write_synthetic(tmp_path, store):
    """Return a function that writes a set of `npz` slices as `synthmed generate` does."""

    def write(name="synthetic", *, count=5, size=None, **changes):
        folder = tmp_path / name
        folder.mkdir()
        random = np.random.default_rng(0)
        size = size or store.size
        for number in range(count):
            image = random.uniform(-1, 1, (*size, len(store.channels))).astype(np.float32)
            label = random.integers(0, len(store.classes), size).astype(np.uint8)
            np.savez(folder / f"case_{number}.npz", image=image, label=label)
            sidecar = {
                "synthetic": True,
                "format": "npz",
                "model_hash": "abc",
                "seed": number,
                "channels": list(store.channels),
                "classes": list(store.classes),
                "template": {"index": 0},
                "training_patients": store.training_hashes,
            }
            (folder / f"case_{number}.json").write_text(json.dumps(sidecar | changes))
        return folder

    return write
