"""The same patients in every format that is read: the same slices come out."""

import importlib.util
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from synthmed.cli.main import app
from synthmed.data.readers import load_case, read_dataset
from synthmed.data.slicing import as_nifti
from synthmed.data.store import Store
from synthmed.segmentation.score import score_folders

_SPEC = importlib.util.spec_from_file_location("formats", Path(__file__).parent / "formats.py")
formats = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = formats
_SPEC.loader.exec_module(formats)


def prepared(folder, out):
    """Inspect and prepare a set with the default options; return the slices and labels of its cases."""
    for arguments in (["inspect", str(folder)], ["prepare", str(folder), "--out", str(out)]):
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    store = Store.open(out)
    numbers = [np.arange(case.first, case.first + case.slices) for case in store.cases()]
    return [(store.images(own), store.labels(own)) for own in numbers], store


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """The cases of a phantom, and what its nnU-Net set is prepared to."""
    folder = tmp_path_factory.mktemp("phantom")
    cases = formats.phantom_cases(folder / "set")
    return cases, prepared(folder / "set", folder / "store")[0]


@pytest.mark.parametrize("name", [name for name, one in formats.FORMATS.items() if not one.pictures])
def test_a_volume_is_the_same_in_every_format(phantom, tmp_path, name):
    """A mirrored or shifted patient would be learnt, or a label lie beside its organ."""
    one = formats.FORMATS[name]
    if one.needs:
        pytest.importorskip(one.needs)
    cases, expected = phantom
    one.write(tmp_path / "set", cases)
    found, store = prepared(tmp_path / "set", tmp_path / "store")
    assert tuple(channel.upper() for channel in store.channels) == formats.CHANNELS and len(store.classes) == 4
    assert len(found) == len(expected)
    # Label maps without a description have values alone, structures of DICOM are in the order of their names.
    order = [
        0,
        *(formats.CLASSES.index(name) if name in formats.CLASSES else int(name[-1]) for name in store.classes[1:]),
    ]
    # Pseudonyms put the cases of DICOM into another order.
    for images, labels in expected:
        distances = [np.abs(images - own).max() if own.shape == images.shape else np.inf for own, _ in found]
        nearest = int(np.argmin(distances))
        assert distances[nearest] < 2e-3
        np.testing.assert_array_equal(np.array(order)[found[nearest][1]], labels)


@pytest.mark.parametrize("name", ["png-slices-16-bit", "tiff-slices-16-bit"])
def test_numbered_pictures_are_the_slices_of_a_patient(phantom, tmp_path, name):
    """Slices sorted as text would make a patient of shuffled pieces."""
    cases, _ = phantom
    formats.FORMATS[name].write(tmp_path / "set", cases)
    found, store = prepared(tmp_path / "set", tmp_path / "store")
    assert len({case.patient for case in store.cases()}) == len(found) == len(cases)
    top = store.plan.intensities[0].high
    for case, (images, labels) in zip(cases, found, strict=True):
        np.testing.assert_array_equal(labels, case.labels.transpose(2, 1, 0))
        restored = (images[..., 0] + 1.0) * top / 2
        np.testing.assert_allclose(restored, case.images[..., 0].transpose(2, 1, 0), atol=1e-3 * top)


def test_photographs_lie_under_their_masks(phantom, tmp_path):
    """Rows and columns changed over, or a mask of another picture, would teach nonsense."""
    cases, _ = phantom
    formats.FORMATS["jpeg-photographs"].write(tmp_path / "set", cases)
    found, store = prepared(tmp_path / "set", tmp_path / "store")
    assert store.channels == ("red", "green", "blue") and store.classes == ("background", "foreground")
    for case, (images, labels) in zip(cases, found, strict=True):
        plane = case.images.shape[2] // 2
        np.testing.assert_array_equal(labels[0], (case.labels[:, :, plane] > 0).T)
        grey = 255 * case.images[:, :, plane, 0].T / case.images[..., 0].max()
        # JPEG loses a little.
        assert np.abs((images[0, ..., 0] + 1.0) * 127.5 - grey).mean() < 4


@pytest.mark.parametrize("name", list(formats.FORMATS))
def test_label_maps_of_every_format_are_a_reference_for_scores(phantom, tmp_path, name):
    """Predictions are NIfTI whatever was predicted on: a user of DICOM or pictures could not score them."""
    one = formats.FORMATS[name]
    if one.needs:
        pytest.importorskip(one.needs)
    one.write(tmp_path / "set", phantom[0])
    dataset = read_dataset(tmp_path / "set")
    (tmp_path / "predicted").mkdir()
    for files in dataset.cases:
        case = load_case(files)
        nibabel.save(
            as_nifti(case.labels.astype(np.uint8), case.geometry), tmp_path / "predicted" / f"{case.case}.nii.gz"
        )
    scores = score_folders(tmp_path / "predicted", tmp_path / "set")
    assert [mean.name for mean in scores.classes] == list(dataset.classes[1:])
    assert [mean.dice for mean in scores.classes] == [1.0] * len(scores.classes) and scores.overall.cases == 3
