"""`synthmed evaluate` from the command line: all or nothing, and one line for what is wrong."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from synthmed.cli.evaluate import command


@pytest.fixture
def masks(store, tmp_path):
    """Return a set of label maps alone, whose evaluation takes a second."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for number, label in enumerate(store.labels(store.indices("test")[:16])):
        np.savez(folder / f"SYN_{number:03d}.npz", label=label)
        sidecar = {
            "synthetic": True,
            "format": "npz",
            "template": {},
            "model_hash": "cafe",
            "channels": [],
            "classes": list(store.classes),
            "training_patients": store.training_hashes,
        }
        (folder / f"SYN_{number:03d}.json").write_text(json.dumps(sidecar))
    return folder


def run(store, synthetic, out, *more):
    """Run the command."""
    return CliRunner().invoke(
        command, ["--real", str(store.path), "--synthetic", str(synthetic), "--out", str(out), *more]
    )


def test_the_report_its_numbers_and_the_selection_are_written(store, masks, tmp_path):
    """A user would have a page without numbers, or numbers that differ from those printed."""
    found = run(store, masks, tmp_path / "out", "--json", "--select", "5")
    assert found.exit_code == 0, found.output
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert json.loads(found.stdout) == written
    assert written["selection"]["kept"] == len(list((tmp_path / "out" / "selected").glob("*.npz"))) > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "metrics.json",
        "audit.json",
        "selected",
    }


def test_what_is_wrong_leaves_nothing_behind(store, masks, tmp_path):
    """A half-written folder would be taken for a finished evaluation."""
    bare = tmp_path / "bare"
    bare.mkdir()
    cases = {
        "no sidecar": (bare, ()),
        "no U-Net run": (masks, ("--segmenter", str(bare))),
        "no feature space": (masks, ("--features", "astrology")),
    }
    for words, (folder, more) in cases.items():
        found = run(store, folder, tmp_path / "out", *more)
        assert words in str(found.exception) and "\n" not in str(found.exception)
        assert not (tmp_path / "out").exists()
