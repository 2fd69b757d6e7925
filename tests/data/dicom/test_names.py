"""What may leave a header."""

from hypothesis import given
from hypothesis import strategies as st

from synthmed.data.dicom.names import patient_names, study_names, tidy
from synthmed.data.readers import read_dataset


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
    written.write_series(root / "XQ-88-4711" / "knopf", voxels(), series="Emil T1")
    dataset = read_dataset(root)
    assert dataset.name == "unnamed"
    assert dataset.channels == ("MR 1",)
    told = repr(
        (dataset.name, dataset.channels, dataset.notes, [(c.case, c.patient, list(c.files)) for c in dataset.cases])
    )
    for secret in ("quarzheim", "ottokar", "emil", "4711", "knopf", "im00", "1951"):
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
