"""`prepare` that is interrupted, run twice, or run on a damaged store."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from synthmed.data import inspect, shards, workfolder
from synthmed.data.inspect import update_hash
from synthmed.data.parallel import Budget, in_order
from synthmed.data.prepare import prepare, prepare_unlabelled
from synthmed.data.readers import load_case
from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.files import sha256_file

SLICE = 4 * 2 * 48 * 32


@pytest.fixture
def source(nnunet_set, monkeypatch):
    """A set of five cases of six slices, two of which fill a shard."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 12 * SLICE)
    return nnunet_set(cases=5)


def _files(store: Store) -> dict[str, tuple[str, int]]:
    return {path.name: (sha256_file(path), path.stat().st_mtime_ns) for path in store.path.iterdir()}


def _sums(store: Store) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in store.path.glob("*.npy")}


def _stop_after(note: str, count: int, error: BaseException):
    """Return a progress that fails at the given call."""
    calls = 0

    def progress(done: int, total: int, told: str) -> None:
        nonlocal calls
        calls += told == note
        if told == note and calls == count:
            raise error

    return progress


@pytest.mark.parametrize(
    ("note", "count"), [("checked", 1), ("checked", 4), ("prepared", 1), ("prepared", 4), ("prepared", 5)]
)
def test_an_interrupted_preparation_goes_on(source, tmp_path, monkeypatch, note, count):
    """Hours of work would begin anew, or the store would differ from one that was made in one go."""
    whole = prepare(source, tmp_path / "whole", seed=3)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "store", seed=3, progress=_stop_after(note, count, KeyboardInterrupt()))
    assert not (tmp_path / "store").exists() and (tmp_path / ".store.preparing").is_dir()
    checked, prepared = [], []
    monkeypatch.setattr(inspect, "_inspect_case", _recording(inspect._inspect_case, checked))
    monkeypatch.setattr("synthmed.data.assemble.load_case", _recording(load_case, prepared))
    store = prepare(source, tmp_path / "store", seed=3)
    assert len(checked) <= (5 - count + 1 if note == "checked" else 0)
    finished = 2 * ((count - 1) // 2) if note == "prepared" else 0
    assert len(prepared) == 5 - finished
    assert store.content_hash == whole.content_hash and _sums(store) == _sums(whole)
    assert [shard.slices for shard in store.manifest.shards] == [12, 12, 6]
    assert not (tmp_path / ".store.preparing").exists()


def _recording(function, calls: list):
    def called(files, *arguments):
        calls.append(files.case)
        return function(files, *arguments)

    return called


def test_a_killed_preparation_goes_on(source, tmp_path):
    """A power cut or the scheduler's kill would leave rubbish that is taken for a store."""
    whole = prepare(source, tmp_path / "whole")
    script = (
        "import os, signal, sys\n"
        "from synthmed.data import shards\n"
        "from synthmed.data.prepare import prepare\n"
        f"shards.SHARD_BYTES = {12 * SLICE}\n"
        "def progress(done, total, note):\n"
        "    if note == 'prepared' and done == 5 + 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare(sys.argv[1], sys.argv[2], progress=progress)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(source), str(tmp_path / "store")], check=False)
    assert died.returncode == -signal.SIGKILL
    work = tmp_path / ".store.preparing"
    # What a kill in the middle of a line leaves.
    for name in ("checked.jsonl", "shards.jsonl"):
        with open(work / name, "a") as file:
            file.write('{"signature": "cut o')
    said: list[str] = []
    store = prepare(source, tmp_path / "store", say=said.append)
    assert said[-1] == "goes on where it was interrupted, after 2 prepared cases"
    assert store.content_hash == whole.content_hash and _sums(store) == _sums(whole) and not work.exists()


def test_a_full_disk_leaves_no_half_store(source, tmp_path, monkeypatch):
    """Half a store would be taken for a whole one, or what is of no use would fill the disk that is full."""
    append = shards._NpyWriter.append

    def full(self, array):
        if self.path.name == "images-00001.npy":
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, array)

    monkeypatch.setattr(shards._NpyWriter, "append", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(source, tmp_path / "below" / "store")
    assert [path.name for path in (tmp_path / "below").iterdir()] == [".store.preparing"]
    assert len(list((tmp_path / "below" / ".store.preparing").rglob("*.npy"))) == 2
    monkeypatch.undo()
    monkeypatch.setattr(shards, "SHARD_BYTES", 12 * SLICE)
    assert _sums(prepare(source, tmp_path / "below" / "store")) == _sums(prepare(source, tmp_path / "whole"))


@pytest.mark.parametrize("spoil", ["option", "source", "shard"])
def test_what_was_kept_is_not_believed_blindly(source, tmp_path, spoil, nnunet_set):
    """A store would mix two ways of slicing, or hold a case as it was before the user mended it."""
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "store", progress=_stop_after("prepared", 5, KeyboardInterrupt()))
    options = {}
    if spoil == "option":
        options = {"size": (64, 64)}
    elif spoil == "source":
        other = nnunet_set(cases=9, name="other")
        shutil.copy(other / "imagesTr" / "case_8_0000.nii.gz", source / "imagesTr" / "case_0_0000.nii.gz")
    else:
        path = tmp_path / ".store.preparing" / "store" / "images-00000.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    store = prepare(source, tmp_path / "store", **options)
    whole = prepare(source, tmp_path / "whole", **options)
    assert store.content_hash == whole.content_hash and _sums(store) == _sums(whole)


def test_nothing_is_left_of_bad_input(source, tmp_path):
    """A user who mends a set would find folders whose meaning they do not know."""
    next((source / "labelsTr").iterdir()).unlink()
    with pytest.raises(UserError, match="without its label"):
        prepare(source, tmp_path / "below" / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_mistake_in_the_second_call_does_not_cost_the_first_one(source, tmp_path):
    """A typing mistake would throw hours of work away."""
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "store", progress=_stop_after("prepared", 5, KeyboardInterrupt()))
    with pytest.raises(UserError, match="--size"):
        prepare(source, tmp_path / "store", size=(33, 33))
    said: list[str] = []
    prepare(source, tmp_path / "store", say=said.append)
    assert said[-1] == "goes on where it was interrupted, after 4 prepared cases"


def test_a_second_process_is_conditional_so(source, tmp_path, elsewhere):
    """Two processes would write into one another's shards."""
    busy = pytest.raises(UserError, match="is being prepared by another process: wait for it or stop it")
    with elsewhere(lambda: workfolder.work_on(tmp_path / "store")), busy:
        prepare(source, tmp_path / "store")
    assert len(prepare(source, tmp_path / "store")) == 30


def test_run_twice_it_does_nothing(source, tmp_path):
    """A script that is run again would prepare for hours, or touch a store on which a training depends."""
    store = prepare(source, tmp_path / "store", size=(48, 32), split=(0.6, 0.2, 0.2))
    before = _files(store)
    said: list[str] = []
    # Copied files have new times and the same content.
    os.utime(source / "imagesTr" / "case_1_0000.nii.gz")
    again = prepare(source, tmp_path / "store", size=(48, 32), split=(0.6, 0.2, 0.2), say=said.append)
    assert said == [f"{store.path} is up to date"] and _files(again) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "store"]


