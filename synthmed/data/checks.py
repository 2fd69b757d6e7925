"""What is found out about each case of a data set, and what is wrong among them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from synthmed.data.formats import Volume
from synthmed.data.geometry import Box, axis_codes, turn_shape
from synthmed.data.parallel import count_values
from synthmed.data.people import look_like_people
from synthmed.data.readers import Dataset
from synthmed.data.readers.base import Modality
from synthmed.data.readers.nnunet import FILE, read_description
from synthmed.data.schema import Geometry, Record


class Problem(Record):
    """One thing that is wrong, or a warning: what, in which file, and how to mend it."""

    what: str
    file: str
    mend: str

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.file}: {self.what}; {self.mend}"


class CaseFingerprint(Record):
    """What one case is like.

    Attributes:
        case: Name of the case.
        patient: Name of its patient.
        geometry: Of its volume.
        orientation: Directions of the source array's axes.
        minimum: Smallest intensity of each channel.
        maximum: Largest intensity of each channel.
        hash: SHA-256 of the decoded voxels of all channels.
        voxels: How many voxels each class has.
        foreground_slices: Slices with foreground along each axis of the source array.
        ignored: How many voxels are marked as not known.
        content: Voxels of the source array outside which every channel has its lowest value, along each axis.
        hounsfield: Of each channel that is CT, how many foreground voxels have which HU (see `hounsfield_counts`);
            of each other one, nothing.
    """

    case: str
    patient: str
    geometry: Geometry
    orientation: str
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    hash: str
    voxels: tuple[int, ...]
    foreground_slices: tuple[int, int, int]
    ignored: int = 0
    content: Box | None = None
    hounsfield: tuple[dict[int, int], ...] = ()


class Fingerprint(Record):
    """What a data set is like and what is wrong with it.

    Attributes:
        dataset: Name of the data set.
        layout: Name of its layout.
        licence: As its description states it.
        channels: Names of the channels.
        modalities: Kind of each channel's intensities; empty where it is not known.
        classes: Names of the classes, background first.
        label_values: Value of each class in the label files.
        ignore_value: Value that means "not known".
        regions: Name of each region and the label values that it is made of.
        patients: How many patients there are.
        cases: Those that have no problem.
        problems: What must be mended: with any of them the set is not prepared.
        warnings: What may spoil a study; the set can be prepared all the same.
        notes: What is good to know.
    """

    dataset: str
    layout: str
    licence: str
    channels: tuple[str, ...]
    modalities: tuple[Modality, ...] = ()
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    ignore_value: int | None = None
    regions: dict[str, tuple[int, ...]] = {}
    patients: int
    cases: tuple[CaseFingerprint, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def orientations(self) -> dict[str, int]:
        """Return how many cases have each orientation."""
        return dict(Counter(case.orientation for case in self.cases).most_common())

    def class_shares(self) -> tuple[float, ...]:
        """Return the share of all known voxels that each class has, 0..1."""
        total = np.sum([case.voxels for case in self.cases], axis=0) if self.cases else np.zeros(len(self.classes))
        return tuple(float(share) for share in total / max(float(np.sum(total)), 1.0))

    def class_cases(self) -> tuple[int, ...]:
        """Return how many cases show each class."""
        return tuple(sum(case.voxels[index] > 0 for case in self.cases) for index in range(len(self.classes)))

    def ignored_share(self) -> float:
        """Return the share of all voxels that are marked as not known, 0..1."""
        ignored = sum(case.ignored for case in self.cases)
        return ignored / max(ignored + sum(sum(case.voxels) for case in self.cases), 1)


def compare(volume: Volume, other: Volume, name: str, problems: list[Problem]) -> None:
    """Add a problem where a volume does not lie on another one, which the message calls `name`."""
    own, reference = volume.geometry, other.geometry
    mend = f"resample it onto {other.path.name}"
    if own.shape != reference.shape:
        what = f"shape {own.shape} differs from {name} {reference.shape}"
        problems.append(Problem(what=what, file=str(volume.path), mend=mend))
        return
    affine, wanted = np.asarray(own.affine), np.asarray(reference.affine)
    if np.allclose(affine, wanted, rtol=1e-4, atol=1e-3):
        return
    spacing, wanted_spacing = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, wanted))
    if not np.allclose(spacing, wanted_spacing, rtol=1e-4, atol=1e-3):
        what = f"spacing {_join(spacing)} differs from {name} {_join(wanted_spacing)}"
    elif not np.allclose(affine[:3, :3], wanted[:3, :3], rtol=1e-4, atol=1e-3):
        what = f"directions of its axes ({axis_codes(affine)}) differ from {name} ({axis_codes(wanted)})"
    else:
        what = f"origin {_join(affine[:3, 3])} differs from {name} {_join(wanted[:3, 3])}"
    mend += ", or copy that header where the voxels do lie on each other"
    problems.append(Problem(what=what, file=str(volume.path), mend=mend))


def _join(values: np.ndarray) -> str:
    return " x ".join(f"{value:.5g}" for value in values)


def not_finite(voxels: np.ndarray, volume: Volume) -> Problem | None:
    """Return a problem where voxels are NaN or infinite, else None."""
    bad = int(np.size(voxels) - np.count_nonzero(np.isfinite(voxels))) if voxels.dtype.kind == "f" else 0
    if not bad:
        return None
    what, mend = f"NaN or infinite in {bad} voxel{'s' * (bad > 1)}", "replace them, as by background"
    if bad > voxels.size / 2:
        what, mend = f"{what}, more than half of them", "export the image again, or remove the case"
    return Problem(what=what, file=str(volume.path), mend=mend)


def label_counts(
    label: Volume, voxels: np.ndarray, dataset: Dataset, problems: list[Problem]
) -> tuple[tuple[int, ...], tuple[int, int, int], int] | None:
    """Return voxels of each class, slices with foreground along each axis, and voxels that are ignored.

    None, and a problem more, where a value is no class of the data set.
    """
    found = count_values(voxels)
    known = {*dataset.label_values, *([] if dataset.ignore_value is None else [dataset.ignore_value])}
    unknown = [value for value in found if value not in known]
    if unknown:
        shown = ", ".join(f"{value:.6g}" for value in unknown[:5]) + ", ..." * (len(unknown) > 5)
        what = f"has {'values' if len(unknown) > 1 else 'the value'} {shown} not named in the data set's description"
        mend = 'correct the label map, or add them to "labels" where dataset.json names classes'
        if all(value != round(value) and abs(value - round(value)) < 0.01 for value in unknown):
            mend = "round them: they are almost whole numbers, as a scaled header or an interpolation leaves them"
        elif any(value != round(value) for value in unknown):
            mend = "write whole class numbers: resample label maps by nearest neighbour alone"
        problems.append(Problem(what=what, file=str(label.path), mend=mend))
        return None
    foreground = voxels != 0
    ignored = 0
    if dataset.ignore_value is not None:
        foreground &= voxels != dataset.ignore_value
        ignored = found.get(dataset.ignore_value, 0)
    slices = [int(foreground.any(axis=tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)]
    counts = tuple(found.get(value, 0) for value in dataset.label_values)
    return counts, (slices[0], slices[1], slices[2]), ignored


SPACING_RATIO = 4.0
"""Voxels that many times longer than another case's along one direction were hardly made by one protocol."""
INTENSITY_RATIO = 20.0
"""Brightest voxel beside that of the median case."""
_NIFTI = (".nii.gz", ".nii", ".hdr", ".img")


