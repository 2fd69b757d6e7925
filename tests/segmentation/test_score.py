"""Scoring of folders: matching by name, names of classes, means, refusals."""

import csv
import json
import re

import nibabel
import numpy as np
import pytest
import SimpleITK

from synthmed.data.formats import source_of
from synthmed.data.readers import CaseFiles, Dataset, read_dataset
from synthmed.errors import UserError
from synthmed.segmentation import score as label_maps
from synthmed.segmentation.score import find_patients, score_folders, write_scores


def write(path, values, *, affine=None):
    """Write a NIfTI label map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(values, np.uint8), np.eye(4) if affine is None else affine), path)


@pytest.fixture
def folders(tmp_path):
    """Two cases: `a` has both classes, `b` the first alone, and class 2 is missed in `a`."""
    reference = np.zeros((6, 5, 4))
    reference[1:3, 1:4, 1:3] = 1
    only_first = reference.copy()
    reference[4, 1:4] = 2
    predicted = np.where(reference == 1, 1, 0)
    write(tmp_path / "set" / "labelsTr" / "a.nii.gz", reference)
    write(tmp_path / "set" / "labelsTr" / "b.nii.gz", only_first)
    write(tmp_path / "set" / "labelsTr" / "unused.nii.gz", only_first)
    write(tmp_path / "predicted" / "a.nii.gz", predicted)
    write(tmp_path / "predicted" / "b.nii.gz", only_first)
    return tmp_path / "predicted", tmp_path / "set"


def test_means_leave_out_absent_classes_and_count_missed_ones(folders):
    """A user would report a mean over cases that have nothing to find, or not learn how many were missed."""
    scores = score_folders(*folders)
    first, second = scores.classes
    assert (first.name, first.dice, first.hd95, first.cases) == ("1", 1.0, 0.0, 2)
    assert (second.dice, second.cases, second.absent, second.missed) == (0.0, 1, 1, 1)
    assert second.hd95 == pytest.approx(np.sqrt(6**2 + 5**2 + 4**2))
    assert scores.overall.dice == 0.5
    assert [(row.case, row.label) for row in scores.scores] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_volumes_are_in_millilitres_and_means_take_their_size(tmp_path):
    """A user would add up voxels, or find that too large and too small make a perfect mean."""
    spacing = np.diag([2.0, 5.0, 10.0, 1.0])
    for case, size in (("a", 12), ("b", 8)):
        predicted, reference = np.zeros((5, 4, 3)), np.zeros((5, 4, 3))
        predicted.flat[:size], reference.flat[:10] = 1, 1
        write(tmp_path / "p" / f"{case}.nii.gz", predicted, affine=spacing)
        write(tmp_path / "r" / f"{case}.nii.gz", reference, affine=spacing)
    scores = score_folders(tmp_path / "p", tmp_path / "r")
    assert [row.volume_ml for row in scores.scores] == pytest.approx([0.2, -0.2])
    assert [row.volume_relative for row in scores.scores] == pytest.approx([0.2, -0.2])
    assert (scores.overall.volume_ml, scores.overall.volume_relative) == pytest.approx((0.2, 0.2))


def test_tolerance_is_in_millimetres(tmp_path):
    """A user with thick slices would be forgiven a slice where a millimetre was meant."""
    mask = np.zeros((8, 8, 8))
    mask[2:5, 2:5, 2:5] = 1
    write(tmp_path / "r.nii.gz", mask, affine=np.diag([1, 1, 3, 1]))
    write(tmp_path / "p.nii.gz", np.roll(mask, 1, 2), affine=np.diag([1, 1, 3, 1]))
    one, three = (score_folders(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz", tolerance=mm) for mm in (1.0, 3.0))
    assert one.overall.surface_dice < 1 and three.overall.surface_dice == 1
    assert (one.tolerance, three.tolerance) == (1.0, 3.0)
    with pytest.raises(UserError, match="--tolerance"):
        score_folders(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz", tolerance=-1.0)


def test_a_patient_with_several_cases_counts_once(folders, tmp_path):
    """A patient who came often would weigh more than one who came once."""
    predicted, reference = folders
    for case, found in (("c", 0), ("d", 1)):
        write(reference / "labelsTr" / f"{case}.nii.gz", np.ones((6, 5, 4)))
        write(predicted / f"{case}.nii.gz", np.full((6, 5, 4), found))
    owners = {"a": "anna", "b": "anna", "c": "carl", "d": "carl"}
    (tmp_path / "patients.json").write_text(json.dumps(owners))
    assert find_patients(tmp_path / "patients.json", reference) == owners
    first = score_folders(predicted, reference, patients=owners | {"c": "berta"}).classes[0]
    assert (first.dice, first.patients, first.cases) == (pytest.approx((1 + 0 + 1) / 3), 3, 4)
    first = score_folders(predicted, reference, patients=owners).classes[0]
    assert (first.dice, first.patients) == (pytest.approx((1 + 0.5) / 2), 2)
    assert score_folders(predicted, reference).overall.patients == 4
    for wrong in ([1], {"a": 1}):
        (tmp_path / "wrong.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match="--patients"):
            find_patients(tmp_path / "wrong.json", reference)
    with pytest.raises(UserError, match="no store"):
        find_patients(tmp_path, reference)
    assert find_patients(None, predicted) == {}


def test_why_a_data_set_cannot_be_read_is_said(folders, tmp_path):
    """A user would be told that there are no label maps, where one damaged file is what is wrong."""
    (tmp_path / "other" / "anna").mkdir(parents=True)
    (tmp_path / "other" / "anna" / "note.txt").write_text("no image")
    with pytest.raises(UserError) as reason:
        read_dataset(tmp_path / "other")
    with pytest.raises(UserError, match=re.escape(str(reason.value))):
        score_folders(folders[0], tmp_path / "other")


def test_a_data_set_is_read_once_and_tells_its_patients(folders, tmp_path, monkeypatch):
    """A user with thousands of cases would wait twice, or count a patient with two cases twice."""
    read = []
    cases = [
        CaseFiles(case=case, patient="anna", images=(), label=source_of(folders[1] / "labelsTr" / f"{case}.nii.gz"))
        for case in ("a", "b")
    ]
    known = Dataset(
        path=tmp_path / "other",
        name="x",
        licence="",
        layout="x",
        channels=("t1",),
        classes=("background", "organ"),
        label_values=(0, 1),
        cases=cases,
    )
    monkeypatch.setattr(label_maps, "read_dataset", lambda path: read.append(path) or known)
    (tmp_path / "other").mkdir()
    scores = score_folders(folders[0], tmp_path / "other")
    assert (read, scores.overall.patients, scores.overall.cases) == ([tmp_path / "other"], 1, 2)


def test_stores_and_data_sets_know_their_patients(store, phantom):
    """A user would have to write down what the data set says already."""
    expected = {case.case: case.patient for case in store.cases()}
    assert find_patients(store.path, phantom) == find_patients(None, phantom) == expected


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "anterior", "2": "posterior"}, {"anterior": 1, "posterior": 2}]
)
def test_names_come_from_the_data_set(folders, labels):
    """A user would have to remember what class 1 was."""
    (folders[1] / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert [mean.name for mean in score_folders(*folders).classes] == ["anterior", "posterior"]
    assert [mean.name for mean in score_folders(folders[0], folders[1] / "labelsTr").classes] == [
        "anterior",
        "posterior",
    ]


def test_regions_are_scored_as_a_whole(folders):
    """A tumour's parts would be scored where the data set asks for the tumour."""
    (folders[1] / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]})
    )
    whole, core = score_folders(*folders).classes
    assert (whole.name, core.name) == ("whole", "core") and core.dice == 0.0
    # In case `a` 12 elements of class 1 are found and the 12 of class 2 are not.
    reference = np.asarray(nibabel.load(folders[1] / "labelsTr" / "a.nii.gz").dataobj)
    predicted = np.asarray(nibabel.load(folders[0] / "a.nii.gz").dataobj)
    expected = 2 * (predicted > 0).sum() / ((predicted > 0).sum() + (reference > 0).sum())
    assert whole.dice == pytest.approx((expected + 1.0) / 2)


