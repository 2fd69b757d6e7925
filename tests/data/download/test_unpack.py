"""Tests of synthmed.data.download: archives made to do harm."""

import gzip
import io
import tarfile
import tracemalloc

import pytest

from synthmed.data import download as module
from synthmed.data.download import unpack
from synthmed.errors import UserError


@pytest.fixture
def unpacked(tmp_path):
    """Return a function that unpacks bytes and returns the folder."""

    def work(content):
        (tmp_path / "a.tar").write_bytes(content)
        (tmp_path / "out").mkdir()
        unpack(tmp_path / "a.tar", tmp_path / "out")
        return tmp_path / "out"

    return work


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_set_is_unpacked_without_its_outer_folder(unpacked, pack):
    """The data set would lie a folder deeper than the user named."""
    entries = (("Task/imagesTr/a.nii.gz", b"one"), ("Task/imagesTr/._a.nii.gz", b"mac"), ("Task/dataset.json", b"{}"))
    folder = unpacked(pack(special("Task", tarfile.DIRTYPE), *entries))
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"imagesTr/a.nii.gz": b"one", "dataset.json": b"{}"}


@pytest.mark.parametrize("inner", ["Task/Task/a", "Task/.unpacked/a", "a"])
def test_any_names_inside_are_kept(unpacked, pack, inner):
    """A folder named as its parent would be lost when the parent is left out."""
    folder = unpacked(pack((inner, b"x"), ("Task/b", b"y")))
    assert (folder / inner.removeprefix("Task/")).is_file() or (folder / inner).is_file()


@pytest.mark.parametrize(
    "name", ["../evil", "Task/../../evil", "/etc/evil", "C:\\evil", "Task\\..\\..\\evil", "\\\\host\\share\\evil"]
)
def test_a_path_that_leaves_the_folder_is_refused(unpacked, pack, tmp_path, name):
    """An archive could write over any file of the user."""
    with pytest.raises(UserError, match="leads out of its folder") as error:
        unpacked(pack(("Task/good", b"x"), (name, b"x")))
    assert "\n" not in str(error.value) and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "entry",
    [
        special("Task/link", tarfile.SYMTYPE, "/etc"),
        special("Task/link", tarfile.SYMTYPE, "good"),
        special("Task/link", tarfile.LNKTYPE, "Task/good"),
        special("Task/null", tarfile.CHRTYPE),
        special("Task/disk", tarfile.BLKTYPE),
        special("Task/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda entry: f"{entry.name}-{entry.type.decode()}",
)
def test_links_and_devices_are_refused(unpacked, pack, tmp_path, entry):
    """A link could lead the next file out of the folder; a pipe would stop a reader for ever."""
    with pytest.raises(UserError, match="no plain file or folder"):
        unpacked(pack(("Task/good", b"x"), entry))
    assert not list((tmp_path / "out").iterdir())


def test_a_bomb_is_refused_before_it_goes_off(unpacked, pack, monkeypatch, tmp_path):
    """A megabyte would fill the disk."""
    monkeypatch.setattr(module, "SMALLEST_LIMIT", 1 << 16)
    with pytest.raises(UserError, match="unpacks to more than"):
        unpacked(pack(("Task/a", bytes(1 << 24)), mode="w:gz"))
    assert not list((tmp_path / "out").iterdir())


def test_too_many_files_are_refused(unpacked, pack, monkeypatch):
    """Millions of empty files would use up the disk's index."""
    monkeypatch.setattr(module, "MOST_FILES", 5)
    with pytest.raises(UserError, match="5 files"):
        unpacked(pack(*((f"Task/{number}", b"") for number in range(9))))


def test_a_damaged_archive_is_conditional(unpacked, pack, tmp_path):
    """A traceback would be all that the user sees."""
    good = pack(("Task/a", bytes(range(256)) * 64))
    (tmp_path / "a.tar").write_bytes(good)
    for bad in (b"", b"no archive", good[:3000], gzip.compress(good)[:-20], gzip.compress(good)[:60]):
        (tmp_path / "a.tar").write_bytes(bad)
        folder = tmp_path / f"out{len(bad)}"
        folder.mkdir()
        with pytest.raises(UserError, match="damaged"):
            unpack(tmp_path / "a.tar", folder)


def test_what_runs_is_not_made_runnable(unpacked):
    """A script in an archive would keep the right to run as another user."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("Task/a")
        info.mode = 0o4777
        archive.addfile(info, io.BytesIO())
    mode = (unpacked(buffer.getvalue()) / "a").stat().st_mode
    assert not mode & 0o7022


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_name_that_would_fill_memory_is_refused_by_its_header(tmp_path, kind):
    """A few megabytes of archive would be read as a name of gigabytes, before anything in it is checked."""
    header = tarfile.TarInfo("name")
    header.type, header.size = kind, 300 << 20
    with gzip.open(tmp_path / "a.tar", "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(300):
            file.write(bytes(1 << 20))
    (tmp_path / "out").mkdir()
    tracemalloc.start()
    with pytest.raises(UserError, match="a header of 314572800 bytes"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50 << 20
