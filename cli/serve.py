"""`synthmed serve`: TensorFlow Serving's interfaces on this machine, without a container engine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthmed.errors import UserError

from .common import console

if TYPE_CHECKING:
    from synthmed.serving.models_config import ModelConfig


@click.command()
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    help="Folder of models (NAME/VERSION).  [default: saved_models here, else the generator that comes with synthmed]",
)
@click.option(
    "--model-config-file",
    type=click.Path(path_type=Path),
    help="A TensorFlow Serving models.config, instead of --models.",
)
@click.option(
    "--rest-port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="Port of REST; 0: a free one."
)
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    default=8500,
    show_default=True,
    help="Port of gRPC; 0: a free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; one that other machines reach needs a token or TLS.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with a token that requests must bear.  [default: the environment's SYNTHMED_TOKEN, else none]",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM): speak TLS alone.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key (PEM, without a passphrase).")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Requests worked on at once.  [default: as many as processors, at least 2]",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Requests of each protocol that may wait; more are refused with 429 (RESOURCE_EXHAUSTED).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds that a request may take.",
)
@click.option(
    "--max-request", type=click.IntRange(min=1), default=64, show_default=True, help="MiB that a request may have."
)
@click.option(
    "--max-answer",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="MiB that an answer's arrays may have.",
)
@click.option(
    "--poll",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Seconds between looks for new models and versions; 0: none.",
)
@click.option(
    "--access-log",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    is_flag=False,
    flag_value="-",
    help="Add a line for each request to this file; without a file, write it to the terminal.  [default: no log]",
)
def command(
    models: Path | None,
    model_config_file: Path | None,
    rest_port: int,
    grpc_port: int,
    host: str,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    workers: int | None,
    queue: int,
    timeout: float,
    max_request: int,
    max_answer: int,
    poll: float,
    access_log: Path | None,
) -> None:
    """Serve exported generators, on this machine alone unless --host says otherwise, until interrupted.

    Requests and answers are TensorFlow Serving's: REST predict, status and metadata; gRPC Predict, GetModelMetadata and
    GetModelStatus. A new version that appears is loaded and takes the place of the old one without losing a request.

    A SavedModel is a program, which runs with your rights: serve only those whose origin you trust.

    \b
    Example:
      synthmed serve --models saved_models --rest-port 8501
    """
    from synthmed.backend import need_tensorflow
    from synthmed.extras import missing

    need_tensorflow("synthmed serve", keras=False)
    lacking = missing("serving")
    if lacking:
        raise UserError(f"serving needs {', '.join(lacking)}: pip install 'synthmed[serving]'")
    from synthmed.serving.access import Access, read_token
    from synthmed.serving.accesslog import AccessLog
    from synthmed.serving.limits import MIB, Limits
    from synthmed.serving.manager import ModelManager
    from synthmed.serving.server import EmbeddedServer

    access = Access(host, read_token(token_file), tls_cert, tls_key)
    limits = Limits(
        workers=workers or Limits().workers,
        queue=queue,
        seconds=timeout,
        request_bytes=max_request * MIB,
        held_bytes=max(4 * max_request * MIB, Limits.held_bytes),
        answer_bytes=max_answer * MIB,
    )
    source = _source(models, model_config_file)
    out = console(stderr=True)
    manager = ModelManager(source(), source=source, notify=out.print)
    log = None
    if access_log is not None:
        log = AccessLog(None if str(access_log) == "-" else access_log, notify=out.print)
    server = EmbeddedServer(
        manager,
        rest_port=rest_port,
        grpc_port=grpc_port,
        access=access,
        limits=limits,
        poll_seconds=poll,
        access_log=log,
    )

    def tell() -> None:
        for reason in manager.failures():
            out.print(f"not served: {reason}")
        for servable in manager.servables():
            out.print(f"serving {servable.name} version {servable.version}")
        if not access.is_local and not access.tls:
            out.print(
                "note: without TLS the token and all images cross the network in clear: give --tls-cert, --tls-key"
            )
        out.print(f"ready: REST on {server.rest_url}, gRPC on {access.address}:{server.grpc_port}; end with Ctrl-C")

    server.run(ready=tell)


def _source(models: Path | None, config_file: Path | None) -> "Callable[[], list[ModelConfig]]":
    from synthmed.generation.generator import shipped_models
    from synthmed.serving.models_config import models_below, read_models_config

    if models is not None and config_file is not None:
        raise UserError("give --models or --model-config-file, not both")
    if config_file is not None:
        return lambda: read_models_config(config_file)
    here = Path("saved_models")
    folder = models or (here if here.is_dir() else shipped_models())
    return lambda: models_below(folder)
