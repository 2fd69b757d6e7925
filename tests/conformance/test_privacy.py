"""Nothing that names a person, a private folder or a machine leaves: a scan over every file and line of whole runs."""

import gzip
import importlib.util
import io
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from synthmed.cli.main import main
from synthmed.data.dicom.slices import PERSONAL

QUICK = ["--batch", "4", "--precision", "float32", "--set", "channel_base=256", "--set", "channel_max=16"]
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
# Shorter values, as a StudyID of "1", stand in every file by chance.
SHORTEST = 4


def written():
    """Return the module that writes DICOM, from the folder of the readers' tests."""
    path = Path(__file__).parents[1] / "data" / "dicom" / "written.py"
    specification = importlib.util.spec_from_file_location("dicom_written", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def secrets_of(folder: Path) -> set[str]:
    """Return all that the headers of a folder's DICOM files say of people, dates, places, and their UIDs."""
    found: set[str] = set()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        for element in dataset.iterall():
            if element.VR in ("PN", "DA", "DT") or element.keyword in (*PERSONAL, *UIDS):
                value = str(element.value or "")
                found.update((value, *value.replace("^", " ").replace("=", " ").split()))
                if element.VR == "DA" and len(value) == 8:
                    found.add(f"{value[:4]}-{value[4:6]}-{value[6:]}")
    return {value.casefold() for value in found if len(value) >= SHORTEST}


def readings(content: bytes):
    """Yield a file's bytes, and what is packed within them."""
    yield content
    if content[:2] == b"\x1f\x8b":
        yield from readings(gzip.decompress(content))
    elif content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from readings(archive.read(name))
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            yield repr(image.info).encode()
    elif content[:1] == b"\x78":
        try:
            yield zlib.decompress(content)
        except zlib.error:
            return


def told(secrets: set[str], content: bytes) -> set[str]:
    """Return which secrets stand in some bytes, in whatever case, as UTF-8 or UTF-16."""
    found = set()
    for reading in readings(content):
        # UTF-16 of plain letters is the letters with a zero beside each: one text without them serves both.
        lowered = reading.lower()
        wide = lowered.replace(b"\0", b"")
        for secret in secrets:
            encoded = secret.encode()
            if encoded in lowered or encoded in wide:
                found.add(secret)
    return found


def leaks(secrets: set[str], folder: Path) -> dict[str, set[str]]:
    """Return the secrets that the files of a folder, or their names, tell."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        wrong = told(secrets, name.encode())
        if path.is_file():
            wrong |= told(secrets, path.read_bytes())
        if wrong:
            found[name] = wrong
    return found


def run(capfd, *words) -> str:
    """Run a command that must succeed and return all that it printed."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    captured = capfd.readouterr()
    assert end.value.code == 0, captured.err
    return captured.out + captured.err


@pytest.mark.parametrize("packing", ["plain", "utf-16", "gzip", "npz", "png", "name"])
def test_the_scan_finds_what_is_planted(tmp_path, packing):
    """A scan that cannot find anything would prove nothing."""
    secrets, text = {"quarzheim", "19510203"}, "prefix Quarzheim^Ottokar suffix"
    (tmp_path / "innocent.json").write_text('{"case": "study-01234567"}')
    target = tmp_path / "a" / "file.bin"
    target.parent.mkdir()
    if packing == "plain":
        target.write_bytes(b"\xff\xfe" + text.encode())
    elif packing == "utf-16":
        target.write_bytes(b"x" + text.encode("utf-16-le"))
    elif packing == "gzip":
        target.write_bytes(gzip.compress(text.upper().encode()))
    elif packing == "npz":
        with target.open("wb") as file:
            np.savez_compressed(file, case=np.array([text]))
    elif packing == "png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("comment", text, zip=True)
        Image.new("L", (4, 4)).save(target, format="PNG", pnginfo=info)
    else:
        target = tmp_path / "a" / "quarzheim.txt"
        target.write_text("")
    assert list(leaks(secrets, tmp_path)) == [str(target.relative_to(tmp_path))]
    assert leaks(secrets, tmp_path)[str(target.relative_to(tmp_path))] == {"quarzheim"}


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_whole_run_tells_nothing(tmp_path, monkeypatch, capfd):
    """A shared generator or a figure's log with a patient's name in it is a breach that nobody can take back."""
    pytest.importorskip("highdicom")
    from synthmed.data.phantom import draw_case

    dicom = written()
    source = tmp_path / "in" / "Quarzheim_XQ-88-4711"
    for number, family in enumerate(("Quarzheim", "Wolkenstein", "Zibulka", "Ehrenpreis", "Tannhaus", "Morgenrot")):
        who = dicom.Person(f"{family}^Ottokar", f"XQ-88-47{number}1", f"195{number}0203")
        images, labels, _ = draw_case(number, size=32, channels=2, seed=1)
        for channel, description in enumerate(("T1", f"T2 {family}")):
            files = dicom.write_series(
                source / family / description,
                images[..., channel],
                study=family,
                series=f"{channel}",
                description=description,
                person=who,
                number=channel,
            )
        masks = {"organ": labels == 1, "lesion": labels > 1}
        dicom.write_seg(source / family / "seg" / f"{family}.dcm", files, masks)
    secrets = secrets_of(source)
    assert {"quarzheim", "xq-88-4701", "20190317", "klinikum nirgendheim", "acc99887766"} <= secrets

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    lines = [
        run(capfd, "inspect", source),
        run(capfd, "inspect", source, "--json"),
        run(capfd, "prepare", source, "--out", "store", "--size", "32x32", "--split", "0.5,0.25,0.25"),
        run(capfd, "train", "--variant", "base", "--data", "store", "--out", "run", "--kimg", "0.008", *QUICK),
        run(capfd, "generate", "--n", "12", "--model", "run", "--out", "drawn"),
        run(capfd, "generate", "--n", "2", "--model", "run", "--out", "npz", "--format", "npz"),
        run(capfd, "generate", "--n", "2", "--model", "run", "--out", "png", "--format", "png"),
        run(capfd, "evaluate", "--real", "store", "--synthetic", "drawn", "--out", "evaluation"),
        run(capfd, "export", "run", "--to", "models", "--name", "phantom"),
        run(capfd, "generate", "--n", "2", "--model", "run", "--out", "merged", "--merge-with", source),
        run(capfd, "segment", "train", "--data", "store", "--out", "unet", "--steps", "2", "--batch", "4"),
        run(capfd, "segment", "predict", "--model", "unet", source, "--out", "predicted"),
    ]
    assert told(secrets, "\n".join(lines).encode()) == set()
    assert len(list(work.rglob("*"))) > 30
    assert leaks(secrets, work) == {}


def plant_volumes(folder: Path) -> set[str]:
    """Write a set of volumes whose folders, files and headers are named after people, and return these names."""
    import nibabel

    from synthmed.data.phantom import draw_case

    people = ("Zibulka_Olga_19610312", "Ehrenpreis_Kuno", "Tannhaus_Ida", "Morgenrot_Uwe", "Birkenlaub_Eva", "Veilchen")
    for number, name in enumerate(people):
        images, labels, _ = draw_case(number, size=32, channels=2, seed=1)
        (folder / name).mkdir(parents=True)
        for channel in range(2):
            image = nibabel.Nifti1Image(images[..., channel].astype(np.int16), np.eye(4))
            for field in ("descrip", "aux_file", "db_name", "intent_name"):
                image.header[field] = b"Feldspat"
            nibabel.save(image, folder / name / f"{name}_t{channel + 1}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), np.eye(4)), folder / name / f"{name}_seg.nii.gz")
    # Shorter ones stand by chance in the pictures of a page, which are text, too.
    parts = {part.casefold() for name in people for part in name.split("_") if len(part) > SHORTEST + 2}
    return {*parts, "feldspat", "zaunkoenig"}


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_names_of_folders_files_and_machines_stay_home(tmp_path, monkeypatch, capfd):
    """What is shared of a study would say which hospital, whose computer and whose scan it comes from."""
    import platform
    import socket

    home = tmp_path / "Wolkenstein" / "home-of-Quarzheim"
    source = home / "Zaunkoenig"
    people = plant_volumes(source)
    monkeypatch.setenv("HOME", str(home))
    for module, name in ((platform, "node"), (socket, "gethostname")):
        monkeypatch.setattr(module, name, lambda: "wacholder-pc")
    work = home / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    store, trained, unet = "Lindwurm-store", "Hollunder-run", "Kastanie-unet"
    folders = {"wolkenstein", "quarzheim", "zaunkoenig", "lindwurm", "hollunder", "kastanie", "wacholder"}
    folders |= {str(Path(__file__).parents[2]).casefold()}
    few = ["--steps", "2", "--batch", "4"]
    told_people = run(capfd, "inspect", source)
    assert "looks like a person's name" in " ".join(told_people.split())
    run(capfd, "prepare", source, "--out", store, "--size", "32x32", "--split", "0.5,0.25,0.25")
    run(capfd, "train", "--variant", "base", "--data", store, "--out", trained, "--kimg", "0.008", *QUICK)
    run(capfd, "generate", "--n", "12", "--model", trained, "--out", "shared/drawn")
    run(capfd, "generate", "--n", "2", "--model", work / trained, "--out", "shared/npz", "--format", "npz")
    run(capfd, "generate", "--n", "2", "--model", trained, "--out", "shared/png", "--format", "png")
    run(capfd, "evaluate", "--real", store, "--synthetic", "shared/drawn", "--out", "shared/evaluation")
    run(capfd, "export", trained, "--to", "shared/models", "--audit-n", "8")
    run(
        capfd, "segment", "train", "--data", store, "--synthetic", "shared/drawn", "--ratio", "0.5", "--out", unet, *few
    )
    run(capfd, "segment", "predict", "--model", unet, source, "--out", "predicted")
    run(capfd, "segment", "score", "predicted", source, "--out", "scores.csv")

    assert len(list((work / "shared").rglob("*"))) > 30
    assert leaks(people | folders, work / "shared") == {}
    (exported,) = (work / "shared" / "models").iterdir()
    assert exported.name.startswith("base-")
    # Names of cases stay in the store and in what is found of these cases; names of folders are not even there.
    assert leaks(folders, work / store) == {}
    assert leaks(folders, work / "predicted") == {}
    assert told(folders, (work / "scores.csv").read_bytes()) == set()
    # Runs are private: they remember where their store is. Whom it holds they do not say.
    assert set(leaks(people | folders, work / trained)) == {"run.json"}
    assert set(leaks(people | folders, work / unet)) == {"segmentation.json"}
    for name in (trained, unet):
        assert leaks(people - {"zaunkoenig"}, work / name) == {}


def test_mistakes_are_told_without_the_header(tmp_path, capfd):
    """An error is what people paste into a public question."""
    dicom = written()
    voxels = np.arange(9 * 7 * 5, dtype=np.int16).reshape(9, 7, 5)
    dicom.write_series(tmp_path / "export", voxels, edit=lambda dataset, index: index != 2)
    secrets = secrets_of(tmp_path)
    for words in (["inspect"], ["inspect", "--json"], ["prepare", "--out", str(tmp_path / "store")]):
        with pytest.raises(SystemExit) as end:
            main([words[0], str(tmp_path / "export"), *words[1:], "--debug"])
        captured = capfd.readouterr()
        assert end.value.code == 2
        assert told(secrets, (captured.out + captured.err).encode()) == set()


def test_the_real_study_tells_nothing(test_data, tmp_path, monkeypatch, capfd):
    """A study as a hospital gave it has names in places that nobody thinks of."""
    source = test_data / "dicom_study"
    secrets = secrets_of(source)
    assert {"albus", "dumbledore", "pgbm-003", "20200121"} <= secrets
    monkeypatch.chdir(tmp_path)
    lines = [
        run(capfd, "inspect", source),
        run(capfd, "inspect", source, "--json"),
        run(capfd, "prepare", source, "--out", "store", "--size", "64x64"),
    ]
    assert told(secrets, "\n".join(lines).encode()) == set()
    assert (tmp_path / "store" / "manifest.json").is_file()
    assert leaks(secrets, tmp_path) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_generator_of_the_real_study_tells_nothing(test_data, tmp_path, monkeypatch, capfd):
    """A model that was shown a hospital's images is shared in place of them: it must not say whose they were."""
    source = test_data / "dicom_study"
    secrets = secrets_of(source)
    monkeypatch.chdir(tmp_path)
    beside = ["--unlabelled", "real", "--batch", "4"]
    lines = [
        run(capfd, "phantom", "set", "--cases", "6", "--size", "32", "--channels", "4"),
        run(capfd, "prepare", "set", "--out", "phantom", "--size", "32x32"),
        run(capfd, "prepare", source, "--out", "real", "--unlabelled-for", "phantom"),
        run(
            capfd,
            "train",
            "--variant",
            "base",
            "--data",
            "phantom",
            "--out",
            "run",
            "--kimg",
            "0.008",
            *beside,
            *QUICK[2:],
        ),
        run(capfd, "generate", "--n", "2", "--model", "run", "--out", "drawn"),
        run(capfd, "export", "run", "--to", "models", "--name", "real"),
    ]
    assert told(secrets, "\n".join(lines).encode()) == set()
    assert (tmp_path / "real" / "manifest.json").is_file() and (tmp_path / "models" / "real").is_dir()
    assert leaks(secrets, tmp_path) == {}
