"""What tells who a person is. All people here are invented."""

import json
import string
import unicodedata
from datetime import date

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from synthmed.data.people import TECHNICAL, Identity, look_like_people, without_places
from synthmed.data.readers import read_dataset
from synthmed.data.readers.base import ReadOptions

WHO = Identity(
    ["Quarzheim^Ottokar^Emil", "XQ-88-4711", "19510203", "Li^An", "7", "Müller-Grün^Ida", "李^明華=り^めいか"]
)
LETTERS = st.text(string.ascii_letters + "äöüßéèñøłçğ", min_size=4, max_size=12)


def names_somebody(name: str) -> bool:
    """Return whether a word is none of anatomy or imaging, nor part of one."""
    return not any(name.casefold() in word for word in TECHNICAL)


@pytest.mark.parametrize(
    "text",
    [
        *("T1 Quarzheim", "t1_quarzheim_post", "OTTOKAR", "Quärzheim", "OttokarT1", "an T1", "T1AnPost"),
        *("xq884711", "XQ-88-4711 T2", "T1 4711", "MUELLER T1", "Muller", "MÜLLER", "Mu\u0308ller", "gruen", "Grun-T2"),
        *(
            "born 1951-02-03",
            "03.02.1951",
            "2/3/1951 T1 03021951",
            "510203",
            "3 Feb 1951",
            "李明華",
            "T1 明華",
            "めいか",
        ),
        *("QUARZHEIM OTTOKAR T1", "Ida", "ida_t2"),
    ],
)
def test_what_tells_of_a_person_is_found(text):
    """A name in a series description is how a patient gets into a paper's figure."""
    assert WHO.is_revealed_by(text)


@pytest.mark.parametrize(
    "text",
    [
        *("T1 tra scan", "FLAIR", "T2 7 mm", "slice 88b", "ANGIO", "sternum", "T1 post-contrast", "ax T2 FSE", "LA"),
        *("Head Neck 5.0", "left ventricle", "GTV", "brain stem", "idaho"),
    ],
)
def test_what_tells_of_nobody_is_kept(text):
    """Were every description dropped, nobody would know which channel is which."""
    assert not Identity(
        ["Stern^Ida", "La Rosa^An", "1", "XQ-88-4711", "19510203", "Brain Imaging Center"]
    ).is_revealed_by(text)


@settings(deadline=None)
@given(LETTERS, st.text(max_size=10), st.text(max_size=10))
def test_a_name_within_any_text_is_found(name, before, after):
    """Wherever it stands and whatever the case."""
    assume(names_somebody(name))
    assert Identity([f"{name}^X"]).is_revealed_by(f"{before}{name.swapcase()}{after}")


