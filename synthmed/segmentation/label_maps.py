"""Label maps as files: which files of a folder are some, what case they belong to, and what they hold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthmed.errors import UserError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class LabelMap:
    """Values of one label file and where they lie.

    Attributes:
        values: Integers, in the order of axes that its reader uses.
        spacing: Size of an element along each axis of `values`, in mm where the file says so.
        affine: Index to world, or None where the file type carries no geometry.
    """

    values: np.ndarray
    spacing: tuple[float, ...]
    affine: np.ndarray | None


def case_name(path: Path) -> str:
    """Return the file's name without the suffix of an image format."""
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def find_label_maps(path: Path | str) -> dict[str, Path]:
    """Return {case: file} of a label file, of a folder of them, or of the `labelsTr` of a data set folder.

    Raises:
        UserError: If there is none, or two files belong to one case.
    """
    path = Path(path)
    if path.is_file():
        if not _suffix(path):
            raise UserError(f"{path} is no label map that can be read: give one of {', '.join(SUFFIXES)}")
        return {case_name(path): path}
    if not path.is_dir():
        raise UserError(f"{path} does not exist: give a label map or a folder of them")
    folder = path / "labelsTr" if (path / "labelsTr").is_dir() else path
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or not file.is_file() or not _suffix(file):
            continue
        if case_name(file) in found:
            raise UserError(f"{file} and {found[case_name(file)].name} are of one case: keep one of them")
        found[case_name(file)] = file
    if not found:
        raise UserError(f"{folder} holds no label maps ({', '.join(SUFFIXES)})")
    return found


def read_label_map(path: Path) -> LabelMap:
    """Read a label file.

    Raises:
        UserError: If it cannot be read, or holds values that are no whole numbers.
    """
    try:
        values, spacing, affine = _read_nifti(path) if ".nii" in path.suffixes[-2:] else _read_other(path)
    except Exception as error:
        # Every library has its own errors for a damaged file; to the user they are one.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"{path} cannot be read ({reason}): copy or write it again") from error
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.array_equal(whole, values):
            raise UserError(f"{path} is no label map: it holds values that are no whole numbers")
        values = whole.astype(np.int64)
    return LabelMap(values, spacing, affine)


def _suffix(path: Path) -> str:
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def _read_nifti(path: Path) -> tuple[np.ndarray, tuple[float, ...], np.ndarray]:
    import nibabel

    image: nibabel.Nifti1Image = nibabel.load(path)  # type: ignore[assignment]
    values = np.asanyarray(image.dataobj)
    return values, tuple(float(side) for side in image.header.get_zooms()[: values.ndim]), np.asarray(image.affine)


def _read_other(path: Path) -> tuple[np.ndarray, tuple[float, ...], np.ndarray | None]:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError("it has several values a pixel, a colour picture")
    values = SimpleITK.GetArrayFromImage(image)
    spacing = tuple(reversed(image.GetSpacing()))
    if _suffix(path) in {".png", ".tif", ".tiff"}:
        return values, spacing, None
    affine = np.eye(image.GetDimension() + 1)
    affine[:-1, :-1] = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2) * np.asarray(image.GetSpacing())
    affine[:-1, -1] = image.GetOrigin()
    return values, spacing, affine
