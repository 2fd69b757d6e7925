"""The most similar reference slices of each of the nearest patients, by inner products, in blocks."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
Vectors = Callable[[Whole], Floats]
"""From numbers of reference slices to their vectors, `[m, variants, features]`."""

_PRODUCTS = 6_000_000
"""Numbers in a block of inner products: 24 MB, which stay near the processor."""
_REFERENCES = 256


def nearest_groups(
    queries: Floats, references: Vectors, groups: Whole, *, keep: int, own: Whole | None = None
) -> tuple[Whole, Whole]:
    """Return the most similar reference of each of the `keep` most similar groups, the most similar group first.

    The similarity of two slices is the largest inner product of any of their variants. No matrix of all pairs is made.

    Args:
        queries: `[n, variants, features]`.
        references: Vectors of reference slices by number; asked for a few hundred at once.
        groups: Patient of each reference, `[m]`; references of one patient follow each other.
        keep: How many groups.
        own: Patient of each query, `[n]`, whose references are left out.

    Returns:
        Numbers of references `[n, keep]`, -1 where there is no further group; and which variant of the query was the
        most similar to it.
    """
    count = len(queries)
    best = np.full((count, keep), -np.inf, np.float32)
    index = np.full((count, keep), -1, np.int64)
    variant = np.zeros((count, keep), np.int64)
    for first, last in _blocks(groups):
        numbers = np.arange(first, last)
        vectors = references(numbers)
        starts = np.flatnonzero(np.r_[True, np.diff(groups[first:last]) != 0])
        # References last, so that the maximum over variants runs along whole rows of numbers.
        columns = np.ascontiguousarray(vectors.transpose(2, 1, 0)).reshape(vectors.shape[-1], -1)
        step = max(1, _PRODUCTS // (columns.shape[1] * queries.shape[1]))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            products = np.tensordot(queries[rows], columns, axes=1)
            products = products.reshape(*products.shape[:2], *vectors.shape[1::-1]).max(axis=2)
            which = products.argmax(axis=1)
            value, member = _best_of_groups(products.max(axis=1), starts)
            if own is not None:
                value[own[rows, None] == groups[first:last][starts]] = -np.inf
            found = np.take_along_axis(which, member, axis=1)
            _merge(best[rows], index[rows], variant[rows], value, member + first, found)
    index[np.isinf(best)] = -1
    return index, variant


def _blocks(groups: Whole) -> list[tuple[int, int]]:
    """Return bounds of blocks of whole groups with some hundred references each."""
    ends = np.r_[np.flatnonzero(np.diff(groups)) + 1, len(groups)]
    bounds, first = [], 0
    for end in ends:
        if end - first >= _REFERENCES or end == len(groups):
            bounds.append((first, int(end)))
            first = int(end)
    return [bound for bound in bounds if bound[0] < bound[1]]


def _best_of_groups(products: Floats, starts: Whole) -> tuple[Floats, Whole]:
    """Return the largest of each group's products and its column, both `[rows, groups]`."""
    if len(starts) == products.shape[1]:
        return products, np.broadcast_to(starts, products.shape)
    ends = np.r_[starts[1:], products.shape[1]]
    parts = [products[:, start:end].argmax(axis=1) + start for start, end in zip(starts, ends, strict=True)]
    member = np.stack(parts, axis=1)
    return np.take_along_axis(products, member, axis=1), member


def _merge(best: Floats, index: Whole, variant: Whole, value: Floats, member: Whole, found: Whole) -> None:
    """Keep the largest of what was found before and of what is new, the largest first."""
    keep = best.shape[1]
    values = np.concatenate([best, value], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :keep]
    best[...] = np.take_along_axis(values, order, axis=1)
    index[...] = np.take_along_axis(np.concatenate([index, member], axis=1), order, axis=1)
    variant[...] = np.take_along_axis(np.concatenate([variant, found], axis=1), order, axis=1)
