"""Tests of synthmed.data.inspect and of its words in summary."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.readers import read_dataset
from synthmed.data.summary import fingerprint_rows
from synthmed.errors import UserError


def _shifted(voxels, affine):
    affine[0, 3] += 2.0
    return voxels, affine


def _with(value):
    def edit(voxels, affine):
        voxels = voxels.astype(np.float32)
        voxels[1, 1, 1] = value
        return voxels, affine

    return edit


@pytest.mark.parametrize(
    ("file", "edit", "what"),
    [
        ("imagesTr/case_1_0001.nii.gz", _with(np.nan), "NaN or infinite in 1 voxel"),
        ("imagesTr/case_1_0001.nii.gz", _with(np.inf), "NaN or infinite"),
        ("imagesTr/case_1_0001.nii.gz", lambda v, a: (v[:-1], a), "differs from its first channel"),
        ("imagesTr/case_1_0001.nii.gz", _shifted, "affine differs from its first channel"),
        ("labelsTr/case_1.nii.gz", lambda v, a: (v[:-1], a), "shape"),
        ("labelsTr/case_1.nii.gz", _shifted, "affine differs from its image"),
        ("labelsTr/case_1.nii.gz", _with(9), "value 9"),
        ("labelsTr/case_1.nii.gz", _with(0.5), "value 0.5"),
        ("labelsTr/case_1.nii.gz", lambda v, a: (np.stack([v, v], axis=-1), a), "2 channels"),
    ],
)
def test_a_spoilt_file_is_named(nnunet_set, change, file, edit, what):
    """Training on such a case would give a bad model without a word."""
    folder = nnunet_set()
    change(folder / file, edit)
    found = fingerprint(read_dataset(folder))
    assert len(found.problems) == 1 and len(found.cases) == 3
    problem = found.problems[0]
    assert problem.file == str(folder / file) and what in problem.what and problem.mend


def test_all_problems_are_found_in_one_pass(nnunet_set, change):
    """The user would mend one file, run again, and meet the next problem."""
    folder = nnunet_set(cases=8)
    (folder / "labelsTr" / "case_0.nii.gz").unlink()
    (folder / "imagesTr" / "case_1_0000.nii.gz").unlink()
    damaged = folder / "imagesTr" / "case_2_0000.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:200])
    change(folder / "imagesTr" / "case_3_0000.nii.gz", _with(np.nan))
    for channel in range(2):
        copied = folder / "imagesTr" / f"case_5_000{channel}.nii.gz"
        shutil.copy(folder / "imagesTr" / f"case_4_000{channel}.nii.gz", copied)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), folder / "labelsTr" / "nobody.nii.gz")
    found = fingerprint(read_dataset(folder))
    told = {problem.file.split("/")[-1]: problem.what for problem in found.problems}
    assert told["nobody.nii.gz"] == "label without an image"
    assert told["case_0_0000.nii.gz"] == "image without its label"
    assert told["case_1_0001.nii.gz"] == "case_1 has 1 channels, the data set 2"
    assert "truncated or damaged" in told["case_2_0000.nii.gz"]
    assert "NaN" in told["case_3_0000.nii.gz"]
    assert told["case_5_0000.nii.gz"] == "the same images as case_4"
    assert len(found.problems) == 6
    with pytest.raises(UserError, match="5 more: see `synthmed inspect") as error:
        refuse_problems(found, folder)
    assert "\n" not in str(error.value)


def test_a_listed_file_that_is_missing_is_named(decathlon_set):
    """A Decathlon set with a lost file would be read without it."""
    folder = decathlon_set()
    (folder / "imagesTr" / "task_2.nii.gz").unlink()
    (folder / "labelsTr" / "task_10.nii.gz").unlink()
    problems = fingerprint(read_dataset(folder)).problems
    assert [(problem.file.split("/")[-1], problem.what) for problem in problems] == [
        ("task_2.nii.gz", "does not exist"),
        ("task_10.nii.gz", "image without its label"),
    ]


def test_a_healthy_set_has_a_fingerprint(nnunet_set):
    """Plans are made from it: a wrong figure gives slices of a wrong size or axis."""
    found = fingerprint(read_dataset(nnunet_set(codes="LPS", spacing=(0.5, 0.6, 4.0))))
    refuse_problems(found, None)
    assert found.problems == () and found.patients == len(found.cases) == 4
    case = found.cases[0]
    assert case.orientation == "LPS" and case.geometry.zooms == pytest.approx((0.5, 0.6, 4.0))
    assert case.voxels == (30 * 34 * 6 - 8 * 9 * 2 - 7 * 8 * 1, 8 * 9 * 2, 7 * 8 * 1)
    assert case.foreground_slices == (15, 17, 3)
    assert sum(found.class_shares()) == pytest.approx(1.0)
    rows = dict(fingerprint_rows(found))
    assert rows["Orientations (cases)"] == "LPS (4)"
    assert rows["Spacing in unknown (smallest, median, largest)"].startswith("0.5 x 0.6 x 4;")


def test_the_real_sets_are_healthy(test_data):
    """A check that cries wolf over a published set would be switched off."""
    for name, cases in (("hippocampus", 164), ("lgg128", 23)):
        found = fingerprint(read_dataset(test_data / name))
        assert found.problems == () and len(found.cases) == cases