def test_images_without_labels_are_as_good_as_others(source, tmp_path, nnunet_set):
    """The store of unlabelled images would be made anew each time, or could not be mended."""
    beside = prepare(source, tmp_path / "store")
    other = nnunet_set(cases=7, name="other")
    extra = prepare_unlabelled(other, tmp_path / "extra", beside=beside)
    before = _sums(extra)
    said: list[str] = []
    (extra.path / "labels-00000.npy").unlink()
    prepare_unlabelled(other, tmp_path / "extra", beside=beside, say=said.append)
    prepare_unlabelled(other, tmp_path / "extra", beside=beside, say=said.append)
    assert "labels-00000.npy was damaged and has been rebuilt" in said[0] and said[1].endswith("is up to date")
    assert _sums(extra) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": (64, 64)}, r"made with --size \(none\) instead of 64,64"),
        ({"seed": 1}, "made with --seed 0 instead of 1"),
        ({"train_patients": 1}, r"--train-patients \(none\) instead of 1"),
    ],
)
def test_other_options_are_refused_by_name(source, tmp_path, options, told):
    """A user would take a store of other options for the one that they asked for."""
    store = prepare(source, tmp_path / "store")
    before = _files(store)
    with pytest.raises(UserError, match=told) as caught:
        prepare(source, tmp_path / "store", **options)
    assert "\n" not in str(caught.value) and _files(store) == before


