"""One picture of a set's first items, to see at a glance what was drawn."""

import colorsys

import numpy as np

MAX_ITEMS = 32
COLUMNS = 8
MAX_TILE = 256
"""Longest side of a slice in the picture, in pixels; larger ones show every second pixel, every third, and so on."""


def contact_sheet(images: np.ndarray | None, labels: np.ndarray, *, classes: int) -> np.ndarray:
    """Return an RGB picture, uint8 [rows, columns, 3]: each item's channels side by side, then its label map.

    Args:
        images: float32 [b, H, W, C] in [-1, 1]; None where there are label maps alone.
        labels: uint8 [b, H, W] of class indices.
        classes: Number of classes, background included.
    """
    step = -(-max(labels.shape[1:]) // MAX_TILE)
    labels = labels[:MAX_ITEMS, ::step, ::step]
    tiles = _class_colours(classes)[np.minimum(labels, classes - 1)]
    if images is not None:
        grey = np.rint((np.clip(images[:MAX_ITEMS, ::step, ::step], -1, 1) + 1) * 127.5).astype(np.uint8)
        channels = [np.repeat(grey[..., channel, None], 3, axis=-1) for channel in range(grey.shape[-1])]
        tiles = np.concatenate([*channels, tiles], axis=2)
    tiles = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = min(COLUMNS, len(tiles))
    missing = -len(tiles) % columns
    tiles = np.pad(tiles, ((0, missing), (0, 0), (0, 0), (0, 0)))
    rows = tiles.reshape(-1, columns, *tiles.shape[1:])
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, columns * tiles.shape[2], 3)


def _class_colours(classes: int) -> np.ndarray:
    """Return uint8 [classes, 3]: black background, then hues that stay apart for any number of classes."""
    # Steps by the golden ratio never repeat a hue and keep neighbours far from each other.
    hues = [(0.02 + 0.61803398875 * index) % 1.0 for index in range(classes - 1)]
    colours = [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(hue, 0.75, 0.95) for hue in hues)]
    return np.rint(np.array(colours) * 255).astype(np.uint8)
