"""`synthmed phantom`: draw a phantom data set."""

from pathlib import Path

import click

from .common import console, progress, seed_option


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--cases", type=click.IntRange(min=1), default=24, show_default=True, help="Cases, one patient each.")
@click.option(
    "--size", type=click.IntRange(min=16, max=512), default=64, show_default=True, help="Rows and columns of a slice."
)
@click.option(
    "--channels",
    type=click.IntRange(min=1, max=64),
    default=2,
    show_default=True,
    help="T1, T2, FLAIR, post-contrast T1, then random contrasts.",
)
@seed_option
def command(out: Path, cases: int, size: int, channels: int, seed: int) -> None:
    """Draw a phantom set into the new folder OUT, in nnU-Net's raw layout.

    Heads with brain, ventricles and a lesion, different from case to case, with noise and bias field. The same seed
    gives the same set; case k is the same whatever --cases is.

    \b
    Example:
      synthmed phantom phantom-set --cases 12 --size 64 --channels 2
    """
    from synthmed.data.phantom import write_phantom

    with progress("phantom") as report:
        write_phantom(out, cases=cases, size=size, channels=channels, seed=seed, progress=report)
    console().print(f"{cases} cases in {out}; next: synthmed prepare {out} --out store")
