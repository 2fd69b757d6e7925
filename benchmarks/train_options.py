"""What each option of training does at an equal budget: runs `synthmed train` for every row and prints the table.

    python benchmarks/train_options.py STORE OUT [--kimg 15] [--group augmentation ...]
    python benchmarks/train_options.py STORE OUT --speed
    python benchmarks/train_options.py STORE OUT --table

A row is a command line; the figure is the sliced Wasserstein distance to the store's validation patients that training
logs (`synthmed.evaluation.distances`) every thousand images. Rows that are finished are not run again, so a stopped
table goes on. Speeds are measured one row after the other (`--speed`, on a machine that does nothing else); with them
the table compares rows at the images that equal minutes buy, whatever else ran beside the long runs.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

# A network of a quarter of the default channels: many passes over a small set in few minutes.
COMMON = "--set channel_base=1024 --set channel_max=64 --set distance_kimg=1 --set checkpoint_seconds=3600"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        group: Which comparison it belongs to.
        name: What is different.
        arguments: Of `synthmed train`, beside the store, the budget and the seed.
        seeds: How many seeds.
        baseline: Whether the others of its group are given the minutes that this one takes.
    """

    group: str
    name: str
    arguments: str
    seeds: int = 1
    baseline: bool = False


ALONE = "--set position=false"
MASK = f"--variant mask --augment ada {ALONE}"
COND = f"--variant cond --augment ada {ALONE} --masks-from {{masks}}"
ROWS = [
    Row("augmentation", "none (the paper)", f"--variant base --augment none {ALONE}", seeds=3, baseline=True),
    Row("augmentation", "DiffAugment", f"--variant base --augment diff {ALONE}", seeds=3),
    Row("augmentation", "ADA", f"--variant base --augment ada {ALONE}", seeds=3),
    Row("conditions", "ADA, position told", "--variant base --augment ada", seeds=3),
    Row("conditions", "ADA, position and class presence", "--variant base --augment ada --set class_presence=true"),
    Row("conditions", "DiffAugment, position told", "--variant base --augment diff"),
    Row("loss", "ADA, relativistic, R1 + R2", f"--variant base --augment ada {ALONE} --loss relativistic"),
    Row("loss", "DiffAugment, position told, relativistic", "--variant base --augment diff --loss relativistic"),
    Row("masks", "one-hot", f"{MASK} --set mask_channels=one-hot"),
    Row("masks", "softened", f"{MASK} --set mask_channels=softened", baseline=True),
    Row("masks", "signed distance", f"{MASK} --set mask_channels=distance"),
    Row("masks", "softened, position told", "--variant mask --augment ada"),
    Row("injection", "concatenated pyramid", COND, baseline=True),
    Row("injection", "spatially adaptive", f"{COND} --set injection=modulate"),
    Row("injection", "mismatched pairs", f"{COND} --set mismatched=0.5"),
    Row("format", "bfloat16", "--variant base --augment diff --precision bfloat16", seeds=3, baseline=True),
    Row("format", "float32", "--variant base --augment diff --precision float32", seeds=3),
]
SPEED_KIMG = 0.8


@click.command()
@click.argument("store", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--kimg", default=15.0, show_default=True, help="Thousand images of each row, run and shown.")
@click.option("--group", "groups", multiple=True, help="Only these groups.")
@click.option("--row", "names", multiple=True, help="Only these rows.")
@click.option("--seed", "seeds", multiple=True, type=int, help="Only these seeds.")
@click.option("--speed", is_flag=True, help="Measure how fast each row is instead.")
@click.option("--table", is_flag=True, help="Run nothing, print what there is.")
def main(
    store: Path,
    out: Path,
    kimg: float,
    groups: tuple[str, ...],
    names: tuple[str, ...],
    seeds: tuple[int, ...],
    speed: bool,
    table: bool,
) -> None:
    """Run the rows and print the table in Markdown."""
    chosen = [row for row in ROWS if (not groups or row.group in groups) and (not names or row.name in names)]
    for row in chosen if not table else []:
        for seed in (0,) if speed else (seed for seed in range(row.seeds) if not seeds or seed in seeds):
            folder = _folder(row, "speed" if speed else seed, out)
            _run(row, seed, store, out, SPEED_KIMG if speed else kimg, folder=folder)
    _print(out, chosen, kimg)


def _folder(row: Row, seed: int | str, out: Path) -> Path:
    words = [row.group, *row.name.replace(",", "").replace("(", "").replace(")", "").split()]
    return out / "-".join([*words, seed if isinstance(seed, str) else f"seed{seed}"])


def _run(row: Row, seed: int, store: Path, out: Path, kimg: float, *, folder: Path) -> None:
    if (folder / "done").exists():
        return
    masks = _folder(next(other for other in ROWS if other.name == "softened"), 0, out)
    text = f"train {row.arguments.format(masks=masks)} {COMMON} --kimg {kimg:g} --seed {seed}"
    arguments = [*shlex.split(text), "--data", str(store), "--out", str(folder)]
    print("synthmed", shlex.join(arguments), file=sys.stderr, flush=True)
    resume = ["--resume"] if (folder / "run.json").exists() else []
    subprocess.run([sys.executable, "-m", "synthmed.cli.main", *arguments, *resume], check=True)
    (folder / "done").touch()


def _lines(folder: Path) -> list[dict[str, float]]:
    if not (folder / "done").exists():
        return []
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def _rate(row: Row, out: Path) -> float:
    """Return images a second where nothing else runs, without the first lines, in which phases are compiled."""
    rates = [line["images_per_second"] for line in _lines(_folder(row, "speed", out)) if line["kimg"] > SPEED_KIMG / 2]
    return float(np.median(rates)) if rates else float("nan")


def measured(lines: list[dict[str, float]], kimg: float) -> dict[str, float]:
    """Return the nearest distance of a run up to so many thousand images, and what the log said there."""
    lines = [line for line in lines if line["kimg"] <= kimg + 0.5]
    distances = [line for line in lines if "distance" in line]
    return {
        "nearest": min(line["distance"] for line in distances),
        "kimg": distances[-1]["kimg"],
        "p": lines[-1].get("augment_probability", 0.0),
        "sign": float(np.mean([line["sign_real"] for line in lines[-20:] if "sign_real" in line])),
    }


def _print(out: Path, rows: list[Row], most: float) -> None:
    """Print what rows came to within `most` thousand images."""
    print("| | | images/s | nearest, equal images | kimg in equal minutes | nearest, equal minutes | p | sign of D |")
    print("|---|---|---|---|---|---|---|---|")
    kimg, rate = most, float("nan")
    for row in rows:
        runs = [lines for seed in range(row.seeds) if (lines := _lines(_folder(row, seed, out)))]
        if not runs:
            continue
        if row.baseline:
            kimg, rate = min(most, *(lines[-1]["kimg"] for lines in runs)), _rate(row, out)
        share = _rate(row, out) / rate
        # A faster row is not given more than it ran for: its figure is then a bound from above.
        bought = min(kimg, kimg * share) if np.isfinite(share) else kimg
        done = [measured(lines, bought) | {"equal": measured(lines, kimg)["nearest"]} for lines in runs]
        cells = [row.group, f"{row.name} ({len(done)} of {row.seeds})", f"{_rate(row, out):.0f}"]
        for key, digits in (("equal", 4), ("kimg", 0), ("nearest", 4), ("p", 2), ("sign", 2)):
            values = [one[key] for one in done]
            spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 and digits else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
