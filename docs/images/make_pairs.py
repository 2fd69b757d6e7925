"""Draws docs/images/pairs.png: make_pairs.py STORE RUN OUT.png (left real slices, right generated ones)."""

import sys
from pathlib import Path

import numpy as np

from synthmed.data.pictures import render, save_png, tile
from synthmed.data.store import Store
from synthmed.generation.generator import load_generator

COLUMNS, ROWS, ENLARGE = 3, 4, 2


def main(store_path: str, run: str, out: str) -> None:
    """Choose slices with foreground, the first in a seeded order on both sides, and write the sheet."""
    count = COLUMNS * ROWS
    store = Store.open(store_path)
    train = store.indices("train")
    shown = train[store.class_counts[train][:, 1:].sum(axis=1) > 40]
    real = np.random.default_rng(0).permutation(shown)[:count]
    generator = load_generator(Path(run))
    drawn = generator.sample_seeds(seeds=np.arange(8 * count), psi=1.0)
    kept = np.flatnonzero((drawn.labels > 0).sum(axis=(1, 2)) > 40)[:count]
    left = tile(render(store.images(real), store.labels(real)), columns=COLUMNS)
    right = tile(render(drawn.images[kept], drawn.labels[kept]), columns=COLUMNS)
    gap = np.full((left.shape[0], 12, 3), 255, dtype=np.uint8)
    sheet = np.concatenate([left, gap, right], axis=1)
    save_png(Path(out), sheet.repeat(ENLARGE, axis=0).repeat(ENLARGE, axis=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