def duplicates(cases: list[CaseFingerprint], dataset: Dataset) -> Iterator[Problem]:
    """Yield a problem for each case whose images another case has, too."""
    files = {case.case: case.images[0].path for case in dataset.cases}
    first: dict[str, CaseFingerprint] = {}
    for case in cases:
        other = first.setdefault(case.hash, case)
        if other is not case:
            what = f"the same images as {other.case}"
            mend = "remove one: a copy in another split would spoil every score"
            yield Problem(what=what, file=str(files[case.case]), mend=mend)


def warnings_on(cases: list[CaseFingerprint], dataset: Dataset) -> Iterator[Problem]:
    """Yield what may spoil a study although the set can be prepared; one line a kind, however many cases it concerns.

    Args:
        cases: Those without problems.
        dataset: The set that they are of.
    """
    yield from _named(dataset)
    if dataset.labelled:
        yield from _described(dataset)
    if not cases:
        return
    yield from _headers(cases, dataset)
    yield from _intensities(cases, dataset)
    yield from _spacings(cases, dataset)
    if dataset.labelled:
        yield from _labels(cases, dataset)


def notes_on(cases: list[CaseFingerprint], dataset: Dataset) -> Iterator[str]:
    """Yield what is good to know and no fault."""
    orientations = {case.orientation for case in cases}
    if len(orientations) > 1:
        yield f"cases are stored in {len(orientations)} orientations; all are turned to one when they are prepared"
    # Nobody takes the pixels of a photograph for millimetres.
    pictures = "picture" in dataset.modalities
    if not pictures and any(case.geometry.xyzt_units[0] == "unknown" for case in cases):
        yield "files do not say the unit of length; it is taken for mm"