@pytest.mark.parametrize("change", ["content", "added", "removed"])
def test_changed_sources_are_refused_by_name(source, tmp_path, change, nnunet_set):
    """A user who mended a case would go on training on the old one."""
    prepare(source, tmp_path / "store")
    other = nnunet_set(cases=9, name="other")
    if change == "content":
        shutil.copy(other / "imagesTr" / "case_8_0001.nii.gz", source / "imagesTr" / "case_3_0001.nii.gz")
    for part in ("imagesTr", "labelsTr"):
        for path in (other / part).glob("case_8*" if change == "added" else "case_4*"):
            if change == "added":
                shutil.copy(path, source / part)
            elif change == "removed":
                (source / part / path.name).unlink()
    names = {
        "content": "case_3_0001.nii.gz is not what",
        "added": "made without case_8",
        "removed": "made with case_4, which is not",
    }
    with pytest.raises(UserError, match=names[change]):
        prepare(source, tmp_path / "store")


@pytest.mark.parametrize("how", ["bit", "short", "gone"])
@pytest.mark.parametrize("name", ["images-00001.npy", "labels-00002.npy", "class_counts.npy"])
def test_a_damaged_file_is_named_and_rebuilt(source, tmp_path, how, name):
    """A failing disk would cost the whole store, or training would go on with rubbish."""
    store = prepare(source, tmp_path / "store")
    before = _sums(store)
    path = store.path / name
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        content[-5] ^= 4
        path.write_bytes(content if how == "bit" else content[:-40])
    if how != "bit":
        with pytest.raises(UserError, match=rf"{name}.*run `synthmed prepare` again with the same options"):
            Store.open(store.path)
    said: list[str] = []
    prepare(source, tmp_path / "store", say=said.append)
    assert len(said) == 1 and f"{name} was damaged and has been rebuilt" in said[0]
    assert _sums(store) == before and sorted(path.name for path in tmp_path.iterdir()) == ["set", "store"]


def test_what_cannot_be_rebuilt_is_conditional(source, tmp_path, nnunet_set):
    """A damaged shard would be replaced by slices of another image without a word."""
    store = prepare(source, tmp_path / "store")
    path = source / "imagesTr" / "case_3_0001.nii.gz"
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[4] ^= 1
    path.write_bytes(content)
    # A change that size and time do not show.
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    (store.path / "images-00001.npy").unlink()
    with pytest.raises(UserError, match=r"case_3_0001.nii.gz is not what .* was made of") as caught:
        prepare(source, tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "store"]


def test_a_store_of_an_earlier_version_is_left_alone(source, tmp_path):
    """A store whose making nobody knows would be called up to date."""
    store = prepare(source, tmp_path / "store")
    (store.path / "request.json").unlink()
    with pytest.raises(UserError, match="exists already: choose another"):
        prepare(source, tmp_path / "store")


def test_a_work_folder_that_was_left_behind_goes(source, tmp_path):
    """A process that was killed at the very end would leave its folder for ever."""
    prepare(source, tmp_path / "store")
    (workfolder.work_folder_of(tmp_path / "store")).mkdir()
    prepare(source, tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "store"]


def test_no_more_cases_are_in_work_than_memory_allows():
    """`prepare` of large volumes would be killed for want of memory."""
    lock, held, most = threading.Lock(), 0, 0

    def work(cost: int) -> int:
        nonlocal held, most
        with lock:
            held += cost
            most = max(most, held)
        time.sleep(0.002)
        with lock:
            held -= cost
        return cost

    costs = [3, 3, 9, 1, 1, 4, 7, 2, 20, 1] * 3
    assert list(in_order(costs, work, cost=lambda cost: cost, budget=10)) == costs
    # The one that is larger than all there is was done alone.
    assert most == 20
    most, budget = 0, Budget(10)

    def take(cost: int) -> None:
        with budget.take(cost):
            work(cost)

    threads = [threading.Thread(target=take, args=(cost,)) for cost in costs if cost <= 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < most <= 10


def test_a_hash_does_not_depend_on_how_a_volume_lies_in_memory():
    """The same patient would pass for another one, in a test set, after a change of how files are read."""
    import hashlib

    voxels = np.random.default_rng(0).integers(-5, 900, (300, 200, 90, 2)).astype(np.int16)
    expected = hashlib.sha256()
    for channel in range(2):
        expected.update(repr((300, 200, 90, 1)).encode())
        expected.update(voxels[..., channel].astype("<f4").tobytes(order="C"))
    for order in ("C", "F"):
        hasher = hashlib.sha256()
        update_hash(hasher, np.asarray(voxels, order=order))
        assert hasher.hexdigest() == expected.hexdigest()
