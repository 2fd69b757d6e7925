"""The phantom in every format that is read: formats.py OUT writes all of them, a folder each."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from PIL import Image

from synthmed.data.phantom import write_phantom
from synthmed.data.readers import Case, load_case, read_dataset
from synthmed.files import write_json

CHANNELS = ("T1", "T2")
CLASSES = ("background", "brain", "ventricle", "lesion")


@dataclass(frozen=True)
class Written:
    """A set in one format.

    Attributes:
        write: Writes the cases into a folder.
        pictures: Whether it holds 2D pictures, which have no place in space.
        needs: Package without which it cannot be written.
    """

    write: Callable[[Path, list[Case]], None]
    pictures: bool = False
    needs: str | None = None


def phantom_cases(folder: Path, *, size: int = 32, cases: int = 3) -> list[Case]:
    """Return the cases of a phantom that is written to `folder`."""
    write_phantom(folder, cases=cases, size=size, channels=len(CHANNELS), seed=5)
    return [load_case(files) for files in read_dataset(folder).cases]


def _itk(array: np.ndarray, case: Case) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = np.diag([-1.0, -1.0, 1.0]) @ np.array(case.geometry.affine)[:3]
    image.SetSpacing(np.linalg.norm(lps[:, :3], axis=0))
    image.SetDirection((lps[:, :3] / np.linalg.norm(lps[:, :3], axis=0)).ravel())
    image.SetOrigin(lps[:, 3])
    return image


def _nnunet_nrrd(folder: Path, cases: list[Case]) -> None:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in cases:
        for number in range(len(CHANNELS)):
            path = folder / "imagesTr" / f"{case.case}_{number:04d}.nrrd"
            SimpleITK.WriteImage(_itk(case.images[..., number].astype(np.int16), case), str(path), True)
        SimpleITK.WriteImage(
            _itk(case.labels.astype(np.uint8), case), str(folder / "labelsTr" / f"{case.case}.nrrd"), True
        )
    description = {
        "channel_names": {str(number): name for number, name in enumerate(CHANNELS)},
        "labels": {name: value for value, name in enumerate(CLASSES)},
        "numTraining": len(cases),
        "file_ending": ".nrrd",
    }
    write_json(folder / "dataset.json", description)


def _folder_a_case(ending: str) -> Callable[[Path, list[Case]], None]:
    def write(folder: Path, cases: list[Case]) -> None:
        for case in cases:
            own = folder / case.case
            own.mkdir(parents=True)
            named = {f"_{name.lower()}": case.images[..., number] for number, name in enumerate(CHANNELS)}
            for suffix, array in (named | {"_seg": case.labels}).items():
                path = own / f"{case.case}{suffix}{ending}"
                if ending.startswith(".nii"):
                    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.array(case.geometry.affine)), path)
                else:
                    SimpleITK.WriteImage(_itk(array.astype(np.int16), case), str(path))

    return write


def _picture_stacks(ending: str, dtype: str) -> Callable[[Path, list[Case]], None]:
    """One channel; a folder a patient with numbered slices and their masks, of which 2 comes before 10."""

    def write(folder: Path, cases: list[Case]) -> None:
        for case in cases:
            own = folder / case.case
            own.mkdir(parents=True)
            for plane in range(case.images.shape[2]):
                stem = f"{case.case}_{plane + 1}"
                Image.fromarray(case.images[:, :, plane, 0].T.astype(dtype)).save(own / f"{stem}{ending}")
                Image.fromarray(case.labels[:, :, plane].T.astype(np.uint8)).save(own / f"{stem}_mask{ending}")

    return write


def _photographs(folder: Path, cases: list[Case]) -> None:
    """Three-channel JPEG photographs of the middle slice, masks of 1 bit in a folder beside."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for case in cases:
        plane = case.images.shape[2] // 2
        grey = (255 * case.images[:, :, plane, 0].T / case.images[..., 0].max()).astype(np.uint8)
        Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=-1)).save(
            folder / "images" / f"{case.case}.jpg", quality=95, subsampling=0
        )
        Image.fromarray(case.labels[:, :, plane].T > 0).save(folder / "masks" / f"{case.case}_manual.png")


def _dicom(label: str) -> Callable[[Path, list[Case]], None]:
    def write(folder: Path, cases: list[Case]) -> None:
        written = _dicom_writer()
        for case in cases:
            lps = np.diag([-1.0, -1.0, 1.0]) @ np.array(case.geometry.affine)[:3]
            steps = np.linalg.norm(lps[:, :3], axis=0)
            place = {
                "spacing": (steps[1], steps[0]),
                "gap": steps[2],
                "orientation": tuple((lps[:, :2] / steps[:2]).T.ravel()),
                "origin": tuple(lps[:, 3]),
            }
            person = written.Person(id=f"XQ-{case.case}")
            paths = [
                written.write_series(
                    folder / case.case / name,
                    case.images[..., number].astype(np.int16),
                    series=name,
                    study=case.case,
                    person=person,
                    number=number + 1,
                    **place,
                )
                for number, name in enumerate(CHANNELS)
            ]
            masks = {name: case.labels == value for value, name in enumerate(CLASSES) if value}
            if label == "seg":
                written.write_seg(folder / case.case / "seg.dcm", paths[0], masks)
            else:
                drawn = {name: _rectangles(mask, lps) for name, mask in masks.items()}
                written.write_rtstruct(folder / case.case / "structures.dcm", paths[0], drawn)

    return write


def _rectangles(mask: np.ndarray, lps: np.ndarray) -> list[np.ndarray]:
    """Return a closed contour around each run of voxels along X: together they hold just the mask."""
    contours = []
    for y, z in np.argwhere(mask.any(axis=0)):
        edges = np.flatnonzero(np.diff(np.pad(mask[:, y, z].astype(int), 1)))
        for first, last in edges.reshape(-1, 2) - 0.5:
            corners = np.array([[first, y - 0.5], [last, y - 0.5], [last, y + 0.5], [first, y + 0.5]])
            contours.append(np.column_stack([corners, np.full(4, z)]) @ lps[:, :3].T + lps[:, 3])
    return contours


def _dicom_writer():
    path = Path(__file__).parents[1] / "data" / "dicom" / "written.py"
    specification = importlib.util.spec_from_file_location("dicom_written", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


FORMATS = {
    "nnunet-nrrd": Written(_nnunet_nrrd),
    "folders-nifti": Written(_folder_a_case(".nii.gz")),
    "folders-nrrd": Written(_folder_a_case(".nrrd")),
    "folders-mha": Written(_folder_a_case(".mha")),
    "png-slices-16-bit": Written(_picture_stacks(".png", "uint16"), pictures=True),
    "tiff-slices-16-bit": Written(_picture_stacks(".tif", "uint16"), pictures=True),
    "jpeg-photographs": Written(_photographs, pictures=True),
    "dicom-seg": Written(_dicom("seg"), needs="highdicom"),
    "dicom-rtstruct": Written(_dicom("rtstruct")),
}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    cases_of_phantom = phantom_cases(target / "nnunet", size=64, cases=8)
    for name_of_format, one in FORMATS.items():
        one.write(target / name_of_format, cases_of_phantom)
