"""`synthmed query`: ask a server for labelled cases."""

from pathlib import Path

import click

from .common import console, lock_folder, progress, seed_option


@click.command()
@click.option("--n", "count", type=int, required=True, help="How many cases to ask for.")
@click.option(
    "--url",
    default="http://127.0.0.1:8501",
    show_default=True,
    help="Where the server listens: http://HOST:8501 for REST, grpc://HOST:8500; https and grpcs with TLS.",
)
@click.option("--model", help="Name of the model.  [default: the one in saved_models here, else the one that ships]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--unit", type=click.Choice(["slice", "volume"]), default="slice", show_default=True, help="As generate.")
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["nnunet", "npz", "png"]),
    default="nnunet",
    show_default=True,
    help="As generate.",
)
@click.option("--psi", type=float, default=1.0, show_default=True, help="Truncation, 0 to 1.")
@click.option("--batch", type=int, help="Items in one request; results repeat exactly at one value.  [default: 8]")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that one answer may take.  [default: 300]"
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token of a server that asks for one.  [default: the environment variable SYNTHMED_TOKEN]",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    help="PEM file of the authority that signed the server's certificate.  [default: those of this machine]",
)
@seed_option
def command(
    count: int,
    url: str,
    model: str | None,
    out: Path,
    unit: str,
    fmt: str,
    psi: float,
    batch: int | None,
    timeout: float | None,
    token_file: Path | None,
    ca_file: Path | None,
    seed: int,
) -> None:
    """Ask a server for cases and write them exactly as generate writes them: same seed, same files.

    The server is synthmed serve or TensorFlow Serving. While it is busy it is asked again, for about half a minute.

    \b
    Example:
      synthmed query --n 100 --url http://127.0.0.1:8501 --model hippocampus --out from-server
    """
    from synthmed.generation.generate import check_drawable, check_request
    from synthmed.generation.generator import BATCH
    from synthmed.serving.access import read_token
    from synthmed.serving.modelclient import TIMEOUT_SECONDS
    from synthmed.serving.remote import GeneratorClient, default_model

    batch = BATCH if batch is None else batch
    check_request(n=count, psi=psi, format=fmt, batch=batch, out=out)
    lock_folder(out)
    client = GeneratorClient(
        url,
        model=model or default_model(),
        batch=batch,
        timeout=timeout or TIMEOUT_SECONDS,
        token=read_token(token_file, shortest=1),
        ca_file=ca_file,
    )
    with client:
        check_drawable(client, unit=unit, format=fmt, masks="generated", require=())
        with progress("query") as report:
            client.write(out, count=count, fmt=fmt, unit=unit, psi=psi, seed=seed, progress=report)
    console().print(f"written: {out}")
