"""Tests of synthmed.data.phantom and the anatomy that it draws."""

import nibabel as nib
import numpy as np
import pytest

from synthmed.data.inspect import fingerprint
from synthmed.data.phantom import CLASSES, draw_case, write_phantom
from synthmed.data.readers import read_dataset
from synthmed.errors import UserError


def test_the_set_is_healthy_and_the_same_again(tmp_path):
    """The demo and every first try stand on it."""
    first = write_phantom(tmp_path / "first", cases=3, size=32, seed=4)
    again = write_phantom(tmp_path / "again", cases=2, size=32, seed=4)
    found = fingerprint(read_dataset(first))
    assert found.problems == () and found.classes == CLASSES and len(found.channels) == 2
    assert found.orientations() == {"LPS": 3}
    # Case k is the same whatever the number of cases.
    for path in sorted(again.glob("*/*.nii.gz")):
        assert path.read_bytes() == (first / path.relative_to(again)).read_bytes()
    assert len(list(first.glob("imagesTr/*"))) == 6


def test_cases_and_seeds_differ():
    """A generator would learn one head."""
    volumes = [draw_case(number, size=32, channels=1, seed=seed) for number, seed in ((0, 0), (1, 0), (0, 1))]
    masks = [labels > 0 for _, labels, _ in volumes]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        overlap = 2 * (masks[i] & masks[j]).sum() / (masks[i].sum() + masks[j].sum())
        assert 0.5 < overlap < 0.98


def test_anatomy_does_not_depend_on_the_grid():
    """A study at 32 pixels and one at 64 would measure different patients."""
    _, small, _ = draw_case(5, size=32, channels=1, seed=0)
    _, large, _ = draw_case(5, size=64, channels=1, seed=0)
    for value in range(1, len(CLASSES)):
        assert np.mean(large == value) == pytest.approx(np.mean(small == value), rel=0.15, abs=2e-4)


def test_every_case_has_every_class_and_contrast_tells_them_apart():
    """A class that is invisible or missing cannot be learned from the image."""
    for number in range(8):
        images, labels, _ = draw_case(number, size=48, channels=4, seed=0)
        means = np.array([[images[labels == value, channel].mean() for channel in range(4)] for value in range(4)])
        assert set(np.unique(labels)) == {0, 1, 2, 3}
        brain, ventricle, lesion = means[1:]
        assert ventricle[0] < 0.7 * brain[0] and ventricle[1] > 1.2 * brain[1]
        assert lesion[3] > 1.3 * brain[3]


def test_channels_can_be_many(tmp_path):
    """More than the four named contrasts would fail."""
    folder = write_phantom(tmp_path / "set", cases=1, size=16, channels=6)
    names = read_dataset(folder).channels
    assert len(set(names)) == 6
    shapes = {nib.load(path).shape for path in folder.glob("imagesTr/*")}
    assert shapes == {(16, 16, 8)}


@pytest.mark.parametrize("options", [{"cases": 0}, {"size": 8}, {"channels": 0}])
def test_senseless_numbers_are_refused(tmp_path, options):
    """An empty set would be written."""
    with pytest.raises(UserError, match="at least 1 case"):
        write_phantom(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()
