"""Writers of DICOM, for the tests in this folder."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest


def _load():
    specification = importlib.util.spec_from_file_location("dicom_written", Path(__file__).parent / "written.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def written():
    """Return the module `written` beside this file."""
    return _load()


@pytest.fixture(scope="session")
def voxels():
    """Return a function from a seed to 9 x 7 x 5 pixel values, all different along every axis."""

    def make(seed: int = 0, dtype: str = "int16") -> np.ndarray:
        ramp = 100 * np.arange(9)[:, None, None] + 11 * np.arange(7)[None, :, None] + np.arange(5)[None, None]
        return (ramp + 7 * seed + np.random.default_rng(seed).integers(0, 3, ramp.shape)).astype(dtype)

    return make
