"""Series of a study as channels, studies as cases."""

import numpy as np
import pytest

from synthmed.data.formats import Volume
from synthmed.data.inspect import fingerprint
from synthmed.data.readers import ReadOptions, load_case, read_dataset


def test_registered_series_are_channels(tmp_path, written, voxels):
    """A generator of T1 and T2 must see the two of one patient together, in the same order in every study."""
    for study, order in (("a", (1, 2)), ("b", (2, 1))):
        for seed, (name, number) in enumerate(zip(("T1", "T2 tra"), order, strict=True)):
            written.write_series(
                tmp_path / study / f"s{seed}",
                voxels(seed),
                study=study,
                series=name,
                number=number,
                gap=3 + 0.001 * seed,
            )
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "DICOM"
    # As the series are numbered in the study whose UID comes first.
    assert dataset.channels == (("T1", "T2 tra") if written.uid("a") < written.uid("b") else ("T2 tra", "T1"))
    assert dataset.modalities == ("MRI", "MRI")
    assert len(dataset.cases) == 2
    for files in dataset.cases:
        case = load_case(files)
        for channel, name in enumerate(dataset.channels):
            np.testing.assert_array_equal(case.images[..., channel], voxels(["T1", "T2 tra"].index(name)))


def test_rounded_headers_are_one_grid(tmp_path, written, voxels):
    """Scanners round positions; a hundredth of a millimetre must neither drop a channel nor refuse the study."""
    written.write_series(tmp_path / "1", voxels(1), series="T1")
    written.write_series(tmp_path / "2", voxels(2), series="T2", gap=3.004, origin=(-20.01, 13.51, 7.24))
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("T1", "T2")
    assert fingerprint(dataset).problems == ()


def test_other_grids_are_left_out_and_told(tmp_path, written, voxels):
    """A series resampled in silence, or lost in silence, would change a study without its author knowing."""
    written.write_series(tmp_path / "1", voxels(1), series="T1")
    written.write_series(tmp_path / "2", voxels(2), series="T2")
    written.write_series(tmp_path / "3", voxels(3), series="thick", gap=5.0)
    written.write_series(tmp_path / "4", voxels(4), series="elsewhere", space="another")
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("T1", "T2")
    assert "left out: 2 series of 1 study with another geometry" in dataset.notes


def test_scouts_screenshots_and_reports_are_left_out_and_told(tmp_path, written, voxels):
    """A localizer of three planes is in nearly every study and must not stop it from being read."""
    written.write_series(tmp_path / "1", voxels(1), series="T1")

    def scout(dataset, index):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if index % 2 else [0, 1, 0, 0, 0, 1]

    def screen(dataset, _):
        dataset.SOPClassUID = written.SECONDARY
        del dataset.ImagePositionPatient

    def report(dataset, _):
        dataset.Modality = "SR"
        del dataset.Rows, dataset.Columns, dataset.PixelData

    written.write_series(tmp_path / "2", voxels(2), series="loc", edit=scout)
    written.write_series(tmp_path / "3", voxels(3), series="result", edit=screen)
    written.write_series(tmp_path / "4", voxels(4)[:, :, :1], series="report", edit=report)
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM of no use")
    (tmp_path / "readme.txt").write_text("hello")
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("T1",)
    told = "\n".join(dataset.notes)
    assert "1 series of 1 study with a localizer or derived picture" in told
    assert "1 series of 1 study with a screenshot or in colour" in told
    assert "left out: 1 of the files, which are no images (SR)" in told


def test_echoes_in_one_series_are_left_out_where_others_are_there(tmp_path, written, voxels):
    """Diffusion series hold every position several times; beside them the others can still be used."""
    written.write_series(tmp_path / "1", voxels(1), series="T1")
    twice = np.concatenate([voxels(2), voxels(3)], axis=2)

    def again(dataset, index):
        if index >= 5:
            dataset.ImagePositionPatient = positions[index - 5]
        positions.append(dataset.ImagePositionPatient)

    positions: list = []
    written.write_series(tmp_path / "2", twice, series="DWI", edit=again)
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("T1",)
    assert "left out: 1 series of 1 study with several volumes in one series" in dataset.notes


def test_a_study_without_a_channel_is_a_problem_with_its_mend(tmp_path, written, voxels):
    """A case with T1 where T2 should be would teach nonsense; dropped in silence it would be missed in the paper."""
    for number, study in enumerate(("a", "b", "c")):
        written.write_series(tmp_path / study / "1", voxels(number), study=study, series="T1")
        if study != "c":
            written.write_series(tmp_path / study / "2", voxels(number + 3), study=study, series="T2")
    problems = fingerprint(read_dataset(tmp_path)).problems
    assert any(
        "lacks T2" in one.what and "--channel" in one.mend and one.file.startswith(str(tmp_path)) for one in problems
    )


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_lone_series_of_other_names(tmp_path, written, voxels, modality):
    """A CT is a CT by any name, in Hounsfield units; a T1 taken for a FLAIR would spoil a study in silence."""
    for study, name in (("a", "Abd 5.0 B30f"), ("b", "portal venous"), ("c", "Abd 5.0 B30f")):
        written.write_series(tmp_path / study, voxels(ord(study)), study=study, series=name, modality=modality)
    dataset = read_dataset(tmp_path)
    problems = fingerprint(dataset).problems
    if modality == "CT":
        assert dataset.channels == ("CT",) and dataset.modalities == ("CT",) and problems == ()
    else:
        assert dataset.channels == ("Abd 5.0 B30f",) and "lacks Abd 5.0 B30f" in problems[0].what


