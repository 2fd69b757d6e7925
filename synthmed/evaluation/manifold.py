"""Precision, recall, density and coverage: do samples lie where real slices lie, and everywhere where these lie?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.neighbours import blocks, centred, neighbour_radii, squared_distances
from synthmed.evaluation.resampling import Units, interval, paired_weights

RECALL_NEIGHBOURS = 3
"""The neighbour that balls reach to in precision and recall, as in their paper."""
COVERAGE_NEIGHBOURS = 5
"""The same of density and coverage."""
FEWEST = COVERAGE_NEIGHBOURS + 1


@dataclass(frozen=True)
class ManifoldFigures:
    """Shares in 0..1; density can be above 1.

    Attributes:
        precision: Share of samples within a ball around a real slice that reaches to its third nearest real one.
        recall: Share of real slices within such a ball around a sample.
        density: Mean number of balls around real slices (to the fifth nearest) that a sample lies in, divided by 5.
        coverage: Share of real slices with a sample in their ball.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


@dataclass(frozen=True)
class _Hits:
    """Who lies in whose balls, by the units of the other side.

    Attributes:
        precise: Whether a sample lies in a ball of a slice of each real unit, bool `[n, real units]`.
        dense: In how many it lies, `[n, real units]`.
        recalled: Whether a real slice lies in a ball of a sample of each unit, bool `[m, drawn units]`.
        covered: Whether its own ball holds a sample of each unit, bool `[m, drawn units]`.
    """

    precise: NDArray[np.bool_]
    dense: NDArray[np.int32]
    recalled: NDArray[np.bool_]
    covered: NDArray[np.bool_]


def manifold_figures(
    drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, seed: int = 0
) -> ManifoldFigures:
    """Return precision and recall (Kynkäänniemi 2019, arXiv:1904.06991), density and coverage (Naeem 2020).

    Density and coverage are those of arXiv:2002.09797. Intervals are over the units of both sets: a unit that is not
    drawn takes its balls with it, the others keep theirs.

    Args:
        drawn: `(n, features)`, at least `FEWEST` of them.
        real: `(m, features)`, likewise.
        drawn_units: What of `drawn` is resampled as a whole.
        real_units: The same of `real`.
        seed: Of the resampling.
    """
    real, drawn = centred(real, drawn)
    hits = _hits(drawn, drawn_units, real, real_units)
    own, other = paired_weights(drawn_units, real_units, seed=seed)
    samples, slices = own[:, drawn_units.owner], other[:, real_units.owner]

    def density(weights: NDArray, balls: NDArray, slice_weights: NDArray) -> NDArray:
        found = balls @ hits.dense.T.astype(np.float32)
        totals = weights.sum(1) * slice_weights.sum(1) / len(real)
        return (weights * found).sum(1) / (COVERAGE_NEIGHBOURS * totals)

    one_each = np.ones((1, len(drawn))), np.ones((1, real_units.count)), np.ones((1, len(real)))
    return ManifoldFigures(
        precision=_share(hits.precise, samples, other),
        recall=_share(hits.recalled, slices, own),
        density=interval(float(density(*one_each)[0]), density(samples, other, slices), lowest=0.0),
        coverage=_share(hits.covered, slices, own),
    )


def _share(hits: NDArray[np.bool_], weights: NDArray, other: NDArray) -> Estimate:
    """Return the share of items that are hit by any unit.

    Args:
        hits: `[items, units]` of the other side.
        weights: Of the items, `[resamples, items]`.
        other: Of the units, `[resamples, units]`.
    """
    present = (other > 0).astype(np.float32) @ hits.T.astype(np.float32) > 0
    resampled = (weights * present).sum(1) / weights.sum(1)
    return interval(float(hits.any(axis=1).mean()), resampled, lowest=0.0, highest=1.0)


def _hits(drawn: NDArray[np.float32], drawn_units: Units, real: NDArray[np.float32], real_units: Units) -> _Hits:
    ks = RECALL_NEIGHBOURS, COVERAGE_NEIGHBOURS
    own_radii = neighbour_radii(drawn, ks)[0]
    order, starts = real_units.order()
    real = real[order]
    small, large = neighbour_radii(real, ks)
    precise = np.zeros((len(drawn), real_units.count), bool)
    dense = np.zeros((len(drawn), real_units.count), np.int32)
    recalled, covered = (np.zeros((len(real), drawn_units.count), bool) for _ in range(2))
    for unit in range(drawn_units.count):
        members = np.flatnonzero(drawn_units.owner == unit)
        for block in blocks(len(members)):
            rows = members[block]
            found = squared_distances(drawn[rows], real, slack=True)
            precise[rows] = np.logical_or.reduceat(found <= small, starts, axis=1)
            within = found <= large
            dense[rows] = np.add.reduceat(within, starts, axis=1, dtype=np.int32)
            covered[:, unit] |= within.any(axis=0)
            recalled[:, unit] |= (found <= own_radii[rows, None]).any(axis=0)
    back = np.argsort(order)
    return _Hits(precise=precise, dense=dense, recalled=recalled[back], covered=covered[back])
