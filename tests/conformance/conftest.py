"""A server of the model `half`, for the suites that any server must pass."""

import os
import runpy
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@dataclass
class Served:
    """Where to ask: `http://HOST:PORT`, and `HOST:PORT` of gRPC; None is not asked."""

    url: str | None
    grpc: str | None


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Return where `half` is served.

    SYNTHMED_TFS_URL (and SYNTHMED_TFS_GRPC, HOST:PORT) name a running server, such as TensorFlow Serving itself, that
    serves half_model.py as `half` with every version available and the labels stable -> 1 and canary -> 2; without
    them the embedded server is started.
    """
    if "SYNTHMED_TFS_URL" in os.environ or "SYNTHMED_TFS_GRPC" in os.environ:
        yield Served(os.environ.get("SYNTHMED_TFS_URL"), os.environ.get("SYNTHMED_TFS_GRPC"))
        return
    for module in ("starlette", "uvicorn", "tensorflow_serving", "prometheus_client"):
        pytest.importorskip(module)
    from synthmed.serving.manager import ModelManager
    from synthmed.serving.models_config import ModelConfig
    from synthmed.serving.server import EmbeddedServer

    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["half_model.py", str(folder)])
        runpy.run_path(str(HERE / "half_model.py"), run_name="__main__")
    config = ModelConfig("half", folder / "half", latest=0, labels={"stable": 1, "canary": 2})
    server = EmbeddedServer(ModelManager([config]), rest_port=0, grpc_port=0)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, kwargs={"ready": ready.set}, daemon=True)
    thread.start()
    while not ready.wait(0.1):
        assert thread.is_alive(), "the server did not start"
    yield Served(server.rest_url, f"127.0.0.1:{server.grpc_port}")
    server.stop()
    thread.join(60)


@pytest.fixture
def url(served):
    """Where REST is asked."""
    return served.url or pytest.skip("SYNTHMED_TFS_URL names no server")


@pytest.fixture
def ask(url):
    """Return a function that makes one request and returns (status, headers, body); the path goes out as it stands."""
    import http.client
    from urllib.parse import urlsplit

    def exchange(method, path, body=None, headers=None):
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    return exchange
