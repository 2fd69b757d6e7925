import pytest

from synthmed.data.phantom import write_phantom
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.store import Store


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    """A store of six small phantom cases, 32 x 32."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder / "set", cases=6, size=32, channels=2, seed=1)
    return prepare(read_dataset(folder / "set"), folder / "store", size=(32, 32), seed=1)
