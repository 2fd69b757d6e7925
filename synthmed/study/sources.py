"""The data sets of a study: what they hold, who is tested, and who trains in each draw."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthmed.data.readers import Dataset, ReadOptions, read_dataset
from synthmed.data.request import make_request
from synthmed.data.schema import Split
from synthmed.data.selection import draw_split, keep_training_patients, read_split
from synthmed.errors import UserError, check_leak, present
from synthmed.files import read_json, sha256_file, sha256_json, write_json
from synthmed.study.config import Configuration, DataSet, Phantom
from synthmed.study.folder import StudyFolder

DRAW_SEEDS = 1_000_003
"""Between the seeds of two draws of training patients, as in `synthmed.segmentation.comparison`."""


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        options: What the configuration says of it.
        dataset: Its files.
        hashes: By case, SHA-256 over the bytes of its files.
        split: Where each case belongs, before training patients are drawn.
        patients: Patient of each case.
        described: All else that its description says.
    """

    options: DataSet
    dataset: Dataset
    hashes: dict[str, str]
    split: dict[str, Split]
    patients: dict[str, str]
    described: dict[str, Any]

    def drawn(self, patients: int, draw: int) -> dict[str, Split]:
        """Return the split of each case with `patients` training patients kept: smaller numbers within larger ones."""
        seed = self.options.seed + draw * DRAW_SEEDS
        return keep_training_patients(self.split, self.patients, patients, seed)

    def others(self, patients: int, draws: int) -> dict[str, Split]:
        """Return the split with those training patients kept that are in no draw of up to `patients`.

        Raises:
            UserError: If there are none.
        """
        taken = {key for draw in range(draws) for key in _chosen(self, patients, draw)}
        busy = {self.patients[case] for case in self.split if _key(self, case) in taken}
        left = {case: part for case, part in self.split.items() if part != "train" or self.patients[case] not in busy}
        if not self.count(left, "train"):
            raise UserError(
                f"data set {self.options.name}: {draws} draws of {patients} training patients leave no others to teach "
                "a generator: ask for fewer draws, or give the model smaller numbers of patients:"
            )
        return left

    def count(self, assigned: dict[str, Split], wanted: Split) -> int:
        """Return how many patients a split has in a part."""
        return len({self.patients[case] for case, part in assigned.items() if part == wanted})

    def identity(self, assigned: dict[str, Split]) -> dict[str, Any]:
        """Return all that a store of this data set follows from."""
        one = self.options
        return {
            "dataset": self.described,
            "cases": {case: [self.patients[case], part, self.hashes[case]] for case, part in sorted(assigned.items())},
            "options": one.model_dump(
                mode="json", include={"seed", "axis", "size", "spacing", "normalise", "bias_correction", "slices"}
            ),
        }


def open_sources(configuration: Configuration, folder: StudyFolder, *, hashing: bool = True) -> list[Source]:
    """Open all data sets of a study; phantoms that are not there yet are drawn.

    Args:
        configuration: Of the study.
        folder: Of the study; it remembers the hashes of files that have not changed since.
        hashing: Whether the files' bytes are read, without which nothing may be run.

    Raises:
        UserError: If a data set cannot be read, has too few patients for a draw, or the same images in two parts.
    """
    found = []
    for one in configuration.data:
        source = _opened(one, folder, hashing=hashing)
        _check_draws(source, one.patients or configuration.patients, configuration.draws)
        found.append(source)
    return found


