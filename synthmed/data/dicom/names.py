"""Names that may leave a DICOM header, and names for studies and patients in place of what the header says."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

LONGEST = 40
# Shorter parts of a name are looked for as whole words only: "an" stands in many words that name nobody.
_SUBSTRING = 4


def tidy(text: str) -> str:
    """Return a free text as a name: letters, digits and `_ . + -`, single spaces, at most 40 characters."""
    kept = re.sub(r"[^\w.+\- ]+", " ", unicodedata.normalize("NFKC", text))
    return " ".join(kept.split())[:LONGEST].strip(" .")


class Identity:
    """What a header says of a person, an institution or a date, to be kept out of every name.

    Args:
        texts: Values of such elements: names with `^` between their parts, IDs, numbers, dates as YYYYMMDD.
    """

    def __init__(self, texts: Iterable[str]):
        parts: set[str] = set()
        for text in texts:
            folded = _fold(text)
            parts.add("".join(re.findall(r"[^\W_]+", folded)))
            parts.update(re.findall(r"[^\W_]+", folded))
        # A single sign, or a number below 100, tells nobody apart and stands in half of all descriptions.
        self._parts = {part for part in parts if len(part) > 1 and not (part.isdecimal() and len(part) < 3)}

    def is_told_by(self, text: str) -> bool:
        """Return whether any part of what is known of the person stands in `text`, in whatever case or accents."""
        folded = _fold(text)
        words = set(re.findall(r"[^\W_]+", folded)) | set(re.findall(r"[^\W\d_]+|\d+", folded))
        joined = "".join(re.findall(r"[^\W_]+", folded))
        return any(part in words or (len(part) >= _SUBSTRING and part in joined) for part in self._parts)


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text)
    return "".join(sign for sign in plain if not unicodedata.combining(sign)).casefold()


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
