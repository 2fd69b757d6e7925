"""Exported generators, made once, and a certificate."""

import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


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

    from synthmed.generation.savedmodel import newest_version
    from synthmed.serving.export import export_bundle

    @cache
    def exported(variant: str):
        if variant == "cond":
            return newest_version(models / "tiny-cond")
        return export_bundle(tiny_bundle(variant), to=tmp_path_factory.mktemp("saved_models"))

    return exported


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
