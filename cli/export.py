"""`synthmed export`: a run as a SavedModel for serving."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import console, progress, seed_option

if TYPE_CHECKING:
    from synthmed.generation.bundle import GeneratorBundle


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
    from synthmed.generation.bundle import load_bundle
    from synthmed.serving.export import export_bundle

    bundle = load_bundle(run)
    earlier = bundle.info.audit
    # A handful of samples that evaluate happened to see says little.
    if earlier is None or (earlier.passed is not False and earlier.samples < count):
        _audit(bundle, run, count=count, seed=seed)
    version = export_bundle(bundle, to=to, name=name, allow_failed_audit=allow_failed_audit)
    if bundle.info.audit is not None:
        console().print(f"memorisation audit: {bundle.info.audit.sentence}")
    console().print(f"written: {version}")


def _audit(bundle: "GeneratorBundle", run: Path, *, count: int, seed: int) -> None:
    """Audit the generator, keep the result beside the run, and let the bundle say what was found."""
    from synthmed.generation.audited import audit_bundle
    from synthmed.generation.info import record_audit

    with progress("audit") as report:
        result = audit_bundle(bundle, count=count, seed=seed, progress=report)
    if result is None and bundle.info.audit is not None:
        return
    if result is None:
        console(stderr=True).print(
            "warning: not audited for copies of training slices, since the store that the run was trained on is not "
            "there any more, was changed, or lacks some of its patients; the card says so"
        )
        return
    record_audit(run, result)
    bundle.info = bundle.info.model_copy(update={"audit": result.verdict})
