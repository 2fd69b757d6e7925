import os
from pathlib import Path

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.files import write_json
from synthmed.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    find_newest,
    list_checkpoints,
    remove_leftovers,
    save_checkpoint,
)

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


def readings(folder, file):
    """Yield what a checkpoint says with a bit of each byte of a file changed, and after each cut; None: refused."""
    whole = file.read_bytes()
    flipped = ((*whole[:place], whole[place] ^ 1 << place % 8, *whole[place + 1 :]) for place in range(len(whole)))
    cut = (whole[:length] for length in range(len(whole)))
    for content in (*flipped, *cut):
        file.write_bytes(bytes(content))
        try:
            found = Checkpoint.open(checkpoint_path(folder, 7))
            yield found.state, found.arrays()
        except UserError as error:
            assert str(file) in str(error)
            yield None


def test_no_changed_or_missing_byte_of_the_arrays_goes_unnoticed(tmp_path):
    """A user would train on with weights that a failing disk has made up."""
    path = save_checkpoint(tmp_path, ARRAYS, {"step": 7}, keep=1)
    assert set(readings(tmp_path, path / "arrays.npz")) == {None}


def test_no_changed_or_missing_byte_of_the_state_changes_what_it_says(tmp_path):
    """A user's training would go on from another second, or with other means in its log."""
    state = {"step": 7, "seconds": 12.5, "window": {"loss": [0.1, 0.30000001192092896]}}
    path = save_checkpoint(tmp_path, ARRAYS, state, keep=1)
    for found in readings(tmp_path, path / "state.json"):
        assert found is None or {name: found[0].get(name) for name in state} == state


def test_arrays_of_earlier_versions_are_checked_by_their_own_sums(tmp_path):
    """A user's old run, whose checkpoints have no hashes, would be gone on with from damaged weights."""
    path = save_checkpoint(tmp_path, ARRAYS, {"step": 7}, keep=1)
    (path / "state.json").write_text('{"step": 7}')
    for found in readings(tmp_path, path / "arrays.npz"):
        for name, value in (found[1] if found else {}).items():
            assert value.tobytes() == ARRAYS[name].tobytes() and value.shape == ARRAYS[name].shape


def test_the_newest_that_can_be_read_is_found_and_the_others_are_named(tmp_path):
    """A user would not know that work of some steps is done again, and why."""
    assert find_newest(tmp_path) is None
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, ARRAYS, {"step": step}, keep=3)
    assert find_newest(tmp_path).lines() == []
    for step, name in ((2, "state.json"), (3, "arrays.npz")):
        (checkpoint_path(tmp_path, step) / name).write_bytes(b"")
    found = find_newest(tmp_path)
    assert found.checkpoint.state["step"] == 1
    first, second, last = found.lines()
    assert "step-000000003" in first and "step-000000002" in second and "step 1" in last
    found.remove_damaged()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    """A user's damaged checkpoint would stay damaged, or one of lost work would stand for the new one."""
    save_checkpoint(tmp_path, ARRAYS, {"step": 1, "seconds": 1.0}, keep=1)
    save_checkpoint(tmp_path, ARRAYS, {"step": 1, "seconds": 2.0}, keep=1)
    assert [one.state["seconds"] for one in list_checkpoints(tmp_path)] == [2.0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """A power cut would leave a checkpoint of empty files under the name of a whole one."""
    happened = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        happened.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def renamed(source, target):
        happened.append((Path(source), Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    path = save_checkpoint(tmp_path, ARRAYS, {"step": 1}, keep=1)
    ((place, (temporary, target)),) = [
        (n, one) for n, one in enumerate(happened) if isinstance(one, tuple) and one[1] == path
    ]
    assert {temporary, temporary / "arrays.npz", temporary / "state.json"} <= set(happened[:place])
    assert target == path and happened[place + 1 :] == [tmp_path]

    happened.clear()
    write_json(tmp_path / "file.json", 1)
    assert [isinstance(one, tuple) for one in happened] == [False, True, False]
    assert happened[-1] == tmp_path


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
