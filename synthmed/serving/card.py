"""The model card that travels with an exported generator."""

from typing import TYPE_CHECKING

import synthmed

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo

_DRAWS = {
    "base": "image and label map together, as planes of one image",
    "mask": "label maps alone",
    "cond": "an image for a label map; it draws the label map too where none is given",
}

_CARD = """# {name}

A StyleGAN2 generator of synthetic medical slices: {draws}. Written by synthmed {version}.

**Its images are synthetic and for research only; they are not for diagnosis.**

| | |
|---|---|
| variant | `{variant}` |
| version | {number} |
| slices | {height} x {width} |
| channels | {channels} |
| classes | {classes} |
| SHA-256 of the weights | `{model_hash}` |

## Data
- Trained on: {dataset}, {patients}.
- Licence of the data: {licence}. What is derived from the data, this model and its images included, keeps to it.
- The data's authors are to be named as that licence asks; synthmed adds no claim of its own.
- The model holds no patient's label map or image. It holds the content hashes of its training patients, so that mixing
  its images with a test set of the same patients can be refused, and for each training case the geometry and the
  intensity scale that bring images back to source units.{table}

## Training
{kimg:g} kimg (thousands of real slices shown to the discriminator), non-saturating logistic loss with lazy R1 and path
length regularisation; the weights are the exponential moving average of the generator's.

## Limits
- Images show what the training set showed: its scanners, protocols, ages and diseases, and nothing else.
- {volumes}
- A generator of a small set can repeat its training images. Compare with `synthmed evaluate` before sharing images.
- Gains for a segmentation network are not certain and too many synthetic slices do harm: measure on real patients.

## Use
Signatures: `sample` (seed, psi) and `geometry` (seed) are what `synthmed query` asks, or `sample_bytes`, which answers
with the bytes of arrays; `serving_default`, `mapping` and `synthesis` take latent codes. Every image follows from its
seed.

    synthmed generate --n 100 --model {name}
"""


_TABLE = """ Of all training slices together it
  holds how many lie where along the axis and show which classes."""
_ALONE = "Slices are drawn one by one; neighbouring slices of a patient are not modelled."
_SWEPT = """It was told where slices lie, so that `--unit volume` draws patients: slices of one code along the axis. It
  never saw two slices of one patient together."""


def model_card(info: "BundleInfo", *, version: int) -> str:
    """Return the card as Markdown."""
    count = len(info.training_patients)
    return _CARD.format(
        name=info.name,
        draws=_DRAWS[info.variant],
        version=synthmed.__version__,
        variant=info.variant,
        number=version,
        height=info.size[0],
        width=info.size[1],
        channels=", ".join(info.channels) or "none",
        classes=", ".join(f"{index} {name}" for index, name in enumerate(info.classes)),
        model_hash=info.model_hash,
        dataset=info.dataset or "a data set without a name",
        patients=f"{count} patient{'' if count == 1 else 's'}",
        licence=info.licence or "not stated",
        kimg=info.kimg,
        table=_TABLE if info.attributes is not None else "",
        volumes=_SWEPT if "position" in info.told else _ALONE,
    )
