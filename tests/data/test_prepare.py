"""Tests of synthmed.data.prepare, and of restore as its inverse."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from synthmed.data.formats import NiftiVolume
from synthmed.data.intensities import normalise
from synthmed.data.prepare import prepare
from synthmed.data.readers import Case, load_case, read_dataset
from synthmed.data.schema import CaseRecord, Geometry, Plan, Scaling
from synthmed.data.slicing import as_nifti, prepare_case, restore_images, restore_labels
from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.files import write_json


def _case(shape: tuple[int, int, int], affine: np.ndarray, channels: int) -> Case:
    """Return a case of smooth blobs, so that resampling has something that it can keep."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, extent) for extent in shape), indexing="ij"))
    blob = np.exp(-3 * (grid**2).sum(axis=0))
    images = np.stack([500.0 * blob + 40.0 * c * (1 + grid[c % 3]) for c in range(channels)], axis=-1)
    zooms = tuple(float(value) for value in np.linalg.norm(affine[:3, :3], axis=0))
    geometry = Geometry(shape=shape, affine=tuple(map(tuple, affine.tolist())), zooms=zooms)
    return Case(
        case="a", images=images.astype(np.float32), labels=(3 * (blob > 0.6)).astype(np.int64), geometry=geometry
    )


def _record(case: Case, plan: Plan) -> tuple[CaseRecord, np.ndarray, np.ndarray]:
    prepared = prepare_case(case, plan)
    record = CaseRecord(
        case="a",
        patient="a",
        split="train",
        hash="0",
        files={},
        first=0,
        slices=len(prepared.images),
        geometry=case.geometry,
        normalisation=prepared.normalisation,
        placement=prepared.placement,
    )
    assert prepared.labels is not None
    return record, prepared.images, prepared.labels


MARGINS = st.tuples(*[st.tuples(st.integers(0, 5), st.integers(0, 5))] * 3)


