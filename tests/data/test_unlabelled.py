"""Images without labels beside a labelled store."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from synthmed.data.prepare import prepare, prepare_unlabelled
from synthmed.data.readers import ReadOptions, read_dataset
from synthmed.data.store import find_latest_store
from synthmed.errors import UserError
from synthmed.training.run import DataSummary


@pytest.fixture
def beside(nnunet_set, tmp_path):
    """A labelled store of the first three of five cases, and a folder with the images of all five."""
    folder = nnunet_set(cases=5)
    shutil.copytree(folder, tmp_path / "three")
    for number in (3, 4):
        for file in (tmp_path / "three").glob(f"*/case_{number}*"):
            file.unlink()
    store = prepare(read_dataset(tmp_path / "three"), tmp_path / "store", split=(0.4, 0.3, 0.3), size=(48, 48))
    return store, folder


def test_images_of_new_patients_are_prepared_as_the_store_was(beside, tmp_path):
    """Unlabelled slices would have another size or normalisation, and a held-out patient would teach the generator."""
    store, folder = beside
    shutil.rmtree(folder / "labelsTr")
    extra = prepare_unlabelled(folder, tmp_path / "extra", beside=store)
    assert [case.case for case in extra.cases("train")] == ["case_3", "case_4"] and len(extra.cases()) == 2
    assert extra.plan == store.plan and extra.classes == store.classes and not extra.labelled
    assert not extra.class_counts.any() and not extra.labels(np.arange(len(extra))).any()
    whole = prepare(read_dataset(_labelled(folder)), tmp_path / "whole", split=(1, 0, 0), size=(48, 48))
    first = next(case.first for case in whole.cases() if case.case == "case_3")
    numbers = np.arange(len(extra))
    assert np.array_equal(extra.images(numbers), whole.images(numbers + first))


def _labelled(folder):
    """Put empty label maps where there are none."""
    (folder / "labelsTr").mkdir()
    for image in (folder / "imagesTr").glob("*_0000.nii.gz"):
        volume = nib.load(image)
        label = nib.Nifti1Image(np.zeros(volume.shape, np.uint8), volume.affine)
        nib.save(label, folder / "labelsTr" / image.name.replace("_0000", ""))
    return folder


def test_a_patient_is_recognised_in_another_layout(beside, tmp_path):
    """A test patient whose channels lie in one file would pass for a new one."""
    store, folder = beside
    (tmp_path / "plain").mkdir()
    for number in range(5):
        channels = [nib.load(folder / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz") for channel in range(2)]
        voxels = np.stack([np.asarray(one.dataobj) for one in channels], axis=-1)
        nib.save(nib.Nifti1Image(voxels, channels[0].affine), tmp_path / "plain" / f"anon{number}.nii.gz")
    extra = prepare_unlabelled(tmp_path / "plain", tmp_path / "extra", beside=store)
    assert [case.case for case in extra.cases()] == ["anon3", "anon4"]
    for number in (3, 4):
        (tmp_path / "plain" / f"anon{number}.nii.gz").unlink()
    with pytest.raises(UserError, match="holds every image"):
        prepare_unlabelled(tmp_path / "plain", tmp_path / "none", beside=store)


def test_it_is_for_nothing_else(beside, tmp_path):
    """A generator or a U-Net would learn that there is background alone."""
    store, folder = beside
    extra = prepare_unlabelled(folder, tmp_path / "extra", beside=store)
    with pytest.raises(UserError, match="without labels"):
        DataSummary.of_store(extra)
    with pytest.raises(UserError, match="without labels"):
        prepare_unlabelled(folder, tmp_path / "again", beside=extra)
    assert find_latest_store(tmp_path) == store.path


def _renamed(folder, names):
    for part in ("imagesTr", "labelsTr"):
        for number, name in names.items():
            for file in list((folder / part).glob(f"case_{number}[_.]*")):
                file.rename(file.with_name(file.name.replace(f"case_{number}", name)))
    return folder


@pytest.mark.parametrize("pattern", [None, r"(pat\d)"])
def test_other_scans_of_held_out_patients_are_left_out(nnunet_set, tmp_path, pattern):
    """A generator would be taught by patients on whom its worth is measured, since their images are not the same."""
    name = "pat{}_{}" if pattern is None else "{1}-pat{0}"
    labelled = _renamed(nnunet_set(cases=3), {number: name.format(number, "v1") for number in range(3)})
    reading = ReadOptions(patient_pattern=pattern)
    options = {"size": (48, 48), "split": (0.4, 0.3, 0.3), "reading": reading}
    store = prepare(read_dataset(labelled, reading), tmp_path / "store", **options)
    away = {case.patient for case in store.cases() if case.split != "train"}
    assert len(away) == 2
    other = nnunet_set(cases=7, name="other")
    for file in other.glob("imagesTr/case_[012]_*"):
        file.unlink()
    other = _renamed(other, {number: name.format(number - 3, "v2") for number in range(3, 7)}) / "imagesTr"
    said = []
    extra = prepare_unlabelled(other, tmp_path / "extra", beside=store, say=said.append)
    taught = [case.case for case in extra.cases()]
    assert len(taught) == 2 and not any(own.split("_")[0] in one for own in away for one in taught)
    assert sum("left out" in line and "validation or test" in line for line in said) == 1
    for file in other.iterdir():
        if any(one in file.name for one in taught):
            file.unlink()
    with pytest.raises(UserError, match="holds every patient"):
        prepare_unlabelled(other, tmp_path / "none", beside=store)


@pytest.mark.parametrize("spoil", ["channels", "empty", "missing"])
def test_images_that_do_not_fit_are_told(beside, tmp_path, spoil):
    """A traceback would be all that the user gets, or half a store."""
    store, folder = beside
    if spoil == "channels":
        (folder / "imagesTr" / "case_3_0001.nii.gz").unlink()
    elif spoil == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        shutil.rmtree(folder)
    with pytest.raises(UserError) as caught:
        prepare_unlabelled(folder, tmp_path / "extra", beside=store)
    assert "\n" not in str(caught.value) and not (tmp_path / "extra").exists()