def _opened(one: DataSet, folder: StudyFolder, *, hashing: bool) -> Source:
    path = one.path
    if one.phantom is not None:
        path = _phantom(one.phantom, folder.phantoms)
    path = present(path, "the configuration asks for a folder or a phantom")
    if not path.is_dir():
        raise UserError(
            f"data set {one.name}: the folder {path} is not there (any more): put it back, or name where it is with "
            f"--data {one.name}=FOLDER"
        )
    dataset = read_dataset(path, ReadOptions(patient_pattern=one.patient_pattern))
    patients = {case.case: case.patient for case in dataset.cases}
    split = (
        read_split(one.split, patients) if isinstance(one.split, Path) else draw_split(patients, one.split, one.seed)
    )
    hashes = _hashes(dataset, folder.path / "data" / f"{one.name}.json") if hashing else dict.fromkeys(patients, "")
    if hashing:
        _refuse_copies(one.name, hashes, split)
    described = {name: value for name, value in make_request(dataset, split, {}).dataset.items() if name != "notes"}
    return Source(one, dataset, hashes, split, patients, described)


def _phantom(options: Phantom, folder: Path) -> Path:
    """Return where a phantom lies that was drawn already or is drawn now; the folder appears whole or not at all."""
    from synthmed.data.phantom import write_phantom

    name = "-".join(str(value) for value in options.model_dump().values())
    path = folder / name
    if not path.is_dir():
        write_phantom(path, **options.model_dump())
    return path


def _hashes(dataset: Dataset, kept: Path) -> dict[str, str]:
    """Return a hash for each case over its files; those of files with the same size and time are taken from `kept`."""
    known = _kept(kept)
    state: dict[str, list[Any]] = {}
    hashes = {}
    for files in dataset.cases:
        parts = {}
        for name, path in files.files.items():
            try:
                status = path.stat()
                stamp = [status.st_size, status.st_mtime_ns]
                entry = known.get(str(path))
                sha = entry[2] if entry and entry[:2] == stamp else sha256_file(path)
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error.strerror}): put it back or mend it") from None
            state[str(path)] = [*stamp, sha]
            parts[name] = sha
        hashes[files.case] = sha256_json(parts)
    if state != known:
        write_json(kept, state)
    return hashes


def _kept(path: Path) -> dict[str, list[Any]]:
    try:
        value = read_json(path)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def _refuse_copies(name: str, hashes: dict[str, str], split: dict[str, Split]) -> None:
    """Refuse a case whose very files are also those of a case in another part."""
    first: dict[str, str] = {}
    for case in split:
        other = first.setdefault(hashes[case], case)
        if split[other] != split[case]:
            raise UserError(
                f"data set {name}: {other} ({split[other]}) and {case} ({split[case]}) are the same files: "
                "take one out, or scores would be too good"
            )


def _check_draws(source: Source, numbers: tuple[int, ...], draws: int) -> None:
    """Refuse draws that are no repetitions, and assert that smaller draws lie within larger ones."""
    name = source.options.name
    everybody = source.count(source.split, "train")
    if not any(part == "test" for part in source.split.values()):
        raise UserError(f"data set {name}: no patient is left for test: choose another split")
    for number in numbers:
        if number > everybody:
            raise UserError(
                f"data set {name}: {number} training patients are asked for, and there are {everybody}: "
                "choose fewer, or another split"
            )
        seen: dict[frozenset[str], int] = {}
        for draw in range(draws):
            first = seen.setdefault(_chosen(source, number, draw), draw)
            if first != draw:
                raise UserError(
                    f"data set {name}: draws {first} and {draw} of {number} patients are the same of {everybody} "
                    f"(different choices: {math.comb(everybody, number)}): give draws: {draw} or fewer"
                )
    for draw in range(draws):
        chosen = [_chosen(source, number, draw) for number in sorted(numbers)]
        nested = all(small <= large for small, large in zip(chosen, chosen[1:], strict=False))
        check_leak(nested, f"data set {name}: the draws of fewer patients are not part of those of more")


def _chosen(source: Source, patients: int, draw: int) -> frozenset[str]:
    """Return the hashes of the training cases of a draw."""
    assigned = source.drawn(patients, draw)
    return frozenset(_key(source, case) for case, part in assigned.items() if part == "train")


def _key(source: Source, case: str) -> str:
    """Return what tells a case from others: the hash of its files, where they were read."""
    return source.hashes[case] or case
