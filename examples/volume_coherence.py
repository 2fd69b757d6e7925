"""Print how the slices of generated patients belong together, beside those of real ones.

    synthmed generate --n 50 --unit volume --format npz --model runs/00000-cond --out volumes
    python examples/volume_coherence.py stores/hippocampus volumes

The first argument is a store, the others are sets that `synthmed generate --unit volume` wrote.
"""

import sys
from pathlib import Path

import numpy as np

from synthmed.data.schema import SPLITS
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.generation.coherence import generated_volumes, real_volumes, summary

COLUMNS = {
    "dice": "Dice of neighbours",
    "components": "components",
    "runs": "runs of slices",
    "shown": "share of patients",
}


def main(arguments: list[str]) -> None:
    """Print a Markdown table with a row for each set and class."""
    if len(arguments) < 2:
        raise SystemExit("usage: python examples/volume_coherence.py STORE SET [SET ...]")
    store = Store.open(arguments[0])
    rows = {
        f"real, {split}": summary(real_volumes(store, split), len(store.classes))
        for split in SPLITS
        if store.cases(split)
    }
    for name in arguments[1:]:
        rows[name] = summary(generated_volumes(SyntheticSet.open(Path(name))), len(store.classes))
    print("| patients | class | " + " | ".join(COLUMNS.values()) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for name, values in rows.items():
        for index, label in enumerate(store.classes[1:]):
            cells = " | ".join(_written(values[column][index]) for column in COLUMNS)
            print(f"| {name} | {label} | {cells} |")


def _written(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
