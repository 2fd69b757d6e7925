"""What may leave a header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.data.dicom.slices import PERSONAL, read_header
from synthmed.data.dicom.study import patient_names, study_names, tidy
from synthmed.data.readers import ReadOptions, load_case, read_dataset


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


def plant_everywhere(dataset):
    """Put a name of its own into every element of VR PN, and numbers into all that identifies; return these texts."""
    from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    planted = []
    people = [tag for tag, entry in DicomDictionary.items() if entry[0] == "PN" and tag >> 16 >= 8]
    for number, tag in enumerate(people):
        planted.append(f"Zib{'abcdefghij'[number % 10] * 2}{'klmnopqrst'[number // 10] * 2}ka")
        item = Dataset() if number % 3 else dataset
        item.add_new(tag, "PN", f"{planted[-1]}^Wanda" if number % 2 else [f"Eins^A={planted[-1]}", "Zwei^B"])
        if number % 3:
            # Some within a sequence, some within a sequence within one.
            for _ in range(number % 3):
                outer = Dataset()
                outer.RequestAttributesSequence = Sequence([item])
                item = outer
            dataset.add_new((0x0040, 0x0275), "SQ", Sequence([*dataset.get("RequestAttributesSequence", []), item]))
    for number, name in enumerate(PERSONAL):
        tag = tag_for_keyword(name)
        if name not in dataset and dictionary_VR(tag) in ("LO", "SH", "ST", "UT", "LT"):
            planted.append(f"KENN{number:03d}77")
            dataset.add_new(tag, dictionary_VR(tag), planted[-1])
    dataset.add_new((0x0011, 0x0010), "LO", "SOMEBODY 1.0")
    dataset.add_new((0x0011, 0x1001), "PN", "Privatissima^P")
    other = Dataset()
    other.PatientID = "OTHER-88123"
    dataset.OtherPatientIDsSequence = Sequence([other])
    dataset.AcquisitionDateTime = "19870502101112.000000"
    return [*planted, "Privatissima", "OTHER-88123", "1987-05-02"]


@pytest.mark.parametrize("implicit", [False, True])
def test_every_element_that_names_somebody_is_looked_at(tmp_path, written, voxels, implicit):
    """A mother's maiden name or a radiologist's is in one element of a hundred; each of them is somebody's."""
    import pydicom

    from synthmed.data.people import Identity

    planted = []
    paths = written.write_series(
        tmp_path / "one", voxels(), edit=lambda dataset, _: planted.extend(plant_everywhere(dataset))
    )
    dataset = pydicom.dcmread(paths[2])
    if implicit:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        # What VR a private element has is lost then.
        planted.remove("Privatissima")
        dataset.save_as(paths[2], implicit_vr=True, little_endian=True)
    header = read_header(paths[2])
    identity = Identity(header.personal)
    assert [
        text for text in dict.fromkeys(planted) if text != "Privatissima" and not identity.is_revealed_by(f"T1 {text}")
    ] == []
    if not implicit:
        assert identity.is_revealed_by("T1 privatissima")


def test_people_of_other_studies_count_too(tmp_path, written, voxels):
    """A brother's or a physician's name stands in another patient's headers, and in a description here."""

    def physician(dataset, index):
        if index == 1:
            dataset.NameOfPhysiciansReadingStudy = "Grünspan^Ada"

    written.write_series(
        tmp_path / "a", voxels(1), study="a", edit=physician, person=written.Person("Ahorn^A", "P-1111")
    )
    written.write_series(
        tmp_path / "b", voxels(2), study="b", series="T1 GRUENSPAN", person=written.Person("Buche^B", "P-2222")
    )
    dataset = read_dataset(tmp_path, ReadOptions(channels=(("first", "t1*"),)))
    assert dataset.channels == ("first",) and all(len(case.images) == 1 for case in dataset.cases)
    assert [load_case(case).images.shape for case in dataset.cases] == [(9, 7, 5, 1)] * 2
    notes = " ".join(read_dataset(tmp_path).notes)
    assert "SeriesDescription of 5 files" in notes and "--channel" in notes and "spa" not in notes.casefold()


def test_structures_named_after_people_keep_their_meaning(tmp_path, written, voxels):
    """Numbered file by file, one patient's tumour would be the other's kidney."""
    masks = {}
    for name, corner in (("Niere Quarzheim", 1), ("Tumor Quarzheim", 4)):
        masks[name] = voxels(0) * 0 > 0
        masks[name][corner : corner + 2, 2:4, 1:3] = True
    pytest.importorskip("highdicom")
    for study, order in (("a", list(masks)), ("b", list(reversed(masks)))):
        images = written.write_series(tmp_path / study, voxels(ord(study)), study=study)
        written.write_seg(tmp_path / study / "seg.dcm", images, {name: masks[name] for name in order})
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("background", "structure 1", "structure 2")
    for case in dataset.cases:
        labels = load_case(case).labels
        assert (labels == 1).tolist() == masks["Niere Quarzheim"].tolist()
        assert (labels == 2).tolist() == masks["Tumor Quarzheim"].tolist()
    (note,) = [note for note in dataset.notes if "SegmentLabel" in note]
    assert "2 files" in note and "structure 1, structure 2" in note and "quarzheim" not in note.casefold()


def test_a_modality_is_one_of_dicoms(tmp_path, written, voxels):
    """What has no description is called by its modality, a field into which anything can be typed."""
    written.write_series(tmp_path, voxels(), series="Emil", modality="OTTOKAR")
    assert read_dataset(tmp_path).channels == ("OT 1",)