def test_what_the_reference_does_not_know_is_not_scored(folders):
    """A method would be punished for what nobody has labelled."""
    (folders[1] / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "ignore": 2}}))
    predicted = np.asarray(nibabel.load(folders[0] / "a.nii.gz").dataobj).copy()
    predicted[4, 1:4] = 1
    write(folders[0] / "a.nii.gz", predicted)
    (organ,) = score_folders(*folders).classes
    assert (organ.name, organ.dice, organ.hd95) == ("organ", 1.0, 0.0)


def test_single_files_and_other_formats(tmp_path):
    """A user with NRRD or PNG masks could not score them."""
    mask = np.zeros((4, 7, 8), np.uint8)
    mask[1:3, 2:5, 2:6] = 1
    image = SimpleITK.GetImageFromArray(mask)
    image.SetSpacing((0.5, 1.0, 2.0))
    SimpleITK.WriteImage(image, tmp_path / "p.nrrd")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.roll(mask, 1, 0)), tmp_path / "moved.nrrd")
    shifted = SimpleITK.GetImageFromArray(np.roll(mask, 1, 0))
    shifted.SetSpacing((0.5, 1.0, 2.0))
    SimpleITK.WriteImage(shifted, tmp_path / "r.nrrd")
    assert score_folders(tmp_path / "p.nrrd", tmp_path / "r.nrrd").overall.hd95 == pytest.approx(2.0)
    with pytest.raises(UserError, match="affines differ"):
        score_folders(tmp_path / "p.nrrd", tmp_path / "moved.nrrd")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask[1]), tmp_path / "p.png")
    assert score_folders(tmp_path / "p.png", tmp_path / "p.png").overall.dice == 1.0


