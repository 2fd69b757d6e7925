"""`synthmed serve`: TensorFlow Serving's interfaces on this machine, without a container engine."""

from pathlib import Path

import click

from synthmed.errors import UserError

from .common import console


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
def command(models: Path | None, model_config_file: Path | None, rest_port: int, grpc_port: int) -> None:
    """Serve exported generators on 127.0.0.1 until interrupted.

    Requests and answers are TensorFlow Serving's: REST predict, status and metadata; gRPC Predict, GetModelMetadata and
    GetModelStatus. Versions are read once, at the start.

    \b
    Example:
      synthmed serve --models saved_models --rest-port 8501
    """
    from synthmed.extras import missing

    lacking = missing("serving")
    if lacking:
        raise UserError(f"serving needs {', '.join(lacking)}: pip install 'synthmed[serving]'")
    from synthmed.generation.savedmodel import shipped_models
    from synthmed.serving.manager import ModelManager
    from synthmed.serving.models_config import models_below, read_models_config
    from synthmed.serving.server import EmbeddedServer

    if models is not None and model_config_file is not None:
        raise UserError("give --models or --model-config-file, not both")
    if model_config_file is not None:
        configs = read_models_config(model_config_file)
    else:
        here = Path("saved_models")
        configs = models_below(models or (here if here.is_dir() else shipped_models()))
    manager = ModelManager(configs)
    server = EmbeddedServer(manager, rest_port=rest_port, grpc_port=grpc_port)
    out = console(stderr=True)

    def tell() -> None:
        for reason in manager.failures():
            out.print(f"not served: {reason}")
        for servable in manager.servables():
            out.print(f"serving {servable.name} version {servable.version}")
        out.print(f"ready: REST on {server.rest_url}, gRPC on 127.0.0.1:{server.grpc_port}; end with Ctrl-C")

    server.run(ready=tell)
