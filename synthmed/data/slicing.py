"""From a case to its slices in store domain, as a plan asks."""

from dataclasses import dataclass

import numpy as np

from synthmed.data.intensities import normalise
from synthmed.data.orientation import turn
from synthmed.data.placement import place, plan_placement
from synthmed.data.readers import Case
from synthmed.data.schema import IGNORE, Normalisation, Placement, Plan
from synthmed.data.slabs import slabs, slowest_axis
from synthmed.errors import UserError

AIR = -1.0
"""Prepared value outside the source image: the lowest there is."""


@dataclass(frozen=True)
class PreparedCase:
    """A case as slices in store domain.

    Attributes:
        images: float32 `[n, H, W, C]` in [-1, 1].
        labels: Class indices, uint8 `[n, H, W]`, `IGNORE` where not known; None where the case has none.
        normalisation: How intensities return.
        placement: How slices return.
    """

    images: np.ndarray
    labels: np.ndarray | None
    normalisation: Normalisation
    placement: Placement


def prepare_case(case: Case, plan: Plan) -> PreparedCase:
    """Return a case's slices as a plan asks.

    Raises:
        UserError: If the case has other channels or label values than the plan.
    """
    if case.images.shape[-1] != plan.channels:
        raise UserError(f"{case.case} has {case.images.shape[-1]} channels, the plan asks for {plan.channels}")
    placement = plan_placement(case.geometry, plan)
    directions = {"source": placement.source_orientation, "target": placement.orientation}
    images, normalisation = normalise(case.images, plan.intensities)
    images = place(turn(images, **directions), placement, plan.size, order=3, fill=AIR)
    # Cubic splines overshoot at edges.
    images = np.ascontiguousarray(np.moveaxis(np.clip(images, -1.0, 1.0), 2, 0))
    labels = None
    if case.labels is not None:
        indices = turn(_class_indices(case, plan), **directions)
        labels = np.ascontiguousarray(np.moveaxis(place(indices, placement, plan.size, order=0, fill=0), 2, 0))
    return PreparedCase(images=images, labels=labels, normalisation=normalisation, placement=placement)


def _class_indices(case: Case, plan: Plan) -> np.ndarray:
    assert case.labels is not None
    indices = np.empty_like(case.labels, np.uint8)
    axis = slowest_axis(indices)
    for own, part in zip(slabs(indices, axis=axis), slabs(case.labels, axis=axis), strict=True):
        own[...] = _indices_of(part, case.case, plan)
    return indices


def _indices_of(labels: np.ndarray, name: str, plan: Plan) -> np.ndarray:
    values = np.asarray(plan.label_values)
    position = np.searchsorted(values, labels)
    known = values[np.minimum(position, len(values) - 1)] == labels
    if plan.ignore_value is not None:
        ignored = labels == plan.ignore_value
        position[ignored] = IGNORE
        known |= ignored
    if not known.all():
        value = int(labels[~known].flat[0])
        raise UserError(f"{name}: the label value {value} is not among {', '.join(map(str, plan.label_values))}")
    return position.astype(np.uint8)
