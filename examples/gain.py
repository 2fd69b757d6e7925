"""Measure what synthetic slices gain: one generator for each draw of a few patients, then a fair comparison.

    python examples/gain.py hippocampus-data --split docs/hippocampus-split.json --axis coronal --patients 5 --out gain

For each draw of training patients it prepares their store, trains a generator on them alone and draws slices; then
`synthmed segment compare` trains and scores the arms over all draws. Everything that is finished already stays, so the
same command goes on where it was stopped. Recipes share the arms that they have in common.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

SHARED_ARMS = ("real", "oracle")


@dataclass(frozen=True)
class Recipe:
    """How synthetic slices are made and blended.

    Attributes:
        train: Options of `synthmed train`.
        generate: Options of `synthmed generate`.
        compare: Options of `synthmed segment compare`.
        masks: Whether a `cond` generator needs no mask generator of its own, since its label maps are real ones.
    """

    train: tuple[str, ...]
    generate: tuple[str, ...] = ()
    compare: tuple[str, ...] = ("--ratio", "1")
    masks: bool = False


COND = ("--variant", "cond")
DEFORMED = ("--masks", "deformed")
RECIPES = {
    "base": Recipe(("--variant", "base")),
    "cond": Recipe(COND),
    "deformed": Recipe(COND, DEFORMED, masks=True),
    "deformed-pretrain": Recipe(COND, DEFORMED, ("--ratio", "1", "--pretrain", "0.3"), masks=True),
    "deformed-fading": Recipe(COND, DEFORMED, ("--ratio", "2", "--ratio-end", "0"), masks=True),
    "deformed-quarter": Recipe(COND, DEFORMED, ("--ratio", "0.25"), masks=True),
    "deformed-filter": Recipe(COND, DEFORMED, ("--ratio", "1", "--filter", "0.5"), masks=True),
}


@click.command()
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of everything that is made.")
@click.option("--split", type=click.Path(exists=True, path_type=Path), required=True, help="Who trains and who tests.")
@click.option("--axis", default="auto", help="As prepare.")
@click.option("--patients", type=int, required=True, help="Training patients of each draw.")
@click.option("--draws", default=3, help="Choices of these patients.")
@click.option("--seeds", default=1, help="Trainings of each arm and draw.")
@click.option("--recipe", type=click.Choice(sorted(RECIPES)), default="deformed")
@click.option("--arms", default="real,duplicated,blended,synthetic,oracle", help="As segment compare.")
@click.option("--kimg", default=25.0, help="Of each generator.")
@click.option("--n", default=2000, help="Slices of each draw.")
@click.option("--steps", default=500, help="Of each U-Net.")
@click.option("--batch", default=32, help="Slices a step.")
def main(
    dataset: Path,
    out: Path,
    split: Path,
    axis: str,
    patients: int,
    draws: int,
    seeds: int,
    recipe: str,
    arms: str,
    kimg: float,
    n: int,
    steps: int,
    batch: int,
) -> None:
    """Print the table of one size and one recipe."""
    chosen = RECIPES[recipe]
    prepare = ["prepare", str(dataset), "--axis", axis]
    store = out / "store"
    if not store.is_dir():
        synthmed(*prepare, "--split", split, "--out", store)
    size = ["--train-patients", patients, "--draws", draws]
    splits = out / f"splits-{patients}"
    if not (splits / f"split-draw-{draws - 1}.json").is_file():
        synthmed("segment", "compare", "--data", store, *size, "--write-splits", "--out", splits)
    comparison = out / f"compare-{patients}-{recipe}"
    blending: list[object] = []
    for draw in range(draws):
        own = out / f"store-{patients}-draw-{draw}"
        if not own.is_dir():
            synthmed(*prepare, "--split", splits / f"split-draw-{draw}.json", "--out", own)
        blending += ["--synthetic", slices_of(own, chosen, out, kimg=kimg, n=n)]
    share_arms(out, comparison, f"compare-{patients}-")
    synthmed(
        *("segment", "compare", "--data", store, *size, *blending, *chosen.compare, "--arms", arms),
        *("--seeds", seeds, "--steps", steps, "--batch", batch, "--out", comparison),
    )
    print((comparison / "comparison.md").read_text(encoding="utf-8"))


def slices_of(store: Path, recipe: Recipe, out: Path, *, kimg: float, n: int) -> Path:
    """Return synthetic slices of a generator that was trained on a store alone."""
    name = f"{store.name.removeprefix('store-')}-{'-'.join(recipe.train[1:])}-{kimg:g}"
    run = out / f"generator-{name}"
    source: list[object] = []
    if recipe.masks:
        # `cond` trains a mask generator first where it is given none, which would never be used here.
        masks = out / f"no-masks-{store.name}"
        synthmed("train", "--variant", "mask", "--data", store, "--kimg", "0.2", "--out", masks, "--resume")
        source = ["--masks-from", masks]
    synthmed("train", *recipe.train, *source, "--data", store, "--kimg", kimg, "--out", run, "--resume")
    slices = out / f"slices-{name}-{'-'.join(recipe.generate[1:]) or 'generated'}"
    if not slices.is_dir():
        synthmed("generate", "--n", n, "--model", run, "--format", "npz", *recipe.generate, "--out", slices)
    return slices


def share_arms(out: Path, comparison: Path, prefix: str) -> None:
    """Copy finished trainings of arms that no recipe changes from the comparisons of other recipes."""
    for other in out.glob(f"{prefix}*"):
        for run in other.iterdir():
            target = comparison / run.name
            if run.name.startswith(SHARED_ARMS) and (run / "scores.json").is_file() and not target.exists():
                shutil.copytree(run, target)


def synthmed(*arguments: object) -> None:
    """Run one command of synthmed, or stop with its exit code."""
    line = [str(argument) for argument in arguments]
    print("synthmed", *line, flush=True)
    finished = subprocess.run([sys.executable, "-m", "synthmed.cli.main", *line], check=False)
    if finished.returncode:
        raise SystemExit(finished.returncode)


if __name__ == "__main__":
    main()
