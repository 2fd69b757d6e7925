"""Tests of synthmed.data.inspect and of its words in summary."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.readers import read_dataset
from synthmed.data.summary import fingerprint_rows
from synthmed.errors import UserError
from synthmed.files import read_json, write_json


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
        ("imagesTr/case_1_0001.nii.gz", _shifted, "origin -18 x 13.5 x 7.25 differs from its first channel"),
        ("labelsTr/case_1.nii.gz", lambda v, a: (v[:-1], a), "shape"),
        ("labelsTr/case_1.nii.gz", _shifted, "differs from its image"),
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
    assert told["case_1_0000.nii.gz"] == "does not exist"
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
    assert rows["Spacing in a unit not said (smallest, median, largest)"].startswith("0.5 x 0.6 x 4;")


@pytest.mark.parametrize(
    ("file", "edit", "what", "mend"),
    [
        ("labelsTr/case_1.nii.gz", _with(0.9999), "0.9999", "round them"),
        ("labelsTr/case_1.nii.gz", _with(0.4), "0.4", "nearest neighbour"),
        ("labelsTr/case_1.nii.gz", _with(np.nan), "NaN", "background"),
        ("imagesTr/case_1_0000.nii.gz", lambda v, a: (v * np.nan, a), "more than half", "export the image again"),
        ("labelsTr/case_1.nii.gz", lambda v, a: (v, a @ np.diag([1, 1, 1.1, 1])), "spacing 1 x 1 x 3.3", "resample"),
        ("labelsTr/case_1.nii.gz", lambda v, a: (v, a @ np.diag([-1, 1, 1, 1])), "(LAS) differ from", "resample"),
    ],
)
def test_the_mend_fits_the_fault(nnunet_set, change, file, edit, what, mend):
    """The user would be sent to resample what only has to be rounded."""
    folder = nnunet_set()
    change(folder / file, edit)
    (problem,) = fingerprint(read_dataset(folder)).problems
    assert problem.file == str(folder / file) and what in problem.what and mend in problem.mend


def _coded(qform, sform, shift=0.0):
    def edit(folder):
        for path in folder.glob("imagesTr/case_[12]_*.nii.gz"):
            image = nib.load(path)
            moved = image.affine.copy()
            moved[0, 3] += shift
            image.set_qform(moved, qform)
            image.set_sform(image.affine, sform)
            nib.save(image, path)

    return edit


def _described(**changes):
    def edit(folder):
        content = {**read_json(folder / "dataset.json"), **changes}
        write_json(folder / "dataset.json", {key: value for key, value in content.items() if value is not None})

    return edit


def _rewritten(pattern, edit):
    def rewrite(folder):
        for path in folder.glob(pattern):
            image = nib.load(path)
            voxels, affine = edit(np.asarray(image.dataobj).copy(), image.affine.copy())
            nib.save(nib.Nifti1Image(voxels, affine), path)

    return rewrite


@pytest.mark.parametrize(
    ("edit", "file", "what"),
    [
        (_described(numTraining=9), "dataset.json", '"numTraining" is 9, there are 4 cases'),
        (_described(numTraining=None), "dataset.json", "has no numTraining"),
        (_coded(1, 2, shift=5.0), "imagesTr/case_1_0000.nii.gz", "qform and sform place the image differently"),
        (_rewritten("labelsTr/case_[23].nii.gz", lambda v, a: (v * 0, a)), "labelsTr/case_2.nii.gz", "map is empty"),
        (_rewritten("labelsTr/case_2.nii.gz", lambda v, a: (v // 2 + 1, a)), "labelsTr/case_2.nii.gz", "no background"),
        (_rewritten("labelsTr/*", lambda v, a: (v % 2, a)), "", "class lesion (2) is in no case"),
        (_rewritten("labelsTr/case_[0-2].nii.gz", lambda v, a: (v % 2, a)), "", "in the cases of one patient alone"),
        (
            _rewritten("imagesTr/case_3_0001.nii.gz", lambda v, a: (v * 0 + 7, a)),
            "imagesTr/case_3_0000.nii.gz",
            "channel 1 has one value in all voxels",
        ),
        (
            _rewritten("imagesTr/case_3_0001.nii.gz", lambda v, a: (v * 1000, a)),
            "imagesTr/case_3_0000.nii.gz",
            "the largest value of channel 1 is more than 20 times above or below",
        ),
        (_rewritten("*Tr/case_2*.nii.gz", lambda v, a: (v, a * 9)), "imagesTr/case_2_0000.nii.gz", "more than 4 times"),
    ],
)
def test_doubts_are_warnings_and_do_not_stop_the_work(nnunet_set, edit, file, what):
    """A set that can be used would be refused, or its flaw would be met in the scores."""
    folder = nnunet_set()
    edit(folder)
    found = fingerprint(read_dataset(folder))
    assert found.problems == () and len(found.cases) == 4
    told = [warning for warning in found.warnings if what in warning.what]
    assert len(told) == 1 and told[0].file == str(folder / file if file else folder) and told[0].mend


def test_one_warning_speaks_for_many_cases(nnunet_set):
    """164 lines of the same kind would hide the one that differs."""
    folder = nnunet_set(cases=8)
    for path in folder.glob("imagesTr/*"):
        image = nib.load(path)
        image.set_qform(None, 0)
        image.set_sform(None, 0)
        nib.save(image, path)
    for path in folder.glob("labelsTr/*"):
        nib.save(
            nib.Nifti1Image(
                np.asarray(nib.load(path).dataobj), nib.load(folder / "imagesTr/case_0_0000.nii.gz").affine
            ),
            path,
        )
    found = fingerprint(read_dataset(folder))
    told = [warning.what for warning in found.warnings if "neither qform nor sform" in warning.what]
    assert found.problems == () and len(told) == 1 and "in 8 cases: this, case_1, case_2, case_3, ..." in told[0]


def test_intensities_of_ct_are_in_hounsfield_units(nnunet_set):
    """A window in HU would cut away everything of a CT whose offset was lost."""
    dataset = replace(read_dataset(nnunet_set()), modalities=("CT", "MRI"))
    found = fingerprint(dataset)
    assert [warning.what for warning in found.warnings][0].startswith("channel 0 is CT without a value below 0")
    rows = dict(fingerprint_rows(found))
    assert "Intensities of channel 0 (HU)" in rows and "Intensities of channel 1 (no unit)" in rows


def test_voxels_that_are_not_known_are_counted_apart(nnunet_set, change):
    """They would be refused as an unknown class, or counted as one."""
    folder = nnunet_set()

    def mark(voxels, affine):
        voxels[0] = 3
        return voxels, affine

    change(folder / "labelsTr" / "case_1.nii.gz", mark)
    dataset = replace(read_dataset(folder), ignore_value=3)
    found = fingerprint(dataset)
    case = found.cases[1]
    assert found.problems == () and case.ignored == 34 * 6 and sum(case.voxels) == 29 * 34 * 6
    assert case.foreground_slices == found.cases[0].foreground_slices
    assert found.ignored_share() == pytest.approx(1 / 30 / 4)
    assert dict(fingerprint_rows(found))["Ignored (3)"] == "0.83% of voxels"


def test_class_frequencies_count_voxels_and_cases(nnunet_set, change):
    """Rare classes would not be seen before the training fails on them."""
    folder = nnunet_set()
    change(folder / "labelsTr" / "case_1.nii.gz", lambda voxels, affine: (voxels % 2, affine))
    rows = dict(fingerprint_rows(fingerprint(read_dataset(folder))))
    assert rows["Class lesion (2)"] == f"{3 * 56 / (4 * 30 * 34 * 6):.2%} of voxels, in 3 of 4 cases"


def test_the_real_sets_are_healthy(test_data):
    """A check that cries wolf over a published set would be switched off."""
    for name, cases in (("hippocampus", 164), ("lgg128", 23)):
        found = fingerprint(read_dataset(test_data / name))
        assert found.problems == () and len(found.cases) == cases
        kinds = [warning.what for warning in found.warnings]
        # Part of the hippocampus volumes reaches 1.7 million, part is 8 bit.
        assert len(kinds) == (name == "hippocampus") and all("20 times" in kind for kind in kinds)
