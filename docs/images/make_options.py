"""Stack the last sample grids of several runs under captions.

    python docs/images/make_options.py OUT.png "caption=RUN" ...

A RUN is a run folder; its `reals.png` is shown for the caption "real".
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

MARGIN = 18


def main(out: str, *parts: str) -> None:
    """Write the stacked grids."""
    grids = []
    for part in parts:
        caption, _, run = part.partition("=")
        files = [Path(run) / "reals.png"] if caption == "real" else sorted(Path(run).glob("fakes-*.png"))
        grids.append((caption, Image.open(files[-1]).convert("RGB")))
    width = max(grid.width for _, grid in grids)
    sheet = Image.new("RGB", (width, sum(grid.height + MARGIN for _, grid in grids)), "white")
    top = 0
    for caption, grid in grids:
        ImageDraw.Draw(sheet).text((2, top + 2), caption, fill="black")
        sheet.paste(grid, (0, top + MARGIN))
        top += grid.height + MARGIN
    sheet.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
