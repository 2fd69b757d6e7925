"""Sound data sets, and functions that spoil them, in the current folder."""

import contextlib
import gzip
import io
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from synthmed.cli.main import main
from synthmed.files import read_json, write_json

PREPARE = "prepare set --out store"


def write_set(folder: str = "set", cases: int = 4) -> Path:
    """Write a sound nnU-Net raw set of two channels and two classes."""
    root = Path(folder)
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(parents=True)
    shape, affine = (16, 18, 6), np.diag([1.0, 1.0, 3.0, 1.0])
    for number in range(cases):
        random = np.random.default_rng(number)
        labels = np.zeros(shape, np.uint8)
        labels[4:8, 4:9, 2:4], labels[9:12, 9:14, 2:5] = 1, 2
        for channel in range(2):
            voxels = random.normal(100 + 50 * labels, 9).astype(np.float32)
            nib.save(nib.Nifti1Image(voxels, affine), root / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), root / "labelsTr" / f"case_{number}.nii.gz")
    content = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "organ": 1, "lesion": 2}}
    write_json(root / "dataset.json", {**content, "numTraining": cases, "file_ending": ".nii.gz"})
    return root


def write_decathlon() -> Path:
    """Write a sound Decathlon set: the channels along a fourth axis."""
    root = write_set()
    for label in sorted((root / "labelsTr").iterdir()):
        name = label.name.removesuffix(".nii.gz")
        channels = [root / "imagesTr" / f"{name}_{channel:04d}.nii.gz" for channel in range(2)]
        voxels = np.stack([np.asarray(nib.load(path).dataobj) for path in channels], axis=-1)
        nib.save(nib.Nifti1Image(voxels, nib.load(label).affine), root / "imagesTr" / label.name)
        for path in channels:
            path.unlink()
    names = sorted(path.name for path in (root / "labelsTr").iterdir())
    content = {
        "modality": {"0": "T1", "1": "FLAIR"},
        "labels": {"0": "background", "1": "organ", "2": "lesion"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
    }
    write_json(root / "dataset.json", content)
    return root


def sound(then: Callable[[], object]) -> Callable[[], object]:
    """Return a function that writes a sound set and goes on with `then`."""

    def spoil() -> None:
        write_set()
        then()

    return spoil


IMAGE, LABEL = "set/imagesTr/case_1_0001.nii.gz", "set/labelsTr/case_1.nii.gz"
Edit = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def voxels(file: str, edit: Edit) -> Callable[[], object]:
    """Return a function that rewrites a file of a sound set with `edit(voxels, affine)`."""

    def spoil() -> None:
        image = nib.load(file)
        nib.save(nib.Nifti1Image(*edit(np.asarray(image.dataobj).copy(), image.affine.copy())), file)

    return sound(spoil)


def at(value: float) -> Edit:
    """Return an edit that puts a value into one voxel."""

    def edit(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        array = array.astype(np.float32)
        array[3, 2, 1] = value
        return array, affine

    return edit


def moved(affine: np.ndarray, distance: float) -> np.ndarray:
    """Return an affine whose origin lies further to the right."""
    affine[0, 3] += distance
    return affine


def data(file: str, edit: Callable[[bytes], bytes]) -> Callable[[], object]:
    """Return a function that rewrites the bytes of a file of a sound set."""
    return sound(lambda: Path(file).write_bytes(edit(Path(file).read_bytes())))


def header(offset: int, value: bytes, file: str = IMAGE) -> Callable[[], object]:
    """Return a function that overwrites bytes of a NIfTI header (offsets as in nifti1.h)."""

    def edit(content: bytes) -> bytes:
        plain = bytearray(gzip.decompress(content))
        plain[offset : offset + len(value)] = value
        return gzip.compress(bytes(plain), mtime=0)

    return data(file, edit)


def description(**changes: object) -> Callable[[], object]:
    """Return a function that changes entries of dataset.json; None removes one."""

    def spoil() -> None:
        content = {**read_json("set/dataset.json"), **changes}
        write_json("set/dataset.json", {key: value for key, value in content.items() if value is not None})

    return sound(spoil)


def decathlon(**changes: object) -> Callable[[], object]:
    """Return a function that writes a Decathlon set with a changed dataset.json."""

    def spoil() -> None:
        write_decathlon()
        write_json("set/dataset.json", read_json("set/dataset.json") | changes)

    return spoil


def removed(pattern: str) -> Callable[[], object]:
    """Return a function that removes files of a sound set."""
    return sound(lambda: [path.unlink() for path in sorted(Path("set").glob(pattern))])


def split(**parts: list[str]) -> Callable[[], object]:
    """Return a function that writes a split file beside a sound set."""
    return sound(lambda: write_json("split.json", parts))


def store(then: Callable[[], object]) -> Callable[[], object]:
    """Return a function that prepares a sound set and goes on with `then`."""

    def spoil() -> None:
        write_set()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                main(shlex.split(PREPARE))
            except SystemExit as left:
                assert not left.code
        then()

    return spoil


def copied(source: str, target: str) -> Callable[[], object]:
    """Return a function that copies files of a sound set."""

    def spoil() -> None:
        for path in sorted(Path("set").rglob(f"*{source}*")):
            shutil.copyfile(path, str(path).replace(source, target))

    return sound(spoil)


def doubled_labels() -> None:
    """Write a set whose label values are 0, 2 and 4."""
    for label in sorted((write_set() / "labelsTr").iterdir()):
        image = nib.load(label)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * np.uint8(2), image.affine), label)
    content = read_json("set/dataset.json") | {"labels": {"background": 0, "organ": 2, "lesion": 4}}
    write_json("set/dataset.json", content)


