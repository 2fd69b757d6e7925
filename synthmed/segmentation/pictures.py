"""A picture of a blended batch, as the network sees it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthmed.data.pictures import SHORTEST_SIDE, render_outlines, save_png, tile

REAL, SYNTHETIC = (255, 255, 255), (255, 0, 255)
"""Colours of the frames; no class has either."""
FRAME = 3
MOST = 32
BATCH_PICTURE = "batch.png"


def batch_sheet(
    images: NDArray[np.float32], labels: NDArray[np.uint8], synthetic: NDArray[np.bool_], *, colour: bool = False
) -> NDArray[np.uint8]:
    """Return a picture of a batch with label outlines: real slices framed in white, synthetic ones in magenta.

    Args:
        images: `(n, height, width, channels)`, about -1 to 1.
        labels: `(n, height, width)` class indices, `IGNORE` where not known.
        synthetic: `(n,)`, which slices are no real ones.
        colour: Whether three channels are one picture's red, green and blue.

    Returns:
        `(height, width, 3)`; of a batch of more than `MOST` slices that many, spread over it evenly.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST)).round().astype(int))
    enlarge = max(1, -(-SHORTEST_SIDE // min(images.shape[1:3])))
    pictures = render_outlines(images[chosen], labels[chosen], enlarge=enlarge, colour=colour)
    framed = np.pad(pictures, ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0)))
    inside = np.pad(np.ones(pictures.shape[1:3], bool), FRAME)
    frames = np.where(synthetic[chosen, None], SYNTHETIC, REAL).astype(np.uint8)
    framed = np.where(inside[None, :, :, None], framed, frames[:, None, None, :])
    return tile(framed, columns=max(1, round(8 / max(1, pictures.shape[2] // pictures.shape[1]))))


def write_batch_picture(folder: Path, batch: dict[str, Any], channels: tuple[str, ...]) -> None:
    """Write the picture of a batch of `blended_batches` into a run folder.

    Args:
        folder: The run.
        batch: "image", "label" and "synthetic".
        channels: Names of the image channels; of slices that come with their neighbours the middle one is drawn.
    """
    image, label, synthetic = (np.asarray(batch[name]) for name in ("image", "label", "synthetic"))
    before = (image.shape[-1] - len(channels)) // 2
    image = image[..., before : before + len(channels)]
    colour = tuple(channels) == ("red", "green", "blue")
    save_png(folder / BATCH_PICTURE, batch_sheet(image, label, synthetic, colour=colour))
