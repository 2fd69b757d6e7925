"""What a synthetic case says about itself, so that nobody ever takes it for a patient."""

from typing import TYPE_CHECKING, Any

import numpy as np

import synthmed
from synthmed.data.orientation import axis_codes
from synthmed.evaluation.result import Verdict

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo

NOTICE = "Synthetic. For research only; not for diagnosis."


def sidecar(
    info: "BundleInfo", *, seed: int, psi: float, template: int, unit: str, drawn: dict[str, Any]
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


def dataset_description(info: "BundleInfo", *, count: int, seed: int, psi: float, unit: str) -> dict[str, Any]:
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