def _within_margins(case: Case, margins: tuple[tuple[int, int], ...], dtype: str) -> Case:
    """Return the case as a file of a type would hold it, in a constant background below all of it."""
    # Towards its ends it fades, since no resampling can keep a sharp edge.
    lines = (np.sin(np.pi * (np.arange(extent) + 0.5) / extent) for extent in case.geometry.shape)
    fade = np.prod(np.stack(np.meshgrid(*lines, indexing="ij")), axis=0, dtype=np.float32)
    images = case.images * fade[..., np.newaxis]
    if np.dtype(dtype).kind != "f":
        most = 250 if dtype == "uint8" else 2000
        images = np.round(images / images.max() * most).astype(dtype).astype(np.float32)
    images = images + (1 if dtype.startswith("u") else 0)
    low = images.min(axis=(0, 1, 2)) - 1
    shape = tuple(before + extent + after for (before, after), extent in zip(margins, images.shape[:3], strict=True))
    padded = np.broadcast_to(low, (*shape, images.shape[3])).astype(np.float32)
    inside = tuple(slice(before, before + extent) for (before, _), extent in zip(margins, images.shape, strict=False))
    padded[inside] = images
    labels = np.zeros(shape, np.int64)
    labels[inside] = case.labels
    affine = np.array(case.geometry.affine)
    affine[:3, 3] -= affine[:3, :3] @ np.array([before for before, _ in margins])
    geometry = case.geometry.model_copy(
        update={"shape": shape, "affine": tuple(map(tuple, affine.tolist())), "dtype": dtype}
    )
    return Case(case="a", images=padded, labels=labels, geometry=geometry)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(10, 24)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 4.0)] * 3),
    codes=st.sampled_from(["RAS", "LPS", "PIR", "SAL", "ASR", "LIP"]),
    axis=st.integers(0, 2),
    channels=st.integers(1, 4),
    finer=st.floats(0.5, 1.0),
    margins=MARGINS,
    crop=st.booleans(),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "float32"]),
)
def test_prepare_then_restore_returns_the_case(
    affine_of, shape, spacing, codes, axis, channels, finer, margins, crop, dtype
):
    """Predictions and generated images would not fit the patient's own scan."""
    affine = affine_of(spacing, codes)
    case = _within_margins(_case(shape, affine, channels), margins, dtype)
    shape = case.geometry.shape
    # Pixels as fine as the source's own or finer: then only interpolation stands between a case and its return.
    pixel = finer * min(spacing)
    largest = max(extent * own for extent, own in zip(shape, spacing, strict=True)) / pixel
    side = 8 * int(np.ceil((largest + 1) / 8))
    plan = Plan(
        axis=axis,
        size=(side, side + 8),
        spacing=(pixel, pixel),
        intensities=(Scaling(low=0.0, high=100.0),) * channels,
        label_values=(0, 3),
        channels=channels,
        crop=crop,
    )
    record, images, labels = _record(case, plan)
    assert (record.placement.whole is not None) is (crop and any(map(any, margins)))
    assert images.dtype == np.float32 and labels.dtype == np.uint8
    assert images.min() >= -1.0 and images.max() <= 1.0 and set(np.unique(labels)) <= {0, 1}

    restored, mask = restore_images(record, images), restore_labels(record, labels)
    assert restored.shape == case.images.shape and mask.shape == shape
    span = np.ptp(case.images, axis=(0, 1, 2))
    assert np.all(np.abs(restored - case.images).max(axis=(0, 1, 2)) <= 0.12 * span)
    assert np.all(np.abs(restored - case.images).mean(axis=(0, 1, 2)) <= 0.01 * span)
    assert np.mean((mask == 1) == (case.labels == 3)) > 0.97


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(4, 24)] * 3),
    codes=st.sampled_from(["RAS", "LPS", "PIR", "SAL"]),
    axis=st.integers(0, 2),
    margins=MARGINS,
    crop=st.booleans(),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "float32"]),
)
def test_without_resampling_the_return_is_exact(affine_of, shape, codes, axis, margins, crop, dtype):
    """Labels would change although nothing but cropping and padding was done to them."""
    case = _within_margins(_case(shape, affine_of((1.0, 1.0, 1.0), codes), 3), margins, dtype)
    plan = Plan(
        axis=axis,
        size=(40, 40),
        spacing=(1.0, 1.0),
        intensities=(
            Scaling(low=0.0, high=100.0),
            Scaling(method="window", low=-1e4, high=1e4),
            Scaling(method="zscore", low=-9.0, high=9.0),
        ),
        label_values=(0, 3),
        channels=3,
        crop=crop,
    )
    record, images, labels = _record(case, plan)
    np.testing.assert_array_equal(restore_labels(record, labels), case.labels // 3)
    np.testing.assert_allclose(restore_images(record, images), case.images, rtol=1e-5, atol=1e-3)


@settings(deadline=None)
@given(
    stnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_normalised_intensities_return(images):
    """Images of a scanner with other units, or constant ones, would become NaN or lose their scale."""
    scaled, normalisation = normalise(images, (Scaling(low=0.0, high=100.0),) * images.shape[-1])
    assert np.isfinite(scaled).all() and scaled.min() >= -1.0 and scaled.max() <= 1.0
    back = scaled * np.array(normalisation.scale) + np.array(normalisation.offset)
    np.testing.assert_allclose(back, images, rtol=1e-4, atol=1e-6 * max(1.0, float(np.abs(images).max())))


def test_outliers_do_not_flatten_the_image():
    """One bright voxel, as in the real hippocampus set, would leave the rest of the case black."""
    images = np.linspace(0, 1000, 20**3, dtype=np.float32).reshape(20, 20, 20, 1).copy()
    images[0, 0, 0] = 1.7e6
    scaled, _ = normalise(images, (Scaling(),) * images.shape[-1])
    assert scaled.std() > 0.5


def test_store_holds_what_the_cases_hold(nnunet_set, tmp_path):
    """Training would see slices of other cases, or labels that do not belong to their images."""
    dataset = read_dataset(nnunet_set(values=(2, 7)))
    store = prepare(dataset, tmp_path / "store", split=(0.5, 0.25, 0.25), seed=3)
    assert store.classes == ("background", "organ", "lesion") and store.size == (48, 32)
    for files in dataset.cases:
        record = next(case for case in store.cases() if case.case == files.case)
        numbers = np.arange(record.first, record.first + record.slices)
        case = load_case(files)
        assert case.labels is not None
        prepared = restore_labels(record, store.labels(numbers))
        np.testing.assert_array_equal(np.array([0, 2, 7])[prepared], case.labels)
        low, high = np.percentile(case.images, (0.5, 99.5), axis=(0, 1, 2))
        expected = np.clip(case.images, low, high)
        np.testing.assert_allclose(restore_images(record, store.images(numbers)), expected, rtol=1e-4, atol=1e-2)
        for number in numbers:
            counts = np.bincount(store.labels(np.array([number])).ravel(), minlength=3)
            np.testing.assert_array_equal(store.class_counts[number], counts)


def test_same_input_and_seed_give_the_same_store(nnunet_set, tmp_path):
    """A result could not be repeated, and a resumed run would refuse its own data."""
    dataset = read_dataset(nnunet_set())
    first = prepare(dataset, tmp_path / "first", seed=1)
    again = prepare(dataset, tmp_path / "again", seed=1)
    other = prepare(dataset, tmp_path / "other", seed=1, size=(64, 64))
    assert first.content_hash == again.content_hash != other.content_hash
    for name in ("images-00000.npy", "labels-00000.npy", "class_counts.npy"):
        assert (first.path / name).read_bytes() == (again.path / name).read_bytes()


def test_a_patient_is_recognised_under_another_name(nnunet_set, tmp_path):
    """A training patient could slip into a test set by renaming or recompressing the files."""
    source = nnunet_set(cases=3)
    first = prepare(read_dataset(source), tmp_path / "first")
    for path in sorted(source.glob("*/case_*")):
        image = nib.load(path)
        stored = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.float64), image.affine)
        nib.save(stored, path.with_name(path.name.replace("case", "subject")))
        path.unlink()
    second = prepare(read_dataset(source), tmp_path / "second")
    assert {case.hash for case in first.cases()} == {case.hash for case in second.cases()}


