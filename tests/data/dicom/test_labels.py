"""DICOM-SEG and RTSTRUCT as label maps."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from synthmed.data.dicom.labels import fill
from synthmed.data.inspect import fingerprint
from synthmed.data.readers import load_case, read_dataset
from synthmed.errors import UserError


def masks_of(shape=(9, 7, 5)):
    """Return two boxes that touch, the first missing in the last two slices."""
    organ, lesion = np.zeros(shape, bool), np.zeros(shape, bool)
    organ[1:5, 2:6, 0:3] = True
    lesion[5:8, 2:4, 1:5] = True
    return {"organ": organ, "lesion": lesion}


def expected_of(masks):
    """Return the label map, classes numbered in the order of their names."""
    labels = np.zeros(next(iter(masks.values())).shape, int)
    for value, name in enumerate(sorted(masks), start=1):
        labels[masks[name]] = value
    return labels


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, -0.36, 0.48, 0.8), (0, 1, 0, 0, 0, -1)])
def test_segmentation(tmp_path, written, voxels, kind, orientation):
    """A label map in the wrong slice or mirrored spoils every training without an error."""
    pytest.importorskip("highdicom")
    images = written.write_series(tmp_path / "images", voxels(), orientation=orientation)
    masks = masks_of()
    given = {name: 0.8 * mask + 0.3 * ~mask for name, mask in masks.items()} if kind == "FRACTIONAL" else masks
    written.write_seg(tmp_path / "labels" / "seg.dcm", images, given, kind=kind)
    dataset = read_dataset(tmp_path)
    assert dataset.labelled and dataset.classes == ("background", "lesion", "organ")
    assert dataset.label_values == (0, 1, 2)
    np.testing.assert_array_equal(load_case(dataset.cases[0]).labels, expected_of(masks))
    assert fingerprint(dataset).problems == ()
    assert [name.split("/", 1)[1] for name in dataset.cases[0].files][-1] == "labels/0001"


def test_segmentation_as_highdicom_reads_it(tmp_path, written, voxels):
    """An independent reader of the same file must see the same voxels."""
    hd = pytest.importorskip("highdicom")
    rng = np.random.default_rng(3)
    images = written.write_series(tmp_path / "images", voxels())
    path = written.write_seg(tmp_path / "seg.dcm", images, {"a": rng.random((9, 7, 5)) < 0.3})
    seen = hd.seg.segread(path).get_volume(combine_segments=True)
    # (row, column, slice) axes of highdicom's volume may be in another order: compare through its affine.
    case = load_case(read_dataset(tmp_path).cases[0])
    index = np.argwhere(seen.array > 0)
    world = (index @ seen.affine[:3, :3].T + seen.affine[:3, 3]) * [-1, -1, 1]
    back = np.linalg.inv(np.asarray(case.geometry.affine))
    found = np.round(world @ back[:3, :3].T + back[:3, 3]).astype(int)
    assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in np.argwhere(case.labels == 1).tolist()}


def test_classes_of_all_studies_are_matched_by_name(tmp_path, written, voxels):
    """Segment 1 is the lesion in one file and the organ in the next: numbers mean nothing, names do."""
    pytest.importorskip("highdicom")
    masks = masks_of()
    for study, names in (("a", ("organ", "lesion")), ("b", ("Lesion", "organ")), ("c", ("lesion",))):
        images = written.write_series(tmp_path / study / "i", voxels(len(study)), study=study)
        written.write_seg(tmp_path / study / "seg.dcm", images, {name: masks[name.lower()] for name in names})
    dataset = read_dataset(tmp_path)
    assert [name.lower() for name in dataset.classes] == ["background", "lesion", "organ"]
    expected = expected_of(masks)
    for files in dataset.cases:
        labels = load_case(files).labels
        wanted = expected if (labels == 2).any() else expected * (expected == 1)
        np.testing.assert_array_equal(labels, wanted)


def test_of_overlapping_segments_the_smaller_is_shown(tmp_path, written, voxels):
    """A lesion within an organ must not vanish because the organ comes later."""
    pytest.importorskip("highdicom")
    images = written.write_series(tmp_path / "i", voxels())
    outer, inner = np.zeros((9, 7, 5), bool), np.zeros((9, 7, 5), bool)
    outer[1:8, 1:6, 1:4], inner[3:5, 3:5, 2:3] = True, True
    written.write_seg(tmp_path / "a.dcm", images, {"a inner": inner, "body": outer})
    written.write_seg(tmp_path / "b.dcm", images, {"z inner": np.roll(inner, 2, axis=0)})
    dataset = read_dataset(tmp_path)
    labels = load_case(dataset.cases[0]).labels
    np.testing.assert_array_equal(labels == 1, inner)
    np.testing.assert_array_equal(labels == 3, np.roll(inner, 2, axis=0))
    assert "where structures overlap, the smaller one is shown" in dataset.notes


def test_the_grid_that_labels_were_drawn_on_is_taken(tmp_path, written, voxels):
    """Two thick series would win over the one that was segmented, and the labels would be lost."""
    pytest.importorskip("highdicom")
    images = written.write_series(tmp_path / "1", voxels(1), series="fine")
    written.write_series(tmp_path / "2", voxels(2), series="thick 1", gap=6.0)
    written.write_series(tmp_path / "3", voxels(3), series="thick 2", gap=6.0)
    written.write_seg(tmp_path / "seg.dcm", images, masks_of())
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("fine",) and dataset.labelled


def to_world(images, points):
    """Return LPS positions in mm of (column, row, slice) points."""
    import pydicom

    one, two = (pydicom.dcmread(path) for path in images[:2])
    turned, origin = np.array(one.ImageOrientationPatient, float), np.array(one.ImagePositionPatient, float)
    rows, columns = map(float, one.PixelSpacing)
    step = np.array(two.ImagePositionPatient, float) - origin
    points = np.asarray(points, float)
    return origin + points @ np.stack([turned[:3] * columns, turned[3:] * rows, step])


def ring(radius, centre, height, n=90):
    """Return a circle's points (column, row, slice)."""
    angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
    flat = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=-1) + centre
    return np.column_stack([flat, np.full(n, height)])


