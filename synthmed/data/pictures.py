"""Slices and their label maps as pictures for people: grids with the labels drawn over the image."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthmed.data.schema import IGNORE
from synthmed.files import atomic_file

# Colours that people with the common forms of colour blindness tell apart (Okabe and Ito, 2008); class 0 has none.
PALETTE = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]],
    dtype=np.float32,
)
UNKNOWN = np.full(3, 150, dtype=np.float32)
"""Colour of pixels whose class is not known."""

GAP = 2


def render(images: NDArray[np.float32] | None, labels: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Draw slices side by side with their labels.

    Args:
        images: `(n, height, width, channels)` in [-1, 1], or None where there are label maps alone.
        labels: `(n, height, width)` class indices, `IGNORE` where not known, or None.

    Returns:
        `(n, height, panels * width, 3)` pictures: each channel in grey, then the first channel with the label map
        over it (on black where there is no image).
    """
    panels = []
    if images is not None:
        grey = np.clip((images.astype(np.float32) + 1.0) * 127.5, 0.0, 255.0)
        panels = [np.repeat(grey[..., channel, None], 3, axis=-1) for channel in range(grey.shape[-1])]
    if labels is not None:
        ground = panels[0] if panels else np.zeros((*labels.shape, 3), dtype=np.float32)
        colours = np.where(
            (labels == IGNORE)[..., None], UNKNOWN, PALETTE[(labels.astype(np.int64) - 1) % len(PALETTE)]
        )
        share = 0.55 if panels else 1.0
        painted = np.where((labels > 0)[..., None], share * colours + (1.0 - share) * ground, ground)
        panels.append(painted)
    return np.concatenate(panels, axis=2).round().astype(np.uint8)


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
