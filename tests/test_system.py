"""What `synthmed doctor` finds out."""

import os
import shutil

import numpy as np
import pytest

from synthmed import extras, system
from synthmed.errors import UserError


def test_versions_are_those_that_are_imported(monkeypatch):
    """A report with a wrong version sends the search for a fault into the wrong release."""
    monkeypatch.setattr(system, "_devices", lambda: ("tensorflow", ["cpu:0"], []))
    report = system.examine()
    assert report.packages["numpy"] == np.__version__
    assert report.threads == len(os.sched_getaffinity(0))
    assert report.disk_free == pytest.approx(shutil.disk_usage(".").free, rel=0.1)


def test_a_broken_backend_is_a_problem_in_words(monkeypatch):
    """The doctor is called when things are broken; it must not break on them itself."""
    import builtins

    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name == "keras":
            raise ImportError("libcudart.so is missing")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    backend, devices, problems = system._devices()
    assert (backend, devices) == ("none", [])
    assert "libcudart.so is missing" in problems[0]


def test_a_backend_that_cannot_be_used_is_a_problem(monkeypatch):
    """Somebody with JAX alone would be told of a missing module, and not what to set."""
    monkeypatch.setattr(system, "check_backend", check := Refusal())
    assert system._devices()[1:] == ([], [str(check.error)])


class Refusal:
    """Stands in for a check that refuses."""

    error = UserError("set KERAS_BACKEND=jax")

    def __call__(self):
        raise self.error


def test_missing_extras_are_named(monkeypatch):
    """Without the name of the missing package its user does not know what to install."""
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "uvicorn" else object())
    assert extras.missing("serving") == ["uvicorn"]
