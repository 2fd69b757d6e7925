"""What a generator and what it draws say of themselves, readable without Keras: a client loads no model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

import synthmed
from synthmed import __version__
from synthmed.data.attributes import AttributeTable
from synthmed.data.geometry import Template, axis_codes
from synthmed.evaluation.result import EvaluationSummary, Verdict

if TYPE_CHECKING:
    from synthmed.evaluation.memorisation.audit import Audit


class GeneratorInfo(BaseModel):
    """What a generator says of itself. It names no patient: training cases appear as content hashes alone.

    Attributes:
        name: Name of the model.
        variant: "base", "mask" or "cond".
        size: (height, width) of a slice.
        channels: Names of the image channels; empty for `mask`.
        classes: Names of the classes, background first.
        z_dim: Length of the latent code.
        templates: Geometry and intensity scale of the training cases.
        training_patients: Content hashes of the training cases.
        kimg: Thousand real images shown in training.
        model_hash: SHA-256 of the weights.
        version: Version of synthmed that trained it.
        dataset: Name of the data set.
        licence: Licence of the data set.
        options: Resolved training options.
        conditioning: Which of "position" and "shown" each of its generators is given; `told` in earlier exports.
        attributes: What the training slices show and where they lie, as counts; none without conditioning.
        audit: What the memorisation audit of these weights found; None where none was made.
        evaluation: Figures of these weights beside real slices; None where nobody measured them.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str
    variant: str
    size: tuple[int, int]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    z_dim: int
    templates: list[Template]
    training_patients: list[str]
    kimg: float
    model_hash: str
    version: str = __version__
    dataset: str
    licence: str
    options: dict
    conditioning: tuple[str, ...] = Field((), validation_alias=AliasChoices("conditioning", "told"))
    attributes: AttributeTable | None = None
    audit: Verdict | None = None
    evaluation: EvaluationSummary | None = None


AUDIT_FILE = "audit.json"
EVALUATION_FILE = "evaluation.json"
NOTICE = "Synthetic. For research only; not for diagnosis."


def sidecar(
    info: "GeneratorInfo", *, seed: int, psi: float, template: int, unit: str, drawn: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON sidecar of one synthetic case.

    Args:
        info: The generator that drew it.
        seed: The item's own seed, which draws it again.
        psi: Truncation it was drawn with.
        template: Which of the generator's templates returned it to source units; `axes` are the directions of the
            slice's rows, columns and normal, `orientation` those of the written volume's axes.
        unit: `slice` or `volume`.
        drawn: How it was drawn: `mask_source` and what else there is to say.
    """
    geometry = info.templates[template]
    return {
        "synthetic": True,
        "notice": NOTICE,
        "model": info.name,
        "model_hash": info.model_hash,
        "variant": info.variant,
        "seed": int(seed),
        "psi": float(psi),
        "unit": unit,
        **drawn,
        "version": synthmed.__version__,
        "channels": list(info.channels),
        "classes": list(info.classes),
        "template": {
            "index": int(template),
            "orientation": geometry.orientation,
            "axes": axis_codes(np.asarray(geometry.affine)),
            "scale": list(geometry.scale),
            "offset": list(geometry.offset),
        },
        "training_patients": list(info.training_patients),
    }


def dataset_description(info: "GeneratorInfo", *, count: int, seed: int, psi: float, unit: str) -> dict[str, Any]:
    """Return a BIDS-style `dataset_description.json` of a generated set, with `GeneratedBy`."""
    verdict = info.audit or Verdict()
    return {
        "Name": f"Synthetic set drawn from {info.name}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "License": info.licence,
        "GeneratedBy": [
            {
                "Name": "synthmed",
                "Version": synthmed.__version__,
                "Description": f"{count} {unit}s, seed {seed}, psi {psi:g}. {NOTICE}",
                "Model": info.name,
                "ModelHash": info.model_hash,
                "Variant": info.variant,
                "TrainedOn": info.dataset,
                "MemorisationAudit": {"Passed": verdict.passed, "Verdict": verdict.sentence},
            }
        ],
        "Synthetic": True,
    }


def read_verdict(run: Path, model_hash: str) -> Verdict | None:
    """Return the verdict that lies beside a run, if it is on these weights; a run that was trained on has others."""
    from synthmed.evaluation.memorisation.audit import read_audit

    found = read_audit(run / AUDIT_FILE)
    return found.verdict if found is not None and found.verdict.model_hash == model_hash else None


def record_audit(run: Path, result: "Audit") -> None:
    """Write the audit of a run's generator beside it; a failed one on more samples of the same weights stays."""
    earlier = read_verdict(run, result.verdict.model_hash)
    if earlier is None or earlier.passed is not False or earlier.samples <= result.verdict.samples:
        result.write(run / AUDIT_FILE)
