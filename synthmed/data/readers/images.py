"""Images of any layout, label maps left aside: what a model is to predict on, or what stands beside a store."""

from dataclasses import dataclass, replace
from pathlib import Path

from synthmed.data.readers.base import CaseFiles, ReadOptions, natural_key
from synthmed.data.readers.cases import Found, channel_titles
from synthmed.data.readers.channels import Wanted, match_channels, wrong_count
from synthmed.data.readers.description import described_channels
from synthmed.data.readers.folders import find_volumes
from synthmed.data.readers.naming import Parts, walk
from synthmed.data.readers.nnunet import grouped_by_channel, missing_number
from synthmed.data.readers.photos import find_pictures
from synthmed.data.volumes import PICTURE_ENDINGS, VOLUME_ENDINGS, PictureSource, ending_of
from synthmed.errors import UserError

FOLDERS = ("imagesTr", "imagesTs")
"""Where sets with a description keep their images."""


@dataclass(frozen=True)
class Images:
    """Cases without label maps.

    Attributes:
        cases: With the wanted channels, in the wanted order.
        notes: What a user should know of how the channels were understood.
        folders: Folders in which each case lies, where folders may be patients.
        numbered: Whether cases `AB12_1` and `AB12_2` are slices of one patient.
    """

    cases: list[CaseFiles]
    notes: tuple[str, ...] = ()
    folders: dict[str, Parts] | None = None
    numbered: bool = False


def image_cases(folder: Path, wanted: Wanted) -> Images:
    """Return the unlabelled cases of a folder of images (see `read_images`).

    Channels have names where the folder, or the set whose imagesTr or imagesTs it is, has a dataset.json, or where
    files of one case are set apart by a word.

    Raises:
        UserError: If there is no image, or a case has other channels.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give a data set or a folder of images")
    own = described_channels(folder.parent if folder.name in FOLDERS else folder)
    cases = _numbered(folder, wanted)
    found = Found()
    pictures = False
    if cases is None:
        if next(walk(folder, VOLUME_ENDINGS), None) is not None:
            found = find_volumes(folder, ReadOptions())
        elif next(walk(folder, PICTURE_ENDINGS), None) is not None:
            found, pictures = find_pictures(folder, ReadOptions())[0], True
        else:
            raise UserError(f"{folder} holds no image that is read, as .nii.gz or .png: give a folder of images")
        cases = found.cases
        own = own or _named(found.channels, wanted)
    cases, notes = match_channels([_without_alpha(case, wanted) for case in cases], own, wanted, folder)
    for case in cases:
        # One file is taken for all channels only where no case has a file a channel.
        if len(case.images) == 1 < len(found.channels):
            raise wrong_count(folder, case.case, 1, wanted)
    return Images(cases, notes, found.folders, numbered=pictures)


def _named(suffixes: tuple[str, ...], wanted: Wanted) -> tuple[str, ...] | None:
    """Return the names that files' suffixes give the channels; None where they only count them."""
    # A single file may hold all channels.
    alone = len(suffixes) == 1 and (not suffixes[0] or len(wanted.names) > 1)
    if not suffixes or alone or all(suffix.isdecimal() for suffix in suffixes):
        return None
    return channel_titles(suffixes, 1)


def _numbered(folder: Path, wanted: Wanted) -> list[CaseFiles] | None:
    """Return the cases of a folder as nnU-Net names them, `CASE_0000`, if all files are named so; else None."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    endings = {ending for path in files if (ending := ending_of(path.name)) is not None}
    if len(endings) != 1:
        return None
    ending = endings.pop()
    grouped = grouped_by_channel(folder, ending)
    if not grouped or sum(map(len, grouped.values())) < sum(path.name.endswith(ending) for path in files):
        return None
    channels = len(wanted.names)
    fits = [len(sources) == channels for sources in grouped.values()]
    gaps = {case: missing for case, own in grouped.items() if (missing := missing_number(own)) is not None}
    if not any(0 in own for own in grouped.values()) or (ending.lower() in PICTURE_ENDINGS and (gaps or not all(fits))):
        # `IMG_0001.png` and `IMG_0002.png` are two photographs.
        return None
    for case, missing in gaps.items():
        raise UserError(
            f"{folder / f'{case}_{missing:04d}{ending}'} is missing, beside later channels of {case}: add it, or number"
            " the files from 0000 without a gap"
        )
    for case, sources in grouped.items():
        if len(sources) != channels and not (len(sources) == 1 and not any(fits)):
            raise wrong_count(folder, case, len(sources), wanted)
    cases = [CaseFiles(case=case, patient=case, images=tuple(sources.values())) for case, sources in grouped.items()]
    return sorted(cases, key=lambda case: natural_key(case.case))


def _without_alpha(case: CaseFiles, wanted: Wanted) -> CaseFiles:
    """Return a case whose pictures have no alpha, where the model is one of grey or coloured pictures."""
    images = tuple(
        PictureSource(one.paths, alpha=len(wanted.names) not in (1, 3), spacing=one.spacing)
        if isinstance(one, PictureSource)
        else one
        for one in case.images
    )
    return replace(case, images=images)
