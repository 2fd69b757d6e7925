"""`synthmed phantom`, `inspect` and `prepare` as a user types them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from synthmed.cli.main import main
from synthmed.data.store import Store


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """Return a phantom set written by the command."""
    folder = tmp_path_factory.mktemp("data") / "set"
    with pytest.raises(SystemExit) as exit_info:
        main(["phantom", str(folder), "--cases", "5", "--size", "32", "--channels", "1"])
    assert exit_info.value.code == 0
    return folder


def test_from_phantom_to_store(phantom, tmp_path, capsys):
    """The first three commands of the tutorial would not work."""
    code, out, _ = run(capsys, "inspect", phantom)
    assert code == 0 and "No problem found" in out
    code, out, _ = run(capsys, "prepare", phantom, "--out", tmp_path / "store", "--train-patients", 2)
    assert code == 0 and "training: 2 patients, 2 cases, 32 slices" in out and "1 of 5 cases were left out" in out
    assert Store.open(tmp_path / "store").size == (32, 32)


def test_inspect_speaks_json(phantom, capsys):
    """Another program could not read the fingerprint."""
    code, out, _ = run(capsys, "inspect", phantom, "--json")
    content = json.loads(out)
    assert code == 0 and content["problems"] == [] and content["patients"] == 5


def test_inspect_names_problems_and_says_so_in_its_exit_code(phantom, tmp_path, capsys):
    """A script would go on with a broken set."""
    broken = tmp_path / "broken"
    shutil.copytree(phantom, broken)
    (broken / "labelsTr" / "phantom_001.nii.gz").unlink()
    code, out, err = run(capsys, "inspect", broken)
    assert code == 2 and "image without its label" in out and "problems found: 1" in err
    code, out, err = run(capsys, "inspect", broken, "--json")
    assert code == 2 and len(json.loads(out)["problems"]) == 1
    code, out, err = run(capsys, "prepare", broken, "--out", tmp_path / "store")
    assert code == 2 and err.count("\n") == 1 and "phantom_001" in err
    assert not (tmp_path / "store").exists()


def test_options_reach_the_store(phantom, tmp_path, capsys):
    """An option would be accepted and do nothing."""
    arguments = ("--axis", "coronal", "--size", "32x48", "--spacing", "8x7", "--split", "0.6,0,0.4", "--seed", "3")
    code, out, _ = run(capsys, "prepare", phantom, "--out", tmp_path / "store", *arguments)
    store = Store.open(tmp_path / "store")
    assert code == 0 and store.plan.axis == 1 and store.size == (32, 48) and store.spacing == (8.0, 7.0)
    assert store.manifest.seed == 3 and "validation: 0 patients, 0 cases, 0 slices: nothing can be measured" in out
    assert "resampled to this pixel size" in out


def test_a_plan_is_written_edited_and_executed(phantom, tmp_path, capsys):
    """A person could not see, nor change, how their images are prepared."""
    plan = tmp_path / "plan.yaml"
    options = ("--normalise", "zscore", "--normalise", "T1=window:0,900", "--slices", "balanced", "--crop", "yes")
    code, out, _ = run(capsys, "prepare", phantom, "--plan-only", plan, *options, "--seed", 3)
    assert code == 0 and f"--plan {plan}" in out and list(tmp_path.iterdir()) == [plan]
    plan.write_text(plan.read_text().replace("high: 900.0", "high: 800"))
    for arguments in (
        ("--size", "64x64"),
        ("--seed", "3"),
        ("--plan-only", tmp_path / "b.yaml"),
        ("--bias-correction",),
    ):
        code, _, err = run(capsys, "prepare", phantom, "--out", tmp_path / "store", "--plan", plan, *arguments)
        assert code == 2 and err.count("\n") == 1 and f"leave out {arguments[0]}" in err
    code, out, _ = run(capsys, "prepare", phantom, "--out", tmp_path / "store", "--plan", plan)
    store = Store.open(tmp_path / "store")
    assert code == 0 and "3 patients" in out and store.plan.slices == "balanced" and store.manifest.seed == 3
    scaling = store.plan.intensities[0]
    assert (scaling.method, scaling.low, scaling.high) == ("window", 0.0, 800.0) and store.plan.crop
    assert np.all(store.manifest.cases[0].normalisation.scale == np.array([400.0]))
    code, _, err = run(capsys, "prepare", phantom, "--plan-only", plan)
    assert code == 2 and "exists already" in err
    code, _, err = run(capsys, "prepare", phantom, "--plan-only", tmp_path / "c.yaml", "--out", tmp_path / "c")
    assert code == 2 and "leave out --out" in err
    code, _, err = run(capsys, "prepare", phantom)
    assert code == 2 and "add --out STORE" in err


def test_bias_correction_reaches_the_store(phantom, tmp_path, capsys):
    """An option would be accepted and do nothing."""
    few = ("--train-patients", 1, "--split", "0.6,0.4,0")
    assert run(capsys, "prepare", phantom, "--out", tmp_path / "with", "--bias-correction", *few)[0] == 0
    assert run(capsys, "prepare", phantom, "--out", tmp_path / "without", *few)[0] == 0
    corrected, plain = Store.open(tmp_path / "with"), Store.open(tmp_path / "without")
    numbers = np.arange(len(plain))
    assert corrected.plan.bias_correction and not np.array_equal(corrected.images(numbers), plain.images(numbers))
    np.testing.assert_array_equal(corrected.labels(numbers), plain.labels(numbers))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--normalise", "windows"), "--normalise windows: give auto, percentiles, zscore or window:LOW,HIGH"),
        (("--normalise", "T9=zscore"), "there is no channel T9, choose among T1"),
        (("--crop", "maybe"), "maybe"),
        (("--slices", "few"), "few"),
        (("--size", "abc"), "abc"),
        (("--size", "30x30"), "multiples of 8"),
        (("--spacing", "1x2x3"), "--spacing 1x2x3"),
        (("--spacing", "-1"), "above 0"),
        (("--split", "0.5,0.5"), "three fractions"),
        (("--split", "nowhere.json"), "nowhere.json does not exist"),
        (("--axis", "up"), "up"),
        (("--train-patients", "9"), "training patients"),
    ],
)
def test_wrong_options_are_told_in_one_line(phantom, tmp_path, capsys, arguments, message):
    """The user would get a traceback or a store that they did not ask for."""
    code, _, err = run(capsys, "prepare", phantom, "--out", tmp_path / "store", *arguments)
    lines = [line for line in err.splitlines() if not line.startswith("prepare: ")]
    assert code == 2 and len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.iterdir())


def test_images_without_labels_beside_a_store(phantom, tmp_path, capsys):
    """Unlabelled images could not join a training, or would be prepared in another way than the labelled ones."""
    assert (
        run(capsys, "phantom", tmp_path / "more", "--cases", "2", "--size", "32", "--channels", "1", "--seed", "9")[0]
        == 0
    )
    shutil.rmtree(tmp_path / "more" / "labelsTr")
    assert run(capsys, "prepare", phantom, "--out", tmp_path / "store")[0] == 0
    beside = ("--unlabelled-for", tmp_path / "store")
    code, _, err = run(capsys, "prepare", tmp_path / "more", "--out", tmp_path / "extra", *beside, "--size", "64x64")
    assert code == 2 and "leave out --size" in err and err.count("\n") == 1
    code, out, _ = run(capsys, "prepare", tmp_path / "more", "--out", tmp_path / "extra", *beside)
    assert code == 0 and "training: 2 patients" in out
    code, _, err = run(capsys, "train", "--variant", "base", "--data", tmp_path / "extra", "--out", tmp_path / "run")
    assert code == 2 and "without labels" in err and not (tmp_path / "run").exists()
