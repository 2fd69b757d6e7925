import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.training.checkpoint import list_checkpoints, remove_leftovers, save_checkpoint

ARRAYS = {"generator/mapping/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(3, np.int64)}


def test_arrays_and_state_come_back_and_only_the_last_are_kept(tmp_path):
    """A user would lose a run, or a disk."""
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, ARRAYS, {"step": step, "seconds": 0.5}, keep=2)
    found = list_checkpoints(tmp_path)
    assert [checkpoint.state["step"] for checkpoint in found] == [2, 3]
    arrays = found[-1].arrays()
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], value)
        assert arrays[name].dtype == value.dtype


def test_a_damaged_file_is_named(tmp_path):
    """A user would get a traceback from zipfile instead of the folder to remove."""
    path = save_checkpoint(tmp_path, ARRAYS, {"step": 1}, keep=1)
    content = (path / "arrays.npz").read_bytes()
    (path / "arrays.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged"):
        list_checkpoints(tmp_path)[0].arrays()


def test_pickled_arrays_are_not_loaded(tmp_path):
    """A user would run code from a downloaded checkpoint."""
    path = save_checkpoint(tmp_path, ARRAYS, {"step": 1}, keep=1)
    np.savez(path / "arrays.npz", evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        list_checkpoints(tmp_path)[0].arrays()


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    """A user would resume from half a checkpoint."""
    leftover = tmp_path / ".step-000000009.partial-abc"
    leftover.mkdir(parents=True)
    (leftover / "arrays.npz").write_bytes(b"half")
    assert list_checkpoints(tmp_path) == []
    remove_leftovers(tmp_path)
    assert not leftover.exists()
