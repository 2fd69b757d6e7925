"""Names that may leave a DICOM header, and names for studies and patients in place of what the header says."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

LONGEST = 40


def tidy(text: str) -> str:
    """Return a free text as a name: letters, digits and `_ . + -`, single spaces, at most 40 characters."""
    kept = re.sub(r"[^\w.+\- ]+", " ", unicodedata.normalize("NFKC", text))
    return " ".join(kept.split())[:LONGEST].strip(" .")


def study_names(uids: Iterable[str]) -> dict[str, str]:
    """Return a pseudonym for each StudyInstanceUID: the first 8 hex digits of its SHA-256, 16 where two would agree."""
    digests = {uid: hashlib.sha256(uid.encode()).hexdigest() for uid in uids}
    for digits in (8, 16, 64):
        names = {uid: f"study-{digest[:digits]}" for uid, digest in digests.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def patient_names(patients: Mapping[str, str], studies: Mapping[str, str]) -> dict[str, str]:
    """Return a pseudonym of each study's patient, made of the first of the patient's studies.

    A digest of the PatientID itself would not do: IDs are short, and all of them can be tried.

    Args:
        patients: PatientID by StudyInstanceUID; empty where it is not known, and the study then has its own patient.
        studies: Pseudonyms from `study_names`.
    """
    first: dict[str, str] = {}
    for uid in sorted(studies, key=lambda uid: studies[uid]):
        first.setdefault(patients[uid] or f"\0{uid}", studies[uid])
    return {uid: first[patients[uid] or f"\0{uid}"].replace("study-", "patient-") for uid in studies}