def test_structure_set(tmp_path, written):
    """A vessel wall is a circle with a hole; filled, or shifted by half a pixel, it is another study."""
    values = np.random.default_rng(0).integers(0, 100, (40, 36, 3)).astype(np.int16)
    images = written.write_series(tmp_path / "images", values)
    centre, height = np.array([18.3, 16.7]), 1
    contours = [to_world(images, ring(radius, centre, height, 2000)) for radius in (12.4, 5.2)]
    box = to_world(images, [(2, 2, 0), (6, 2, 0), (6, 5, 0), (2, 5, 0)])
    point = to_world(images, [(3, 3, 0)])
    written.write_rtstruct(
        tmp_path / "rs.dcm", images, {"wall": contours, "box": [box], "marker": [point], "empty": []}
    )
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("background", "box", "wall")
    labels = load_case(dataset.cases[0]).labels
    columns, rows = np.indices((40, 36))
    distance = np.hypot(columns - centre[0], rows - centre[1])
    np.testing.assert_array_equal(labels[..., 1] == 2, (distance < 12.4) & (distance > 5.2))
    expected = np.zeros((40, 36), bool)
    # Pixels on the upper and left borders belong to the area, those on the others to its neighbours.
    expected[2:6, 2:5] = True
    np.testing.assert_array_equal(labels[..., 0] == 1, expected)
    assert not labels[..., 2].any()


corner = st.tuples(st.floats(-5, 25), st.floats(-5, 25))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(corner, min_size=3, max_size=8), min_size=1, max_size=3))
@example([[(0.0, 0.0), (0.0, 0.0), (1.0, 1.0)]])
def test_filling_is_matplotlib_s_even_odd_rule(polygons):
    """Crossing, nested and clipped contours are drawn by people every day."""
    # On a border the two rules differ. Corners in thousandths, shifted irrationally, keep every line off the centres.
    shift = np.sqrt([2, 3]) * 1e-4
    polygons = [np.round(np.array(corners), 3) + shift for corners in polygons]
    columns, rows = np.meshgrid(np.arange(20), np.arange(18))
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    inside = [Polygon(np.vstack([one, one[:1]])).contains_points(centres) for one in polygons]
    expected = np.bitwise_xor.reduce(inside, axis=0).reshape(18, 20)
    np.testing.assert_array_equal(fill(polygons, (18, 20)), expected)


@given(st.integers(1, 17), st.tuples(st.integers(0, 19), st.integers(0, 17)))
def test_neighbours_share_no_pixel_and_leave_none_out(cut, apex):
    """Two organs with a common border would else overlap on it, or leave a gap."""
    whole = np.array([(0, 0), (20, 0), (20, 18), (0, 18)])
    upper = np.array([(0, 0), (20, 0), (20, cut), apex, (0, cut)])
    lower = np.array([(0, cut), apex, (20, cut), (20, 18), (0, 18)])
    total = fill([upper], (18, 20)).astype(int) + fill([lower], (18, 20))
    assert fill([whole], (18, 20)).all()
    assert (total % 2 == 1).all()


def test_more_structures_than_classes_there_can_be(tmp_path, written, voxels):
    """Structure 256 of an atlas would come back as background, and 257 as structure 1."""
    images = written.write_series(tmp_path / "i", voxels())
    box = to_world(images, [(2, 2, 0), (6, 2, 0), (6, 5, 0), (2, 5, 0)])
    names = [f"parcel {number:03d}" for number in range(255)]
    written.write_rtstruct(tmp_path / "rs.dcm", images, {name: [box] for name in names[:-1]})
    dataset = read_dataset(tmp_path)
    assert len(dataset.classes) == 255
    assert load_case(dataset.cases[0]).labels.max() == 254
    written.write_rtstruct(tmp_path / "rs.dcm", images, {name: [box] for name in names})
    with pytest.raises(UserError, match="has 255 structures of different names .* there can be 254: give what is"):
        read_dataset(tmp_path)


def test_a_name_in_a_structure_is_left_out(tmp_path, written, voxels):
    """Structures are named by hand, sometimes after the patient."""
    images = written.write_series(tmp_path / "i", voxels())
    box = to_world(images, [(2, 2, 0), (6, 2, 0), (6, 5, 0), (2, 5, 0)])
    written.write_rtstruct(tmp_path / "rs.dcm", images, {"GTV Quarzheim": [box]})
    assert read_dataset(tmp_path).classes == ("background", "structure 1")
