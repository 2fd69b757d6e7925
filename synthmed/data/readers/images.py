"""Images of any layout, label maps left aside: what a model is to predict on, or what stands beside a store."""

from pathlib import Path

from synthmed.data.readers.base import CaseFiles, ReadOptions, natural_key
from synthmed.data.readers.folders import find_volumes
from synthmed.data.readers.naming import walk
from synthmed.data.readers.nnunet import grouped_by_channel
from synthmed.data.readers.photos import find_pictures
from synthmed.data.volumes import PICTURE_ENDINGS, VOLUME_ENDINGS, PictureSource, ending_of
from synthmed.errors import UserError


def image_cases(folder: Path, channels: int) -> list[CaseFiles]:
    """Return the unlabelled cases of a folder of images (see `read_images`).

    Raises:
        UserError: If there is no image, or a case has other channels.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give a data set or a folder of images")
    cases = _numbered(folder, channels)
    if cases is None:
        if next(walk(folder, VOLUME_ENDINGS), None) is not None:
            cases = find_volumes(folder, ReadOptions()).cases
        elif next(walk(folder, PICTURE_ENDINGS), None) is not None:
            cases = find_pictures(folder, ReadOptions())[0].cases
        else:
            raise UserError(f"{folder} holds no image that is read, as .nii.gz or .png: give a folder of images")
    for case in cases:
        if len(case.images) not in (1, channels):
            count = len(case.images)
            raise UserError(
                f"{folder}: {case.case} has {count} channel file{'s' * (count != 1)}, the model needs {channels}"
            )
    return [CaseFiles(case=case.case, patient=case.patient, images=_without_alpha(case, channels)) for case in cases]


def _numbered(folder: Path, channels: int) -> list[CaseFiles] | None:
    """Return the cases of a folder as nnU-Net names them, `CASE_0000`, if all files are named so; else None."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    endings = {ending for path in files if (ending := ending_of(path.name)) is not None}
    if len(endings) != 1:
        return None
    ending = endings.pop()
    grouped = grouped_by_channel(folder, ending)
    if not grouped or sum(map(len, grouped.values())) < sum(path.name.endswith(ending) for path in files):
        return None
    fits = [len(sources) == channels for sources in grouped.values()]
    if ending.lower() in PICTURE_ENDINGS and not all(fits):
        # `IMG_0001.png` and `IMG_0002.png` are two photographs.
        return None
    for case, sources in grouped.items():
        if len(sources) != channels and not (len(sources) == 1 and not any(fits)):
            count = len(sources)
            raise UserError(f"{folder}: {case} has {count} channel files, the model needs {channels}")
    cases = [CaseFiles(case=case, patient=case, images=tuple(sources)) for case, sources in grouped.items()]
    return sorted(cases, key=lambda case: natural_key(case.case))


def _without_alpha(case: CaseFiles, channels: int) -> tuple:
    """Return a case's sources; a model of grey or coloured pictures is not given their alpha."""
    return tuple(
        PictureSource(one.paths, alpha=channels not in (1, 3), spacing=one.spacing)
        if isinstance(one, PictureSource)
        else one
        for one in case.images
    )
