"""Who may ask a server: tokens, TLS and the network."""

import shutil
import subprocess

import pytest

pytest.importorskip("starlette")
pytest.importorskip("tensorflow_serving")
pytest.importorskip("prometheus_client")

from half_server import ask, predict_by_grpc, running

from synthmed.errors import UserError
from synthmed.serving.access import Access, read_token
from synthmed.serving.manager import ModelManager
from synthmed.serving.models_config import ModelConfig


def test_a_token_is_asked_for_by_both_protocols(half, tmp_path):
    """Everybody in the network could draw from the generator."""
    grpc = pytest.importorskip("grpc")
    (tmp_path / "token").write_text("0123456789abcdef\n")
    token = read_token(tmp_path / "token")
    assert token not in repr(Access(token=token))
    with running(ModelManager([ModelConfig("half", half)]), access=Access(token=token), grpc_port=0) as server:
        for sent in ("", "Bearer", "Bearer wrong", f"Basic {token}", f"Bearer {token}x", "Bearer \xe9"):
            assert ask(server, headers={"Authorization": sent})[0] == 401
            assert ask(server, "GET", "/monitoring/prometheus/metrics", headers={"Authorization": sent})[0] == 401
        assert ask(server, headers={"Authorization": f"Bearer {token}"})[0] == 200
        assert ask(server, "GET", "/healthz")[0] == 200
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                predict_by_grpc(channel)
            assert caught.value.code().name == "UNAUTHENTICATED"
            assert predict_by_grpc(channel, [("authorization", f"Bearer {token}")]).outputs


def test_tls_on_both_protocols(half, tmp_path):
    """Tokens and images would cross the network in clear."""
    import ssl

    grpc = pytest.importorskip("grpc")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    access = Access(certificate=certificate, key=key)
    with running(ModelManager([ModelConfig("half", half)]), access=access, grpc_port=0) as server:
        assert server.rest_url.startswith("https://")
        assert ask(server, context=ssl.create_default_context(cafile=certificate))[0] == 200
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
            assert predict_by_grpc(channel).outputs
    with pytest.raises(UserError, match="no certificate with its key"):
        Access(certificate=key, key=certificate)


def test_the_network_is_not_served_unguarded(tmp_path, monkeypatch):
    """A generator of patients' likenesses would be open to a hospital's network by a slip."""
    monkeypatch.delenv("SYNTHMED_TOKEN", raising=False)
    assert read_token(None) is None
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(UserError, match="other machines"):
            Access(host)
        assert not Access(host, token="0123456789abcdef").is_local
    assert Access("localhost").is_local and Access("127.0.0.5").is_local
    with pytest.raises(UserError, match="--tls-key"):
        Access(certificate=tmp_path / "cert.pem")
    with pytest.raises(UserError, match="no address"):
        Access("no such host.invalid")
    monkeypatch.setenv("SYNTHMED_TOKEN", "short")
    with pytest.raises(UserError, match="SYNTHMED_TOKEN"):
        read_token(None)
    with pytest.raises(UserError, match="--token-file"):
        read_token(tmp_path / "absent")
