"""Tests of synthmed.data.store and of the shards behind it."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from synthmed.data import store as store_module
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.slicing import restore_images, restore_labels
from synthmed.data.store import Store, find_latest_store
from synthmed.errors import UserError


@pytest.fixture
def store(nnunet_set, tmp_path) -> Store:
    """Return a store of four small cases."""
    return prepare(read_dataset(nnunet_set()), tmp_path / "store", split=(0.5, 0.25, 0.25))


def test_slices_come_in_the_order_asked_for(store):
    """Images and labels of a batch would not belong together."""
    numbers = np.array([17, 0, 5, 5, 23])
    images, labels = store.images(numbers), store.labels(numbers)
    for place, number in enumerate(numbers):
        np.testing.assert_array_equal(images[place], store.images(np.array([number]))[0])
        np.testing.assert_array_equal(labels[place], store.labels(np.array([number]))[0])
    assert images.shape == (5, *store.size, 2) and images.dtype == np.float32
    assert labels.shape == (5, *store.size) and labels.dtype == np.uint8


def test_splits_share_no_slice_and_no_hash(store):
    """Test patients would be trained on."""
    parts = [set(store.indices(split).tolist()) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(store) == 24
    assert not set(store.training_hashes) & set(store.hashes("test") + store.hashes("val"))
    for split in ("train", "val", "test"):
        assert {store.case_of(int(number)).split for number in store.indices(split)} == {split}


def test_positions_rise_along_each_case(store):
    """A generator conditioned on the position would learn noise."""
    for case in store.cases():
        position = store.slice_position[case.first : case.first + case.slices]
        assert position.dtype == np.float32
        np.testing.assert_allclose(position, (np.arange(case.slices) + 0.5) / case.slices, rtol=1e-6)


def test_numbers_outside_are_refused(store):
    """Negative numbers would silently count from the end."""
    for number in (-1, len(store)):
        with pytest.raises(IndexError):
            store.images(np.array([number]))
        with pytest.raises(IndexError):
            store.case_of(number)


def test_several_shards_read_like_one(store, monkeypatch, tmp_path):
    """Large stores, which span shards, would give other slices than small ones."""
    slice_bytes = 4 * 2 * store.size[0] * store.size[1]
    monkeypatch.setattr("synthmed.data.shards.SHARD_BYTES", 13 * slice_bytes)
    split = prepare(read_dataset(tmp_path / "set"), tmp_path / "sharded", split=(0.5, 0.25, 0.25))
    assert [shard.slices for shard in split.manifest.shards] == [12, 12]
    numbers = np.random.default_rng(0).permutation(len(store))
    np.testing.assert_array_equal(split.images(numbers), store.images(numbers))
    np.testing.assert_array_equal(split.labels(numbers), store.labels(numbers))


@pytest.mark.parametrize("name", ["images-00000.npy", "labels-00000.npy", "class_counts.npy"])
def test_a_damaged_file_is_named(store, name):
    """A broken copy would end in a traceback or, worse, in training on rubbish."""
    path = store.path / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=name):
        Store.open(store.path)


def test_a_damaged_manifest_is_named(store):
    """The user would not know which field of which file is wrong."""
    manifest = store.path / "manifest.json"
    content = json.loads(manifest.read_text())
    content["plan"]["size"] = "large"
    manifest.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"manifest.json.*plan.size"):
        Store.open(store.path)


def test_what_is_no_store_is_refused(tmp_path):
    """Training would start on nothing."""
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is no store"):
            Store.open(path)


def test_the_newest_store_is_found(store, tmp_path):
    """`synthmed train` without --data would take an old store."""
    assert find_latest_store(tmp_path) == store.path
    newer = prepare(read_dataset(tmp_path / "set"), tmp_path / "deep" / "newer")
    prepare(read_dataset(tmp_path / "set"), tmp_path / "far" / "too" / "deep")
    os.utime(store.path / store_module.MANIFEST)
    assert find_latest_store(tmp_path) == newer.path
    assert find_latest_store(newer.path) == newer.path
    assert find_latest_store(tmp_path / "set") is None


def test_templates_name_nobody(store):
    """A shipped generator would carry the names of its training cases."""
    text = "".join(template.model_dump_json() for template in store.templates())
    assert len(store.templates()) == 2
    assert "case" not in text and not any(case.hash in text for case in store.cases())


def test_a_template_writes_a_slice_where_its_case_lies(store, affine_of):
    """Synthetic cases would lie beside real ones in a viewer, or mirrored in a training set."""
    record, template = store.cases("train")[0], store.templates()[0]
    middle = record.slices // 2
    image = store.images(np.array([record.first + middle]))[0, ..., 0]
    volume, affine = template.volume(image)
    np.testing.assert_allclose(np.abs(np.diag(affine)[:3]), [1.0, 1.0, 3.0])
    # The source is RAS, so that voxel (i, j) of slice k and the padded volume share axes but for the origin.
    source = affine_of((1.0, 1.0, 3.0), "RAS")
    shift = np.round(np.linalg.solve(source, affine)[:3, 3]).astype(int)
    assert shift[2] == middle and volume.shape[2] == 1
    numbers = np.arange(record.first, record.first + record.slices)
    restored = restore_images(record, store.images(numbers))[..., middle, 0]
    scale, offset = template.scale[0], template.offset[0]
    i, j = -shift[0], -shift[1]
    own = volume[i : i + restored.shape[0], j : j + restored.shape[1], 0] * scale + offset
    np.testing.assert_allclose(own, restored, rtol=1e-4, atol=1e-2)


def test_a_template_writes_all_slices_where_their_case_lies(store):
    """A generated patient would be stretched, mirrored or moved against the real one whose geometry it has."""
    record, template = store.cases("train")[1], store.templates()[1]
    assert template.slices == record.slices
    numbers = np.arange(record.first, record.first + record.slices)
    labels = store.labels(numbers)
    volume, affine = template.volume(np.moveaxis(labels, 0, 2), whole=True)
    own = restore_labels(record, labels)
    source = np.asarray(record.geometry.affine)
    for voxel in np.argwhere(own > 0)[::7]:
        place = np.linalg.inv(affine) @ source @ [*voxel, 1]
        assert volume[tuple(np.rint(place[:3]).astype(int))] == own[tuple(voxel)]
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [1.0, 1.0, 3.0])
    with pytest.raises(ValueError, match="slices"):
        template.volume(np.moveaxis(labels[1:], 0, 2), whole=True)


def test_what_slices_show_and_who_is_held_out_follow_from_labels_and_splits(store):
    """A user's networks would be told of classes that are not there, or taught by test patients."""
    labels = store.labels(np.arange(len(store)))
    for index in range(1, len(store.classes)):
        np.testing.assert_array_equal(store.slice_shown[:, index - 1], (labels == index).any(axis=(1, 2)))
    assert store.held_out_hashes == {case.hash for case in store.cases() if case.split != "train"}
    assert not store.held_out_hashes & set(store.training_hashes)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "no permission to read .*images-00000.npy: change its"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "missing or damaged: run `synthmed prepare`"),
        (ValueError("mmap length is greater than file size"), "missing or damaged: run `synthmed prepare`"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "address space.*ulimit -v unlimited"),
        (OSError(errno.ENODEV, "No such device"), "cannot be mapped into memory .No such device.: copy the store"),
    ],
)
def test_a_shard_that_cannot_be_mapped_is_one_line_with_the_mend(store, monkeypatch, error, words):
    """A user would prepare a store anew that is whole, or see a traceback after a night in a queue."""

    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr(store_module.np, "load", fail)
    with pytest.raises(UserError, match=words):
        Store.open(store.path)


def test_a_store_larger_than_the_address_space_is_one_line(store):
    """A user's cluster limits the address space of a job: the store is whole, but the process may not map it."""
    shard = store.path / store.manifest.shards[0].images
    # Sparse: it takes no room on the disk.
    np.lib.format.open_memmap(shard, mode="w+", dtype=np.float32, shape=(2**30,)).flush()
    code = (
        "import resource, sys; from synthmed.data.store import Store; from synthmed.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))\n"
        "try:\n    Store.open(sys.argv[1])\nexcept UserError as error:\n    print(error)"
    )
    said = subprocess.check_output([sys.executable, "-c", code, str(store.path)], text=True)
    assert said.startswith(f"{shard} (4.0 GiB) does not fit into the address space"), said
