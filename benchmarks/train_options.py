"""What each option of training does at an equal budget: runs `synthmed train` for every row and prints the table.

    python benchmarks/train_options.py STORE OUT [--minutes 5] [--group augmentation ...] [--table]

A row is a command line; the figure is the sliced Wasserstein distance to the store's validation patients that training
logs (`synthmed.training.distance`). Rows that are finished are not run again, so a stopped table goes on.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
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
        kimg: Budget in thousand images instead of minutes.
        also: Groups whose comparison it also takes part in.
    """

    group: str
    name: str
    arguments: str
    seeds: int = 1
    kimg: float | None = None
    also: tuple[str, ...] = field(default=())


ROWS = [
    Row("augmentation", "none (the paper)", "--variant base --augment none", seeds=3),
    Row("augmentation", "DiffAugment", "--variant base --augment diff", seeds=3),
    Row("augmentation", "ADA", "--variant base --augment ada", seeds=3, also=("loss", "conditions")),
    Row("loss", "relativistic, R1 + R2", "--variant base --augment ada --loss relativistic", seeds=3),
    Row("masks", "one-hot", "--variant mask --set mask_planes=one-hot", kimg=12),
    Row("masks", "softened", "--variant mask --set mask_planes=softened", kimg=12),
    Row("masks", "signed distance", "--variant mask --set mask_planes=distance", kimg=12),
    Row("injection", "concatenated pyramid", "--variant cond --masks-from {masks}", kimg=12),
    Row("injection", "spatially adaptive", "--variant cond --masks-from {masks} --set injection=modulate", kimg=12),
    Row("injection", "mismatched pairs", "--variant cond --masks-from {masks} --set mismatched=0.5", kimg=12),
    Row("conditions", "position told", "--variant base --set position=true"),
    Row("conditions", "position and classes told", "--variant base --set position=true --set shown=true"),
    Row("format", "float32", "--variant base --precision float32", seeds=3, kimg=15),
    Row("format", "bfloat16", "--variant base --precision bfloat16", seeds=3, kimg=15),
]


@click.command()
@click.argument("store", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--minutes", default=5.0, show_default=True, help="Of each row but those with a budget of images.")
@click.option("--group", "groups", multiple=True, help="Only these groups.")
@click.option("--table", is_flag=True, help="Run nothing, print what there is.")
def main(store: Path, out: Path, minutes: float, groups: tuple[str, ...], table: bool) -> None:
    """Run the rows and print the table in Markdown."""
    chosen = [row for row in ROWS if not groups or row.group in groups]
    if not table:
        for row in chosen:
            for seed in range(row.seeds):
                _run(row, seed, store, out, minutes)
    _print(out, chosen)


def _folder(row: Row, seed: int, out: Path) -> Path:
    words = [row.group, *row.name.replace(",", "").replace("(", "").replace(")", "").split(), f"seed{seed}"]
    return out / "-".join(words)


def command_of(row: Row, seed: int, store: Path, out: Path, minutes: float) -> list[str]:
    """Return the command line of a row and a seed."""
    masks = _folder(next(other for other in ROWS if other.name == "softened"), 0, out)
    budget = f"--minutes {minutes:g}" if row.kimg is None else f"--kimg {row.kimg:g}"
    text = f"train {row.arguments.format(masks=masks)} {COMMON} {budget} --seed {seed}"
    return [*shlex.split(text), "--data", str(store), "--out", str(_folder(row, seed, out))]


def _run(row: Row, seed: int, store: Path, out: Path, minutes: float) -> None:
    folder = _folder(row, seed, out)
    if (folder / "done").exists():
        return
    arguments = command_of(row, seed, store, out, minutes)
    print("synthmed", shlex.join(arguments), file=sys.stderr, flush=True)
    resume = ["--resume"] if (folder / "run.json").exists() else []
    subprocess.run([sys.executable, "-m", "synthmed.cli.main", *arguments, *resume], check=True)
    (folder / "done").touch()


def measured(folder: Path) -> dict[str, float]:
    """Return the nearest and the last distance of a run, when it was nearest, and how far it came."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    distances = [line for line in lines if "distance" in line]
    best = min(distances, key=lambda line: line["distance"])
    return {
        "best": best["distance"],
        "at": best["kimg"],
        "last": distances[-1]["distance"],
        "kimg": lines[-1]["kimg"],
        "p": lines[-1].get("augment_probability", float("nan")),
        "sign": float(np.mean([line["sign_real"] for line in lines[-10:] if "sign_real" in line])),
    }


def _print(out: Path, rows: list[Row]) -> None:
    print("| | | nearest | at kimg | last | kimg | p | sign of D(real) |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        folders = [_folder(row, seed, out) for seed in range(row.seeds)]
        done = [measured(folder) for folder in folders if (folder / "done").exists()]
        if not done:
            continue
        cells = [f"{row.group}", f"{row.name} ({len(done)} of {row.seeds})"]
        for key, digits in (("best", 4), ("at", 1), ("last", 4), ("kimg", 1), ("p", 2), ("sign", 2)):
            values = [one[key] for one in done]
            spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
