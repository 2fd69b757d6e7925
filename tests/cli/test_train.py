import json

import pytest

from synthmed.cli.main import main

pytestmark = pytest.mark.usefixtures("eager")

QUICK = ["--batch", "4", "--precision", "float32", "--set", "channel_base=256", "--set", "channel_max=16"]


def call(capsys, *words):
    """Run `synthmed train` and return (exit code, standard output, standard error)."""
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, words)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_trains_in_a_numbered_folder_and_goes_on_where_it_was(store, tmp_path, monkeypatch, capsys):
    """A user could not type the command of the README, nor continue."""
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "--variant", "base", "--data", store.path, "--kimg", "0.008", *QUICK)
    assert (code, "runs/00000-base" in out) == (0, True), err
    code, out, err = call(capsys, "--variant", "base", "--resume", "--kimg", "0.016", "--json")
    assert (code, json.loads(out)) == (0, {"run": "runs/00000-base", "finished": True}), err
    lines = (tmp_path / "runs" / "00000-base" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["kimg"] == pytest.approx(0.016)
    code, _, _ = call(capsys, "--variant", "base", "--resume")
    assert code == 0


def test_dry_run_prints_both_generators_of_a_cond_run_and_writes_nothing(store, tmp_path, monkeypatch, capsys):
    """A user would start a night of training to see what it would do."""
    monkeypatch.chdir(tmp_path)
    words = ("--variant", "cond", "--data", store.path, "--minutes", "30", "--dry-run", "--json")
    code, out, err = call(capsys, *words)
    assert code == 0, err
    mask, cond = json.loads(out)
    assert (mask["options"]["variant"], cond["options"]["variant"]) == ("mask", "cond")
    assert mask["options"]["minutes"] + cond["options"]["minutes"] == pytest.approx(30)
    for stage in (mask, cond):
        assert stage["estimate"]["generator_parameters"] > 0
        assert stage["estimate"]["memory_gib"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_empty_folder_gets_the_phantom_and_says_so(tmp_path, monkeypatch, capsys):
    """A user who only wants to see it work would need a data set first."""
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "--variant", "mask", "--kimg", "0.008", *QUICK)
    assert code == 0, err
    assert "drawing the phantom" in err
    assert (tmp_path / "phantom" / "dataset.json").is_file()
    assert (tmp_path / "phantom-store" / "manifest.json").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["--variant", "condd"],
        ["--variant", "cond", "--data", "nowhere"],
        ["--variant", "cond", "--data", "."],
        ["--variant", "base", "--kimg", "0"],
        ["--variant", "base", "--minutes", "-1"],
        ["--variant", "base", "--seed", "-1"],
        ["--variant", "base", "--config", "none.yaml"],
        ["--variant", "base", "--dry-run"],
        ["--variant", "base", "--set", "nonsense=1"],
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, tmp_path, monkeypatch, capsys):
    """A user would search a traceback for the word that was wrong."""
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("synthmed: error: ")
    assert list(tmp_path.iterdir()) == []
