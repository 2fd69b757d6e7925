"""What kind of intensities a channel has, by its name."""

import re

from synthmed.data.readers.base import Modality

_MRI = re.compile(
    r"mri?|t1\w*|t2\w*|flair\w*|pd\w{0,2}|adc|dwi\w*|dce\w*|swi|swan|tof|bold|fmri|asl|dti|mprage|ti?rse|stir|lge|cine",
    re.IGNORECASE,
)


def modality_of(channel: str) -> Modality:
    """Return the kind of a channel's intensities: "CT" where it is named so, "MRI" for its sequences, else "other"."""
    parts = [part for part in re.split(r"[^0-9A-Za-z]+", channel) if part]
    if any(part.upper() == "CT" for part in parts):
        return "CT"
    return "MRI" if any(_MRI.fullmatch(part) for part in parts) else "other"