def test_case_names_of_a_split_file_are_followed(nnunet_set, tmp_path):
    """The published split of a set could not be used."""
    write_json(tmp_path / "split.json", {"train": ["case_2"], "test": ["case_0"]})
    store = prepare(read_dataset(nnunet_set()), tmp_path / "store", split=tmp_path / "split.json")
    assert [(case.case, case.split) for case in store.cases()] == [("case_0", "test"), ("case_2", "train")]
    assert store.indices("val").size == 0 and len(store.templates()) == 1


def test_a_store_is_never_overwritten(nnunet_set, tmp_path):
    """A store that a run depends on would vanish through a typing mistake."""
    dataset = read_dataset(nnunet_set())
    prepare(dataset, tmp_path / "store")
    with pytest.raises(UserError, match="exists already"):
        prepare(dataset, tmp_path / "store", size=(64, 64))
    assert Store.open(tmp_path / "store").size == (48, 32)


def test_all_of_a_large_case_fits_a_small_slice(nnunet_set, tmp_path):
    """`--size` smaller than the images would cut anatomy away without a word."""
    store = prepare(read_dataset(nnunet_set(shape=(80, 50, 4))), tmp_path / "store", size=(32, 32))
    assert all(min(case.placement.start) >= 0 for case in store.cases())
    assert store.spacing[0] == pytest.approx(store.spacing[1]) == pytest.approx(2.5)
    cropped = prepare(read_dataset(store.path.parent / "set"), tmp_path / "c", size=(32, 32), spacing=(1.0, 1.0))
    assert all(min(case.placement.start) < 0 for case in cropped.cases())


def test_written_cases_keep_codes_zooms_and_units(tmp_path, affine_of):
    """A viewer would place the restored case elsewhere than its source."""
    image = nib.Nifti1Image(np.zeros((6, 7, 8), np.int16), affine_of((0.9, 1.1, 2.5), "LPS"))
    image.set_qform(affine_of((0.9, 1.1, 2.5), "LPS"), 1)
    image.set_sform(affine_of((0.9, 1.1, 2.5), "LPS"), 2)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "a.nii.gz")
    nib.save(
        as_nifti(np.zeros((6, 7, 8), np.float32), NiftiVolume(tmp_path / "a.nii.gz").geometry), tmp_path / "b.nii.gz"
    )
    first, second = nib.load(tmp_path / "a.nii.gz"), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(first.affine, second.affine)
    np.testing.assert_allclose(first.get_qform(), second.get_qform(), atol=1e-6)
    for field in ("qform_code", "sform_code", "xyzt_units"):
        assert first.header[field] == second.header[field]
    assert first.header.get_zooms() == second.header.get_zooms()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"size": (30, 32)}, "multiples of 8"),
        ({"size": (16, 16)}, "at least 32"),
        ({"spacing": (0.0, 1.0)}, "above 0"),
        ({"spacing": (float("nan"), 1.0)}, "above 0"),
        ({"axis": "diagonal"}, "sagittal, coronal, axial"),
        ({"train_patients": 99}, "training patients"),
    ],
)
def test_options_without_sense_are_refused_before_a_write(nnunet_set, tmp_path, option, message):
    """The user would learn of a mistake after the work, or from a traceback."""
    with pytest.raises(UserError, match=message):
        prepare(read_dataset(nnunet_set()), tmp_path / "store", **option)
    assert not (tmp_path / "store").exists()


def test_slices_are_cut_across_long_voxels(nnunet_set, tmp_path):
    """Slices through 5 mm thick scans would be bands instead of anatomy."""
    thick = nnunet_set(shape=(8, 30, 30), spacing=(5.0, 1.0, 1.0), name="thick")
    assert prepare(read_dataset(thick), tmp_path / "a").plan.axis == 0
    even = nnunet_set(shape=(20, 20, 20), spacing=(1.0, 1.0, 1.0), name="even")
    assert prepare(read_dataset(even), tmp_path / "b").plan.axis == 2
