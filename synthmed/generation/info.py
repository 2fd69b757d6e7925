"""What a generator says of itself, readable without Keras: a client needs it, and loads no model."""

from pydantic import BaseModel, ConfigDict

from synthmed import __version__
from synthmed.data.attributes import AttributeTable
from synthmed.data.template import Template
from synthmed.evaluation.result import EvaluationSummary, Verdict


class BundleInfo(BaseModel):
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
        told: Which of "position" and "shown" each of its generators is told of a slice.
        attributes: What the training slices show and where they lie, as counts; needed where a generator is told it.
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
    told: tuple[str, ...] = ()
    attributes: AttributeTable | None = None
    audit: Verdict | None = None
    evaluation: EvaluationSummary | None = None
