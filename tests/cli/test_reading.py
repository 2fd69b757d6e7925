"""Tests of synthmed.cli.reading: options that say what names mean."""

import json
import shutil

import pytest

from synthmed.cli.main import main
from synthmed.data.phantom import write_phantom
from synthmed.data.store import Store


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two patients with two visits each, a folder a visit, in which files have unusual names."""
    tmp_path = tmp_path_factory.mktemp("odd")
    write_phantom(tmp_path / "set", cases=4, size=32, channels=2, seed=1)
    place = tmp_path / "odd"
    for number, label in enumerate(sorted((tmp_path / "set" / "labelsTr").iterdir())):
        own = place / f"c{number // 2}{'xy'[number % 2]}"
        own.mkdir(parents=True)
        shutil.copy(label, own / "drawn.nii.gz")
        for channel in (0, 1):
            name = label.name.replace(".nii.gz", f"_000{channel}.nii.gz")
            shutil.copy(tmp_path / "set" / "imagesTr" / name, own / f"{'ab'[channel]}.nii.gz")
    return place


def test_patterns_say_what_names_mean(folder, tmp_path, capsys):
    """A user whose names are unusual would need a script."""
    options = ["--channel", "B=b.nii.gz", "--channel", "A=a.*", "--label", "drawn*", "--patient-pattern", r"(c\d)[xy]"]
    code, out, _ = run(capsys, "inspect", folder, "--json", *options)
    found = json.loads(out)
    assert code == 0 and found["channels"] == ["B", "A"] and found["patients"] == 2 and not found["problems"]
    assert any("4 cases of 2 patients" in note for note in found["notes"])
    assert run(capsys, "prepare", folder, "--out", tmp_path / "store", "--split", "0.5,0,0.5", *options)[0] == 0
    store = Store.open(tmp_path / "store")
    assert store.channels == ("B", "A") and {case.patient for case in store.cases()} == {"c0", "c1"}
    for patient in ("c0", "c1"):
        assert len({case.split for case in store.cases() if case.patient == patient}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channel", "T1"], "--channel T1: write NAME=PATTERN"),
        (["--channel", "A=a.nii.gz", "--channel", "A=b.nii.gz"], "one channel twice"),
        (["--channel", "A=q*"], "matches no image"),
        (["--label", "q*"], "matches no file"),
        (["--patient-pattern", "("], "no regular expression"),
        (["--patient-pattern", "(z)"], "finds no patient in the case c0x"),
    ],
)
def test_wrong_patterns_are_told_in_one_line(folder, capsys, options, message):
    """A mistyped pattern would end in a traceback, or in an empty set."""
    code, _, error = run(capsys, "inspect", folder, *options)
    assert code == 2 and message in error and "Traceback" not in error and error.strip().count("\n") == 0
