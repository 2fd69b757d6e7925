"""Invented studies for the tests beside this file."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def invented():
    """Return the module that writes invented studies."""
    specification = importlib.util.spec_from_file_location("invented", Path(__file__).with_name("invented.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
