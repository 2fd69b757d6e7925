"""`synthmed doctor` renders what was found."""

import json

import pytest
from click.testing import CliRunner

from synthmed import system
from synthmed.cli.doctor import command


@pytest.fixture
def report(monkeypatch) -> system.Report:
    """Return an invented report that the command is made to show."""
    invented = system.Report(
        synthmed="0.1.0",
        python="3.11.0",
        platform="Linux",
        processor="Abacus 9",
        packages={"tensorflow": None, "scipy": None, "numpy": "2.4.0"},
        backend="tensorflow",
        devices=["cpu:0"],
        number_formats={"float32": ["avx2"], "bfloat16": []},
        threads=2,
        memory=3 * 2**30,
        memory_available=None,
        disk_free=2**30,
        extras_missing={"serving": ["uvicorn"]},
        generators=[],
        notes=["beads are wooden"],
        problems=["the abacus lacks a bead"],
    )
    monkeypatch.setattr(system, "examine", lambda: invented)
    return invented


def test_words(report):
    """What is missing must stand out, with the line that mends it."""
    out = CliRunner().invoke(command, catch_exceptions=False).output
    for words in (
        "Abacus 9",
        "tensorflow not installed",
        "scipy MISSING",
        "beads are wooden",
        "bfloat16: slow",
        "3.0 GiB, unknown free",
        "missing uvicorn: pip install 'synthmed[serving]'",
        "! the abacus lacks a bead",
    ):
        assert words in out
    assert "nothing is missing" not in out


def test_json(report):
    """Bug reports and scripts read the JSON."""
    out = CliRunner().invoke(command, ["--json"], catch_exceptions=False).output
    assert json.loads(out) == report.model_dump()