def test_channels_by_pattern(tmp_path, written, voxels):
    """Sites describe one scan in many ways; whoever knows them can say which are the same."""
    for study, name in (("a", "t1 mprage"), ("b", "T1 SE tra")):
        written.write_series(tmp_path / study / "1", voxels(1), study=study, series=name)
        written.write_series(tmp_path / study / "2", voxels(2), study=study, series=f"FLAIR {study}")
    dataset = read_dataset(tmp_path, ReadOptions(channels=(("F", "flair*"), ("T1", "T1*"))))
    assert dataset.channels == ("F", "T1")
    for files in dataset.cases:
        np.testing.assert_array_equal(load_case(files).images[..., 1], voxels(1))


def test_two_studies_of_a_person_are_one_patient(tmp_path, written, voxels):
    """Two visits of one person in training and test would make every score too good."""
    other = written.Person("Nemo^Nobody", "ZZ-1", "19000101")
    for study, person in (("first", None), ("second", None), ("third", other)):
        written.write_series(tmp_path / study, voxels(len(study)), study=study, person=person)
    cases = read_dataset(tmp_path).cases
    assert len({case.patient for case in cases}) == 2
    assert len({case.case for case in cases}) == 3
    assert all(case.case.startswith("study-") and case.patient.startswith("patient-") for case in cases)


def test_a_study_without_patient_id_is_conditional(tmp_path, written, voxels):
    """Whoever has two visits without IDs must know that they are taken for two patients."""

    def nobody(dataset, _):
        dataset.PatientID = ""

    for study in ("a", "b"):
        written.write_series(tmp_path / study, voxels(len(study)), study=study, edit=nobody)
    dataset = read_dataset(tmp_path)
    assert len({case.patient for case in dataset.cases}) == 2
    assert any(note.startswith("no PatientID in 2 studies") for note in dataset.notes)


def test_labels_without_their_images_are_told(tmp_path, written, voxels):
    """A segmentation exported under another study's UID would be missing without a word."""
    pytest.importorskip("highdicom")
    written.write_series(tmp_path / "a", voxels())
    others = written.write_series(tmp_path / "b", voxels(), study="other")
    written.write_seg(tmp_path / "seg.dcm", others, {"a": voxels() > 400})
    for path in others:
        path.unlink()
    dataset = read_dataset(tmp_path)
    assert len(dataset.cases) == 1 and not dataset.labelled
    assert "left out: 1 of the label objects, of studies whose images are not here" in dataset.notes


def test_repeated_and_empty_descriptions_are_numbered(tmp_path, written, voxels):
    """Two channels of one name could not be told apart in any table."""
    for number, description in enumerate(("T1", "T1", "", "FLAIR"), start=1):
        written.write_series(
            tmp_path / str(number), voxels(number), series=f"s{number}", description=description, number=number
        )
    assert read_dataset(tmp_path).channels == ("MR 1", "MR 2", "MR 3", "FLAIR")


def test_series_in_one_flat_folder(tmp_path, written, voxels):
    """Exports often throw all files of all studies into one folder."""
    for study in ("a", "b"):
        for name in ("T1", "T2"):
            for index, path in enumerate(written.write_series(tmp_path / "in", voxels(1), study=study, series=name)):
                path.rename(tmp_path / f"{study}{name}{(index * 3) % 5}.dcm")
    (tmp_path / "in").rmdir()
    dataset = read_dataset(tmp_path)
    assert set(dataset.channels) == {"T1", "T2"} and len(dataset.cases) == 2
    assert load_case(dataset.cases[0]).images.shape == (9, 7, 5, 2)


def test_the_real_study(test_data):
    """The study that a hospital gave: four registered series, a crop on another grid, no labels."""
    dataset = read_dataset(test_data / "dicom_study")
    assert set(dataset.channels) == {"T1pre_reg", "T1post", "FLAIR_reg", "T2_reg"}
    assert len(dataset.cases) == 1 and not dataset.labelled
    assert dataset.classes == ("background",) and dataset.label_values == (0,)
    volumes: list[Volume] = [source.open() for source in dataset.cases[0].images]
    assert {volume.geometry.shape for volume in volumes} == {(280, 320, 22)}
    np.testing.assert_allclose(volumes[0].geometry.zooms, (0.6875, 0.6875, 6.5), rtol=1e-4)
    assert "left out: 1 series of 1 study with another geometry" in dataset.notes
    assert any(note.startswith("no labels") for note in dataset.notes)
    assert fingerprint(dataset).problems == ()


@pytest.mark.parametrize("beside", [0, 4])
def test_a_folder_of_other_files_is_no_dicom(tmp_path, written, voxels, beside):
    """A folder of NIfTI with one forgotten DICOM file is read as NIfTI."""
    from synthmed.data.readers.dicom import DicomReader

    written.write_series(tmp_path / "z", voxels()[:, :, :1])
    for number in range(beside):
        (tmp_path / f"case_{number}.nii.gz").write_bytes(b"")
    assert DicomReader().recognises(tmp_path) == (beside == 0)
