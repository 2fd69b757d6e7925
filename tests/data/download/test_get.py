"""`synthmed data list` and `synthmed data get` as a user types them, and the catalogue behind them."""

import json

import pytest

from synthmed.cli.main import main
from synthmed.data.download import CATALOGUE
from synthmed.data.readers import read_dataset


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


@pytest.fixture
def served(site, pack, decathlon_set):
    """Serve a small Decathlon set as the bucket does."""
    folder = decathlon_set()
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    site.content = pack(*((f"Task04_Hippocampus/{path.relative_to(folder)}", path.read_bytes()) for path in files))
    return site


def test_a_set_is_fetched_and_can_be_read(served, tmp_path, capsys, monkeypatch):
    """The first thing that a newcomer wants to try would need a browser."""
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "data", "get", "msd-hippocampus", "--url", served.url, "--md5", served.md5)
    assert code == 0 and "written: Task04_Hippocampus" in out
    assert "CC-BY-SA 4.0" in err and "cite: Antonelli" in err
    assert len(read_dataset("Task04_Hippocampus").cases) == 3
    assert not list(tmp_path.glob("*.tar*"))
    code, _, err = run(capsys, "data", "get", "msd-hippocampus", "--url", served.url, "--md5", served.md5)
    assert code == 2 and "exists already" in err and len(served.asked) == 1


def test_an_archive_that_was_there_is_used_and_stays(served, tmp_path, capsys, monkeypatch):
    """Whoever brought the archive by other means would have to bring it again for the next machine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Task04_Hippocampus.tar").write_bytes(served.content)
    code, out, _ = run(capsys, "data", "get", "msd-hippocampus", "--md5", served.md5)
    assert code == 0 and "written: Task04_Hippocampus" in out and not served.asked
    assert (tmp_path / "Task04_Hippocampus.tar").read_bytes() == served.content


def test_failures_leave_no_set_behind(served, tmp_path, capsys):
    """Half a data set would be prepared as a whole one."""
    get = ("data", "get", "msd-hippocampus", "--out", tmp_path / "new" / "set", "--url", served.url)
    code, _, err = run(capsys, *get)
    assert code == 2 and "has the MD5" in err.splitlines()[-1]
    assert not (tmp_path / "new" / "set").exists() and not list((tmp_path / "new").glob("*"))
    code, _, err = run(capsys, *get, "--md5", "abc")
    assert code == 2 and "32 hexadecimal digits" in err
    code, _, err = run(capsys, "data", "get", "msd-hipocampus")
    assert code == 2 and "Did you mean msd-hippocampus?" in err


def test_the_list_names_licence_and_what_to_cite(capsys):
    """Data would be used against their licence."""
    code, out, _ = run(capsys, "data", "list")
    assert code == 0 and out.count("CC-BY-SA 4.0") == len(CATALOGUE) == 10 and "arXiv:1902.09063" in out
    code, out, _ = run(capsys, "data", "list", "--json")
    offers = json.loads(out)
    assert [offer["name"] for offer in offers] == [offer.name for offer in CATALOGUE]
    assert len({offer["md5"] for offer in offers}) == 10 and all(len(offer["md5"]) == 32 for offer in offers)
    assert offers[3]["url"] == "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar"