@settings(deadline=None)
@given(LETTERS, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.booleans())
def test_umlauts_are_one_name_in_all_spellings(name, form, spelled_out):
    """A scanner's console knows no umlauts: the header says MÜLLER, the description MUELLER or MULLER."""
    folded = name.translate(str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"}))
    bare = "".join(sign for sign in unicodedata.normalize("NFKD", name) if not unicodedata.combining(sign))
    assume(all(names_somebody(one) and len(one) >= 4 for one in (name, folded, bare)))
    # "aa" is a spelling of its own, of å: more of them in a row can be read in several ways.
    assume("aa" not in bare and "aa" not in folded)
    other = folded if spelled_out else bare
    for header, text in ((name, other), (other, name), (folded, bare), (bare, folded)):
        assert Identity([f"X^{unicodedata.normalize(form, header)}"]).is_revealed_by(f"T1 {text.upper()} tra")


@settings(deadline=None)
@given(st.text(string.ascii_lowercase, min_size=3, max_size=3), st.sampled_from([" ", "_", "-", "^", "2"]))
def test_three_letters_are_found_as_a_word(name, sign):
    """Ida is short, and in many words; alone she is meant."""
    assume(names_somebody(name))
    assert Identity([f"X^{name.title()}"]).is_revealed_by(f"T1{sign if sign != '2' else ' '}{name.upper()}{sign}x")


@settings(deadline=None)
@given(st.dates(date(1850, 1, 1), date(2099, 12, 31)), st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%y%m%d"]))
def test_dates_are_found_as_people_write_them(day, style):
    """A date of birth in a protocol's name is as good as a name."""
    assert Identity([day.strftime("%Y%m%d")]).is_revealed_by(f"T1 {day.strftime(style)} tra")


@pytest.mark.parametrize(
    "name",
    [
        *("Mueller_Anna_1961", "Mueller_Anna", "SMITH^JOHN", "Doe, Jane", "SMITH_JOHN", "mueller_anna_19610312"),
        *("19610312", "1961-03-12", "12.03.1961", "Tannhaus_1948", "MuellerAnna", "Müller Änne", "patient_19480312"),
        *("mueller_1961", "scan_Morgenrot_Uwe_20190312"),
    ],
)
def test_names_of_people_are_seen(name):
    """Cases get their files' names; who shares a store then shares these."""
    assert look_like_people([name]) == [name]
    assert look_like_people([f"hippocampus_{number:03d}" for number in range(20)] + [name]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "hippocampus_003",
            "BraTS-GLI-00005-000",
            "BraTS20_Training_001",
            "patient001",
            "patient001_frame01",
            "case_0000",
        ),
        *(
            "TCGA_CS_4941_19960909",
            "Image_01L",
            "LUNG1-001",
            "OAS1_0001_MR1",
            "s0011",
            "sub-01_ses-2",
            "SYN_0000000001",
        ),
        *("la_003", "IXI002-Guys-0828-T1", "volume-12", "Case00", "ISIC_0000000", "img0001", "AMOS_0001", "KiTS_00012"),
        *("prostate_00", "BRATS_001", "pancreas_001", "colon_001", "spleen_10", "lung_001", "hepaticvessel_001"),
        *("Prostate-MRI-US-Biopsy-0001", "ABD_LYMPH_001", "001_20190312", "P12_visit2", "21_training", "im0077"),
        *(
            "Left_Kidney_12",
            "phantom_003",
            "study-1961abcd",
            "patient-0123abcd",
            "3f2a1961-beef-4fed-8000-decade12face",
        ),
        *("C3N-00203", "MMWHS_ct_train_1001", "A00147", "ID_19451322", "FLARE22_Tr_0001", "T1 post-contrast"),
    ],
)
def test_usual_names_of_cases_are_no_people(name):
    """A warning that cries wolf on every public data set is read by nobody."""
    assert look_like_people([name]) == []


def test_what_many_cases_are_called_is_no_person():
    """Sets are named after cities and scanners, and all their cases with them."""
    names = [f"Lake_Garda_{number:03d}" for number in range(12)]
    assert look_like_people(names) == []
    assert look_like_people([*names, "Tannhaus_Ida_left", "Tannhaus_Ida_right"]) == [
        "Tannhaus_Ida_left",
        "Tannhaus_Ida_right",
    ]


@pytest.mark.parametrize("folder", ["hippocampus", "lgg128", "lgg128_more", "lgg_tiff", "chase_db1"])
def test_real_sets_raise_no_alarm(test_data, folder):
    """Real names of cases, none of which is a person's."""
    cases = read_dataset(test_data / folder).cases
    assert look_like_people(case.case for case in cases) == []
    assert look_like_people({case.patient for case in cases}) == []


def test_a_set_is_never_called_as_its_folder(tmp_path):
    """The name is in each generated set, exported model and report: a folder's may be a hospital's or a patient's."""
    from synthmed.data.phantom import write_phantom

    folder = tmp_path / "Klinikum_Wolkenstein"
    write_phantom(folder, cases=2, size=16)
    assert read_dataset(folder).name == "synthmed phantom"
    assert read_dataset(folder, ReadOptions(name=" brain  tumours ")).name == "brain tumours"
    description = json.loads((folder / "dataset.json").read_text())
    description.pop("name")
    (folder / "dataset.json").write_text(json.dumps(description))
    found = read_dataset(folder)
    assert found.name == "unnamed" and any("--name" in note for note in found.notes)
    (folder / "dataset.json").unlink()
    found = read_dataset(folder)
    assert found.name == "unnamed" and any("--name" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/Mueller/set/a.nii is damaged: mend it", "... is damaged: mend it"),
        (r"C:\Users\Mueller\a.nii is damaged", "... is damaged"),
        ("cannot read '~/Mueller/x' (No such file)", "cannot read '...' (No such file)"),
        ("/a b/Mueller Anna/x.nii: mend it", "...: mend it"),
        ("loss 1/2 of 3 mm/s, T1/T2, 5 / 6", "loss 1/2 of 3 mm/s, T1/T2, 5 / 6"),
    ],
)
def test_places_are_left_out(text, left):
    """An error's text in a report names the folder of a clinic."""
    assert without_places(text, ["/a b/Mueller Anna"]) == left
