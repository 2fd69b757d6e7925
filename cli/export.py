"""`synthmed export`: a run as a SavedModel for serving."""

from pathlib import Path

import click

from .common import console


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path("saved_models"),
    show_default=True,
    help="Folder of models; the generator becomes the next version of NAME in it.",
)
@click.option("--name", help="Name of the model.  [default: the run's]")
def command(run: Path, to: Path, name: str | None) -> None:
    """Export the generator of RUN as a SavedModel with a model card, for synthmed serve or TensorFlow Serving.

    \b
    Example:
      synthmed export runs/00000-cond --name hippocampus
    """
    from synthmed.generation.bundle import load_bundle
    from synthmed.serving.export import export_bundle

    version = export_bundle(load_bundle(run), to=to, name=name)
    console().print(f"written: {version}")
