"""`synthmed export`: a run as a SavedModel for serving."""

from pathlib import Path

import click

from .common import console, progress, seed_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path("saved_models"),
    show_default=True,
    help="Folder of models; the generator becomes the next version of NAME in it.",
)
@click.option("--name", help="Name of the model.  [default: variant and weights, as cond-1a2b3c4d]")
@click.option(
    "--audit-n",
    "count",
    type=int,
    default=500,
    show_default=True,
    help="Slices to draw for the memorisation audit, where none was made of as many.",
)
@click.option("--allow-failed-audit", is_flag=True, help="Export a generator that copies its training slices.")
@seed_option
def command(run: Path, to: Path, name: str | None, count: int, allow_failed_audit: bool, seed: int) -> None:
    """Export the generator of RUN as a SavedModel with a model card, for synthmed serve or TensorFlow Serving.

    Whether it copies training slices is audited first, unless synthmed evaluate did so on as many slices.
    The card tells the verdict.

    \b
    Example:
      synthmed export runs/00000-cond --name hippocampus
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed export", "copy the run folder to a machine that has it")
    from synthmed.serving.export import export

    tell = console(stderr=True)
    with progress("audit") as report:
        version = export(
            run,
            to,
            name=name,
            audit_samples=count,
            allow_failed_audit=allow_failed_audit,
            seed=seed,
            progress=report,
            say=lambda line: tell.print(line, soft_wrap=True),
        )
    console().print(f"written: {version}")
