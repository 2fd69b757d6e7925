"""From a data set to a store of normalised slices."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from synthmed.data.assemble import Chosen, bring_about
from synthmed.data.checks import Fingerprint
from synthmed.data.formats import PictureSource
from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.plan import PlanOptions, explain_plan
from synthmed.data.planfile import PLAN, PlanFile, make_plan_file, read_plan, refuse_existing_plan, write_plan
from synthmed.data.readers import CaseFiles, Dataset, ReadOptions, read_dataset, read_unlabelled
from synthmed.data.readers.naming import assign_patients
from synthmed.data.request import make_request
from synthmed.data.schema import Split
from synthmed.data.selection import draw_split, keep_training_patients, read_split
from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.files import sha256_json
from synthmed.progress import Progress, Say, silent, unheard


def prepare_unlabelled(
    path: Path | str, out: Path | str, *, beside: Store, progress: Progress | None = None, say: Say = unheard
) -> Store:
    """Write a store of images without labels, prepared as another store is, for training beside it.

    All cases become training cases. Left out are those whose images the other store holds, in whatever split, and those
    of a patient whom it holds for validation or test, as names, folders and the store's pattern of patients tell: a
    generator would be taught by held-out patients, or by the same slices twice. Patients of DICOM have pseudonyms of
    one folder, so that there another study of a held-out patient may pass for a new one; a note says so.

    Args:
        path: Folder of images, see `read_unlabelled`.
        out: Folder of the store. One that was made of the same files with the same options is left as it is, but for
            files of it that were damaged, which are made anew.
        beside: The labelled store.
        progress: Told after each case.
        say: Told what a user should know beside the store.

    Raises:
        UserError: If anything is wrong with the images, nothing is left of them, or `out` exists.
    """
    beside.require_labels()
    pattern = _patient_pattern(beside)
    dataset = read_unlabelled(path, beside.manifest, patient_pattern=pattern)
    held = {case.hash for case in beside.cases()}
    away = _held_out(dataset, beside, pattern)

    def choose(found: Fingerprint) -> Chosen:
        new = [case for case in found.cases if case.hash not in held]
        assigned: dict[str, Split] = {case.case: "train" for case in new if case.case not in away}
        if not new:
            raise UserError(f"{beside.path} holds every image of {dataset.path} already: give others")
        if not assigned:
            raise UserError(
                f"{beside.path} holds every patient of {dataset.path} for validation or test: give others' images, or"
                " rename the cases where they are others"
            )
        left_out = [case.case for case in new if case.case not in assigned]
        if left_out:
            shown = ", ".join(left_out[:3]) + ", ..." * (len(left_out) > 3)
            say(f"left out: {shown}, named as patients whom {beside.path} holds for validation or test")
        return Chosen(beside.plan, assigned)

    request = make_request(dataset, {}, {"unlabelled_for": beside.content_hash})
    return bring_about(dataset, Path(out), request, choose, seed=beside.manifest.seed, tell=progress or silent, say=say)


def _held_out(dataset: Dataset, beside: Store, pattern: str | None) -> set[str]:
    """Return the cases of a data set whose patient another store holds for validation or test."""
    records = {case.case: case for case in beside.cases()}
    held = {record.patient for record in records.values() if record.split != "train"}
    found = {case.case for case in dataset.cases if case.patient in held}
    # Names that say nothing in either set may do so together: "p3_v1" in the one, "p3_v2" in the other.
    known = [CaseFiles(case=record.case, patient=record.patient, images=()) for record in records.values()]
    together = [*known, *dataset.cases]
    pictures = all(isinstance(source, PictureSource) for case in dataset.cases for source in case.images)
    try:
        patients = assign_patients(together, pattern, numbered=pictures)[0]
    except UserError:
        # The pattern looks at folders, or does not fit the new names; `read_unlabelled` says so.
        patients = assign_patients(together, None, numbered=pictures)[0]
    held = {case.patient for case in patients[: len(known)] if records[case.case].split != "train"}
    return found | {case.case for case in patients[len(known) :] if case.patient in held}


def _patient_pattern(store: Store) -> str | None:
    """Return the regular expression by which a store's patients were found; None where there was none."""
    path = store.path / PLAN
    return read_plan(path)[0].reading.patient_pattern if path.is_file() else None


