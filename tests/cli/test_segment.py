"""`synthmed segment`: the words of the command line, what it prints, and how it fails."""

import csv
import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from synthmed.cli.main import main
from synthmed.data.phantom import write_phantom
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.store import Store
from synthmed.segmentation.auto_ratio import choose_ratio

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


def test_train_predict_score(folder, tmp_path, monkeypatch, capsys, eager):
    """A user could not walk the road of the README: train without a word more, predict, score."""
    monkeypatch.chdir(folder)
    code, out, err = call(capsys, "train", "--mirror", "both", *QUICK)
    assert (code, "validation Dice" in out) == (0, True), err
    assert "runs/00000-unet" in out and "--mirror both" in out
    code, out, _ = call(capsys, "train", "--out", "runs/00000-unet", "--resume", "--json")
    assert code == 0
    assert json.loads(out)["validation"]["cases"] == 1
    assert json.loads(out)["mirrored"] == "both"
    predicted = tmp_path / "predicted"
    code, out, err = call(capsys, "predict", "--model", "runs/00000-unet", "store", "--out", predicted)
    assert (code, len(list(predicted.iterdir()))) == (0, 1), err
    code, out, _ = call(capsys, "score", predicted, "phantom", "--out", tmp_path / "scores.csv")
    assert code == 0
    assert "HD95" in out and "surface Dice at 1 mm" in out and "ml" in out
    with open(tmp_path / "scores.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    code, out, _ = call(capsys, "score", predicted, "phantom", "--json", "--tolerance", "2", "--patients", "store")
    assert len(json.loads(out)["classes"]) == 3 and json.loads(out)["tolerance"] == 2
    words = ["--flips", "both", "--largest-component", "--out", tmp_path / "cleaned"]
    assert call(capsys, "predict", "--model", "runs/00000-unet", "store", *words)[0] == 0


def test_compare_ends_in_a_table_and_a_sentence(folder, tmp_path, monkeypatch, capsys, eager):
    """A user could not ask from the command line whether more patients would have helped."""
    monkeypatch.chdir(folder)
    words = ["compare", "--data", "store", "--arms", "oracle", "--train-patients", "1", "--seeds", "1", "--ratio", "1"]
    words += ["--out", tmp_path / "out", *QUICK]
    code, out, err = call(capsys, *words)
    assert code == 0, err
    assert "oracle" in out and "nothing to decide" in out and "comparison.md" in out
    code, out, _ = call(capsys, *words, "--json")
    assert (code, [arm["name"] for arm in json.loads(out)["arms"]]) == (0, ["real", "oracle"])
    code, out, _ = call(capsys, *words, "--write-splits", "--draws", "2", "--json")
    assert (code, len(json.loads(out))) == (0, 2)


def test_ratio_auto_is_recorded_in_the_run(folder, tmp_path, monkeypatch, capsys, eager):
    """A user could not see later why a run has its ratio; resuming would search again."""
    monkeypatch.chdir(folder)
    prepare(read_dataset(folder / "phantom"), tmp_path / "store", size=(32, 32), split=(0.5, 0.5, 0.0))
    write_set(tmp_path / "synthetic", tmp_path / "store")
    out = tmp_path / "unet"
    words = [
        "train",
        "--data",
        tmp_path / "store",
        "--synthetic",
        tmp_path / "synthetic",
        "--ratio",
        "auto",
        "--out",
        out,
    ]
    monkeypatch.setattr("synthmed.segmentation.train_unet.choose_ratio", partial(choose_ratio, ratios=(1.0,)))
    code, printed, err = call(capsys, *words, *QUICK, "--auto-steps", "1")
    assert code == 0, err
    answer = json.loads((out / "ratio.json").read_text())
    assert answer["sentence"] in " ".join(printed.split()) and answer["steps"] == 1
    assert json.loads((out / "segmentation.json").read_text())["options"]["ratio"] == answer["ratio"]
    monkeypatch.setattr("synthmed.segmentation.train_unet.choose_ratio", None)
    assert call(capsys, *words, "--resume")[0] == 0
    code, _, err = call(capsys, *words)
    assert (code, "--resume" in err) == (2, True)


def test_an_answer_of_no_synthetic_slices_is_resumed_with_the_same_words(folder, tmp_path, monkeypatch, capsys, eager):
    """A user whose training was cut off would be told by its own command that its settings were other ones."""
    monkeypatch.chdir(folder)
    write_set(tmp_path / "synthetic", "store")
    words = ["train", "--data", "store", "--synthetic", tmp_path / "synthetic", "--ratio", "auto"]
    words += ["--pretrain", "0.5", "--synthetic-weight", "0.5", "--filter", "0.5", "--out", tmp_path / "unet", *QUICK]
    answer = SimpleNamespace(ratio=0.0, lines=lambda: ["do not augment"])
    monkeypatch.setattr("synthmed.segmentation.train_unet.choose_ratio", lambda *_, **__: answer)
    code, _, err = call(capsys, *words)
    assert code == 0, err
    code, _, err = call(capsys, *words, "--resume")
    assert code == 0, err
    code, _, err = call(capsys, *words, "--resume", "--sampling", "balanced")
    assert code == 2 and "other settings (blending)" in err


@pytest.mark.parametrize(("validated", "ratio", "asked"), [(0.5, 0.25, True), (0.25, 0.5, False)])
def test_validation_patients_are_asked_unless_a_ratio_is_named(
    folder, tmp_path, monkeypatch, capsys, eager, validated, ratio, asked
):
    """A user who names no ratio would lose Dice by synthetic slices that harm; resuming would change the ratio."""
    monkeypatch.chdir(folder)
    prepare(read_dataset(folder / "phantom"), tmp_path / "store", size=(32, 32), split=(1 - validated, validated, 0.0))
    write_set(tmp_path / "synthetic", tmp_path / "store")
    out = tmp_path / "unet"
    words = ["train", "--data", tmp_path / "store", "--synthetic", tmp_path / "synthetic", "--out", out, *QUICK]

    def answer(store, search, *_, **__):
        search.mkdir()
        (search / "ratio.json").write_text("{}")
        return SimpleNamespace(ratio=0.25, lines=lambda: ["blend a few"])

    monkeypatch.setattr("synthmed.segmentation.train_unet.choose_ratio", answer)
    code, printed, err = call(capsys, *words)
    assert code == 0, err
    assert ("blend a few" in printed, "ratio 0.5, as too few validation patients" in printed) == (asked, not asked)
    monkeypatch.setattr("synthmed.segmentation.train_unet.choose_ratio", None)
    assert call(capsys, *words, "--resume")[0] == 0
    assert json.loads((out / "segmentation.json").read_text())["options"]["ratio"] == ratio


def write_set(folder, store):
    """Write three slices as `synthmed generate --format npz` does."""
    store = Store.open(store)
    folder.mkdir()
    for number in range(3):
        index = store.indices("train")[[number]]
        np.savez(folder / f"c{number}.npz", image=store.images(index)[0], label=store.labels(index)[0])
        sidecar = {"synthetic": True, "format": "npz", "channels": store.channels, "classes": store.classes}
        sidecar |= {"template": {}, "training_patients": store.training_hashes}
        (folder / f"c{number}.json").write_text(json.dumps(sidecar))


def test_no_judge_is_trained_for_slices_that_do_not_fit(folder, tmp_path, capsys):
    """A user would wait for the judge's training, only to read then that the slices are of another data set."""
    (tmp_path / "set").mkdir()
    sidecar = {
        "synthetic": True,
        "format": "npz",
        "template": {"index": 0},
        "channels": ["T9"],
        "classes": ["background"],
    }
    (tmp_path / "set" / "a.json").write_text(json.dumps(sidecar | {"training_patients": []}))
    words = ["--synthetic", tmp_path / "set", "--filter", "0.5", "--out", tmp_path / "run"]
    code, _, err = call(capsys, "train", "--data", folder / "store", *words, *QUICK)
    assert (code, err.count("\n")) == (2, 1) and "channels" in err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


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
        ["train", "--data", "store", "--ratio", "auto"],
        ["train", "--data", "store", "--ratio", "often"],
        ["compare", "--data", "store", "--out", "new"],
        ["compare", "--data", "store", "--out", "new", "--arms", "best"],
        ["compare", "--data", "nowhere", "--out", "new"],
        ["score", "phantom", "phantom", "--tolerance", "-1"],
        ["score", "phantom", "phantom", "--patients", "phantom"],
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
