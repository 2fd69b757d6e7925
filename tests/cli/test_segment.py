"""`synthmed segment`: the words of the command line, what it prints, and how it fails."""

import csv
import json

import pytest

from synthmed.cli.main import main
from synthmed.data.phantom import write_phantom
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset

QUICK = ["--steps", "2", "--batch", "4", "--width", "4", "--precision", "float32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a phantom and its store."""
    folder = tmp_path_factory.mktemp("segment")
    write_phantom(folder / "phantom", cases=4, size=32, channels=1, seed=2)
    prepare(read_dataset(folder / "phantom"), folder / "store", size=(32, 32), split=(0.5, 0.25, 0.25))
    return folder


def call(capsys, *words):
    """Run the command line and return (exit code, standard output, standard error)."""
    with pytest.raises(SystemExit) as end:
        main(["segment", *map(str, words)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_train_predict_score(folder, tmp_path, monkeypatch, capsys):
    """A user could not walk the road of the README: train without a word more, predict, score."""
    monkeypatch.chdir(folder)
    code, out, err = call(capsys, "train", *QUICK)
    assert (code, "validation Dice" in out) == (0, True), err
    assert "runs/00000-unet" in out
    code, out, _ = call(capsys, "train", "--out", "runs/00000-unet", "--resume", "--json")
    assert code == 0
    assert json.loads(out)["validation"]["cases"] == 1
    predicted = tmp_path / "predicted"
    code, out, err = call(capsys, "predict", "--model", "runs/00000-unet", "store", "--out", predicted)
    assert (code, len(list(predicted.iterdir()))) == (0, 1), err
    code, out, _ = call(capsys, "score", predicted, "phantom", "--out", tmp_path / "scores.csv")
    assert code == 0
    assert "HD95" in out
    with open(tmp_path / "scores.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    code, out, _ = call(capsys, "score", predicted, "phantom", "--json")
    assert len(json.loads(out)["classes"]) == 3


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--data", "nowhere"],
        ["train", "--data", "store", "--synthetic", "store"],
        ["train", "--data", "store", "--ratio", "1"],
        ["train", "--data", "store", "--steps", "0"],
        ["train", "--data", "store", "--pretrain", "2"],
        ["train", "--data", "store", "--pretrain", "0.5"],
        ["train", "--data", "store", "--filter", "0.5"],
        ["train", "--data", "store", "--filter-with", "phantom"],
        ["train", "--data", "store", "--synthetic", "phantom", "--generator", "phantom"],
        ["train", "--data", "store", "--generator", "nowhere"],
        ["train", "--data", "store", "--train-patients", "99"],
        ["train", "--data", "store", "--resume"],
        ["train", "--data", "store", "--out", "phantom"],
        ["predict", "--model", "store", "store", "--out", "predicted"],
        ["score", "nowhere", "phantom"],
        ["score", "phantom", "store"],
        ["score", "phantom", "phantom", "--out", "scores.xlsx"],
    ],
)
def test_mistakes_are_told_in_one_line(folder, monkeypatch, capsys, words):
    """A user would read a traceback, or find half of a result."""
    monkeypatch.chdir(folder)
    before = sorted(path for path in folder.rglob("*") if "runs" not in path.parts)
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("synthmed: error: ")
    assert err.count("\n") == 1
    assert sorted(path for path in folder.rglob("*") if "runs" not in path.parts) == before