def prepare(
    dataset: Dataset | Path | str,
    out: Path | str,
    *,
    axis: str | None = None,
    size: tuple[int, int] | None = None,
    spacing: tuple[float, float] | None = None,
    split: tuple[float, float, float] | Path = (0.7, 0.15, 0.15),
    train_patients: int | None = None,
    seed: int = 0,
    options: PlanOptions | None = None,
    reading: ReadOptions | None = None,
    progress: Progress | None = None,
    say: Say = unheard,
) -> Store:
    """Check a data set, plan, and write a store of its slices; nothing is written before all is known to be in order.

    What was interrupted goes on: the cases that were checked and the shards that were finished are kept in a folder
    beside the store, until the store is whole, by a run with the same options, byte for byte as if in one go.

    Args:
        dataset: From `read_dataset`, or its folder.
        out: Folder of the store. One that was made of the same files with the same options is left as it is, but for
            files of it that were damaged, which are made anew.
        axis: Slicing axis, see `PlanOptions`; so are the next two.
        size: Rows and columns of a slice.
        spacing: Pixel size.
        split: Fractions of patients for training, validation and test, or a JSON file of case names.
        train_patients: How many training patients to keep; all by default.
        seed: Of the random split, of the draw of training patients and of the choice of slices.
        options: All that a plan can be told; axis, size and spacing go before it.
        reading: How the folder was read, for the plan's file.
        progress: Told after each case.
        say: Told what a user should know beside the store.

    Returns:
        The store, opened.

    Raises:
        UserError: If anything is wrong with the data set or an option, or `out` exists.
    """
    reading = reading or ReadOptions()
    if not isinstance(dataset, Dataset):
        dataset = read_dataset(dataset, reading)
    source = dataset
    given: dict[str, Any] = {"axis": axis, "size": size, "spacing": spacing}
    options = replace(options or PlanOptions(), **{name: value for name, value in given.items() if value is not None})
    assigned = _assign(source, split, train_patients, seed)
    # A file's path says nothing of its content; the assignment does, and is part of the request.
    named = "a file" if isinstance(split, Path) else split
    asked = {**asdict(options), "split": named, "train_patients": train_patients, "seed": seed}

    def choose(found: Fingerprint) -> Chosen:
        explained = explain_plan(found, split=assigned, options=options)
        planned, text = make_plan_file(source, explained, assigned, seed=seed, reading=reading)
        return Chosen(planned.plan(), assigned, text)

    request = make_request(source, assigned, asked)
    return bring_about(source, Path(out), request, choose, seed=seed, tell=progress or silent, say=say)


def plan_only(
    dataset: Dataset | Path | str,
    file: Path | str,
    *,
    split: tuple[float, float, float] | Path = (0.7, 0.15, 0.15),
    train_patients: int | None = None,
    seed: int = 0,
    options: PlanOptions | None = None,
    reading: ReadOptions | None = None,
    progress: Progress | None = None,
) -> PlanFile:
    """Check a data set and write the plan that `prepare` would execute, to be read and edited; see there.

    Raises:
        UserError: If anything is wrong with the data set or an option, or `file` exists.
    """
    file, reading = Path(file), reading or ReadOptions()
    refuse_existing_plan(file)
    if not isinstance(dataset, Dataset):
        dataset = read_dataset(dataset, reading)
    assigned = _assign(dataset, split, train_patients, seed)
    found = fingerprint(dataset, progress=progress)
    refuse_problems(found, dataset.path)
    explained = explain_plan(found, split=assigned, options=options)
    planned, text = make_plan_file(dataset, explained, assigned, seed=seed, reading=reading)
    write_plan(file, text)
    return planned


def prepare_as_planned(
    dataset: Path | str, out: Path | str, *, plan: Path | str, progress: Progress | None = None, say: Say = unheard
) -> Store:
    """Check a data set and write a store of its slices as a plan's file says.

    Args:
        dataset: Folder of the data set.
        out: Folder of the store, as for `prepare`.
        plan: The file.
        progress: Told after each case.
        say: Told what a user should know beside the store.

    Raises:
        UserError: If anything is wrong with the data set or the plan, or `out` exists.
    """
    plan = Path(plan)
    planned, text = read_plan(plan)
    source, assigned = planned.apply(read_dataset(dataset, planned.read_options()), plan)
    # Comments and the order of lines may change without the plan being another one.
    request = make_request(source, assigned, {"plan": sha256_json(planned.model_dump(mode="json"))[:12]})
    return bring_about(
        source,
        Path(out),
        request,
        lambda _: Chosen(planned.plan(), assigned, text),
        seed=planned.seed,
        tell=progress or silent,
        say=say,
    )


def _assign(
    dataset: Dataset, split: tuple[float, float, float] | Path, train_patients: int | None, seed: int
) -> dict[str, Split]:
    patients = {case.case: case.patient for case in dataset.cases}
    assigned = read_split(split, patients) if isinstance(split, Path) else draw_split(patients, split, seed)
    return keep_training_patients(assigned, patients, train_patients, seed)
