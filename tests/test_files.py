"""Who may write where, and what killed processes leave behind."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import psutil
import pytest

from synthmed import files
from synthmed.errors import UserError
from synthmed.files import (
    Busy,
    atomic_file,
    atomic_folder,
    check_resumable,
    first_free_folder,
    folder_lock,
    is_free,
    write_json,
)


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_locked_folder_is_refused_to_others_and_nothing_stays_of_the_lock(tmp_path, elsewhere):
    """Two commands would write into one folder, or a hidden file would lie beside every result."""
    out = tmp_path / "deep" / "out"
    with elsewhere(lambda: folder_lock(out)):
        assert everything(tmp_path) == ["deep", "deep/.out.lock"]
        with pytest.raises(Busy, match="out is being written by another process: wait for it or stop it"):
            folder_lock(out).__enter__()
        # However it is spelt.
        (tmp_path / "link").symlink_to(tmp_path / "deep")
        with pytest.raises(Busy), atomic_folder(tmp_path / "link" / "." / "out"):
            pass
    (tmp_path / "link").unlink()
    assert everything(tmp_path) == []
    with folder_lock(out):
        pass


def test_whoever_has_a_lock_gets_it_again_and_keeps_it_to_the_end(tmp_path, elsewhere):
    """A command that locks its folder at once could not call what locks it, or would be without it from there on."""
    out = tmp_path / "out"
    with folder_lock(out):
        with atomic_folder(out) as folder:
            (folder / "whole").touch()
        with ThreadPoolExecutor() as pool, pytest.raises(Busy):
            pool.submit(folder_lock(out).__enter__).result()
    assert everything(tmp_path) == ["out", "out/whole"]
    with elsewhere(lambda: folder_lock(out)):
        pass


def test_two_at_once_get_two_folders(tmp_path, elsewhere):
    """Two exports would get one version number, and the work of one would be lost at its end."""

    def candidates():
        return (tmp_path / str(number) for number in range(1, 9))

    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "taken").touch()
    with elsewhere(lambda: first_free_folder(candidates())) as first, first_free_folder(candidates()) as second:
        assert (first.name, second.name) == ("2", "3")


def test_an_empty_folder_is_free_and_a_full_one_is_not(tmp_path):
    """Somebody's files would be written over, or a folder made by hand beforehand would be refused."""
    assert is_free(tmp_path / "new") and is_free(tmp_path)
    (tmp_path / files.INNER_LOCK).touch()
    assert is_free(tmp_path)
    (tmp_path / "thesis.txt").touch()
    assert not is_free(tmp_path) and not is_free(tmp_path / "thesis.txt")
    check_resumable(tmp_path, resume=True)
    with pytest.raises(UserError, match="add --resume"):
        check_resumable(tmp_path, resume=False)
    with pytest.raises(UserError, match="exists already"):
        check_resumable(tmp_path / "thesis.txt", resume=True)


def test_where_nothing_may_be_written_beside_a_folder_its_lock_lies_inside(tmp_path, elsewhere, monkeypatch):
    """Training into the root of a mounted disk, as containers do, would be refused."""
    monkeypatch.setattr(files.os, "access", lambda path, mode: Path(path) != tmp_path.parent)
    with elsewhere(lambda: folder_lock(tmp_path)):
        assert everything(tmp_path) == [files.INNER_LOCK]
        with pytest.raises(Busy):
            folder_lock(tmp_path).__enter__()
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "no locks"), OSError(errno.ENOSYS, "x"), NotImplementedError()]
)
def test_a_file_system_without_locks_is_named_with_the_way_out(tmp_path, monkeypatch, error):
    """A user would be told that another process is at work, for ever; or two would write at once, and nobody know."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "_acquire", fail)
    with pytest.raises(UserError, match=rf"{tmp_path}.* has no locks.*SYNTHMED_LOCKS=off") as caught:
        folder_lock(tmp_path / "out").__enter__()
    assert "\n" not in str(caught.value) and not isinstance(caught.value, Busy)
    monkeypatch.setenv("SYNTHMED_LOCKS", "off")
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "x").touch()
    assert everything(tmp_path) == ["out", "out/x"]


CHILD = """
import os, signal, sys
from pathlib import Path
from synthmed.files import atomic_file, atomic_folder
where = Path(sys.argv[1])
with atomic_folder(where / "set") as folder, atomic_file(where / "log.json") as file, atomic_file(folder / "x"):
    print("ready", flush=True)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def child(where: Path, what: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(where), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("how", ["folder", "file"])
def test_what_a_killed_process_left_goes_with_the_next_run(tmp_path, how):
    """Disks would fill with halves of sets whose names nobody sees."""
    child(tmp_path, "kill").wait()
    assert len(everything(tmp_path)) > 2
    if how == "folder":
        with atomic_folder(tmp_path / "set") as folder:
            (folder / "x").touch()
        assert everything(tmp_path) == ["set", "set/x"]
    else:
        write_json(tmp_path / "other.json", {})
        # An empty lock stays until somebody writes that folder; nobody waits for it.
        assert everything(tmp_path) == [".set.lock", "other.json"]


def test_what_a_running_process_writes_is_left_alone(tmp_path):
    """A command would end with an error because another one in the same folder tidied up."""
    process = child(tmp_path, "wait")
    before = everything(tmp_path)
    with atomic_folder(tmp_path / "other") as folder:
        (folder / "x").touch()
    with pytest.raises(Busy), atomic_folder(tmp_path / "set"):
        pass
    write_json(tmp_path / "other.json", {})
    assert set(everything(tmp_path)) == {*before, "other", "other/x", "other.json"}
    process.communicate("")
    assert process.returncode == 0
    assert everything(tmp_path) == ["log.json", "other", "other.json", "other/x", "set", "set/x"]


@pytest.mark.parametrize(
    ("owner", "age", "goes"),
    [
        ("machine-another-5-5-", 3600, False),
        ("machine-another-5-5-", 2 * 24 * 3600, True),
        ("here-{pid}-{started}-", 2 * 24 * 3600, False),
        ("here-{pid}-{earlier}-", 0, True),
        ("", 3600, False),
    ],
)
def test_only_what_surely_nobody_writes_any_more_is_removed(tmp_path, owner, age, goes):
    """The work of another machine on a shared disk would vanish, or leftovers would pile up there."""
    started = files._started(os.getpid())
    assert started is not None
    name = owner.format(pid=os.getpid(), started=started, earlier=started - 100)
    name = name.replace("machine-another", "0" * 8).replace("here", files._machine())
    folder, file = tmp_path / f".set.partial-{name}abc", tmp_path / f".partial-{name}abc.json"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "image").touch()
    file.touch()
    old = time.time() - age
    for path in (folder / "sub" / "image", folder / "sub", folder, file):
        os.utime(path, (old, old))
    mine = tmp_path / "notes.partial-text"
    mine.touch()
    with atomic_file(tmp_path / "other.json") as path:
        path.touch()
    assert [one.exists() for one in (folder, file, mine)] == [not goes, not goes, True]


def test_a_process_that_may_not_be_looked_at_counts_as_running(monkeypatch):
    """Clusters hide other users' processes: their work would be removed."""

    def hidden(pid: int):
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(files.psutil, "Process", hidden)
    assert files._is_alive(os.getpid(), 1)
    assert not files._is_alive(2**22 + 12345, 1)
