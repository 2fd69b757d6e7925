"""Tests of synthmed.data.selection."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.data.selection import draw_split, keep_training_patients, parse_fractions, read_split
from synthmed.errors import UserError
from synthmed.files import write_json

CASES = {f"case_{number}": f"patient_{number // 2}" for number in range(40)}


@settings(deadline=None)
@given(
    patients=st.integers(1, 30),
    visits=st.integers(1, 3),
    fractions=st.sampled_from([(0.7, 0.15, 0.15), (1.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.34, 0.33, 0.33)]),
    seed=st.integers(0, 1000),
)
def test_no_patient_straddles_and_training_is_never_empty(patients, visits, fractions, seed):
    """A study's scores would be worthless if a patient trained and tested a model."""
    cases = {f"{patient}-{visit}": str(patient) for patient in range(patients) for visit in range(visits)}
    split = draw_split(cases, fractions, seed)
    assert split.keys() == cases.keys()
    parts = {patient: {split[case] for case in cases if cases[case] == patient} for patient in cases.values()}
    assert all(len(part) == 1 for part in parts.values())
    assert "train" in split.values()
    for name, fraction in zip(("train", "val", "test"), fractions, strict=True):
        if patients >= 3 or fraction == 0:
            assert (name in split.values()) == (fraction > 0)


def test_order_of_the_files_does_not_matter():
    """Two machines that list a folder differently would get different splits."""
    backwards = dict(reversed(CASES.items()))
    assert draw_split(CASES, (0.6, 0.2, 0.2), 5) == draw_split(backwards, (0.6, 0.2, 0.2), 5)


@settings(deadline=None)
@given(seed=st.integers(0, 100), few=st.integers(1, 12), many=st.integers(1, 12))
def test_smaller_draws_lie_within_larger_ones(seed, few, many):
    """A learning curve over 5, 10 and 20 patients would measure other people at each point."""
    few, many = sorted((few, many))
    split = draw_split(CASES, (0.6, 0.2, 0.2), seed)
    small = keep_training_patients(split, CASES, few, seed)
    large = keep_training_patients(split, CASES, many, seed)
    assert {c for c, part in small.items() if part == "train"} <= {c for c, part in large.items() if part == "train"}
    assert len({CASES[case] for case, part in large.items() if part == "train"}) == many
    rest = {case: part for case, part in split.items() if part != "train"}
    assert {case: part for case, part in small.items() if part != "train"} == rest


def test_too_many_training_patients_are_refused():
    """The user would believe in more training patients than there were."""
    with pytest.raises(UserError, match="12 training patients"):
        keep_training_patients(draw_split(CASES, (0.6, 0.2, 0.2), 0), CASES, 13, 0)


def test_a_file_of_names_is_followed(tmp_path):
    """Published splits could not be repeated."""
    write_json(tmp_path / "split.json", {"train": ["case_0", "case_1"], "test": ["case_8", "case_9"]})
    split = read_split(tmp_path / "split.json", CASES)
    assert split == {"case_0": "train", "case_1": "train", "case_8": "test", "case_9": "test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["case_0", "elsewhere"]}, "elsewhere, not in the data set"),
        ({"train": ["case_0"], "test": ["case_0"]}, "case_0 more than once"),
        ({"train": ["case_0"], "test": ["case_1"]}, "patient patient_0 into different parts"),
        ({"train": []}, "a name in train"),
        ({"training": ["case_0"]}, "a name in train"),
        ({"train": "case_0"}, "list of case names"),
        (["case_0"], "a name in train"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, message):
    """A typing mistake would silently change who is tested."""
    write_json(tmp_path / "split.json", content)
    with pytest.raises(UserError, match=message):
        read_split(tmp_path / "split.json", CASES)


@pytest.mark.parametrize("text", ["", "0.7", "0.7,0.3", "0.7,0.2,0.2", "0,0.5,0.5", "-0.1,0.6,0.5", "a,b,c", "nan,0,1"])
def test_wrong_fractions_are_refused(text):
    """Numbers that do not sum to 1 would be guessed at."""
    with pytest.raises(UserError, match="--split"):
        parse_fractions(text)


def test_fractions_are_read():
    """The documented form would not work."""
    assert parse_fractions("0.7,0.15,0.15") == (0.7, 0.15, 0.15)
