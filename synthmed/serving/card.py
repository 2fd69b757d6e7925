"""The model card that travels with an exported generator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

import synthmed
from synthmed.data.geometry import AXIS_NAMES, Template
from synthmed.evaluation.result import Estimate, EvaluationSummary, Verdict

if TYPE_CHECKING:
    from synthmed.generation.info import GeneratorInfo

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
| slices | {height} x {width}, {axis}, pixels of {spacing} |
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
{kimg:g} kimg (thousands of real slices shown to the discriminator), {loss}; the weights
are the exponential moving average of the generator's.

## Beside real slices
{evaluation}

## Memorisation audit
{audit}

## Limits
- Images show what the training set showed: its scanners, protocols, ages and diseases, and nothing else.
- {volumes}
- Gains for a segmentation network are not certain and too many synthetic slices do harm: measure on real patients.

## Use
Signatures: `sample` (seed, psi) and `geometry` (seed) are what `synthmed query` asks, or `sample_bytes`, which answers
with the bytes of arrays; `serving_default`, `mapping` and `synthesis` take latent codes. Every image follows from its
seed.

    synthmed generate --n 100 --model {name}

A SavedModel is a program: whoever loads it runs what its author put into it, and that may read and write files. Load
it from a place that you trust, and compare the hash above with its author's.

To blend its slices with your own, prepare your data alike:

    synthmed prepare DATA --out store --axis {axis} --size {height}x{width} --spacing {pixel}
"""


_TABLE = """ Of all training slices together it
  holds how many lie where along the axis and show which classes."""
_ALONE = "Slices are drawn one by one; neighbouring slices of a patient are not modelled."
_SWEPT = """It was told where slices lie, so that `--unit volume` draws patients: slices of one code along the axis. It
  never saw two slices of one patient together."""


_PASSED = """**{sentence}.**

{samples} samples were compared with all training slices, by what slices of unseen patients score. {membership}An audit
finds copies of training slices; it is no proof that nothing of a patient can be learnt from the model."""
_FAILED = """**{sentence}. This model was exported with `--allow-failed-audit`.**

{samples} samples were compared with all training slices, by what slices of unseen patients score. {membership}Handle
the model and its images as you would handle the training images themselves."""
_NOT_AUDITED = """**{sentence}.**

A generator of a small set can repeat its training images. Compare with `synthmed evaluate` before sharing the model or
its images."""


_NOT_EVALUATED = """Not measured. `synthmed evaluate` of slices that the run drew, from the folder that holds the run,
brings its figures here."""
_EVALUATED = """{samples:,} synthetic slices{psi} beside {held_out:,} slices of {patients} patients that the generator
has not seen; the real baseline is what slices of its training patients get. In brackets 95 % intervals. Figures
of other reports must not be compared with these{space}.

| figure | synthetic | real baseline | reads |
|---|---|---|---|
{rows}"""


def evaluation_words(brief: EvaluationSummary | None) -> str:
    """Return what a card says of the evaluation, as Markdown; None where nobody made one."""
    if brief is None:
        return _NOT_EVALUATED
    rows = [
        # A class may be named with a sign that ends a cell.
        f"| {one.label.replace('|', '/')} | {_estimate(one.estimate)} | {_estimate(one.real_baseline)} | {one.reads} |"
        for one in brief.figures
    ]
    return _EVALUATED.format(
        samples=brief.samples,
        psi=f" (psi {', '.join(f'{psi:g}' for psi in brief.psi)})" if brief.psi else "",
        held_out=brief.held_out,
        patients=brief.patients,
        space=f" (feature space: {brief.space})" if brief.space else "",
        rows="\n".join(rows),
    )


def _estimate(one: Estimate | None) -> str:
    if one is None:
        return "none"
    return f"{one.value:.3g}" + ("" if one.low is None else f" [{one.low:.3g} to {one.high:.3g}]")


def audit_words(verdict: Verdict | None) -> str:
    """Return what a card says of the memorisation audit, as Markdown; None is a generator that was never audited."""
    verdict = verdict or Verdict()
    words = {True: _PASSED, False: _FAILED, None: _NOT_AUDITED}[verdict.passed]
    membership = ""
    if verdict.membership_auc is not None:
        membership = f"Membership inference has an AUC of {verdict.membership_auc:.2f} (0.5 is chance). "
    sentence = verdict.sentence[0].upper() + verdict.sentence[1:]
    return words.format(sentence=sentence, samples=verdict.samples, membership=membership)


def _cut(templates: Sequence[Template]) -> tuple[str, tuple[float, float], str]:
    """Return the axis across which slices are cut, their pixels (row, column), and the unit of these."""
    first = templates[0]
    rows, columns = (axis for axis in range(3) if axis != first.axis)
    sizes = np.median([nib.affines.voxel_sizes(np.asarray(one.affine)) for one in templates], axis=0)
    world = int(nib.io_orientation(np.asarray(first.affine))[first.axis, 0])
    unit = first.xyzt_units[0]
    return AXIS_NAMES[world], (float(sizes[rows]), float(sizes[columns])), "" if unit == "unknown" else f" {unit}"


def loss_words(options: dict[str, Any]) -> str:
    """Return what a card says of the loss of a run, from its resolved options."""
    losses = {"logistic": "non-saturating logistic loss", "relativistic": "relativistic pairing loss"}
    loss = losses.get(options.get("loss", ""))
    if loss is None:
        return "the loss is not recorded"
    parts = []
    if options.get("r1_gamma"):
        parts.append("lazy R1 and R2" if options["loss"] == "relativistic" else "lazy R1")
    if options.get("path_weight"):
        parts.append("path length regularisation")
    return f"{loss} with {' and '.join(parts)}" if parts else f"{loss} without regularisation"


def model_card(info: "GeneratorInfo", *, version: int) -> str:
    """Return the card as Markdown.

    Args:
        info: The generator with the options of its run.
        version: Its number.
    """
    count = len(info.training_patients)
    axis, (row, column), unit = _cut(info.templates)
    return _CARD.format(
        name=info.name,
        draws=_DRAWS[info.variant],
        version=synthmed.__version__,
        variant=info.variant,
        number=version,
        height=info.size[0],
        width=info.size[1],
        axis=axis,
        spacing=f"{row:.4g} x {column:.4g}{unit}",
        pixel=f"{row:.4g}x{column:.4g}",
        channels=", ".join(info.channels) or "none",
        classes=", ".join(f"{index} {name}" for index, name in enumerate(info.classes)),
        model_hash=info.model_hash,
        dataset=info.dataset or "a data set without a name",
        patients=f"{count} patient{'' if count == 1 else 's'}",
        licence=info.licence or "not stated",
        kimg=info.kimg,
        loss=loss_words(info.options),
        audit=audit_words(info.audit),
        evaluation=evaluation_words(info.evaluation),
        table=_TABLE if info.attributes is not None else "",
        volumes=_SWEPT if "position" in info.conditioning else _ALONE,
    )
