"""What may leave a header."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.data.dicom.names import Identity, patient_names, study_names, tidy
from synthmed.data.readers import read_dataset

WHO = Identity(["Quarzheim^Ottokar^Emil", "XQ-88-4711", "19510203", "Li^An", "7"])


@pytest.mark.parametrize(
    "text",
    [
        "T1 Quarzheim",
        "t1_quarzheim_post",
        "OTTOKAR",
        "xq884711",
        "XQ-88-4711 T2",
        "born 1951-02-03",
        "an T1",
        "Quärzheim",
    ],
)
def test_names_are_found(text):
    """A name in a series description is how a patient gets into a paper's figure."""
    assert WHO.is_told_by(text)


@pytest.mark.parametrize("text", ["T1 tra scan", "FLAIR", "T2 7 mm", "slice 88b", "ANGIO"])
def test_descriptions_are_kept(text):
    """Were every description dropped, nobody would know which channel is which."""
    assert not WHO.is_told_by(text)


@given(st.text(string.ascii_letters, min_size=4, max_size=12), st.text(max_size=10), st.text(max_size=10))
def test_a_name_within_any_text_is_found(name, before, after):
    """Wherever it stands and whatever the case."""
    assert Identity([f"{name}^X"]).is_told_by(f"{before}{name.swapcase()}{after}")


@given(st.text(max_size=80))
def test_tidy_names_are_safe(text):
    """A description with a slash or a control sign would break the names of files and lines."""
    name = tidy(text)
    assert len(name) <= 40 and "/" not in name and "\\" not in name and name.isprintable() and tidy(name) == name


def test_pseudonyms_differ_and_repeat():
    """The same study has the same name tomorrow, and no two have one name."""
    uids = [f"1.2.{number}" for number in range(2000)]
    names = study_names(uids)
    assert len(set(names.values())) == 2000
    assert names["1.2.7"] == study_names(["1.2.7"])["1.2.7"]
    patients = patient_names({"1.2.1": "a", "1.2.2": "b", "1.2.3": "a", "1.2.4": ""}, study_names(uids[1:5]))
    assert patients["1.2.1"] == patients["1.2.3"] != patients["1.2.2"] != patients["1.2.4"]


def test_nothing_of_a_header_or_file_name_is_in_a_name(tmp_path, written, voxels):
    """Folders are named after patients by every export; the store must not carry that on."""
    root = tmp_path / "Quarzheim_Ottokar"
    written.write_series(root / "XQ-88-4711" / "head", voxels(), series="Emil T1")
    dataset = read_dataset(root)
    assert dataset.name == "dicom"
    assert dataset.channels == ("MR 1",)
    told = repr(
        (dataset.name, dataset.channels, dataset.notes, [(c.case, c.patient, list(c.files)) for c in dataset.cases])
    )
    for secret in ("quarzheim", "ottokar", "emil", "4711", "head", "im00", "1951"):
        assert secret not in told.casefold().replace(dataset.cases[0].case, "")


def test_the_library_is_silent(tmp_path, written, voxels, recwarn, caplog):
    """Warnings and log lines of pydicom quote values of the header."""

    def odd(dataset, _):
        dataset.add_new("AccessionNumber", "SH", "Quarzheim" * 4)
        dataset.add_new("PatientAge", "AS", "Quarzheim")

    written.write_series(tmp_path, voxels(), edit=odd)
    recwarn.clear()
    caplog.clear()
    for source in read_dataset(tmp_path).cases[0].images:
        source.open().voxels()
    assert not list(recwarn) and not caplog.records
