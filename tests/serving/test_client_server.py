"""The client against the embedded server, over both protocols."""

import gzip
import threading

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("tensorflow_serving")

from click.testing import CliRunner

from synthmed.cli.query import command
from synthmed.errors import UserError
from synthmed.generation.generate import generate
from synthmed.generation.generator import SavedModelGenerator
from synthmed.serving import GeneratorClient
from synthmed.serving.manager import ModelManager
from synthmed.serving.models_config import models_below
from synthmed.serving.remote import BYTES
from synthmed.serving.server import EmbeddedServer


@pytest.fixture(scope="module")
def server(models):
    """A running server of both protocols."""
    manager = ModelManager(models_below(models))
    embedded = EmbeddedServer(manager, rest_port=0, grpc_port=0)
    ready = threading.Event()
    thread = threading.Thread(target=embedded.run, kwargs={"ready": ready.set}, daemon=True)
    thread.start()
    assert ready.wait(600)
    yield embedded
    embedded.stop()
    thread.join(60)


@pytest.fixture(params=["http", "grpc"])
def url(server, request):
    """The address of each protocol."""
    return server.rest_url if request.param == "http" else f"grpc://127.0.0.1:{server.grpc_port}"


def files_of(folder):
    """Return each file's bytes, but for gzip's time stamps."""
    read = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: gzip.decompress(data) if name.suffix == ".gz" else data for name, data in read.items()}


def test_query_writes_what_generate_writes(url, all_variants, tmp_path):
    """The same seed would mean other files, depending on where the generator runs and how it is asked."""
    ours = generate(SavedModelGenerator(all_variants("cond")), tmp_path / "ours", n=10, seed=2, psi=0.9)
    arguments = ["--n", "10", "--url", url, "--model", "tiny-cond", "--seed", "2", "--psi", "0.9"]
    outcome = CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "theirs")], catch_exceptions=False)
    assert outcome.exit_code == 0 and "query: 10/10 (100%)" in outcome.stderr
    assert files_of(ours) == files_of(tmp_path / "theirs")


def test_a_model_without_bytes_is_asked_in_numbers(url):
    """Generators that were exported by an earlier version could not be asked any more."""
    seeds = np.array([3, 2**40, 5])
    with GeneratorClient(url, model="tiny-cond", batch=2) as client:
        assert BYTES in client.signatures
        quick = client.sample_seeds(seeds, 0.8)
        client.signatures -= {BYTES}
        plain = client.sample_seeds(seeds, 0.8)
        masks = np.random.default_rng(0).integers(0, 3, (3, 32, 48)).astype(np.uint8)
        assert np.array_equal(client.sample_seeds(seeds, 0.8, masks).labels, masks)
    for one, other in zip(vars(quick).values(), vars(plain).values(), strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_wrong_models_and_signatures_are_told(url):
    """The user would not know which of server, model and request to mend."""
    with pytest.raises(UserError, match="check --model"):
        GeneratorClient(url, model="other")
    with GeneratorClient(url, model="tiny-cond") as client:
        seed = {"seed": np.zeros(1, np.int64)}
        with pytest.raises(UserError, match=r"lacks a signature.*nothing"):
            client.client.predict("nothing", seed)
        with pytest.raises(UserError, match="refuses what tiny-cond was asked"):
            client.client.predict("sample", seed)


@pytest.mark.parametrize("content", ["", "two words", "not\x07printable"])
def test_files_without_a_token_are_told(tmp_path, content):
    """A header that is none would end in a traceback."""
    file = tmp_path / "token"
    file.write_text(content)
    arguments = ["--n", "1", "--model", "m", "--out", str(tmp_path / "out"), "--token-file"]
    for path in (file, tmp_path / "none"):
        outcome = CliRunner().invoke(command, [*arguments, str(path)])
        assert isinstance(outcome.exception, UserError) and "token" in str(outcome.exception)
