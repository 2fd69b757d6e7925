"""What was asked of `prepare`, and of which files: by it a second run knows whether it is the same."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synthmed import __version__
from synthmed.data.readers import CaseFiles, Dataset
from synthmed.data.schema import Record, Split
from synthmed.errors import UserError
from synthmed.files import read_json, sha256_json

REQUEST = "request.json"

# What of a data set does not follow from its description: where it is, and its cases, which are compared one by one.
_NOT_DESCRIBED = {"path", "cases", "orphans", "notes"}

FileState = tuple[int, int]
"""Size in bytes and time of the last change in ns; (-1, -1) where there is no file."""


class SourceCase(Record):
    """A case as it was asked for.

    Attributes:
        case: Name of the case.
        patient: Whose it is.
        split: Where it goes; None where it is left out.
        files: State of each file, by the names under which a store records their hashes.
    """

    case: str
    patient: str
    split: Split | None
    files: dict[str, FileState]

    def signature(self, dataset: dict[str, Any], version: str) -> str:
        """Return what stands for all that the fingerprint of this case depends on."""
        return sha256_json([self.case, self.patient, self.files, dataset, version])


class Request(Record):
    """All that determines a store.

    Attributes:
        version: synthmed's version that was asked.
        options: As the user gave them.
        dataset: The data set's description.
        cases: In their order.
    """

    version: str
    options: dict[str, Any]
    dataset: dict[str, Any]
    cases: tuple[SourceCase, ...]

    def signatures(self) -> dict[str, str]:
        """Return the signature of each case by its name."""
        return {case.case: case.signature(self.dataset, self.version) for case in self.cases}

    def difference(self, other: "Request") -> str | None:
        """Return in a few words ("with ...") what `other` asked for otherwise; None where that is nothing but files."""
        for name in {**self.options, **other.options}:
            own, theirs = self.options.get(name), other.options.get(name)
            if own != theirs:
                return f"with {_flag(name)} {_value(theirs)} instead of {_value(own)}"
        for name in {**self.dataset, **other.dataset}:
            own, theirs = self.dataset.get(name), other.dataset.get(name)
            if own != theirs:
                return f"with {name.replace('_', ' ')} {_value(theirs)} instead of {_value(own)} in the data set"
        own_cases, their_cases = ({case.case: case for case in one.cases} for one in (self, other))
        for name in {**own_cases, **their_cases}:
            if name not in own_cases:
                return f"with {name}, which is not in the data set"
            if name not in their_cases:
                return f"without {name}"
        for name in own_cases:
            for field in ("split", "patient"):
                mine, yours = getattr(own_cases[name], field), getattr(their_cases[name], field)
                if mine != yours:
                    return f"with {name} under the {field} {_value(yours)} instead of {_value(mine)}"
            if set(own_cases[name].files) != set(their_cases[name].files):
                return f"with other files of {name}"
        return None


def make_request(dataset: Dataset, assigned: Mapping[str, Split], options: dict[str, Any]) -> Request:
    """Return what is asked for.

    Args:
        dataset: The data set.
        assigned: Split of each case that is wanted.
        options: As the user gave them, of types that JSON knows; paths do not belong in it.
    """
    described = {
        field.name: getattr(dataset, field.name)
        for field in dataclasses.fields(dataset)
        if field.name not in _NOT_DESCRIBED
    }
    cases = tuple(
        SourceCase(
            case=files.case,
            patient=files.patient,
            split=assigned.get(files.case),
            files={name: _state(path) for name, path in files.files.items()},
        )
        for files in dataset.cases
    )
    # Through JSON and back: tuples become lists, as in a request that was read.
    plain = json.loads(json.dumps({"options": options, "dataset": described}))
    return Request(version=__version__, cases=cases, **plain)


def read_request(path: Path) -> Request | None:
    """Return the request in a folder, or None where there is none that can be read."""
    try:
        return Request.model_validate(read_json(path / REQUEST))
    except (UserError, ValidationError):
        return None


def changed_files(files: CaseFiles, then: SourceCase, now: SourceCase) -> list[tuple[str, Path]]:
    """Return the files of a case whose size or time is not what it was, by name and path."""
    return [(name, path) for name, path in files.files.items() if then.files.get(name) != now.files.get(name)]


def _state(path: Path) -> FileState:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