def _described(dataset: Dataset) -> Iterator[Problem]:
    path = dataset.path / FILE
    if not path.is_file():
        return
    content = read_description(dataset.path)
    declared = content.get("numTraining")
    if isinstance(declared, int) and declared != len(dataset.cases):
        what = f'"numTraining" is {declared}, there are {len(dataset.cases)} cases'
        yield Problem(what=what, file=str(path), mend="look for lost cases, or correct the number")
    if "channel_names" not in content:
        return
    lacking = [key for key in ("numTraining", "file_ending") if key not in content]
    if lacking:
        what = f"has no {' and no '.join(lacking)}, which nnU-Net asks for"
        yield Problem(what=what, file=str(path), mend="add it before you give the set to nnU-Net")
    values = [*dataset.label_values, *([] if dataset.ignore_value is None else [dataset.ignore_value])]
    if values != list(range(len(values))):
        what = f"label values {', '.join(map(str, values))} are not 0, 1, 2 and so on, as nnU-Net asks"
        yield Problem(what=what, file=str(path), mend="renumber them for nnU-Net; `generate --merge-with` does")


def _named(dataset: Dataset) -> Iterator[Problem]:
    """Yield a warning where names of cases look like people's; those of DICOM are pseudonyms."""
    found = set(look_like_people(case.case for case in dataset.cases))
    found |= set(look_like_people({case.patient for case in dataset.cases}))
    cases = [case for case in dataset.cases if found & {case.case, case.patient}]
    if not cases:
        return
    others = f" (so do {len(cases) - 1} other cases')" if len(cases) > 1 else ""
    what = f"the name looks like a person's name or date of birth{others}"
    mend = (
        "rename the files before you share a store, predictions or scores, whose cases are called so; generated sets,"
        " exported models and reports never carry them"
    )
    yield Problem(what=what, file=str(cases[0].images[0].path), mend=mend)


def _headers(cases: list[CaseFingerprint], dataset: Dataset) -> Iterator[Problem]:
    nifti = {case.case for case in dataset.cases if case.images[0].path.name.lower().endswith(_NIFTI)}

    def nowhere(case: CaseFingerprint) -> bool:
        geometry = case.geometry
        return case.case in nifti and geometry.qform_code == 0 and geometry.sform_code == 0

    def twofold(case: CaseFingerprint) -> bool:
        geometry = case.geometry
        return (
            geometry.sform_code > 0
            and geometry.qform is not None
            and not np.allclose(geometry.affine, geometry.qform, rtol=1e-3, atol=1e-2)
        )

    yield from _of_cases(
        cases,
        dataset,
        nowhere,
        "the header has neither qform nor sform, so left and right are a guess",
        "convert it again from the scanner's files",
    )
    yield from _of_cases(
        cases,
        dataset,
        twofold,
        "qform and sform place the image differently, so programs disagree on where it is",
        "keep the right one of them; synthmed goes by the sform",
    )


