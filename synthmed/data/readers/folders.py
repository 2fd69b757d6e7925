"""Volumes without a description: a folder a case, or all cases in one folder, label maps beside them or in another."""

from pathlib import Path

from synthmed.data.readers.base import Dataset, ReadOptions
from synthmed.data.readers.cases import Found, build_cases, channel_titles
from synthmed.data.readers.description import FILE
from synthmed.data.readers.finish import labelled_dataset
from synthmed.data.readers.found import channel_count
from synthmed.data.readers.grouping import attach_labels, group_found, group_given
from synthmed.data.readers.modality import modality_of
from synthmed.data.readers.naming import entries, walk
from synthmed.data.volumes import PICTURE_ENDINGS, VOLUME_ENDINGS, source_of
from synthmed.errors import UserError


class VolumeFolderReader:
    """Reads folders of NIfTI, NRRD and MetaImage files."""

    def recognises(self, path: Path) -> bool:
        """Return whether there is a volume in the folder or below it, and no description."""
        return not (path / FILE).is_file() and next(walk(path, VOLUME_ENDINGS), None) is not None

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the data set; label maps are read once to find their values."""
        found = find_volumes(path, options)
        titles = channel_titles(found.channels, channel_count(found.cases) if len(found.channels) == 1 else 1)
        if options.channels and len(found.channels) == len(titles):
            titles = found.channels
        return labelled_dataset(
            found,
            path,
            options,
            layout="volumes, a folder a case" if all(found.folders.values()) else "volumes named by case",
            channels=titles,
            modalities=tuple(modality_of(title) for title in titles),
        )


def find_volumes(path: Path, options: ReadOptions) -> Found:
    """Return the cases of a folder of volumes by their names alone.

    Raises:
        UserError: If a given pattern matches nothing, or files cannot be told apart.
    """
    files = entries(path, VOLUME_ENDINGS, options.label)
    images = [entry for entry in files if not entry.label]
    labels = [entry for entry in files if entry.label]
    if not images:
        raise UserError(f"{path} holds label maps alone, by their names: say with --label PATTERN which are label maps")
    given = options.channels
    groups = group_given(images, given, path) if given else group_found(images, labels)
    orphans = attach_labels(groups, labels)
    found = build_cases(
        groups, path, channels=[name for name, _ in given], source=lambda file, mask: source_of(file, mask=mask)
    )
    found.orphans = [entry.path for entry in orphans]
    pictures = sum(1 for _ in walk(path, PICTURE_ENDINGS))
    if pictures:
        found.notes.append(f"pictures left out, since there are volumes: {pictures}")
    return found
