"""Tests of synthmed.data.download against a server on loopback."""

import errno
import random
import shutil
from collections import namedtuple

import pytest

from synthmed.data import download as module
from synthmed.data.download import TRIES, fetch
from synthmed.errors import UserError

CONTENT = random.Random(0).randbytes(3 << 20)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_transfer_that_breaks_off_goes_on(site, tmp_path):
    """27 GB would begin anew whenever the network hiccups, and never arrive."""
    site.content, site.cuts = CONTENT, [1_300_000, 900_000]
    told = []
    fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0, progress=lambda *words: told.append(words))
    assert (tmp_path / "a.tar").read_bytes() == CONTENT and left(tmp_path) == ["a.tar"]
    assert site.asked == [None, "bytes=1300000-", "bytes=2200000-"]
    assert told[-1] == (3, 3, "MiB") and [done for done, *_ in told] == sorted(done for done, *_ in told)


def test_a_run_that_was_stopped_is_continued_by_the_next(site, tmp_path):
    """Ctrl-C at 99 % would cost all of it."""
    site.content, site.cuts = CONTENT, [2_000_000]

    def stop(done, total, note):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0, progress=stop)
    assert left(tmp_path) == ["a.tar.part", "a.tar.part.json"]
    kept = (tmp_path / "a.tar.part").stat().st_size
    fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0)
    assert kept > 0 and site.asked[-1] == f"bytes={kept}-" and (tmp_path / "a.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["version", "no version", "no ranges", "shorter"])
def test_parts_of_two_versions_are_never_put_together(site, tmp_path, change):
    """The checksum would fail after hours, or the server would be asked for what it cannot give."""
    site.content, site.cuts = CONTENT, [2_000_000]
    site.etag = None if change == "no version" else '"one"'
    site.ranges = change != "no ranges"
    with pytest.raises(KeyboardInterrupt):
        fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0, progress=_interrupt)
    if change in ("version", "shorter"):
        site.content = random.Random(1).randbytes(3 << 20 if change == "version" else 1000)
        site.etag = '"two"' if change == "version" else site.etag
    fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0)
    assert (tmp_path / "a.tar").read_bytes() == site.content and left(tmp_path) == ["a.tar"]


def _interrupt(done, total, note):
    raise KeyboardInterrupt


def test_a_part_that_is_whole_is_not_fetched_again(site, tmp_path):
    """A stop between the last byte and the renaming would cost the whole transfer."""
    site.content = CONTENT
    fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0)
    (tmp_path / "a.tar").rename(tmp_path / "a.tar.part")
    module.write_json(tmp_path / "a.tar.part.json", {"url": site.url, "version": site.etag})
    fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0)
    assert site.asked[-1] == f"bytes={len(CONTENT)}-" and left(tmp_path) == ["a.tar"]
    fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0)
    assert len(site.asked) == 2, "what is there and right is not asked for"


def test_a_wrong_file_is_named_and_removed(site, tmp_path):
    """A damaged archive would be unpacked, or would stand in the way for ever."""
    site.content = CONTENT
    with pytest.raises(UserError, match=f"has the MD5 {site.md5}, not {'0' * 32}; removed it"):
        fetch(site.url, tmp_path / "a.tar", md5="0" * 32, pause=0)
    assert left(tmp_path) == []


def test_a_file_that_was_there_is_never_removed(site, tmp_path):
    """Whoever brought 27 GB by other means would lose them to a wrong --md5."""
    (tmp_path / "a.tar").write_bytes(CONTENT)
    with pytest.raises(UserError, match=f"a.tar is there already and has the MD5 .*, not {'0' * 32}: move it away"):
        fetch(site.url, tmp_path / "a.tar", md5="0" * 32, pause=0)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT and left(tmp_path) == ["a.tar"] and not site.asked


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, TRIES)])
def test_a_refusal_is_conditional_and_only_a_busy_server_is_asked_again(site, tmp_path, status, tries):
    """The user would wait for an address that will never answer, or get a traceback."""
    site.status = status
    with pytest.raises(UserError, match=str(status)) as error:
        fetch(site.url, tmp_path / "a.tar", md5="0" * 32, pause=0)
    assert len(site.asked) == tries and "\n" not in str(error.value) and left(tmp_path) == []


def test_no_network_is_conditional_in_one_line(site, tmp_path):
    """A machine behind a wall would show a traceback."""
    with pytest.raises(UserError, match="run the same command again"):
        fetch("http://127.0.0.1:9/none.tar", tmp_path / "a.tar", md5="0" * 32, pause=0)
    broken = (
        "http://[bad",
        "http://host:99999/a",
        "http://host:x/a",
        "http://host/a b",
        "http://host/ä",
        "http://h/\n",
    )
    for url in ("file:///etc/passwd", "ftp://host/a.tar", "nowhere", *broken):
        with pytest.raises(UserError, match="give a web address"):
            fetch(url, tmp_path / "a.tar", md5="0" * 32, pause=0)


def test_a_disk_that_is_too_small_is_conditional_before_the_transfer(site, tmp_path, monkeypatch):
    """The disk would be filled to its last byte, and other programs with it."""
    site.content = CONTENT
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="--out"):
        fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0)
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_has_come(site, tmp_path):
    """The write error would be taken for a fault of the network and tried again for ever."""
    site.content = CONTENT

    def full(done, total, note):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fetch(site.url, tmp_path / "a.tar", md5=site.md5, pause=0, progress=full)
    assert len(site.asked) == 1 and "a.tar.part" in left(tmp_path)
