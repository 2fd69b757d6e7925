"""Tests of synthmed.data.readers.naming."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.data.formats import NiftiSource
from synthmed.data.readers import CaseFiles, ReadOptions, read_dataset
from synthmed.data.readers.naming import assign_patients
from synthmed.errors import UserError


def _patients(names, pattern=None, **others):
    cases = [CaseFiles(case=name, patient=name, images=(NiftiSource(Path(name)),)) for name in names]
    found, notes = assign_patients(cases, pattern, **others)
    return [case.patient for case in found], notes


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02"], ["sub-01", "sub-01", "sub-02"]),
        (["Image_01L", "Image_01R", "Image_02L"], ["Image_01", "Image_01", "Image_02"]),
        (["p1_left", "p1_right", "p2_right"], ["p1", "p1", "p2"]),
        (["7_OD", "7_OS", "8_OD"], ["7", "7", "8"]),
        (["a1_v1", "a1_v2", "a2_v1"], ["a1", "a1", "a2"]),
        (["x_baseline", "x_followup", "y_baseline"], ["x", "x", "y"]),
        (["k_20200101", "k_20210101", "m_20200101"], ["k", "k", "m"]),
        (["TCGA_CS_4941_19960909", "TCGA_CS_4941_19970101"], ["TCGA_CS_4941", "TCGA_CS_4941"]),
        (["p1_v1_L", "p1_v1_R", "p1_v2_L", "p2_v1_R"], ["p1", "p1", "p1", "p2"]),
        (["p1_L_v1", "p1_R_v1", "p2_L_v1"], ["p1", "p1", "p2"]),
        # A number behind the set's name is the patient's.
        (["hippocampus_003", "hippocampus_033"], ["hippocampus_003", "hippocampus_033"]),
        # If all fell together, it would be no patient's name.
        (["brain_t1", "brain_t2", "brain_t3"], ["brain_t1", "brain_t2", "brain_t3"]),
        (["ab", "al", "ar"], ["ab", "al", "ar"]),
    ],
)
def test_common_habits_are_recognised(names, patients):
    """Two eyes or two visits of one person would straddle a split, and every score be too good."""
    found, notes = _patients(names)
    assert found == patients
    assert bool(notes) == (len(set(patients)) < len(names))
    if notes:
        assert f"{len(names)} cases of {len(set(patients))} patient" in notes[0] and "--patient-pattern" in notes[0]


def test_numbered_pictures_are_of_one_patient():
    """Slices of a patient would be in training and test."""
    names = ["P01_1", "P01_2", "P02_1", "P02_2"]
    assert _patients(names, numbered=True)[0] == ["P01", "P01", "P02", "P02"]
    assert _patients(names)[0] == names
    assert _patients(["ISIC_1", "ISIC_2"], numbered=True)[0] == ["ISIC_1", "ISIC_2"]


@pytest.mark.parametrize(
    ("folders", "patients"),
    [
        ([("P1", "v1"), ("P1", "v2"), ("P2", "v1")], ["P1", "P1", "P2"]),
        ([("site1", "P1"), ("site2", "P1"), ("site2", "P2")], ["site1_P1", "site2_P1", "site2_P2"]),
        ([("train", "P1"), ("train", "P1"), ("test", "P2")], ["P1", "P1", "P2"]),
        ([("P1_v1",), ("P1_v2",), ("P2_v1",)], ["P1", "P1", "P2"]),
        ([("benign",), ("benign",), ("malignant",)], ["a", "b", "c"]),
    ],
)
def test_folders_tell_patients(folders, patients):
    """Pictures of one patient's folder would be spread over the splits, or two hospitals' patients be mixed."""
    names = ["a", "b", "c"]
    assert _patients(names, folders=dict(zip(names, folders, strict=True)))[0] == patients


def test_a_pattern_comes_first():
    """A user whose names are unusual could not keep patients together."""
    found, notes = _patients(["ct17a", "ct17b", "mr4a"], r"(\d+)[ab]")
    assert found == ["17", "17", "4"] and "3 cases of 2 patients" in notes[0]
    assert _patients(["x"], r"^(\w+)/", folders={"x": ("anna",)})[0] == ["anna"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "no regular expression"), (r"\d+", "0 groups"), (r"(\d)(\d)", "2 groups"), (r"q(\d)", "the case p1_1")],
)
def test_a_wrong_pattern_is_conditional(pattern, message):
    """Cases would lose their patients without a word, or a traceback appear."""
    with pytest.raises(UserError, match=message) as error:
        _patients(["p1_1", "p2_1"], pattern)
    assert "\n" not in str(error.value) and "--patient-pattern" in str(error.value)


_NAMES = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["", "_L", "_R", "_left", "_v1", "_v2", "_v1_L", "_20200101"])),
    min_size=2,
    max_size=12,
    unique=True,
)


@given(_NAMES)
def test_what_is_recognised_never_mixes_patients(parts):
    """Two persons would become one."""
    names = [f"case{number}{rest}" for number, rest in parts]
    found, _ = _patients(names)
    owners = {}
    for (number, _), patient in zip(parts, found, strict=True):
        assert owners.setdefault(patient, number) == number


def test_layouts_with_a_description_have_patients_too(nnunet_set):
    """A pattern would be passed over for nnU-Net sets."""
    dataset = read_dataset(nnunet_set(), ReadOptions(patient_pattern=r"(case)_\d"))
    assert {case.patient for case in dataset.cases} == {"case"} and "1 patient:" in dataset.notes[0]


def test_real_patients(test_data):
    """The patients of the sets that everyone measures on would not be those that they have."""
    for name, cases in (("hippocampus", 164), ("lgg128", 23)):
        dataset = read_dataset(test_data / name)
        assert len(dataset.cases) == len({case.patient for case in dataset.cases}) == cases
