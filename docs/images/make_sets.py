"""Draws docs/images/set-NAME.png, prepared slices with label outlines: make_sets.py NAME=DATASET ..."""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from synthmed.data.pictures import store_sheet
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset

HERE = Path(__file__).parent


def main(*named: str) -> None:
    """Prepare each data set with the default options and keep the sheet of its store."""
    for text in named:
        name, _, path = text.partition("=")
        with tempfile.TemporaryDirectory() as folder:
            store = prepare(read_dataset(path), Path(folder) / "store")
            # 256 colours do for a look, in a third of the bytes.
            picture = Image.fromarray(store_sheet(store)).quantize(256, dither=Image.Dither.NONE)
            picture.save(HERE / f"set-{name}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
