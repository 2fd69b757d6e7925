"""Memory that comes back: of versions that go, and of a server with nothing to do."""

import gc
import shutil
import threading
import weakref

import psutil
import pytest

pytest.importorskip("tensorflow_serving")
pytest.importorskip("prometheus_client")

from synthmed.serving import memory
from synthmed.serving.manager import ModelManager
from synthmed.serving.models_config import ModelConfig


@pytest.mark.slow
def test_versions_that_come_fail_and_go_leave_no_memory(models, tmp_path):
    """A server that is given a new version each night would be ended by the system after some weeks."""
    source, model = models / "tiny-cond" / "1", tmp_path / "model"
    shutil.copytree(source, model / "1")
    manager = ModelManager([ModelConfig("model", model)])
    manager.load()
    process, sizes, gone = psutil.Process(), [], []
    for number in range(2, 9):
        gone.append(weakref.ref(manager.find("model")))
        shutil.copytree(source, tmp_path / "arriving")
        damaged = number % 3 == 0
        if damaged:
            data = tmp_path / "arriving" / "variables" / "variables.data-00000-of-00001"
            data.write_bytes(data.read_bytes()[:1000])
        (tmp_path / "arriving").rename(model / str(number))
        manager.refresh()
        assert (manager.find("model").version == number) is not damaged
        gc.collect()
        memory.give_back()
        sizes.append(process.memory_info().rss / 2**20)
    assert sum(one() is not None for one in gone) <= 1, "the version before a damaged one is the one that is served"
    # Loaded by `tf.saved_model.load`, each took more than 30 MiB for good.
    assert sizes[-1] - sizes[1] < 60, sizes


def test_an_idle_server_gives_memory_back(monkeypatch):
    """After one busy minute a laptop would lack gigabytes until the server is ended."""
    given, idle = threading.Event(), threading.Event()
    monkeypatch.setattr(memory, "give_back", given.set)
    trimmer = memory.IdleTrimmer(idle.is_set, seconds=0.05)
    trimmer.worked()
    assert not given.wait(0.3), "not while there is work"
    idle.set()
    assert given.wait(10)
    given.clear()
    trimmer.worked()
    assert given.wait(10), "and again after the next piece of work"


def test_giving_back_works_with_any_c_library(monkeypatch):
    """The server would not start on Alpine or a Mac."""
    memory.limit_arenas()
    memory.give_back()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.limit_arenas()
    memory.give_back()
