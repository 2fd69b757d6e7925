"""Slices and their label maps as pictures for people: labels painted over the image, or drawn as outlines."""

import colorsys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthmed.data.schema import IGNORE
from synthmed.files import atomic_file

if TYPE_CHECKING:
    from synthmed.data.store import Store

# Colours that people with the common forms of colour blindness tell apart (Okabe and Ito, 2008).
_FIRST = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
UNKNOWN = (150, 150, 150)
"""Colour of pixels whose class is not known."""

GAP = 2
SHEET_ITEMS, SHEET_COLUMNS = 12, 4
SHORTEST_SIDE = 160
"""Slices with shorter sides are enlarged on a sheet until they have about this."""


def render(images: NDArray[np.float32] | None, labels: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Draw slices side by side with their labels.

    Args:
        images: `(n, height, width, channels)` in [-1, 1], or None where there are label maps alone.
        labels: `(n, height, width)` class indices, `IGNORE` where not known, or None.

    Returns:
        `(n, height, panels * width, 3)` pictures: each channel in grey, then the first channel with the label map
        painted over it (on black where there is no image).
    """
    panels = [] if images is None else _grey(images)
    if labels is not None:
        ground = panels[0] if panels else np.zeros((*labels.shape, 3), dtype=np.float32)
        share = 0.55 if panels else 1.0
        painted = share * class_colours()[labels] + (1.0 - share) * ground
        panels.append(np.where((labels > 0)[..., None], painted, ground))
    return np.concatenate(panels, axis=2).round().astype(np.uint8)


def render_outlines(
    images: NDArray[np.float32], labels: NDArray[np.uint8], *, enlarge: int = 1, colour: bool = False
) -> NDArray[np.uint8]:
    """Draw slices with the border of every class over each channel.

    Args:
        images: `(n, height, width, channels)` in [-1, 1].
        labels: `(n, height, width)` class indices, `IGNORE` where not known.
        enlarge: Each pixel becomes a square of so many; the line stays one pixel wide.
        colour: Whether three channels are one picture's red, green and blue.

    Returns:
        `(n, enlarge * height, panels * enlarge * width, 3)` pictures.
    """
    grounds = [np.clip((images + 1.0) * 127.5, 0.0, 255.0)] if colour and images.shape[-1] == 3 else _grey(images)
    large = labels.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    padded = np.pad(large, ((0, 0), (1, 1), (1, 1)))
    centre = padded[:, 1:-1, 1:-1]
    neighbours = (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    border = (centre > 0) & np.any([other != centre for other in neighbours], axis=0)
    lines = class_colours()[large]
    panels = [
        np.where(border[..., None], lines, ground.repeat(enlarge, axis=1).repeat(enlarge, axis=2)) for ground in grounds
    ]
    return np.concatenate(panels, axis=2).round().astype(np.uint8)


def store_sheet(store: "Store") -> NDArray[np.uint8]:
    """Return a picture of a store's training slices with label outlines, one row of channels a slice.

    The slices come from as many cases as there are, spread over them evenly; of each case the one that shows most
    foreground, or its middle where nothing is labelled.
    """
    cases = store.cases("train")
    chosen = [cases[number] for number in np.unique(np.linspace(0, len(cases) - 1, SHEET_ITEMS).round().astype(int))]
    indices = []
    for case in chosen:
        foreground = store.class_counts[case.first : case.first + case.slices, 1:].sum(axis=1)
        indices.append(case.first + (int(foreground.argmax()) if foreground.any() else case.slices // 2))
    numbers = np.array(indices)
    colour = tuple(store.channels) == ("red", "green", "blue")
    enlarge = max(1, -(-SHORTEST_SIDE // min(store.size)))
    pictures = render_outlines(store.images(numbers), store.labels(numbers), enlarge=enlarge, colour=colour)
    panels = 1 if colour else len(store.channels)
    return tile(pictures, columns=min(max(1, SHEET_COLUMNS // panels), len(pictures)))


def class_colours() -> NDArray[np.float32]:
    """Return `(256, 3)` colours in 0..255, one for every class index: black for background, grey for `IGNORE`."""
    # After the first few, steps by the golden ratio never repeat a hue and keep neighbours far from each other.
    hues = [(0.02 + 0.61803398875 * index) % 1.0 for index in range(IGNORE - 1 - len(_FIRST))]
    further = [tuple(255 * part for part in colorsys.hsv_to_rgb(hue, 0.75, 0.95)) for hue in hues]
    return np.array([(0, 0, 0), *_FIRST, *further, UNKNOWN], dtype=np.float32)


def tile(pictures: NDArray[np.uint8], *, columns: int) -> NDArray[np.uint8]:
    """Arrange `(n, height, width, 3)` pictures in rows of `columns`, with a thin gap between them."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 32, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def save_png(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a `(height, width, 3)` picture as PNG, whole or not at all."""
    from PIL import Image

    with atomic_file(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")


def _grey(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    grey = np.clip((images.astype(np.float32) + 1.0) * 127.5, 0.0, 255.0)
    return [np.repeat(grey[..., channel, None], 3, axis=-1) for channel in range(grey.shape[-1])]
