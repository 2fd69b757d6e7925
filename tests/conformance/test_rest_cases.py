"""TensorFlow Serving's observed answers, asked of any server.

Set SYNTHMED_TFS_URL to ask a running one that serves tests/conformance/half_model.py as `half`, every version
available, with the labels stable -> 1 and canary -> 2; otherwise the embedded server is started.
"""

import http.client
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

HERE = Path(__file__).parent
CASES = [json.loads(line) for line in (HERE / "rest_cases.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Where to ask."""
    if "SYNTHMED_TFS_URL" in os.environ:
        yield os.environ["SYNTHMED_TFS_URL"]
        return
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from synthmed.serving.manager import ModelManager
    from synthmed.serving.models_config import ModelConfig
    from synthmed.serving.server import EmbeddedServer

    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, HERE / "half_model.py", folder], check=True, capture_output=True)
    config = ModelConfig("half", folder / "half", latest=0, labels={"stable": 1, "canary": 2})
    manager = ModelManager([config])
    manager.load()
    server = EmbeddedServer(manager, rest_port=0)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, kwargs={"ready": ready.set}, daemon=True)
    thread.start()
    assert ready.wait(300)
    yield server.rest_url
    server.stop()
    thread.join(30)


def ask(url: str, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None):
    """Return (status, content type, body) of one request, whose path goes out as it stands."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers.get("content-type", ""), response.read()
    finally:
        connection.close()


def same(found, expected) -> bool:
    """Compare parsed JSON, NaN equal to NaN."""
    if isinstance(found, float) and isinstance(expected, float):
        return found == expected or (math.isnan(found) and math.isnan(expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and found == expected


def interface(metadata: dict) -> dict:
    """Leave out what the exporting TensorFlow chooses: names of graph nodes and their order."""
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    for definition in signatures.values():
        for tensor in [*definition["inputs"].values(), *definition["outputs"].values()]:
            tensor.pop("name")
    return metadata


@pytest.mark.parametrize("case", CASES, ids=[f"{number}" for number in range(len(CASES))])
def test_answer_is_tensorflow_servings(url, case):
    """A client written for TensorFlow Serving would break on the laptop, or the other way round."""
    body = None if case["body"] is None else case["body"].encode()
    status, kind, text = ask(url, case["method"], case["path"], body)
    assert status == case["status"], text
    assert kind.split(";")[0] == case["content_type"]
    if case["json"] is None:
        return
    found, expected = json.loads(text), case["json"]
    if "error" in expected:
        assert found.keys() == expected.keys()
        assert found["error"].splitlines()[0] == expected["error"].splitlines()[0]
    elif "metadata" in expected:
        assert same(interface(found), interface(expected))
    else:
        assert same(found, expected), text
