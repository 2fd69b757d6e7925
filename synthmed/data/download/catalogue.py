"""What can be fetched: the tasks of the Medical Segmentation Decathlon.

The archives lie in the public bucket of the Decathlon's authors and MONAI. Their MD5 sums are those that MONAI
publishes (`monai.apps.DecathlonDataset`, release 1.6.1). They tell a transfer that went wrong; against a forger of the
archive stands HTTPS alone. Sizes are rounded, for the user's patience.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from synthmed.errors import UserError

_BUCKET = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
_LICENCE = "CC-BY-SA 4.0"
_CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022;"
    " Simpson et al., arXiv:1902.09063"
)


@dataclass(frozen=True)
class Offer:
    """A data set that can be fetched.

    Attributes:
        name: As `synthmed data get` knows it.
        folder: Name of its folder and archive.
        what: What its images show and its labels mark.
        size: About how large the archive is.
        md5: Hexadecimal MD5 of the archive.
        url: Where the archive is.
        licence: Of the data.
        citation: What to cite.
    """

    name: str
    folder: str
    what: str
    size: str
    md5: str
    url: str
    licence: str = _LICENCE
    citation: str = _CITATION


def _decathlon(number: int, task: str, what: str, size: str, md5: str) -> Offer:
    folder = f"Task{number:02d}_{task}"
    return Offer(f"msd-{task.lower()}", folder, what, size, md5, f"{_BUCKET}/{folder}.tar")


CATALOGUE: tuple[Offer, ...] = (
    _decathlon(1, "BrainTumour", "brain MRI, 4 channels: tumour", "7 GB", "240a19d752f0d9e9101544901065d872"),
    _decathlon(2, "Heart", "heart MRI: left atrium", "0.4 GB", "06ee59366e1e5124267b774dbd654057"),
    _decathlon(3, "Liver", "CT: liver and tumour", "27 GB", "a90ec6c4aa7f6a3d087205e23d4e6397"),
    _decathlon(4, "Hippocampus", "brain MRI: hippocampus", "0.03 GB", "9d24dba78a72977dbd1d2e110310f31b"),
    _decathlon(5, "Prostate", "prostate MRI, 2 channels: zones", "0.2 GB", "35138f08b1efaef89d7424d2bcc928db"),
    _decathlon(6, "Lung", "CT: lung tumour", "9 GB", "8afd997733c7fc0432f71255ba4e52dc"),
    _decathlon(7, "Pancreas", "CT: pancreas and tumour", "12 GB", "4f7080cfca169fa8066d17ce6eb061e4"),
    _decathlon(8, "HepaticVessel", "CT: liver vessels and tumour", "9 GB", "641d79e80ec66453921d997fbf12a29c"),
    _decathlon(9, "Spleen", "CT: spleen", "2 GB", "410d4a301da4e5b2f6f86ec3ddba524e"),
    _decathlon(10, "Colon", "CT: colon cancer", "6 GB", "bad7a188931dc2f6acf72b08eb6202d0"),
)


def find_offer(name: str) -> Offer:
    """Return the offer of this name.

    Raises:
        UserError: If there is none.
    """
    known = {offer.name: offer for offer in CATALOGUE}
    if name in known:
        return known[name]
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"there is no data set {name!r}: `synthmed data list` shows what there is.{hint}")
