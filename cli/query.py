"""`synthmed query`: ask a server for labelled cases."""

from pathlib import Path

import click

from .common import console, progress, seed_option


@click.command()
@click.option("--n", "count", type=int, required=True, help="How many cases to ask for.")
@click.option("--url", default="http://127.0.0.1:8501", show_default=True, help="Where the server listens (REST).")
@click.option("--model", help="Name of the model.  [default: the one in saved_models here, else the one that ships]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
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
@seed_option
def command(
    count: int, url: str, model: str | None, out: Path, fmt: str, psi: float, batch: int | None, seed: int
) -> None:
    """Ask a server for cases and write them exactly as generate writes them: same seed, same files.

    \b
    Example:
      synthmed query --n 100 --url http://127.0.0.1:8501 --model hippocampus --out from-server
    """
    from synthmed.generation.generate import check_request, generate
    from synthmed.generation.sampler import BATCH
    from synthmed.serving.client import RestClient
    from synthmed.serving.remote import RemoteSampler, default_model

    batch = BATCH if batch is None else batch
    check_request(count=count, psi=psi, fmt=fmt, batch=batch, out=out)
    sampler = RemoteSampler(RestClient(url, model=model or default_model()), batch=batch)
    with progress("query") as report:
        generate(sampler, out, count=count, fmt=fmt, psi=psi, seed=seed, batch=batch, progress=report)
    console().print(f"written: {out}")
