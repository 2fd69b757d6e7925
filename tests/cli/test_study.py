"""`synthmed study` parses, calls and says what came of it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from synthmed.cli.study import command
from synthmed.errors import UserError

pytest.importorskip("distributed", reason="needs the extra `study`")

CONFIGURATION = """
name: small
data: [{name: phantom, phantom: {cases: 6, size: 32, channels: 1}, size: 32x32, split: [0.5, 0, 0.5]}]
patients: [2, 3]
seeds: 2
models:
  - {name: real, variant: real}
  - {name: cond, variant: cond, added_patients: [2, 4], generator: {kimg: 1}}
training: {steps: 10}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIGURATION)
    return path


def call(*arguments):
    return CliRunner().invoke(command, [str(part) for part in arguments], catch_exceptions=False).output


def test_run_tells_what_is_finished_and_what_failed(monkeypatch, tmp_path, file):
    """After a night its user must learn whether all is there, and where the causes stand."""
    from synthmed.study import runner
    from synthmed.study.record import Summary

    asked = {}

    def run(configuration, out, **keywords):
        asked.update(name=configuration.name, out=out, **{name: keywords[name] for name in ("scheduler", "workers")})
        return asked["summary"]

    monkeypatch.setattr(runner, "run_study", run)
    asked["summary"] = Summary(12, 12)
    told = call("run", file, "--out", tmp_path / "out", "--workers", 3)
    assert "12 of 12 trials are finished; next: synthmed study report" in told
    assert (asked["name"], asked["workers"], asked["scheduler"]) == ("small", 3, None)
    asked["summary"] = Summary(12, 11, {"abc": "no memory"})
    with pytest.raises(UserError, match="11 of 12 trials are finished, 1 failed .*no memory.*the same command"):
        call("run", file, "--out", tmp_path / "out", "--scheduler", "tcp://x:1")
    assert asked["scheduler"] == "tcp://x:1"
    with pytest.raises(UserError, match="write it as NAME=FOLDER"):
        call("run", file, "--out", tmp_path / "out", "--data", "mri")


def test_a_dry_run_shows_the_grid_and_what_it_takes_and_writes_nothing(tmp_path, file, monkeypatch):
    """Somebody would start a week of training for an afternoon's question."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    told = json.loads(call("run", file, "--out", tmp_path / "out", "--dry-run", "--json"))
    assert (told["trials"], told["missing"]) == (12, {"store": 2, "generator": 2, "slices": 2, "trial": 12})
    assert 0 < told["hours"]["trial"] < 2 and 0 < told["hours"]["generator"] < 2 and 0 < told["gib"] < 1
    assert told["grid"][0]["combination"] == {"dataset": "phantom", "patients": 2, "draw": 0}
    assert not (tmp_path / "out").exists()
    words = call("run", file, "--out", tmp_path / "out", "--dry-run")
    for part in ("study small", "phantom", "cond", "12 trials; to do: 2 store", "about", "GiB of disk"):
        assert part in words


def test_prune_tells_what_it_frees(tmp_path):
    """Whoever frees a disk wants to know whether it was enough."""
    from synthmed.study.folder import StudyFolder

    folder = StudyFolder(tmp_path)
    folder.write({}, {}, {})
    (tmp_path / "slices" / "abc").mkdir(parents=True)
    (tmp_path / "slices" / "abc" / "x.npz").write_bytes(b"0" * 2**20)
    assert "would free 1.0 MiB in 1 folders" in call("prune", tmp_path, "--dry-run")
    assert json.loads(call("prune", tmp_path, "--json"))["bytes"] == 2**20
    assert not (tmp_path / "slices" / "abc").exists()
