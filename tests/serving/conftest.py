"""Exported generators and the model `half`, made once, and a certificate."""

import runpy
import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def models(tiny_bundle, tmp_path_factory):
    """Return a folder of models with one version of `tiny-cond`."""
    from synthmed.serving.export import export_bundle

    folder = tmp_path_factory.mktemp("saved_models")
    export_bundle(tiny_bundle("cond"), to=folder)
    return folder


@pytest.fixture(scope="session")
def all_variants(tiny_bundle, models, tmp_path_factory):
    """Return a function from a variant to one exported version of it."""
    from functools import cache

    from synthmed.generation.generator import newest_version
    from synthmed.serving.export import export_bundle

    @cache
    def exported(variant: str):
        if variant == "cond":
            return newest_version(models / "tiny-cond")
        return export_bundle(tiny_bundle(variant), to=tmp_path_factory.mktemp("saved_models"))

    return exported


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """Return a folder with the model `half` in versions 1 and 2, which synthmed did not make."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["half_model.py", str(folder)])
        runpy.run_path(str(Path(__file__).parents[1] / "conformance" / "half_model.py"), run_name="__main__")
    return folder / "half"


@pytest.fixture
def held(half, monkeypatch):
    """Return a manager of `half` whose model waits until `go` is set, and counts in `calls` who has come."""
    from synthmed.serving.manager import ModelManager
    from synthmed.serving.models_config import ModelConfig

    manager = ModelManager([ModelConfig("half", half)])
    manager.load()
    (servable,) = manager.servables()
    manager.go, manager.calls, run = threading.Event(), [], servable.run

    def wait(signature, inputs):
        manager.calls.append(signature)
        assert manager.go.wait(60)
        return run(signature, inputs)

    monkeypatch.setattr(servable, "run", wait)
    yield manager
    manager.go.set()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Return the files of a certificate for 127.0.0.1, signed by itself, and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *extra], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls(certificate):
    """Return the https address of a server that has one available model, and its certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {}}]}')

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            """Say nothing of clients that do not trust the certificate."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", certificate[0]
    server.shutdown()
    server.server_close()
    thread.join()