def test_scores_are_written_as_csv_and_json(folders, tmp_path):
    """A user could not take the figures into a paper's statistics."""
    scores = score_folders(*folders)
    write_scores(scores, tmp_path / "s.csv")
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dice"] for row in rows] == ["1.0", "0.0", "1.0", ""]
    write_scores(scores, tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["overall"]["dice"] == 0.5
    with pytest.raises(UserError, match="csv or .json"):
        write_scores(scores, tmp_path / "s.xlsx")


def test_what_does_not_fit_is_refused(folders, tmp_path):
    """A user would get a score of something that was never compared."""
    predicted, reference = folders
    write(predicted / "c.nii.gz", np.zeros((6, 5, 4)))
    with pytest.raises(UserError, match="no reference for c"):
        score_folders(predicted, reference)
    write(reference / "labelsTr" / "c.nii.gz", np.zeros((6, 5, 3)))
    with pytest.raises(UserError, match="shape"):
        score_folders(predicted, reference)
    write(reference / "labelsTr" / "c.nii.gz", np.zeros((6, 5, 4)), affine=np.diag([2, 1, 1, 1]))
    with pytest.raises(UserError, match="affines differ"):
        score_folders(predicted, reference)
    whole = (predicted / "a.nii.gz").read_bytes()
    (predicted / "a.nii.gz").write_bytes(whole[:40])
    with pytest.raises(UserError, match="a.nii.gz is truncated or damaged"):
        score_folders(predicted, reference)
    (tmp_path / "none").mkdir()
    for missing in (tmp_path / "none", tmp_path / "nowhere"):
        with pytest.raises(UserError):
            score_folders(missing, reference)


def test_values_between_whole_numbers_are_no_labels(tmp_path):
    """A user who passes a probability map by mistake would get a score of its rounding."""
    image = nibabel.Nifti1Image(np.full((3, 3, 3), 0.5, np.float32), np.eye(4))
    nibabel.save(image, tmp_path / "p.nii.gz")
    with pytest.raises(UserError, match="whole numbers"):
        score_folders(tmp_path / "p.nii.gz", tmp_path / "p.nii.gz")
