"""Neighbouring slices as further channels: what lies before and behind a slice in its case ("2.5D")."""

import numpy as np

from synthmed.data.store import Store


def with_context(images: np.ndarray, chosen: np.ndarray, context: int) -> np.ndarray:
    """Return chosen slices of one case with their neighbours.

    Args:
        images: All slices of the case in their order, `[n, H, W, C]`.
        chosen: Numbers of the slices wanted, `[m]` in 0..n-1.
        context: Neighbours on each side; beyond the first and the last slice these are repeated.

    Returns:
        `[m, H, W, (2 * context + 1) * C]`: the channels of the slice furthest before first.
    """
    return _stacked(images[_neighbours(chosen, 0, len(images) - 1, context)])


class ContextSlices:
    """A store whose slices come with their neighbours in the case.

    Args:
        store: The slices.
        context: Neighbours on each side, at least 1.

    Attributes:
        size: Rows and columns of a slice.
        channels: The store's channels once for each of the slices that are stacked.
    """

    def __init__(self, store: Store, context: int):
        self.store = store
        self.context = context
        self.size = store.size
        self.channels = stacked_channels(store.channels, context)
        cases = store.cases()
        self._first = np.array([case.first for case in cases], np.int64)
        self._last = np.array([case.first + case.slices - 1 for case in cases], np.int64)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Return float32 `[n, H, W, (2 * context + 1) * C]`, ordered as by `with_context`."""
        indices = np.asarray(indices, np.int64)
        case = np.searchsorted(self._first, indices, side="right") - 1
        wanted = _neighbours(indices, self._first[case][:, None], self._last[case][:, None], self.context)
        gathered = self.store.images(wanted.ravel())
        return _stacked(gathered.reshape(*wanted.shape, *gathered.shape[1:]))

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return the class indices of the slices themselves, uint8 `[n, H, W]`."""
        return self.store.labels(indices)


def widened(images: np.ndarray, channels: int) -> np.ndarray:
    """Return slices `[n, H, W, C]` repeated in the place of neighbours until they have `channels`, a multiple of C."""
    return images if images.shape[-1] == channels else np.tile(images, (1, 1, 1, channels // images.shape[-1]))


def stacked_channels(channels: tuple[str, ...], context: int) -> tuple[str, ...]:
    """Return the names of the channels of a slice and of its neighbours: `T1-1`, `T1`, `T1+1`."""
    offsets = [f"{offset:+d}" if offset else "" for offset in range(-context, context + 1)]
    return tuple(f"{channel}{offset}" for offset in offsets for channel in channels)


def _neighbours(chosen: np.ndarray, first, last, context: int) -> np.ndarray:
    return np.clip(np.asarray(chosen)[:, None] + np.arange(-context, context + 1), first, last)


def _stacked(slices: np.ndarray) -> np.ndarray:
    """Turn `[n, neighbours, H, W, C]` into `[n, H, W, neighbours * C]`."""
    moved = np.moveaxis(slices, 1, 3)
    return np.ascontiguousarray(moved.reshape(*moved.shape[:3], -1))
