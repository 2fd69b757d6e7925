"""Whose case is whose, so that a patient with several cases counts once in a mean."""

from pathlib import Path

from synthmed.data.readers import Dataset, read_dataset
from synthmed.data.store import MANIFEST, read_manifest
from synthmed.errors import UserError
from synthmed.files import read_json
from synthmed.segmentation.label_maps import labelled_dataset


def find_patients(source: Path | str | None, reference: Path | str) -> dict[str, str]:
    """Return the patient of each case, as far as it is known.

    Args:
        source: A store, or a JSON file of `{"case": "patient"}`; None to ask the reference.
        reference: What is scored against. Of a data set its reader knows the patients; of label files nobody does.

    Raises:
        UserError: If `source` is neither.
    """
    if source is None:
        return known_patients(Path(reference), labelled_dataset(Path(reference)))
    source = Path(source)
    if (source / MANIFEST).is_file():
        return {case.case: case.patient for case in read_manifest(source).cases}
    if source.is_dir():
        raise UserError(f"--patients {source} is no store: give a store, or a JSON file of case and patient")
    content = read_json(source)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f'--patients {source} must be {{"case": "patient"}}, names as text: mend it')
    return content


def known_patients(folder: Path, dataset: Dataset | None) -> dict[str, str]:
    """Return the patient of each case of what is scored against; nothing where nobody says.

    Args:
        folder: Where it is.
        dataset: What `labelled_dataset` found there.
    """
    if dataset is None and (folder / "labelsTr").is_dir():
        try:
            dataset = read_dataset(folder)
        except UserError:
            # The images of a data set with a description may be elsewhere; its label maps are enough.
            return {}
    return {} if dataset is None else {case.case: case.patient for case in dataset.cases}
