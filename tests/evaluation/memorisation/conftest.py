"""Ways of disguising copies, for the tests in this folder."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def planting():
    """Return the module `planted` beside this file."""
    specification = importlib.util.spec_from_file_location("planted_copies", Path(__file__).parent / "planted.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
