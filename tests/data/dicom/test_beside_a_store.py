"""DICOM studies as images without labels beside a labelled store."""

import numpy as np
import pytest

from synthmed.data.readers import load_case, read_images, read_unlabelled
from synthmed.errors import UserError


def test_channels_come_in_the_order_of_the_store(tmp_path, written, voxels, store):
    """T1 would be shown as T2 to a generator, because another scanner numbers its series otherwise."""
    for number, name in enumerate(("T2", "T1")):
        written.write_series(tmp_path / name, voxels(number), series=name, number=number + 1)
    assert store.channels == ("T1", "T2")
    dataset = read_unlabelled(tmp_path, store.manifest)
    held_out = any(case.split != "train" for case in store.cases())
    assert any("validation and test patients" in note for note in dataset.notes) == held_out
    assert not dataset.labelled and [case.label for case in dataset.cases] == [None]
    images = load_case(dataset.cases[0]).images
    np.testing.assert_array_equal(images[..., 0], voxels(1))
    np.testing.assert_array_equal(images[..., 1], voxels(0))


def test_other_names_are_taken_in_their_order_and_said(tmp_path, written, voxels, store):
    """A user would not learn what was taken for what."""
    for number, name in enumerate(("before", "after")):
        written.write_series(tmp_path / name, voxels(number), series=name, number=number + 1)
    assert any("before as T1, after as T2" in note for note in read_unlabelled(tmp_path, store.manifest).notes)
    written.write_series(tmp_path / "third", voxels(3), series="third", number=3)
    with pytest.raises(UserError, match="before, after, third, the store T1, T2: give"):
        read_unlabelled(tmp_path, store.manifest)


def test_channels_come_in_the_order_of_the_model(tmp_path, written, voxels):
    """`segment predict` would show T2 to a network in the place of T1."""
    for number, name in enumerate(("T2", "T1")):
        written.write_series(tmp_path / name, voxels(number), series=name, number=number + 1)
    images = read_images(tmp_path, ("T1", "T2"))
    assert not images.notes
    np.testing.assert_array_equal(load_case(images.cases[0]).images[..., 0], voxels(1))