def _intensities(cases: list[CaseFingerprint], dataset: Dataset) -> Iterator[Problem]:
    modalities = dataset.modalities or ("other",) * len(dataset.channels)
    for number, (channel, modality) in enumerate(zip(dataset.channels, modalities, strict=True)):

        def constant(case: CaseFingerprint, number: int = number) -> bool:
            return case.minimum[number] == case.maximum[number]

        def without_air(case: CaseFingerprint, number: int = number) -> bool:
            return case.minimum[number] >= 0

        yield from _of_cases(
            cases, dataset, constant, f"{channel} has one value in all voxels", "export the channel again"
        )
        if modality == "CT":
            yield from _of_cases(
                cases,
                dataset,
                without_air,
                f"{channel} is CT without a value below 0, so hardly in HU",
                "apply the slope and intercept of the DICOM header",
            )
        elif modality != "picture":
            yield from _scales(cases, dataset, number)


def _scales(cases: list[CaseFingerprint], dataset: Dataset, number: int) -> Iterator[Problem]:
    median = float(np.median([case.maximum[number] for case in cases]))

    def apart(case: CaseFingerprint) -> bool:
        highest = case.maximum[number]
        if highest == case.minimum[number]:
            # Told as a channel of one value.
            return False
        return highest > INTENSITY_RATIO * median or median > INTENSITY_RATIO * highest

    if median > 0:
        yield from _of_cases(
            cases,
            dataset,
            apart,
            f"the largest value of {dataset.channels[number]} is more than {INTENSITY_RATIO:g} times above or below the"
            f" median case's {median:.6g}",
            "keep a scaling of each case (percentiles, z-score), or bring the cases to one unit",
        )


def _spacings(cases: list[CaseFingerprint], dataset: Dataset) -> Iterator[Problem]:
    lengths = (np.linalg.norm(np.asarray(case.geometry.affine)[:3, :3], axis=0) for case in cases)
    turned = np.array(
        [
            turn_shape(tuple(own), source=case.orientation, target="RAS")
            for own, case in zip(lengths, cases, strict=True)
        ]
    )
    median = np.median(turned, axis=0)
    apart = ((turned > SPACING_RATIO * median) | (median > SPACING_RATIO * turned)).any(axis=1)
    far = {case.case for case, differs in zip(cases, apart, strict=True) if differs}
    middle = " x ".join(f"{value:.3g}" for value in median)
    yield from _of_cases(
        cases,
        dataset,
        lambda case: case.case in far,
        f"voxels are more than {SPACING_RATIO:g} times as long or short as the median case's {middle}",
        "check the header, or leave the case out",
    )


def _labels(cases: list[CaseFingerprint], dataset: Dataset) -> Iterator[Problem]:
    yield from _of_cases(
        cases,
        dataset,
        lambda case: sum(case.voxels[1:]) == 0 and case.ignored == 0,
        "the label map is empty",
        "check that nothing was to be marked",
        labels=True,
    )
    yield from _of_cases(
        cases,
        dataset,
        lambda case: case.voxels[0] == 0,
        "the label map has no background",
        "check that 0 is what is not marked",
        labels=True,
    )
    for index, (name, value) in enumerate(zip(dataset.classes, dataset.label_values, strict=True)):
        if index == 0:
            continue
        patients = {case.patient for case in cases if case.voxels[index]}
        if not patients:
            what, mend = "is in no case", "remove it from the description, or find the cases that show it"
        elif len(patients) == 1 and len({case.patient for case in cases}) > 1:
            what = f"is in the cases of one patient alone ({min(patients)})"
            mend = "join it to another class: it cannot be both learnt and tested"
        else:
            continue
        yield Problem(what=f"class {name} ({value}) {what}", file=str(dataset.path), mend=mend)


def _of_cases(
    cases: Iterable[CaseFingerprint],
    dataset: Dataset,
    concerns: Callable[[CaseFingerprint], bool],
    what: str,
    mend: str,
    *,
    labels: bool = False,
) -> Iterator[Problem]:
    """Yield one warning that names the first file and counts the others."""
    found = [case.case for case in cases if concerns(case)]
    if not found:
        return
    files = next(case for case in dataset.cases if case.case == found[0])
    source = files.label if labels and files.label else files.images[0]
    if len(found) > 1:
        others = ", ".join(found[1:4]) + ", ..." * (len(found) > 4)
        what = f"{what} (in {len(found)} cases: this, {others})"
    yield Problem(what=what, file=str(source.path), mend=mend)
