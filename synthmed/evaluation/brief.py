"""The short form of an evaluation, which lies beside a run and travels with its generator's card."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

import synthmed
from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.result import Evaluation
from synthmed.evaluation.summary import standing
from synthmed.files import write_json

_KEYS = (
    "fidelity.frechet_distance",
    "fidelity.kid",
    "fidelity.precision",
    "diversity.recall",
    "diversity.coverage",
    "diversity.ms_ssim",
    "appearance.spectrum_highest_band",
    "adherence.dice_",
    "masks_size.frequency_",
    "masks_size.area_",
    "masks_place.position_",
)
"""Beginnings of the keys of the figures that are told."""
_MOST = 24
"""Figures at most: a set of many classes has its report for the rest."""


class BriefFigure(BaseModel):
    """One figure.

    Attributes:
        label: What a reader sees, with its unit.
        estimate: Of the synthetic set.
        floor: What real slices get.
        reads: How the two stand to each other, in words.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    estimate: Estimate
    floor: Estimate | None
    reads: str


class Brief(BaseModel):
    """The figures that a card shows; it names no patient.

    Attributes:
        figures: In the order of the report.
        samples: How many synthetic slices were compared.
        held_out: With how many slices of patients that the generator has not seen.
        patients: How many such patients.
        psi: Truncations that the samples were drawn at.
        space: Feature space; "" without images.
        model_hash: SHA-256 of the weights that drew them; "" for a set of none or several generators.
        store_hash: Content hash of the store.
        version: Version of synthmed.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    figures: tuple[BriefFigure, ...]
    samples: int
    held_out: int
    patients: int
    psi: tuple[float, ...] = ()
    space: str = ""
    model_hash: str = ""
    store_hash: str = ""
    version: str = synthmed.__version__

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Brief":
        """Return the short form of an evaluation."""
        about = evaluation.about
        told = [figure for key, figure in evaluation.figures() if key.startswith(_KEYS)]
        return cls(
            figures=tuple(
                BriefFigure(
                    label=f"{one.label} ({one.unit})" if one.unit else one.label,
                    estimate=one.estimate,
                    floor=one.floor,
                    reads=standing(one),
                )
                for one in told[:_MOST]
            ),
            samples=about.synthetic.slices,
            held_out=about.held_out.slices,
            patients=about.held_out.units,
            psi=about.psi,
            space=about.space,
            model_hash=about.models[0] if len(about.models) == 1 else "",
            store_hash=about.store_hash,
        )

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.model_dump(mode="json"))


def read_brief(path: Path, model_hash: str) -> Brief | None:
    """Return the short form in a file, if it is of these weights; None where there is none that can be read."""
    try:
        found = Brief.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.model_hash == model_hash else None