def volumes(then: Callable[[], object], ending: str = ".mha") -> Callable[[], object]:
    """Return a function that writes a folder of volumes and label maps without a description and goes on."""

    def spoil() -> None:
        for path in sorted(write_set("other").rglob("*.nii.gz")):
            name = path.name.removesuffix(".nii.gz")
            name = name.replace("_0000", "_t1").replace("_0001", "_t2") if "images" in str(path) else f"{name}_seg"
            Path("set").mkdir(exist_ok=True)
            image = SimpleITK.ReadImage(str(path))
            for key in image.GetMetaDataKeys():
                image.EraseMetaData(key)
            SimpleITK.WriteImage(image, f"set/{name}{ending}")
        then()

    return spoil


def pictures(then: Callable[[], object]) -> Callable[[], object]:
    """Return a function that writes pictures with masks beside them and goes on."""

    def spoil() -> None:
        Path("set").mkdir()
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3)).astype(np.uint8)
            mask = np.zeros((40, 40), np.uint8)
            mask[10:20, 12:30] = 255
            Image.fromarray(pixels).save(f"set/eye{number}.png")
            Image.fromarray(mask).save(f"set/eye{number}_mask.png")
        then()

    return spoil


def series(**changes: object) -> Callable[[], object]:
    """Return a function that writes a DICOM series of eight slices, the fourth of which has other values; None: not."""

    def spoil() -> None:
        Path("set").mkdir()
        uid = "1.2.826.0.1.3680043.8.498.4711"
        for number in range(8):
            header = pydicom.Dataset()
            header.file_meta = FileMetaDataset()
            header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{number}"
            header.StudyInstanceUID = header.SeriesInstanceUID = header.FrameOfReferenceUID = uid
            header.PatientID, header.PatientName, header.Modality = "Z-0815", "DOE^JANE", "MR"
            header.SeriesDescription, header.InstanceNumber = "T1", number + 1
            header.ImageOrientationPatient, header.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
            header.ImagePositionPatient, header.SliceThickness = [0, 0, 2 * number], 2
            header.Rows = header.Columns = 36
            header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
            header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
            header.PixelData = np.random.default_rng(number).integers(0, 900, (36, 36)).astype("<u2").tobytes()
            for name, value in changes.items() if number == 3 else ():
                if value is None:
                    delattr(header, name)
                else:
                    setattr(header, name, value)
            header.save_as(f"set/{number}.dcm", enforce_file_format=True)

    return spoil
