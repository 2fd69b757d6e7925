"""`synthmed generate`: draw labelled cases from a generator."""

from pathlib import Path

import click

from .common import console, lock_first_free, lock_folder, progress, seed_option


@click.command()
@click.option("--n", "count", type=int, required=True, help="How many cases to draw (in the whole set, with --shard).")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="A run or an exported generator (NAME or NAME/VERSION).  [default: the newest run of this folder, else the "
    "generator that comes with synthmed]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make.  [default: generated, generated-2, ...]")
@click.option(
    "--unit",
    type=click.Choice(["slice", "volume"]),
    default="slice",
    show_default=True,
    help="What one case is: a slice, or a patient (of a generator that is told positions).",
)
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["nnunet", "npz", "png"]),
    default="nnunet",
    show_default=True,
    help="nnU-Net raw with geometry and source units; NumPy files in [-1, 1]; pictures.",
)
@click.option(
    "--psi", type=float, default=1.0, show_default=True, help="Truncation, 0 to 1: lower is more typical, less diverse."
)
@click.option(
    "--masks",
    default="generated",
    show_default=True,
    metavar="generated|deformed|DIR",
    help="Label maps for a cond generator: its own, deformed ones of its run's training slices, or those of a folder "
    "(.nii.gz, .npz, .png; class indices).",
)
@click.option(
    "--require-class",
    "require",
    multiple=True,
    metavar="CLASS",
    help="Draw only cases that show this class (name or index); may be given several times.",
)
@click.option(
    "--merge-with",
    type=click.Path(path_type=Path),
    help="Real data set to write beside the synthetic cases as one nnU-Net training set; folds validate on real ones.",
)
@click.option("--shard", default="1/1", show_default=True, help="Draw only part i of n: i/n, i from 1.")
@click.option("--batch", type=int, help="Items drawn at once; results repeat exactly at one value.  [default: 8]")
@seed_option
def command(
    count: int,
    model: Path | None,
    out: Path | None,
    unit: str,
    fmt: str,
    psi: float,
    masks: str,
    require: tuple[str, ...],
    merge_with: Path | None,
    shard: str,
    batch: int | None,
    seed: int,
) -> None:
    """Draw labelled synthetic cases, each with a sidecar that says where it comes from.

    Case i follows from --seed and i alone: more cases, or shards on many machines, never change it.

    \b
    Example:
      synthmed generate --n 100 --model runs/00000-cond --out Dataset901_Synthetic
    """
    from synthmed.generation.drawing import Shard
    from synthmed.generation.generate import check_drawable, check_request, default_folders, generate
    from synthmed.generation.generator import BATCH, load_generator
    from synthmed.generation.masks import chosen_masks

    batch = BATCH if batch is None else batch
    part = Shard.parse(shard)
    check_request(n=count, psi=psi, format=fmt, batch=batch, out=out)
    target = lock_first_free(default_folders()) if out is None else out
    lock_folder(target)
    source = chosen_masks(masks)
    generator = load_generator(model, batch=batch)
    check_drawable(generator, unit=unit, format=fmt, masks=source, require=require)
    console(stderr=True).print(generator.origin)
    with progress("generate") as report:
        generate(
            generator,
            target,
            n=count,
            unit=unit,
            format=fmt,
            psi=psi,
            seed=seed,
            shard=part,
            masks=source,
            require=require,
            merge_with=merge_with,
            batch=batch,
            progress=report,
        )
    console().print(f"written: {target}")
