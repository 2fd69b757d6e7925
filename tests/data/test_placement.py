"""Tests of synthmed.data.geometry."""

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.data.geometry import cropped, place, placed_affine, plan_placement, turn, unplace
from synthmed.data.schema import Geometry, Plan, Scaling


def _geometry(affine: np.ndarray, shape: tuple[int, int, int]) -> Geometry:
    zooms = tuple(float(value) for value in np.linalg.norm(affine[:3, :3], axis=0))
    return Geometry(shape=shape, affine=tuple(map(tuple, affine.tolist())), zooms=zooms)


def _plan(axis: int, size: tuple[int, int], spacing: tuple[float, float]) -> Plan:
    return Plan(axis=axis, size=size, spacing=spacing, label_values=(0, 1), channels=1, intensities=(Scaling(),))


def _oblique(spacing: tuple[float, float, float], angle: float) -> np.ndarray:
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = [3.0, -8.0, 20.0]
    return affine


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(8, 20)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 3.0)] * 3),
    wanted=st.tuples(*[st.floats(0.6, 2.0)] * 2),
    angle=st.floats(-0.6, 0.6),
    axis=st.integers(0, 2),
    cut=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 3),
)
def test_the_affine_tells_where_each_pixel_was_sampled(shape, spacing, wanted, angle, axis, cut):
    """Written slices would lie beside the anatomy they came from."""
    affine = _oblique(spacing, angle)
    geometry, plan = _geometry(affine, shape), _plan(axis, (40, 48), wanted).model_copy(update={"crop": True})
    content = tuple((first, extent - last) for (first, last), extent in zip(cut, shape, strict=True))
    placement = plan_placement(geometry, plan, content)
    assert np.prod(placement.shape) == np.prod([stop - start for start, stop in content])
    # World coordinates as images: linear, so that splines reproduce them away from the border.
    world = np.moveaxis(nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)), -1, 0)
    moved = placed_affine(geometry, placement)
    for row in range(3):
        volume = turn(world[row], source=placement.source_orientation, target=placement.orientation)
        placed = place(cropped(volume, placement), placement, plan.size, order=1, fill=np.nan)
        columns = np.moveaxis(nib.affines.apply_affine(moved, np.moveaxis(np.indices(placed.shape), 0, -1)), -1, 0)[row]
        # Where the sample lay inside the source grid; beyond its last voxel centres values are held.
        inside = _inside(placed.shape, placement)
        # Smoothing before downsampling bends the ramp near the border.
        np.testing.assert_allclose(placed[inside], columns[inside], atol=1e-4 * np.abs(world).max() + 1e-6)


def _inside(shape: tuple[int, ...], placement) -> np.ndarray:
    mask = np.ones(shape[:2], bool)
    for axis in range(2):
        position = np.arange(shape[axis]) - placement.start[axis] - (placement.resampled[axis] - 1) / 2
        source = position * placement.step[axis] + (placement.shape[axis] - 1) / 2
        margin = 4 * max(placement.step[axis] ** 2 - 1, 0) ** 0.5
        own = (source >= margin) & (source <= placement.shape[axis] - 1 - margin)
        mask &= own[:, np.newaxis] if axis == 0 else own[np.newaxis, :]
    return mask


@settings(deadline=None, max_examples=40)
@given(shape=st.tuples(*[st.integers(1, 30)] * 3), size=st.tuples(*[st.integers(30, 40)] * 2), axis=st.integers(0, 2))
def test_padding_is_undone_exactly(shape, size, axis):
    """A case that only needed padding would come back with changed voxels."""
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    placement = plan_placement(_geometry(np.eye(4), shape), _plan(axis, size, (1.0, 1.0)))
    turned = turn(volume, source=placement.source_orientation, target=placement.orientation)
    framed = place(turned, placement, size, order=3, fill=-1.0)
    assert framed.shape[:2] == size
    np.testing.assert_array_equal(unplace(framed, placement, order=3, fill=-1.0), turned)


def test_labels_resample_as_simpleitk_does():
    """Masks would be shifted against images by part of a pixel."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, (24, 30, 3)).astype(np.uint8)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    plan = _plan(2, (40, 40), (0.71, 0.92))
    geometry = _geometry(affine, labels.shape)
    placement = plan_placement(geometry, plan)
    turned = turn(labels, source=placement.source_orientation, target=placement.orientation)
    ours = place(turned, placement, plan.size, order=0, fill=0)

    grid = placed_affine(geometry, placement)
    source = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
    source.SetSpacing((1.0, 1.0, 2.0))
    reference = sitk.Image(*ours.shape, sitk.sitkUInt8)
    lengths = np.linalg.norm(grid[:3, :3], axis=0)
    reference.SetSpacing(lengths.tolist())
    reference.SetOrigin(grid[:3, 3].tolist())
    reference.SetDirection((grid[:3, :3] / lengths).ravel().tolist())
    theirs = sitk.GetArrayFromImage(sitk.Resample(source, reference, sitk.Transform(), sitk.sitkNearestNeighbor))
    np.testing.assert_array_equal(ours, theirs.transpose(2, 1, 0))


def test_coarser_pixels_do_not_fold_fine_texture_into_false_one():
    """A checkerboard finer than the new pixels must become grey, not a moire that a generator then learns."""
    checkerboard = (np.indices((64, 64, 1)).sum(axis=0) % 2 * 2.0 - 1.0).astype(np.float32)
    plan = _plan(2, (32, 32), (3.1, 3.1))
    placement = plan_placement(_geometry(np.eye(4), checkerboard.shape), plan)
    placed = place(checkerboard, placement, plan.size, order=3, fill=0.0)
    (frame_start, _), pixels = placement.start, placement.resampled[0]
    inner = slice(frame_start + 1, frame_start + pixels - 1)
    assert np.abs(placed[inner, inner]).max() < 0.05
